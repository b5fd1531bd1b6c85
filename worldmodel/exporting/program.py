"""A traced function as a small program: straight-line steps on tensors of known shapes, which a browser interprets and
ONNX can say as well.

JAX traces the function; what calls other functions is written out, loops are unrolled, what depends on constants alone
is computed now, and what nothing depends on is left out. What remains are the few operations of OPERATIONS, each with
the meaning of the JAX primitive of that name, but that several primitives become one operation:

    square, integer_pow 2   mul          sub, add_any ...  as JAX has them
    split, squeeze, ...     slice, reshape
    clamp                   max, min
    gather that fills       gather, and a choice
    conv_general_dilated    a sum of products
    cholesky, triangular_solve   written out for small matrices
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from worldmodel.support.files import UserError

TYPES = ("float32", "int32", "bool", "uint8")
"""of tensors; uint8 is for stored pictures"""

_ELEMENTWISE = """
add sub mul div rem max min pow atan2 and or not xor eq ne lt le gt ge neg abs sign floor ceil round sqrt rsqrt exp
expm1 log log1p logistic tanh sin cos select_n is_finite convert_element_type
"""
_OTHERS = """
reshape broadcast_in_dim transpose slice pad concatenate rev iota dot_general reduce_sum reduce_max reduce_min
reduce_and reduce_or argmax argmin gather dynamic_slice top_k
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""of tensors of one shape, some of which may be single numbers"""
OPERATIONS = ELEMENTWISE | frozenset(_OTHERS.split())


class Tensor(NamedTuple):
    """What is known of a tensor before a program runs."""

    shape: tuple[int, ...]
    type: str


class Step(NamedTuple):
    """One operation: numbers of tensors, and what else it needs, as JSON has it."""

    operation: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Program:
    """Tensors are numbered; each is an input, a constant, or the output of one step."""

    tensors: list[Tensor]
    constants: dict[int, np.ndarray]
    steps: list[Step]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def alive(program: Program) -> Program:
    """Without what no output depends on. Raises UserError where a step that stays is none of OPERATIONS."""
    needed, steps = set(program.outputs.values()), []
    for step in reversed(program.steps):
        if needed.isdisjoint(step.outputs):
            continue
        needed.update(step.inputs)
        steps.append(step)
    for step in reversed(steps):
        if step.operation not in OPERATIONS:
            raise unsupported(step.operation)
        for number in (*step.inputs, *step.outputs):
            if program.tensors[number].type not in TYPES:
                raise UserError(
                    f"the model cannot be exported: {step.operation} computes in {program.tensors[number].type},"
                    f" and exported programs in {', '.join(TYPES)} alone"
                )
    needed.update(program.inputs.values())
    kept = {number: place for place, number in enumerate(sorted(needed))}

    def moved(numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(kept[number] for number in numbers)

    return Program(
        [program.tensors[number] for number in kept],
        {kept[number]: array for number, array in program.constants.items() if number in kept},
        [step._replace(inputs=moved(step.inputs), outputs=_outputs(kept, step)) for step in reversed(steps)],
        {name: kept[number] for name, number in program.inputs.items()},
        {name: kept[number] for name, number in program.outputs.items()},
    )


def _outputs(kept: dict[int, int], step: Step) -> tuple[int, ...]:
    """-1 for those that are not needed."""
    return tuple(kept.get(number, -1) for number in step.outputs)


def unsupported(what: str) -> UserError:
    return UserError(f"the model cannot be exported: it needs the primitive {what}, which an exported program has not")
