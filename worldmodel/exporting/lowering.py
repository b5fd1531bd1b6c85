"""Primitives of JAX that become others, of which a program is made."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from worldmodel.exporting.program import unsupported

LONGEST_LOOP = 64
"""turns of a loop that is unrolled"""
LARGEST_MATRIX = 8
"""rows of a matrix whose factors are written out"""
FILLED = "gather that fills"
"""a gather, of which there are two kinds"""


class Number(int):
    """The number of a tensor, where a value is that or a constant."""


Value = Any
"""a Number or an array that is known"""


class Writer(Protocol):
    """What a lowering asks of who writes the program."""

    def shape(self, value: Value) -> tuple[int, ...]:
        """Of a value."""
        ...

    def emit(self, operation: str, inputs: Sequence[Value], avals: Sequence[Any], **parameters: Any) -> list[Value]:
        """The outputs, of these shapes and types, of an operation."""
        ...

    def inline(self, closed: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
        """The results of a traced function, written out."""
        ...

    def traced(self, function: Callable, values: Sequence[Value]) -> list[Value]:
        """The results of a function of JAX, written out."""
        ...


Lowering = Callable[[Writer, dict[str, Any], list[Value], list[Any]], list[Value]]


def _reshape(writer: Writer, _: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
    if not isinstance(values[0], Number):
        return [jnp.reshape(values[0], avals[0].shape)]
    if writer.shape(values[0]) == tuple(avals[0].shape):
        return [values[0]]
    return writer.emit("reshape", values[:1], avals)


def _split(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
    axis, place, parts = parameters["axis"], 0, []
    for aval in avals:
        start = [0] * len(aval.shape)
        start[axis] = place
        parts += writer.traced(functools.partial(_sliced, start=start, shape=aval.shape), values)
        place += aval.shape[axis]
    return parts


def _unstack(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
    return writer.traced(
        lambda x: [jax.lax.index_in_dim(x, k, parameters["axis"], False) for k in range(len(avals))], values
    )


def _sliced(x: jax.Array, start: list[int], shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.slice(x, start, [a + b for a, b in zip(start, shape, strict=True)])


def _scan(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
    length, body = parameters["length"], parameters["jaxpr"]
    if length > LONGEST_LOOP:
        raise unsupported(f"scan over {length} steps, more than {LONGEST_LOOP}")
    constants, carried = parameters["num_consts"], parameters["num_carry"]
    fixed, carry, series = values[:constants], values[constants : constants + carried], values[constants + carried :]
    made: list[list[Value]] = [[] for _ in avals[carried:]]
    order = range(length - 1, -1, -1) if parameters["reverse"] else range(length)
    for t in order:
        now = [writer.traced(lambda x, t=t: jax.lax.index_in_dim(x, t, keepdims=False), [each])[0] for each in series]
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
            stacked += writer.traced(lambda *parts: jnp.stack(parts), parts)
    return [*carry, *stacked]


def _cond(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
    """One branch where it is known which, else all of them, and a choice of the results."""
    (index, *arguments), branches = values, parameters["branches"]
    if not isinstance(index, Number):
        return writer.inline(branches[int(np.clip(index, 0, len(branches) - 1))], arguments)
    results = [writer.inline(branch, arguments) for branch in branches]

    def choose(index: jax.Array, *cases: jax.Array) -> jax.Array:
        found = cases[0]
        for number, case in enumerate(cases[1:], 1):
            found = jnp.where(jnp.broadcast_to(index >= number, case.shape), case, found)
        return found

    return [writer.traced(choose, [index, *cases])[0] for cases in zip(*results, strict=True)]


def _cholesky(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
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

    return writer.traced(factor, values)


def _triangular_solve(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
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

    return writer.traced(solve, values)


def _convolution(writer: Writer, parameters: dict[str, Any], values: list[Value], avals: list[Any]) -> list[Value]:
    """The sum of the products with each place of the kernel."""
    numbers, strides = parameters["dimension_numbers"], parameters["window_strides"]
    if parameters["feature_group_count"] > 1 or parameters["batch_group_count"] > 1:
        raise unsupported("conv_general_dilated with groups")
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

    return writer.traced(convolve, values)


def _require_small(name: str, size: int) -> None:
    if size > LARGEST_MATRIX:
        raise unsupported(f"{name} of {size} rows, more than {LARGEST_MATRIX}")


def _as(function: Callable) -> Lowering:
    """What a primitive is that other ones can say."""
    return lambda writer, parameters, values, avals: writer.traced(functools.partial(function, parameters), values)


def _stacked(axis: int, parts: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate([jnp.expand_dims(part, axis) for part in parts], axis)


def _integer_pow(parameters: dict[str, Any], x: jax.Array) -> jax.Array:
    power = abs(parameters["y"])
    found = functools.reduce(jnp.multiply, [x] * power) if power else jnp.ones_like(x)
    return 1 / found if parameters["y"] < 0 else found


def fills(parameters: dict[str, Any]) -> bool:
    """Whether a gather gives a value of its own for what lies outside; else it reads at the nearest place within."""
    return bool(parameters["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP)


def _gather_filled(parameters: dict[str, Any], x: jax.Array, starts: jax.Array) -> jax.Array:
    """A window that is not wholly within the array is filled."""
    numbers, sizes = parameters["dimension_numbers"], parameters["slice_sizes"]
    found = jax.lax.gather(x, starts, numbers, sizes, mode=jax.lax.GatherScatterMode.CLIP)
    last = np.array([x.shape[axis] - sizes[axis] for axis in numbers.start_index_map], starts.dtype)
    inside = jnp.all((starts >= 0) & (starts <= jnp.broadcast_to(last, starts.shape)), axis=-1)
    batch = [axis for axis in range(found.ndim) if axis not in numbers.offset_dims]
    inside = jax.lax.broadcast_in_dim(inside, found.shape, batch)
    return jnp.where(inside, found, jnp.full(found.shape, parameters["fill_value"], found.dtype))


LOWERED: dict[str, Lowering] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "split": _split,
    "scan": _scan,
    "cond": _cond,
    "conv_general_dilated": _convolution,
    "cholesky": _cholesky,
    "triangular_solve": _triangular_solve,
    FILLED: _as(_gather_filled),
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
