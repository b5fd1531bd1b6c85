"""The matrix products of a compiled program by themselves: the least time that it could take on this machine."""

import time
from collections import Counter

import jax
import jax.numpy as jnp

from baselines.speed.hlo import Matmul


class Matmuls:
    """The matrix products of a program by themselves, one shape after the other, in float32."""

    def __init__(self, counts: Counter[Matmul]):
        self.counts = counts
        self.seconds: dict[Matmul, list[float]] = {matmul: [] for matmul in counts}
        """of one product, each time that it was measured"""
        self._inputs = {
            shape: (jnp.ones((shape.batch, shape.m, shape.k)), jnp.ones((shape.batch, shape.k, shape.n)))
            if shape.batch > 1
            else (jnp.ones((shape.m, shape.k)), jnp.ones((shape.k, shape.n)))
            for shape in counts
        }
        for inputs in self._inputs.values():
            repeat_product(*inputs, 1).block_until_ready()  # compiles

    def run(self, passes: int) -> None:
        """All products, as often as so many runs of the program need them."""
        for shape, count in self.counts.items():
            start = time.perf_counter()
            repeat_product(*self._inputs[shape], passes * count).block_until_ready()
            self.seconds[shape].append((time.perf_counter() - start) / (passes * count))


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
