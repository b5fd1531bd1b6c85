"""From a function of JAX to a program."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from worldmodel.exporting.lowering import FILLED, LOWERED, Number, Value, fills
from worldmodel.exporting.program import ELEMENTWISE, TYPES, Program, Step, Tensor, alive, unsupported

GROWTH = 64
"""numbers that a constant may have and those it is made of have not: else it is made when the program runs"""

RENAMED = {"add_any": "add"}
SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "sharding_constraint")
"""primitives that change nothing here"""
CALLS = {
    "jit": "jaxpr",
    "remat2": "jaxpr",
    "call": "call_jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""primitives that do nothing but call a function, and the parameter that holds it"""


def trace(function: Callable, inputs: Mapping[str, Any], outputs: Sequence[str]) -> Program:
    """The program of `function(*inputs)`, a tuple of arrays named by `outputs`; `inputs` have shapes and types.

    Raises UserError, with the name of the primitive, where it needs what no program has.
    """
    writer = _Writer()
    numbers = {name: writer.new(Tensor(tuple(each.shape), np.dtype(each.dtype).name)) for name, each in inputs.items()}
    closed = jax.make_jaxpr(function)(*inputs.values())
    results = writer.inline(closed, [Number(number) for number in numbers.values()])
    found = dict(zip(outputs, map(writer.number, results), strict=True))
    return alive(Program(writer.tensors, writer.constants, writer.steps, numbers, found))


class _Writer:
    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[Step] = []
        self._numbers: dict[int, tuple[int, Any]] = {}

    def new(self, tensor: Tensor) -> Number:
        self.tensors.append(tensor)
        return Number(len(self.tensors) - 1)

    def number(self, value: Value) -> Number:
        """Of a tensor that holds it."""
        if isinstance(value, Number):
            return value
        if id(value) not in self._numbers:  # the value is kept, so that its id stays its own
            array = np.asarray(value)
            number = self.new(Tensor(array.shape, array.dtype.name))
            self.constants[number] = array
            self._numbers[id(value)] = number, value
        return Number(self._numbers[id(value)][0])

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.tensors[value].shape if isinstance(value, Number) else tuple(np.shape(value))

    def emit(self, operation: str, inputs: Sequence[Value], avals: Sequence[Any], **parameters: Any) -> list[Value]:
        """The outputs, of these shapes and types, of an operation."""
        outputs = [self.new(Tensor(tuple(aval.shape), str(aval.dtype))) for aval in avals]
        self.steps.append(Step(operation, tuple(map(self.number, inputs)), tuple(outputs), parameters))
        return outputs

    def inline(self, closed: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
        return self.run(closed.jaxpr, closed.consts, arguments)

    def run(self, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
        known: dict[Any, Value] = {}
        known.update(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            aval: Any = atom.aval
            return np.asarray(atom.val, aval.dtype) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, values: list[Value]) -> list[Value]:
        name, parameters = equation.primitive.name, equation.params
        name = FILLED if name == "gather" and fills(parameters) else RENAMED.get(name, name)
        avals = [variable.aval for variable in equation.outvars]
        if name in SAME:
            return values
        if name in LOWERED:
            return LOWERED[name](self, parameters, values, avals)
        if name in CALLS:
            inner = parameters[CALLS[name]]
            return self.inline(inner, values) if isinstance(inner, ClosedJaxpr) else self.run(inner, (), values)
        if _foldable(values, avals):
            results = equation.primitive.bind(*map(jnp.asarray, values), **parameters)
            return list(results) if equation.primitive.multiple_results else [results]
        if name == "concatenate":  # of what is not empty
            values = [value for value in values if math.prod(self.shape(value))] or values[:1]
        if name in ELEMENTWISE:
            values = [self.spread(value, avals[0].shape) for value in values]
        return self.emit(name, values, avals, **_as_json(name, parameters, values, self))

    def spread(self, value: Value, shape: tuple[int, ...]) -> Value:
        """A value of as many axes, some of which have length 1; a single number stays one."""
        own = self.shape(value)
        if own == shape or math.prod(own) == 1:
            return value
        return self.traced(lambda x: jax.lax.broadcast_in_dim(x, shape, range(len(shape))), [value])[0]

    def traced(self, function: Callable, values: Sequence[Value]) -> list[Value]:
        """A function of JAX written out for some values."""
        shapes = [
            jax.ShapeDtypeStruct(*self.tensors[value]) if isinstance(value, Number) else jnp.asarray(value)
            for value in values
        ]
        return self.inline(jax.make_jaxpr(function)(*shapes), list(values))


def _foldable(values: list[Value], avals: list[Any]) -> bool:
    """Whether a result is known now, and is no larger than what it is made of."""
    if any(isinstance(value, Number) for value in values):
        return False
    if any(str(aval.dtype) not in TYPES for aval in avals):
        return False
    size = sum(math.prod(aval.shape) for aval in avals)
    return size <= GROWTH or (bool(values) and size <= sum(np.size(value) for value in values))


def _as_json(name: str, parameters: dict[str, Any], values: list[Value], writer: _Writer) -> dict[str, Any]:
    """What an operation needs beside its tensors."""
    given = parameters
    match name:
        case "broadcast_in_dim":
            return {"dimensions": _ints(given["broadcast_dimensions"])}
        case "transpose":
            return {"permutation": _ints(given["permutation"])}
        case "slice":
            start = _ints(given["start_indices"])
            return {"start": start, "strides": _ints(given["strides"] or [1] * len(start))}
        case "pad":
            return {"padding": [_ints(each) for each in given["padding_config"]]}
        case "concatenate" | "iota":
            return {"dimension": int(given["dimension"])}
        case "rev":
            return {"dimensions": _ints(given["dimensions"])}
        case "dot_general":
            (left, right), (left_batch, right_batch) = given["dimension_numbers"]
            named = {"left": left, "right": right, "left_batch": left_batch, "right_batch": right_batch}
            return {key: _ints(value) for key, value in named.items()}
        case "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_and" | "reduce_or" | "argmax" | "argmin":
            return {"axes": _ints(given["axes"])}
        case "round":
            return {"to_even": int(given["rounding_method"]) == int(jax.lax.RoundingMethod.TO_NEAREST_EVEN)}
        case "dynamic_slice":
            return {"sizes": _ints(given["slice_sizes"])}
        case "top_k":
            if given.get("axis", -1) not in (-1, len(writer.shape(values[0])) - 1):
                raise unsupported("top_k along another axis than the last")
            return {}
        case "gather":
            numbers = given["dimension_numbers"]
            return {
                "sizes": _ints(given["slice_sizes"]),
                "offset_dims": _ints(numbers.offset_dims),
                "collapsed": _ints(numbers.collapsed_slice_dims),
                "start_map": _ints(numbers.start_index_map),
                "batch": _ints(numbers.operand_batching_dims),
                "start_batch": _ints(numbers.start_indices_batching_dims),
            }
    return {}


def _ints(numbers: Sequence[Any]) -> list[int]:
    """Some of JAX's are NumPy's."""
    return [int(number) for number in numbers]
