"""The matrix products of a program, counted in what JAX traces of it, and timed by themselves: the least time that the
program could take on this machine.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

TRANSFORMATIONS = {"jvp", "transpose", "vmap"}
"""words of a name stack that are no named scopes"""


class Matmul(NamedTuple):
    """`batch` products of matrices `[m, k]` and `[k, n]`."""

    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.k * self.n


class Where(NamedTuple):
    """The part of a program that an operation is in."""

    part: str
    """the outermost jax.named_scope; empty outside of all"""
    backward: bool
    """computes a gradient"""


def matmuls_of(function: Callable, *arguments: Any) -> Counter[tuple[Matmul, Where]]:
    """How often each matrix product runs that the results need: in a loop as often as it turns, or once where that is
    only known later."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return count_within(needed)


def count_within(jaxpr: Jaxpr, scopes: str = "", times: int = 1) -> Counter[tuple[Matmul, Where]]:
    """The same of a traced program that runs so many times, within the given scopes."""
    found: Counter[tuple[Matmul, Where]] = Counter()
    for equation in jaxpr.eqns:
        inside = f"{scopes}/{equation.source_info.name_stack}"
        if equation.primitive.name == "dot_general":
            found[matmul_of(equation), where(inside)] += times
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(equation.params):
            found += count_within(inner, inside, times * turns)
    return found


def matmul_of(dot: JaxprEqn) -> Matmul:
    shapes: Any = [variable.aval for variable in dot.invars]
    left, right = (each.shape for each in shapes)
    (contracted, _), (batched, _) = dot.params["dimension_numbers"]
    batch, k = (math.prod(left[axis] for axis in axes) for axes in (batched, contracted))
    return Matmul(batch, math.prod(left) // (batch * k), k, math.prod(right) // (batch * k))


def where(name_stack: str) -> Where:
    """Of an operation with a name stack such as "transpose(jvp(filter))/encoder"."""
    scopes = [word for word in re.findall(r"\w+", name_stack) if word not in TRANSFORMATIONS]
    return Where(scopes[0] if scopes else "", "transpose(" in name_stack)


class Matmuls:
    """Matrix products by themselves, one shape after the other, in float32."""

    def __init__(self, counts: Counter[tuple[Matmul, Where]]):
        self.counts: Counter[Matmul] = Counter()
        for (shape, _), count in counts.items():
            self.counts[shape] += count
        self.seconds: dict[Matmul, list[float]] = {shape: [] for shape in self.counts}
        """of one product, each time that it was measured"""
        self._inputs = {shape: (ones(*shape[:3]), ones(shape.batch, *shape[2:])) for shape in self.counts}
        for inputs in self._inputs.values():
            repeat_product(*inputs, 1).block_until_ready()  # compiles

    def run(self, passes: int) -> None:
        """All products, as often as so many runs of the program need them."""
        for shape, count in self.counts.items():
            start = time.perf_counter()
            repeat_product(*self._inputs[shape], passes * count).block_until_ready()
            self.seconds[shape].append((time.perf_counter() - start) / (passes * count))


def ones(batch: int, *shape: int) -> jax.Array:
    """`[batch, *shape]`; a batch of one has no axis, for a plain product is faster."""
    return jnp.ones((batch, *shape) if batch > 1 else shape)


@jax.jit
def repeat_product(left: jax.Array, right: jax.Array, count: jax.Array | int) -> jax.Array:
    """left @ right, so often."""

    def again(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, product = carry
        # a left that changes by nothing keeps the compiler from doing it once
        left = left.at[(0,) * left.ndim].add(1e-30 * product.ravel()[0])
        return left, left @ right

    product = jnp.zeros((*left.shape[:-1], right.shape[-1]))
    return jax.lax.fori_loop(0, count, again, (left, product))[1]


@jax.jit
def repeat_triad(to: jax.Array, other: jax.Array, count: jax.Array | int) -> jax.Array:
    """to = 0.5 * to + other, so often: two arrays are read and one is written."""
    return jax.lax.fori_loop(0, count, lambda _, to: 0.5 * to + other, to)
