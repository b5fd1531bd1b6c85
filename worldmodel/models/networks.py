"""Small networks. They are plain pytrees of parameters: no stored keys, no mutable state, no dropout."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx


class MLP(nnx.Module):
    """Fully connected layers of the given sizes, an activation between them, linear at the end.

    `sizes` has the input size first and the output size last; `[..., sizes[0]] -> [..., sizes[-1]]`. Parameters and
    output are float32; the layers compute in `precision`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rngs: nnx.Rngs,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.silu,
        precision: str = "float32",
    ):
        self.activation = activation
        dtype = jnp.dtype(precision)
        self.layers = nnx.List([nnx.Linear(i, o, dtype=dtype, rngs=rngs) for i, o in itertools.pairwise(sizes)])

    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])  # the gradients of plain matrix products are the faster ones
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x).astype(jnp.float32).reshape(*shape, -1)


def split_in_two(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two halves of the last axis: the mean and the raw standard deviation that a network gives."""
    first, second = jnp.split(x, 2, axis=-1)
    return first, second


IN_HASTE = {"xla_backend_optimization_level": 0}
"""the compiler's options for a program that runs once"""


def maker(build: Callable[[nnx.Rngs], nnx.Module]) -> tuple[nnx.GraphDef, Callable[[jax.Array], nnx.State]]:
    """The structure of the model that `build` makes, and a function from a key, which is consumed, to its initial
    parameters; `nnx.merge(graphdef, params)` gives the model back.

    The function is to be compiled: building the model eagerly would compile one small program for each distinct shape.
    """

    def parameters(key: jax.Array) -> nnx.State:
        return nnx.state(build(nnx.Rngs(params=key)), nnx.Param)

    graphdef, _, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(params=0))), nnx.Param, ...)
    return graphdef, parameters


def initialise(build: Callable[[nnx.Rngs], nnx.Module], key: jax.Array) -> tuple[nnx.GraphDef, nnx.State]:
    """The structure and the initial parameters of the model that `build` makes; the key is consumed."""
    graphdef, parameters = maker(build)
    return graphdef, jax.jit(parameters, compiler_options=IN_HASTE)(key)


BALL_RADIUS = 3.0
"""of `into_ball`, in root mean squares of the latent's prior"""


def mix(mixture: jax.Array, matrices: jax.Array, x: jax.Array) -> jax.Array:
    """sum_i alpha_i x M_i for a mixture `[B, M]`, matrices `[M, X, Y]` and x `[B, X]`: `[B, Y]`."""
    # as one matrix product, [B, M * X] @ [M * X, Y]
    m, size, out = matrices.shape
    weighted = (mixture[:, :, None] * x[:, None, :]).reshape(len(x), m * size)
    return weighted @ matrices.reshape(m * size, out)


def into_ball(latent: jax.Array) -> jax.Array:
    """`[..., Z]` unchanged within the ball of radius 3 sqrt(Z), drawn back to its surface from outside."""
    radius = BALL_RADIUS * latent.shape[-1] ** 0.5
    norm = jnp.sqrt(jnp.sum(latent**2, axis=-1, keepdims=True) + 1e-12)
    return latent * jnp.minimum(1, radius / norm)
