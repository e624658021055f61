"""The kernels and copies that a compiled program launches, by phase of an update and by kind, and its waits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mjxppo.measure.gpu.hlo import Instruction, Module

PHASES = ("rollout", "values", "gae", "gradient_steps")
"""The scopes that ``mjxppo.ppo`` names in its operations; all else is "rest"."""
REST = "rest"
PRODUCT, OURS, ELEMENTWISE, REDUCTION, COPY, COLLECTIVE = (
    *("product", "own kernel", "elementwise", "reduction"),
    *("copy", "collective"),
)
_NOTHING = frozenset(
    [
        "parameter",
        "get-tuple-element",
        "tuple",
        "bitcast",
        "constant",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "optimization-barrier",
        "add-dependency",
    ]
)
"""Opcodes that launch nothing."""
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_MOVES = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "bitcast",
        "copy",
        "slice",
        "dynamic-slice",
        "dynamic-update-slice",
        "concatenate",
        "broadcast",
        "reshape",
        "transpose",
        "pad",
        "get-tuple-element",
        "compare",
        "select",
        "add",
    ]
)
"""Opcodes of a fusion that only puts numbers elsewhere; comparison, select and addition are of its indices."""
_TRITON = "__gpu$xla.gpu.triton"


@dataclass(frozen=True)
class Launch:
    """A kernel or copy of the program."""

    name: str
    kind: str
    phase: str
    kernel: str
    """The name of our own kernel; empty for others."""
    times: float
    """How often it runs in the whole program."""
    bytes: int
    """Bytes that it reads and writes."""
    operations: int


@dataclass(frozen=True)
class Loop:
    """A loop whose length the program states."""

    name: str
    phase: str
    trip_count: int
    times: float
    """How often it runs in the whole program."""
    launches: float
    """Launches of one iteration."""


@dataclass
class Census:
    """All that a program launches, and where it waits."""

    launches: list[Launch]
    loops: list[Loop]
    conditionals: float = 0
    """Branches that the host decides, and thus waits for the device."""
    open_loops: float = 0
    """Loops that the host ends; each is counted as one iteration, because only running it shows their number."""

    def count(self, kind: str | None = None, phase: str | None = None) -> float:
        """Launches of a kind and a phase; None: of all."""
        return sum(
            each.times
            for each in self.launches
            if (kind is None or each.kind == kind) and (phase is None or each.phase == phase)
        )

    def body_of(self, phase: str, trip_count: int) -> float | None:
        """Launches of one iteration of the longest loop of ``trip_count`` in a phase; None where there is none."""
        found = [loop for loop in self.loops if loop.phase == phase and loop.trip_count == trip_count]
        return max(found, key=lambda loop: loop.times * loop.launches).launches if found else None


def census(module: Module) -> Census:
    """The launches of a whole program. Of a conditional the branch with more launches counts."""
    result = Census([], [])
    _walk(module, module.entry, 1.0, REST, result)
    return result


def _walk(module: Module, computation: str, times: float, phase: str, result: Census) -> float:
    """Adds the launches of a computation that runs ``times`` times to ``result``; returns those of one run."""
    before = result.count()
    for each in module.computations.get(computation, []):
        own_phase = phase_of(each.op_name) or phase
        if each.opcode == "while":
            _walk_loop(module, each, times, own_phase, result)
        elif each.opcode == "conditional":
            _walk_branches(module, each, times, own_phase, result)
        elif each.opcode == "call":
            _walk(module, each.attribute("to_apply") or "", times, own_phase, result)
        elif each.opcode not in _NOTHING and not each.opcode.endswith("-done"):
            result.launches.append(_launch(module, each, times, own_phase))
    return (result.count() - before) / times


def _walk_loop(module: Module, loop: Instruction, times: float, phase: str, result: Census) -> None:
    count = loop.trip_count
    if count is None:
        result.open_loops += times
        _walk(module, loop.attribute("condition") or "", times, phase, result)
    launches = _walk(module, loop.attribute("body") or "", times * (count or 1), phase, result)
    if count is not None:
        result.loops.append(Loop(loop.name, phase, count, times, launches))


def _walk_branches(module: Module, choice: Instruction, times: float, phase: str, result: Census) -> None:
    result.conditionals += times
    branches = []
    for name in choice.branches:
        alone = Census([], [])
        branches.append((_walk(module, name, times, phase, alone), alone))
    if branches:
        chosen = max(branches, key=lambda branch: branch[0])[1]
        result.launches += chosen.launches
        result.loops += chosen.loops
        result.conditionals += chosen.conditionals
        result.open_loops += chosen.open_loops


def _launch(module: Module, each: Instruction, times: float, phase: str) -> Launch:
    kernel = kernel_name(each)
    kind = OURS if kernel else kind_of(module, each)
    moved, operations = module.bytes_moved(each), module.operations(each)
    return Launch(each.name, kind, phase, kernel, times, moved, operations)


def phase_of(op_name: str) -> str | None:
    """The phase that an operation's scopes name; None where they name none."""
    scopes = re.findall(r"\w+", op_name)
    return next((scope for scope in scopes if scope in PHASES), None)


def kernel_name(each: Instruction) -> str:
    """The name of our own kernel that an instruction launches; empty for other instructions."""
    if each.opcode != "custom-call" or each.target not in (_TRITON, "triton_kernel_call"):
        return ""
    scopes = [scope for scope in each.op_name.split("/") if scope != "pallas_call"]
    return re.sub(r"\W", "", scopes[-1]) if scopes else each.name


def kind_of(module: Module, each: Instruction) -> str:
    """The kind of an instruction that is not an own kernel."""
    if each.opcode.startswith(_COLLECTIVES):
        return COLLECTIVE
    if each.opcode.startswith("copy"):
        return COPY
    if each.opcode == "custom-call":
        return PRODUCT if "gemm" in each.target or "cublas" in each.target else ELEMENTWISE
    opcodes = {inner.opcode for inner in module.called(each)} or {each.opcode}
    if "dot" in opcodes:
        return PRODUCT
    if "reduce" in opcodes:
        return REDUCTION
    return (
        COPY
        if (opcodes <= _MOVES and "dynamic-update-slice" in opcodes) or opcodes <= _MOVES - {"add"}
        else ELEMENTWISE
    )


def collectives(module: Module, result: Census) -> dict[str, float]:
    """Collectives of the whole program, the bytes that they are given, and how many run beside other work."""
    found = [launch for launch in result.launches if launch.kind == COLLECTIVE]
    behind = set(_overlapping(module))
    # Of their operands: a start may name them again beside its result.
    given = {each.name: module.bytes_read(each) for body in module.computations.values() for each in body}
    return {
        "count": sum(each.times for each in found),
        "bytes": sum(each.times * given[each.name] for each in found),
        "overlapping": sum(each.times for each in found if each.name in behind),
    }


def _overlapping(module: Module) -> Iterator[str]:
    """The names of asynchronous collectives between whose start and end something else is launched."""
    for body in module.computations.values():
        for i, each in enumerate(body):
            if not (each.opcode.startswith(_COLLECTIVES) and each.opcode.endswith("-start")):
                continue
            for later in body[i + 1 :]:
                if later.opcode.endswith("-done") and each.name in later.operands:
                    break
                if later.opcode not in _NOTHING:
                    yield each.name
                    break
