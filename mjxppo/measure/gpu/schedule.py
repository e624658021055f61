"""XLA's schedule of a program for a GPU, as it dumps it: which launches are part of CUDA graphs.

A CUDA graph is several kernels that the host launches at once. XLA decides last what is part of one, so that only this
dump shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mjxppo.measure.gpu.hlo import Module

_THUNK = re.compile(r"^( *)\d+: k(\w+)")
_LABEL = re.compile(r"^ *(condition|body|\w*branch\w*):\s*$")
_NOT_LAUNCHED = frozenset(
    ["CommandBuffer", "While", "Conditional", "AsyncStart", "AsyncDone", "Sequential", "DynamicSliceFusion"]
)


@dataclass
class _Thunk:
    """A step of the schedule."""

    kind: str
    label: str = ""
    """What it is of the thunk around it: condition, body, a branch, or nothing."""
    children: list[_Thunk] = field(default_factory=list)


def launches_in_graphs(dump: Path, module: Module) -> float | None:
    """Launches of the whole program that are part of a CUDA graph; None where XLA has written no such schedule."""
    files = sorted(dump.glob("*thunk_sequence_after_thunk_passes.txt"), key=lambda path: path.stat().st_size)
    if not files:
        return None
    trips = _trip_counts(module, module.entry)
    try:
        total = _count(_read(files[-1].read_text(encoding="utf-8")), trips, in_graph=False)[1]
    except StopIteration:
        return None
    return total if next(trips, None) is None else None  # else its loops are not those of the program's text


def _read(text: str) -> _Thunk:
    """The schedule as a tree, whose root has the outermost thunks as children."""
    root = _Thunk("Root")
    around: list[tuple[int, _Thunk]] = [(-1, root)]
    label = ""
    for line in text.splitlines():
        if found := _LABEL.match(line):
            label = found[1]
        elif found := _THUNK.match(line):
            indent = len(found[1])
            while around[-1][0] >= indent:
                around.pop()
            siblings = around[-1][1].children
            thunk = _Thunk(found[2], label or (siblings[-1].label if siblings else ""))
            siblings.append(thunk)
            around.append((indent, thunk))
            label = ""
    return root


def _count(thunk: _Thunk, trips: Iterator[int], in_graph: bool) -> tuple[float, float]:
    """Launches of a thunk with all that is in it, and those of them that are part of a CUDA graph."""
    in_graph = in_graph or thunk.kind == "CommandBuffer"
    own = float(thunk.kind not in _NOT_LAUNCHED and not thunk.children)
    times = next(trips) if thunk.kind == "While" else 1
    by_label: dict[str, tuple[float, float]] = {"": (own, own * in_graph)}
    for child in thunk.children:
        if child.label != "condition":  # of a loop of known length it is not run
            before, now = by_label.get(child.label, (0.0, 0.0)), _count(child, trips, in_graph)
            by_label[child.label] = (before[0] + now[0], before[1] + now[1])
    if thunk.kind == "Conditional":
        return max(by_label.values())
    return times * sum(each[0] for each in by_label.values()), times * sum(each[1] for each in by_label.values())


def _trip_counts(module: Module, computation: str) -> Iterator[int]:
    """Lengths of the program's loops, in the order of the schedule; 1 where the length is not known."""
    for each in module.computations.get(computation, []):
        if each.opcode == "while":
            yield each.trip_count or 1
            yield from _trip_counts(module, each.attribute("body") or "")
        elif each.opcode == "conditional":
            predicated = each.attribute("false_computation")
            for name in reversed(each.branches) if predicated else each.branches:
                yield from _trip_counts(module, name)
        elif each.opcode == "call":
            yield from _trip_counts(module, each.attribute("to_apply") or "")
