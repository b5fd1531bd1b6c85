"""A traced function as a small program: straight-line steps on tensors of known shapes, which a browser interprets and
ONNX can say as well.

JAX traces the function; what calls other functions is written out, loops are unrolled, what depends on constants alone
is computed now, and what nothing depends on is left out. What remains are the few operations of OPERATIONS, each with
the meaning of the JAX primitive of that name, but that several primitives become one operation:

    square, integer_pow 2   mul          sub, add_any ...  as JAX has them
    split, squeeze, ...     slice, reshape
    clamp                   max, min
    conv_general_dilated    a sum of products
    cholesky, triangular_solve   written out for small matrices
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from worldmodel.support.files import UserError

LONGEST_LOOP = 64
"""turns of a loop that is unrolled"""
LARGEST_MATRIX = 8
"""rows of a matrix whose factors are written out"""
GROWTH = 64
"""numbers that a constant may have and those it is made of have not: else it is made when the program runs"""
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

RENAMED = {"add_any": "add"}
SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "sharding_constraint")
"""primitives that change nothing here"""
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""parameters that hold the function of a primitive that calls one"""


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


def trace(function: Callable, inputs: Mapping[str, Any], outputs: Sequence[str]) -> Program:
    """The program of `function(*inputs)`, a tuple of arrays named by `outputs`; `inputs` have shapes and types.

    Raises UserError, with the name of the primitive, where it needs what no program has.
    """
    writer = _Writer()
    numbers = {name: writer.new(Tensor(tuple(each.shape), np.dtype(each.dtype).name)) for name, each in inputs.items()}
    closed = jax.make_jaxpr(function)(*inputs.values())
    results = writer.inline(closed, [_Number(number) for number in numbers.values()])
    found = dict(zip(outputs, map(writer.number, results), strict=True))
    return _alive(Program(writer.tensors, writer.constants, writer.steps, numbers, found))


class _Number(int):
    """The number of a tensor, where a value is that or a constant."""


_Value = Any
"""a _Number or an array that is known"""


class _Writer:
    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[Step] = []
        self._numbers: dict[int, tuple[int, Any]] = {}

    def new(self, tensor: Tensor) -> _Number:
        self.tensors.append(tensor)
        return _Number(len(self.tensors) - 1)

    def number(self, value: _Value) -> _Number:
        """Of a tensor that holds it."""
        if isinstance(value, _Number):
            return value
        if id(value) not in self._numbers:  # the value is kept, so that its id stays its own
            array = np.asarray(value)
            number = self.new(Tensor(array.shape, array.dtype.name))
            self.constants[number] = array
            self._numbers[id(value)] = number, value
        return _Number(self._numbers[id(value)][0])

    def shape(self, value: _Value) -> tuple[int, ...]:
        return self.tensors[value].shape if isinstance(value, _Number) else tuple(np.shape(value))

    def emit(self, operation: str, inputs: Sequence[_Value], avals: Sequence[Any], **parameters: Any) -> list[_Value]:
        """The outputs, of these shapes and types, of an operation."""
        outputs = [self.new(Tensor(tuple(aval.shape), str(aval.dtype))) for aval in avals]
        self.steps.append(Step(operation, tuple(map(self.number, inputs)), tuple(outputs), parameters))
        return outputs

    def inline(self, closed: ClosedJaxpr, arguments: Sequence[_Value]) -> list[_Value]:
        return self.run(closed.jaxpr, closed.consts, arguments)

    def run(self, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[_Value]) -> list[_Value]:
        known: dict[Any, _Value] = {}
        known.update(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> _Value:
            aval: Any = atom.aval
            return np.asarray(atom.val, aval.dtype) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, values: list[_Value]) -> list[_Value]:
        name, parameters = equation.primitive.name, equation.params
        name = RENAMED.get(name, name)
        avals = [variable.aval for variable in equation.outvars]
        if name in SAME:
            return values
        if name in _LOWERED:
            return _LOWERED[name](self, parameters, values, avals)
        inner = next((parameters[key] for key in CALLS if key in parameters), None)
        if inner is not None:
            if isinstance(inner, ClosedJaxpr):
                return self.inline(inner, values)
            return self.run(inner, (), values)
        if _foldable(values, avals):
            results = equation.primitive.bind(*map(jnp.asarray, values), **parameters)
            return list(results) if equation.primitive.multiple_results else [results]
        if name == "concatenate":  # of what is not empty
            values = [value for value in values if math.prod(self.shape(value))] or values[:1]
        if name in ELEMENTWISE:
            values = [self.spread(value, avals[0].shape) for value in values]
        return self.emit(name, values, avals, **_as_json(name, parameters, values, self))

    def spread(self, value: _Value, shape: tuple[int, ...]) -> _Value:
        """A value of as many axes, some of which have length 1; a single number stays one."""
        own = self.shape(value)
        if own == shape or math.prod(own) == 1:
            return value
        return _traced(self, lambda x: jax.lax.broadcast_in_dim(x, shape, range(len(shape))), [value])[0]


def _foldable(values: list[_Value], avals: list[Any]) -> bool:
    """Whether a result is known now, and is no larger than what it is made of."""
    if any(isinstance(value, _Number) for value in values):
        return False
    if any(str(aval.dtype) not in TYPES for aval in avals):
        return False
    size = sum(math.prod(aval.shape) for aval in avals)
    return size <= GROWTH or (bool(values) and size <= sum(np.size(value) for value in values))


def _as_json(name: str, parameters: dict[str, Any], values: list[_Value], writer: _Writer) -> dict[str, Any]:
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
                raise _unsupported("top_k along another axis than the last")
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


# Primitives that become others

Lowering = Callable[[_Writer, dict[str, Any], list[_Value], list[Any]], list[_Value]]


def _reshape(writer: _Writer, _: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    if not isinstance(values[0], _Number):
        return [jnp.reshape(values[0], avals[0].shape)]
    if writer.shape(values[0]) == tuple(avals[0].shape):
        return [values[0]]
    return writer.emit("reshape", values[:1], avals)


def _split(writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    axis, place, parts = parameters["axis"], 0, []
    for aval in avals:
        start = [0] * len(aval.shape)
        start[axis] = place
        parts += _traced(writer, functools.partial(_sliced, start=start, shape=aval.shape), values)
        place += aval.shape[axis]
    return parts


def _unstack(writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    return _traced(
        writer, lambda x: [jax.lax.index_in_dim(x, k, parameters["axis"], False) for k in range(len(avals))], values
    )


def _sliced(x: jax.Array, start: list[int], shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.slice(x, start, [a + b for a, b in zip(start, shape, strict=True)])


def _scan(writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    length, body = parameters["length"], parameters["jaxpr"]
    if length > LONGEST_LOOP:
        raise _unsupported(f"scan over {length} steps, more than {LONGEST_LOOP}")
    constants, carried = parameters["num_consts"], parameters["num_carry"]
    fixed, carry, series = values[:constants], values[constants : constants + carried], values[constants + carried :]
    made: list[list[_Value]] = [[] for _ in avals[carried:]]
    order = range(length - 1, -1, -1) if parameters["reverse"] else range(length)
    for t in order:
        now = [_traced(writer, lambda x, t=t: jax.lax.index_in_dim(x, t, keepdims=False), [each])[0] for each in series]
        results = writer.inline(body, [*fixed, *carry, *now])
        carry = results[:carried]
        for each, result in zip(made, results[carried:], strict=True):
            each.append(result)
    stacked = []
    for each, aval in zip(made, avals[carried:], strict=True):
        parts = each[::-1] if parameters["reverse"] else each
        if not parts:
            stacked.append(np.zeros(aval.shape, aval.dtype))
        else:
            stacked += _traced(writer, lambda *parts: jnp.stack(parts), parts)
    return [*carry, *stacked]


def _cond(writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    """One branch where it is known which, else all of them, and a choice of the results."""
    (index, *arguments), branches = values, parameters["branches"]
    if not isinstance(index, _Number):
        return writer.inline(branches[int(np.clip(index, 0, len(branches) - 1))], arguments)
    results = [writer.inline(branch, arguments) for branch in branches]

    def choose(index: jax.Array, *cases: jax.Array) -> jax.Array:
        found = cases[0]
        for number, case in enumerate(cases[1:], 1):
            found = jnp.where(jnp.broadcast_to(index >= number, case.shape), case, found)
        return found

    return [_traced(writer, choose, [index, *cases])[0] for cases in zip(*results, strict=True)]


def _cholesky(writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    size = avals[0].shape[-1]
    _require_small("cholesky", size)

    def factor(matrix: jax.Array) -> jax.Array:
        found: dict[tuple[int, int], jax.Array] = {}
        for i in range(size):
            for j in range(i + 1):
                left = matrix[..., i, j] - sum((found[i, k] * found[j, k] for k in range(j)), 0.0)
                found[i, j] = jnp.sqrt(left) if i == j else left / found[j, j]
        none = jnp.zeros_like(matrix[..., 0, 0])
        rows = [jnp.stack([found.get((i, j), none) for j in range(size)], axis=-1) for i in range(size)]
        return jnp.stack(rows, axis=-2)

    return _traced(writer, factor, values)


def _triangular_solve(
    writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]
) -> list[_Value]:
    matrix_shape = writer.shape(values[0])
    size = matrix_shape[-1]
    _require_small("triangular_solve", size)

    def solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
        lower = parameters["lower"]
        if not parameters["left_side"]:  # x a = b is a' x' = b'
            matrix, right, lower = jnp.swapaxes(matrix, -1, -2), jnp.swapaxes(right, -1, -2), not lower
        if parameters["transpose_a"]:
            matrix, lower = jnp.swapaxes(matrix, -1, -2), not lower
        found: dict[int, jax.Array] = {}
        for i in range(size) if lower else range(size - 1, -1, -1):
            left = right[..., i, :]
            for k, known in found.items():
                left = left - matrix[..., i, k, None] * known
            found[i] = left if parameters["unit_diagonal"] else left / matrix[..., i, i, None]
        solved = jnp.stack([found[i] for i in range(size)], axis=-2)
        return solved if parameters["left_side"] else jnp.swapaxes(solved, -1, -2)

    return _traced(writer, solve, values)


def _convolution(writer: _Writer, parameters: dict[str, Any], values: list[_Value], avals: list[Any]) -> list[_Value]:
    """The sum of the products with each place of the kernel."""
    numbers, strides = parameters["dimension_numbers"], parameters["window_strides"]
    if parameters["feature_group_count"] > 1 or parameters["batch_group_count"] > 1:
        raise _unsupported("conv_general_dilated with groups")
    axes = [(*pair, apart - 1) for pair, apart in zip(parameters["padding"], parameters["lhs_dilation"], strict=True)]
    sizes = [avals[0].shape[axis] for axis in numbers.out_spec[2:]]

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        x, kernel = jnp.transpose(x, numbers.lhs_spec), jnp.transpose(kernel, numbers.rhs_spec)
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *axes])
        found = jnp.zeros(())
        for place in np.ndindex(*kernel.shape[2:]):
            start = [k * apart for k, apart in zip(place, parameters["rhs_dilation"], strict=True)]
            end = [a + (size - 1) * step + 1 for a, size, step in zip(start, sizes, strides, strict=True)]
            part = jax.lax.slice(x, [0, 0, *start], [*x.shape[:2], *end], [1, 1, *strides])
            found = found + jnp.einsum("bi...,oi->bo...", part, kernel[(slice(None), slice(None), *place)])
        return jnp.transpose(found, np.argsort(numbers.out_spec).tolist())

    return _traced(writer, convolve, values)


def _require_small(name: str, size: int) -> None:
    if size > LARGEST_MATRIX:
        raise _unsupported(f"{name} of {size} rows, more than {LARGEST_MATRIX}")


def _traced(writer: _Writer, function: Callable, values: Sequence[_Value]) -> list[_Value]:
    """A function of JAX written out for some values."""
    shapes = [
        jax.ShapeDtypeStruct(*writer.tensors[value]) if isinstance(value, _Number) else jnp.asarray(value)
        for value in values
    ]
    return writer.inline(jax.make_jaxpr(function)(*shapes), list(values))


def _as(function: Callable) -> Lowering:
    """What a primitive is that other ones can say."""
    return lambda writer, parameters, values, avals: _traced(writer, functools.partial(function, parameters), values)


def _stacked(axis: int, parts: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate([jnp.expand_dims(part, axis) for part in parts], axis)


def _integer_pow(parameters: dict[str, Any], x: jax.Array) -> jax.Array:
    power = abs(parameters["y"])
    found = functools.reduce(jnp.multiply, [x] * power) if power else jnp.ones_like(x)
    return 1 / found if parameters["y"] < 0 else found


_LOWERED: dict[str, Lowering] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "split": _split,
    "scan": _scan,
    "cond": _cond,
    "conv_general_dilated": _convolution,
    "cholesky": _cholesky,
    "triangular_solve": _triangular_solve,
    "stack": _as(lambda given, *parts: _stacked(given["axis"], parts)),
    "unstack": _unstack,
    "square": _as(lambda _, x: jnp.multiply(x, x)),
    "integer_pow": _as(_integer_pow),
    "clamp": _as(lambda _, low, x, high: jax.lax.min(jax.lax.max(x, _like(low, x)), _like(high, x))),
    "tan": _as(lambda _, x: jnp.sin(x) / jnp.cos(x)),
    "exp2": _as(lambda _, x: jnp.exp(math.log(2) * x)),
}


def _like(bound: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(bound, x.shape)


def _unsupported(what: str) -> UserError:
    return UserError(f"the model cannot be exported: it needs the primitive {what}, which an exported program has not")


def _alive(program: Program) -> Program:
    """Without what no output depends on. Raises UserError where a step that stays is none of OPERATIONS."""
    needed, steps = set(program.outputs.values()), []
    for step in reversed(program.steps):
        if needed.isdisjoint(step.outputs):
            continue
        needed.update(step.inputs)
        steps.append(step)
    for step in reversed(steps):
        if step.operation not in OPERATIONS:
            raise _unsupported(step.operation)
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
