"""The layout: which room may import which, no circles, and no import hidden in a function without a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mjxppo"

LEAVES = ("errors", "files", "console", "xla")
"""Modules at the top that any room may import; of each other ``files`` imports ``errors`` only."""
ARROWS = {
    "cli": ("commands",),
    "commands": ("view", "measure", "analysis", "run", "policy", "render", "envs", "config"),
    "view": ("run", "policy", "render", "envs", "physics", "config"),
    "measure": ("interop", "analysis", "run", "policy", "render", "ppo", "envs", "physics", "config"),
    "interop": ("render", "envs", "physics", "config"),
    "analysis": ("run", "policy", "envs", "config"),
    "run": ("policy", "render", "ppo", "envs", "config"),
    "render": ("policy", "envs", "config"),
    "policy": ("ppo", "envs", "config"),
    "ppo": ("envs", "physics", "config"),
    "envs": ("physics", "config"),
    "physics": ("config",),
    "config": (),
}
"""Each room with the rooms below it that its modules import. The same table stands in docs/architecture.md."""
AT_THE_TOP = {"__init__", "__main__", "cli", "errors", "files", "console", "xla", "gymnasium"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "mjxppo"


def imported(node: ast.AST) -> set[str]:
    """The project's modules that an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name.startswith("mjxppo")}
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("mjxppo"):
        return set()
    whole = {f"{node.module}.{alias.name}" for alias in node.names}
    return {name if name in trees() else str(node.module) for name in whole}


def imports_of(module: str) -> set[str]:
    return {name for node in ast.walk(trees()[module]) for name in imported(node)} - {module}


def test_each_room_imports_only_the_rooms_below_it():
    found: dict[str, set[str]] = {room: set() for room in ARROWS}
    for module in trees():
        room = room_of(module)
        targets = {room_of(name) for name in imports_of(module)} - {room}
        if room in ("mjxppo", "__main__", "gymnasium"):
            continue  # the public face, and what starts the program
        if room in LEAVES:
            assert targets <= {"errors"}, f"{module} imports {targets}"
            continue
        above = targets - set(ARROWS[room]) - set(LEAVES)
        assert not above - {"mjxppo"}, f"{module} imports {sorted(above)}: not below {room}"
        assert "mjxppo" not in above or room == "cli", f"{module} imports the public face"
        found[room] |= targets & set(ARROWS)
    assert {room: tuple(sorted(below)) for room, below in found.items()} == {
        room: tuple(sorted(below)) for room, below in ARROWS.items()
    }, "an arrow of the table is not there any more"


def test_the_arrows_go_one_way():
    order = list(ARROWS)
    for room, below in ARROWS.items():
        for other in below:
            assert order.index(other) > order.index(room), f"{room} -> {other} goes up"


def test_architecture_shows_the_same_arrows():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]* \|$", text, re.M)
    shown = {room: tuple(re.findall(r"`(\w+)`", below)) for room, below in rows}
    assert shown == ARROWS


def test_no_two_modules_import_each_other_in_a_circle():
    graph = {module: imports_of(module) & set(trees()) - {"mjxppo"} for module in trees() if module != "mjxppo"}
    state: dict[str, int] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        if state.get(module) == 1:
            raise AssertionError(" -> ".join([*path[path.index(module) :], module]))
        if module in state:
            return
        state[module] = 1
        for other in sorted(graph[module]):
            visit(other, (*path, module))
        state[module] = 2

    for module in graph:
        visit(module, ())


# The commands' own imports are inside of functions for the reason that mjxppo/commands/__init__.py gives.
@pytest.mark.parametrize("module", sorted(name for name in trees() if room_of(name) != "commands"))
def test_an_import_inside_a_function_says_why_it_is_late(module):
    lines = SOURCES[module].read_text().splitlines()
    for function in ast.walk(trees()[module]):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        late = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in late:
            # One reason, on the line itself or above it, is enough for imports that follow each other.
            first = node.lineno - 1
            while re.match(r"\s*(from|import) ", lines[first - 1]):
                first -= 1
            block = lines[first - 1 : (node.end_lineno or node.lineno)]
            assert any("#" in line for line in block), f"{module}:{node.lineno}: {lines[node.lineno - 1].strip()}"


def test_only_the_public_face_and_small_tools_are_at_the_top():
    assert {path.stem for path in PACKAGE.glob("*.py")} == AT_THE_TOP


def test_every_module_says_what_it_is_and_can_be_read_in_one_go():
    for module, tree in trees().items():
        text = ast.get_docstring(tree) or ""
        assert text[:1].isupper() or text.startswith(("``", "mjxppo")), module
        assert len(SOURCES[module].read_text().splitlines()) <= 330, f"{module} is too long to read in one go"
