"""The steps of a Kalman filter and smoother, with matrices that may differ from step to step and sequence to sequence.

    z' = A z + push + w,   w ~ N(0, diag(q^2))        predict
    a  = C z + v,          v ~ N(0, diag(r^2))        expect, correct

Leading axes `...` are a batch. Covariances stay symmetric and positive in float32: a correction has Joseph's form, and
what is divided by is a Cholesky factor.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
JITTER = 1e-6
"""share of its mean variance that is added to a covariance before it is drawn from"""


class Belief(NamedTuple):
    """N(mean, covariance)."""

    mean: jax.Array
    """`[..., N]`"""
    covariance: jax.Array
    """`[..., N, N]`"""


def predict(belief: Belief, matrix: jax.Array, push: jax.Array, std: jax.Array) -> Belief:
    """Of z' by one of z, with A `[..., Z, Z]`, the push `[..., Z]` and q `[Z]`."""
    return Belief(apply(matrix, belief.mean) + push, congruent(matrix, belief.covariance) + _diagonal(std, matrix.ndim))


def expect(belief: Belief, emission: jax.Array, std: jax.Array) -> Belief:
    """Of a by one of z, with C `[..., C, Z]` and r `[C]`."""
    return predict(belief, emission, jnp.zeros(()).reshape([1] * belief.mean.ndim), std)


def correct(belief: Belief, emission: jax.Array, std: jax.Array, code: jax.Array) -> Belief:
    """Of z, once a `[..., C]` is known."""
    expected = expect(belief, emission, std)
    gain = _over(emission @ belief.covariance, expected.covariance)
    left = _diagonal(jnp.ones(belief.mean.shape[-1]), emission.ndim) - gain @ emission
    covariance = congruent(left, belief.covariance) + congruent(gain, _diagonal(std, emission.ndim))
    return Belief(belief.mean + apply(gain, code - expected.mean), covariance)


def smooth(filtered: Belief, predicted: Belief, matrix: jax.Array, later: Belief) -> Belief:
    """Of z in the light of all that came after it (Rauch, Tung, Striebel 1965): of the filter's belief, of its
    prediction of z' with A, and of what is believed `later` of z' in that light."""
    gain = _over(matrix @ filtered.covariance, predicted.covariance)
    mean = filtered.mean + apply(gain, later.mean - predicted.mean)
    return Belief(mean, filtered.covariance + congruent(gain, later.covariance - predicted.covariance))


def log_density(belief: Belief, value: jax.Array) -> jax.Array:
    """`[...]`, in nats, of `[..., N]`."""
    factor = jnp.linalg.cholesky(belief.covariance)
    square = _square(factor, (value - belief.mean)[..., None])
    return -square / 2 - _half_logdet(factor) - HALF_LOG_2PI * value.shape[-1]


def kl_from_diagonal(mean: jax.Array, std: jax.Array, belief: Belief) -> jax.Array:
    """`[...]`, in nats: KL(N(mean, diag(std^2)) || belief), of `[..., N]`."""
    factor = jnp.linalg.cholesky(belief.covariance)
    stds = std[..., None] * _diagonal(jnp.ones(mean.shape[-1]), mean.ndim + 1)
    square = _square(factor, stds) + _square(factor, (mean - belief.mean)[..., None])
    return (square - mean.shape[-1]) / 2 + _half_logdet(factor) - jnp.sum(jnp.log(std), axis=-1)


def draw(belief: Belief, noise: jax.Array) -> jax.Array:
    """`[..., N]`, of standard normal noise, even where rounding has left no Cholesky factor."""
    size = noise.shape[-1]
    mean = jnp.trace(belief.covariance, axis1=-2, axis2=-1)[..., None, None] / size
    factor = jnp.linalg.cholesky(belief.covariance + JITTER * mean * _diagonal(jnp.ones(size), noise.ndim + 1))
    return belief.mean + apply(factor, noise)


def apply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """`[..., M, N]` times `[..., N]`."""
    return jnp.einsum("...mn,...n->...m", matrix, vector)


def congruent(matrix: jax.Array, covariance: jax.Array) -> jax.Array:
    """M P M^T, as symmetric as P should be."""
    found = jnp.einsum("...ij,...jk,...lk->...il", matrix, covariance, matrix)
    return (found + jnp.swapaxes(found, -1, -2)) / 2


def _diagonal(std: jax.Array, rank: int) -> jax.Array:
    """`[1, ..., 1, N, N]`, of so many axes: the variances."""
    return jnp.diag(std**2).reshape(*[1] * (rank - 2), *2 * std.shape)


def _over(numerator: jax.Array, covariance: jax.Array) -> jax.Array:
    """N^T P^-1 `[..., M, N]` of N `[..., N, M]`."""
    return jnp.swapaxes(cho_solve((jnp.linalg.cholesky(covariance), True), numerator), -1, -2)


def _square(factor: jax.Array, differences: jax.Array) -> jax.Array:
    """The squared lengths of the columns of `[..., N, M]`, summed, in the unit that a Cholesky factor is."""
    return jnp.sum(solve_triangular(factor, differences, lower=True) ** 2, axis=(-2, -1))


def _half_logdet(factor: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
