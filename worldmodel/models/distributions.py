"""The few Distrax helpers that the models share. All latent distributions here are diagonal Gaussians.

`Independent(Normal)` is used rather than `MultivariateNormalDiag`: only the former crosses jit, scan and
vmap without leaking tracers or losing its batch shape.
"""

import distrax
import jax
import jax.numpy as jnp

MIN_STD = 1e-3
"""No standard deviation falls below this: a scale of 0 gives nan in every density."""


def diagonal_normal(mean: jax.Array, std: jax.Array) -> distrax.Independent:
    """Gaussian over the last axis: `mean` and `std` `[..., Z]`, batch shape `[...]`, event shape `[Z]`."""
    return distrax.Independent(distrax.Normal(mean, jnp.broadcast_to(std, mean.shape)), 1)


def standard_normal_like(distribution: distrax.Independent) -> distrax.Independent:
    """N(0, I) with the batch and event shape of `distribution`."""
    mean = distribution.mean()
    return diagonal_normal(jnp.zeros_like(mean), jnp.ones_like(mean))


def image_normal(mean: jax.Array, std: jax.Array | float, frame_rank: int) -> distrax.Independent:
    """Gaussian over the last `frame_rank` axes of `mean`, with one standard deviation for all pixels."""
    return distrax.Independent(distrax.Normal(mean, jnp.full_like(mean, std)), frame_rank)


def positive(raw: jax.Array) -> jax.Array:
    """A standard deviation from an unconstrained number: softplus, floored at MIN_STD."""
    return jax.nn.softplus(raw) + MIN_STD


def from_noise(distribution: distrax.Independent, noise: jax.Array) -> jax.Array:
    """The reparameterised sample mean + std * noise; noise of zero gives the mean.

    Explicit noise, rather than a key, lets two computations share their randomness exactly: a filter whose
    measurements are switched off and a rollout of the prior give the same numbers.
    """
    return distribution.mean() + distribution.stddev() * noise


def where(condition: jax.Array, one: distrax.Independent, other: distrax.Independent) -> distrax.Independent:
    """Of two Gaussians over the last axis the one or the other, by a `condition` `[..., 1]`."""
    mean, std = (
        jnp.where(condition, mine, others)
        for mine, others in ((one.mean(), other.mean()), (one.stddev(), other.stddev()))
    )
    return diagonal_normal(mean, std)


def draw(distribution: distrax.Independent, key: jax.Array | None, spread: jax.Array | float = 1.0) -> jax.Array:
    """A reparameterised sample, its distance from the mean multiplied by `spread`, or the mean without a key. The key
    is consumed."""
    if key is None:
        return distribution.mean()
    return from_noise(distribution, spread * jax.random.normal(key, distribution.mean().shape))


def fuse(
    mean: jax.Array, std: jax.Array, measured_mean: jax.Array, measured_precision: jax.Array
) -> distrax.Independent:
    """The normalised product of N(mean, std^2) and N(measured_mean, 1 / measured_precision), all `[..., Z]`.

    A measured precision of 0 says that the dimension was not measured: it keeps `mean` and `std`.
    """
    prior_precision = std**-2
    precision = prior_precision + measured_precision
    fused_mean = (prior_precision * mean + measured_precision * measured_mean) / precision
    return diagonal_normal(fused_mean, precision**-0.5)
