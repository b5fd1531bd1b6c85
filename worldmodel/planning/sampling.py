"""Random plans: noise that is correlated in time, since a world hardly moves under white noise."""

import jax
import jax.numpy as jnp
import numpy as np


def correlated_noise(key: jax.Array, count: int, like: jax.Array, correlation: float) -> jax.Array:
    """Standard normal numbers `[count, H, A]` for plans like `[H, A]`, each correlated by so much with the one a step
    before, and by its powers with those before that (an AR(1) process from its stationary start). The key is consumed.
    """
    steps = np.arange(len(like))
    apart = np.abs(steps[:, None] - steps[None, :])
    factor = np.linalg.cholesky(correlation**apart + 1e-9 * np.eye(len(like))).astype(np.float32)
    return jnp.einsum("th,sha->sta", factor, jax.random.normal(key, (count, *like.shape)))
