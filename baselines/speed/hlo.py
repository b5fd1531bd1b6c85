"""What a compiled program does, read from the text that XLA gives of it (HLO): its matrix products, the bytes that it
moves, and the place in our source that each of its operations comes from.

A loop's body counts as often as it runs, and once where XLA does not know how often: many updates in one program count
as one update.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
"""bytes of a number; others (tokens) move nothing"""
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional"}
"""operations that move nothing themselves"""
SLICES = {"dynamic-slice", "gather", "slice"}
"""operations that read as much of their first operand as they give"""


class Matmul(NamedTuple):
    """`batch` products of matrices `[m, k]` and `[k, n]`."""

    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.k * self.n


class Frame(NamedTuple):
    """A function of the source that was being traced."""

    file: str
    function: str


@dataclasses.dataclass(frozen=True)
class Instruction:
    name: str
    type: str
    """such as "f32[64,8]{1,0}", or a tuple of such"""
    operation: str
    operands: list[str]
    rest: str
    """attributes and metadata, as they stand"""

    def attribute(self, pattern: str) -> str:
        """The first group of `pattern` in what stands behind the operands; empty where there is none."""
        match = re.search(pattern, self.rest)
        return match.group(1) if match else ""

    @property
    def calls(self) -> str:
        """The computation that it runs: of a loop its body."""
        return self.attribute(r"(?:calls|to_apply|body)=%([\w.-]+)")

    @property
    def trips(self) -> int:
        return int(self.attribute(r'"known_trip_count":\{"n":"(\d+)"') or 1)


class Program:
    """A compiled program: computations of instructions, one of them the entry."""

    def __init__(self, text: str):
        """From the text of an optimised HLO module (`compiled.as_text()`)."""
        self.computations: dict[str, dict[str, Instruction]] = {}
        self._tables: dict[str, dict[int, str]] = {}
        table: dict[int, str] = {}
        instructions: dict[str, Instruction] = {}
        for line in text.splitlines():
            if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
                table = self._tables.setdefault(line, {})
            elif row := re.match(r"(\d+) (.*)", line):
                table[int(row.group(1))] = row.group(2)
            elif head := re.match(r"(ENTRY )?%([\w.-]+) \(.*\{$", line):
                instructions = self.computations.setdefault(head.group(2), {})
                if head.group(1):
                    self.entry = head.group(2)
            elif match := re.match(r"  (?:ROOT )?%([\w.-]+) = (.*)", line):
                instruction = parse_instruction(*match.groups())
                instructions[instruction.name] = instruction

    def executed(self, computation: str | None = None, times: int = 1) -> Iterator[tuple[str, Instruction, int]]:
        """(computation, instruction, how often it runs) of all that is run as an operation of its own."""
        for instruction in self.computations[computation or self.entry].values():
            yield computation or self.entry, instruction, times
            if instruction.operation in ("while", "call"):
                yield from self.executed(instruction.calls, times * instruction.trips)

    def matmuls(self) -> Counter[Matmul]:
        """How often each matrix product runs."""
        found: Counter[Matmul] = Counter()
        for computation, instruction, times in self.executed():
            for inside, dot in self.dots(computation, instruction):
                found[self._matmul(inside, dot)] += times
        return found

    def dots(self, computation: str, instruction: Instruction) -> Iterator[tuple[str, Instruction]]:
        """The dot that an instruction is, or those fused into it."""
        if instruction.operation == "dot":
            yield computation, instruction
        elif instruction.operation == "fusion":
            for inner in self.computations[instruction.calls].values():
                yield from self.dots(instruction.calls, inner)

    def _matmul(self, computation: str, dot: Instruction) -> Matmul:
        left, right = (dimensions(self.computations[computation][name].type) for name in dot.operands)
        batch, contracted = (
            math.prod(left[int(i)] for i in dot.attribute(rf"lhs_{kind}_dims=\{{([\d,]*)\}}").split(",") if i)
            for kind in ("batch", "contracting")
        )
        shared = batch * contracted
        return Matmul(batch, math.prod(left) // shared, contracted, math.prod(right) // shared)

    def traffic(self) -> int:
        """Bytes read and written by all operations, wherever the data lie: every operand and result of each counts,
        of a slice or an update in place only the part that is touched."""
        return sum(
            times * self._moved(computation, instruction)
            for computation, instruction, times in self.executed()
            if instruction.operation not in FREE
        )

    def _moved(self, computation: str, instruction: Instruction) -> int:
        types = [self.computations[computation][name].type for name in instruction.operands]
        inner = self.computations[instruction.calls] if instruction.operation == "fusion" else {}
        parameters = [i for i in inner.values() if i.operation == "parameter"]
        parameters.sort(key=lambda parameter: int(parameter.operands[0]))
        if not inner:
            parameters = [Instruction(name, "", "parameter", [], "") for name in instruction.operands]
            inner = {instruction.name: instruction}
        read = sum(
            touched(parameter.name, inner, number_of_bytes(type))
            for parameter, type in zip(parameters, types, strict=True)
        )
        updates = [i for i in inner.values() if i.operation == "dynamic-update-slice"]
        if updates:  # in place: what is written is the update, which is read beside it
            sources = self.computations[computation] | inner
            return read + sum(number_of_bytes(sources[update.operands[1]].type) for update in updates)
        return read + number_of_bytes(instruction.type)

    def described(self, computation: str, instruction: Instruction) -> Instruction:
        """Of a fusion the instruction in it that says best where it comes from (a product, or the last that says
        anything); of others the instruction itself."""
        if instruction.operation != "fusion":
            return instruction
        inner = [i for i in self.computations[instruction.calls].values() if "stack_frame_id" in i.rest]
        dots = [dot for _, dot in self.dots(computation, instruction)]
        return (dots or [i for i in (instruction,) if "stack_frame_id" in i.rest] or inner or [instruction])[-1]

    def source(self, instruction: Instruction) -> list[Frame]:
        """The functions that an instruction comes from, innermost first; empty where XLA made it."""
        frames, identity = [], int(instruction.attribute(r"stack_frame_id=(\d+)") or 0)
        while identity:
            location, parent = map(int, re.findall(r"\w+_id=(\d+)", self._tables["StackFrames"][identity]))
            file, function = map(int, re.findall(r"name_id=(\d+)", self._tables["FileLocations"][location]))
            frames.append(
                Frame(self._tables["FileNames"][file].strip('"'), self._tables["FunctionNames"][function].strip('"'))
            )
            identity = parent - 1  # the table counts parents from 1, for none
        return frames


def compiled_text(lowered: jax.stages.Lowered) -> str:
    """The optimised HLO of a program for this machine."""
    text = lowered.compile().as_text()
    assert text is not None
    return text


def parse_instruction(name: str, text: str) -> Instruction:
    """From what stands right of the equals sign: type operation(operands), rest."""
    split = closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    type, text = text[:split], text[split:].lstrip()
    opened = text.index("(")
    closed = closing(text, opened)
    inside = text[opened + 1 : closed]
    operands = [inside] if text.startswith("parameter") else re.findall(r"%([\w.-]+)", inside)
    return Instruction(name, type, text[:opened], operands, text[closed + 1 :])


def closing(text: str, opened: int) -> int:
    """The position of the parenthesis that closes the one at `opened`."""
    depth = 0
    for position in range(opened, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"no closing parenthesis: {text}")


def dimensions(type: str) -> list[int]:
    """Of an array such as f32[64,8]{1,0}."""
    inside = type[type.index("[") + 1 : type.index("]")]
    return [int(size) for size in inside.split(",") if size]


def number_of_bytes(type: str) -> int:
    """Of an array or a tuple of arrays."""
    return sum(SIZES.get(kind, 0) * math.prod(dimensions(f"[{sizes}]")) for kind, sizes in ARRAY.findall(type))


ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def touched(name: str, instructions: dict[str, Instruction], whole: int) -> int:
    """How many of the `whole` bytes of a value are read where only slices of it are, or it is updated in place."""
    uses = [use for use in instructions.values() if name in use.operands]
    read = 0
    for use in uses:
        if use.operation in SLICES and use.operands[0] == name:
            read += number_of_bytes(use.type)
        elif use.operation == "dynamic-update-slice" and use.operands[0] == name:
            continue
        elif use.operation == "bitcast":
            read += touched(use.name, instructions, whole)
        else:
            return whole
    return min(whole, read)
