"""A compiled program as XLA prints it: computations of instructions, with what each reads, writes and computes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "token": 0}
_NO_WORK = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "broadcast",
        "reshape",
        "transpose",
        "copy",
        "slice",
        "dynamic-slice",
        "dynamic-update-slice",
        "concatenate",
        "iota",
        "pad",
        "reverse",
        "gather",
        "convert",
        "bitcast-convert",
    ]
)
"""Opcodes that compute nothing: they only say which number goes where."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a computation."""

    name: str
    shape: str
    """Its result's type and shape, as printed."""
    opcode: str
    rest: str
    """What follows the opening bracket: operands and attributes."""
    is_root: bool

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The names of its operands."""
        depth, end = 1, len(self.rest)
        for i, char in enumerate(self.rest):
            depth += (char in "({") - (char in ")}")
            if depth == 0:
                end = i
                break
        return tuple(re.findall(r"%([\w.\-]+)", self.rest[:end]))

    def attribute(self, name: str) -> str | None:
        """The name after ``name=``, such as of a called computation; None where there is none."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return found[1] if found else None

    @cached_property
    def op_name(self) -> str:
        """JAX's name of the operation, with the scopes around it; empty where XLA has made the instruction itself."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @cached_property
    def target(self) -> str:
        """The function that a custom call calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found[1] if found else ""

    @cached_property
    def trip_count(self) -> int | None:
        """Iterations of a loop; None where only running it shows them."""
        found = re.search(r'"?known_trip_count"?:\{"n":"(\d+)"', self.rest)
        return int(found[1]) if found else None

    @cached_property
    def branches(self) -> tuple[str, ...]:
        """The computations that a conditional chooses from."""
        listed = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
        if listed:
            return tuple(re.findall(r"[\w.\-]+", listed[1]))
        return tuple(filter(None, (self.attribute("true_computation"), self.attribute("false_computation"))))


class Module:
    """The computations of a compiled program by name, and the name of the one that starts it."""

    def __init__(self, text: str):
        """Reads a program's text."""
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        present: list[Instruction] | None = None
        for line in text.splitlines():
            header = _HEADER.match(line)
            if header:
                present = self.computations[header[2]] = []
                self.entry = header[2] if header[1] else self.entry
            elif line.startswith("}"):
                present = None
            elif present is not None and (found := _INSTRUCTION.match(line)):
                root, name, shape, opcode, rest = found.groups()
                present.append(Instruction(name, shape, opcode, rest, root is not None))

    def called(self, instruction: Instruction) -> list[Instruction]:
        """The instructions of the computation that a fusion, an asynchronous start or a call runs."""
        name = instruction.attribute("calls") or instruction.attribute("to_apply")
        return self.computations.get(name or "", [])

    @cached_property
    def shapes(self) -> dict[str, str]:
        """The type and shape of each instruction, by its name."""
        return {each.name: each.shape for body in self.computations.values() for each in body}

    def bytes_moved(self, instruction: Instruction) -> int:
        """Bytes that an instruction reads and writes; of an array that a fusion only takes slices of, the slices."""
        if instruction.opcode.startswith("fusion"):
            return self._bytes_of_fusion(self.called(instruction))
        return self.bytes_read(instruction) + num_bytes(instruction.shape)

    def bytes_read(self, instruction: Instruction) -> int:
        """Bytes of an instruction's operands."""
        return sum(num_bytes(self.shapes.get(name, "")) for name in instruction.operands)

    def _bytes_of_fusion(self, body: list[Instruction]) -> int:
        users: dict[str, list[Instruction]] = {}
        for each in body:
            for name in each.operands:
                users.setdefault(name, []).append(each)
        by_name, total = {each.name: each for each in body}, 0
        for each in body:
            if each.opcode == "parameter" and each.name in users:
                total += _bytes_read(each, users[each.name][0], self.shapes)
            elif each.is_root:
                outputs = each.operands if each.opcode == "tuple" else (each.name,)
                total += sum(self._bytes_written(name, by_name) for name in outputs)
        return total

    def _bytes_written(self, output: str, by_name: dict[str, Instruction]) -> int:
        """Bytes of a fusion's output; where it updates a slice of an array in place, the slice's."""
        made = by_name[output]
        while made.opcode == "bitcast":
            made = by_name[made.operands[0]]
        return num_bytes(self.shapes[made.operands[1]] if made.opcode == "dynamic-update-slice" else made.shape)

    def operations(self, instruction: Instruction) -> int:
        """Floating-point and integer operations of an instruction, as far as XLA shows them: none of custom calls."""
        if instruction.opcode.startswith("fusion"):
            return sum(self.operations(each) for each in self.called(instruction))
        if instruction.opcode == "dot":
            return 2 * num_elements(instruction.shape) * self._contracted(instruction)
        if instruction.opcode == "reduce":
            return num_elements(self.shapes.get(instruction.operands[0], ""))
        return 0 if instruction.opcode in _NO_WORK else num_elements(instruction.shape)

    def _contracted(self, dot: Instruction) -> int:
        """Terms of each sum of a product."""
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", dot.rest)
        sizes = dimensions(self.shapes.get(dot.operands[0], ""))
        axes = [int(axis) for axis in found[1].split(",")] if found and found[1] else []
        return math.prod(sizes[0][axis] for axis in axes if sizes and axis < len(sizes[0]))


def _bytes_read(parameter: Instruction, user: Instruction, shapes: dict[str, str]) -> int:
    """Bytes of a fusion's parameter that its first user reads."""
    if user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == parameter.name:
        return min(num_bytes(user.shape), num_bytes(parameter.shape))
    if user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
        return 0
    return num_bytes(parameter.shape)


def dimensions(shape: str) -> list[tuple[int, ...]]:
    """The sizes of each array in a printed type."""
    return [tuple(int(n) for n in sizes.split(",") if n) for _, sizes in _ARRAY.findall(shape)]


def num_elements(shape: str) -> int:
    """Numbers in a printed type."""
    return sum(math.prod(sizes) for sizes in dimensions(shape))


def num_bytes(shape: str) -> int:
    """Bytes of a printed type, without padding."""
    return sum(
        math.ceil(_bits(kind) * math.prod(int(n) for n in sizes.split(",") if n) / 8)
        for kind, sizes in _ARRAY.findall(shape)
    )


def _bits(kind: str) -> int:
    if kind in _BITS:
        return _BITS[kind]
    found = re.search(r"\d+", kind)
    return int(found[0]) if found else 0
