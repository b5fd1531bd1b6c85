"""A linear-Gaussian world model, whose filter is the exact Kalman filter: a guest, as somebody's own package has it.

    z_0     ~ N(0, I)
    z_{t+1} = A z_t + B u_t + w,   w ~ N(0, Q),  Q diagonal
    x_t     = H z_t + c + v,       v ~ N(0, r I)

It is trained on the exact ln p(x | u). It has no bound beside, no diagnosis and no base matrices.
"""

import dataclasses
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen, per_seen_frame
from worldmodel.models.distributions import image_normal, positive
from worldmodel.models.protocol import swap_time


@dataclasses.dataclass(frozen=True)
class LinearGaussianOptions:
    """A linear-Gaussian model with its exact Kalman filter."""

    latent_size: int = 2
    """Dimensions of the latent z."""

    def check(self) -> None:
        assert self.latent_size > 0

    def build(self, scale: FrameScale, rngs: nnx.Rngs) -> "LinearGaussian":
        return LinearGaussian(scale, self, rngs)


class Belief(NamedTuple):
    """N(mean, covariance) over z."""

    mean: jax.Array
    """`[..., Z]`"""
    covariance: jax.Array
    """`[..., Z, Z]`"""


class LinearGaussian(nnx.Module):
    """A WorldModel. Its state is a Belief; with a key an imagined step draws from it, and knows z afterwards."""

    context = 1

    def __init__(self, scale: FrameScale, options: LinearGaussianOptions, rngs: nnx.Rngs):
        self.scale, self.latent_size = scale, options.latent_size
        z, key = options.latent_size, rngs.params
        self.a = nnx.Param(jnp.eye(z) + 0.1 * jax.random.normal(key(), (z, z)))
        self.b = nnx.Param(0.1 * jax.random.normal(key(), (z, scale.action_size)))
        self.h = nnx.Param(0.1 * jax.random.normal(key(), (scale.pixels, z)))
        self.c = nnx.Param(jnp.full((scale.pixels,), scale.pixel_mean))
        self.raw_q = nnx.Param(jnp.full((z,), -1.0))
        self.raw_r = nnx.Param(jnp.asarray(-2.0))

    def predict(self, belief: Belief, action: jax.Array) -> Belief:
        """p(z' | x_0..x, u_0..u)."""
        a, noise = self.a[...], jnp.diag(positive(self.raw_q[...]) ** 2)
        return Belief(
            belief.mean @ a.T + action @ self.b[...].T,
            jnp.einsum("ij,...jk,lk->...il", a, belief.covariance, a) + noise[None],
        )

    def correct(self, prior: Belief, frame: jax.Array) -> tuple[Belief, jax.Array]:
        """The belief after a frame `[B, ...]`, and ln p(x | the past) `[B]`."""
        h, variance = self.h[...], positive(self.raw_r[...]) ** 2
        pixels = frame.reshape(*prior.mean.shape[:-1], -1)
        innovation = pixels - prior.mean @ h.T - self.c[...][None]
        precision = jnp.linalg.inv(prior.covariance) + (h.T @ h / variance)[None]
        covariance = jnp.linalg.inv(precision)
        told = jnp.einsum("...ij,...j->...i", covariance, innovation @ h / variance)
        # the determinant lemma and Woodbury's identity: Z x Z in place of P x P
        size = pixels.shape[-1]
        logdet = size * jnp.log(variance) + jnp.linalg.slogdet(prior.covariance)[1] + jnp.linalg.slogdet(precision)[1]
        square = jnp.sum(innovation**2, axis=-1) / variance - jnp.einsum("...i,...ij,...j->...", told, precision, told)
        return Belief(prior.mean + told, covariance), -0.5 * (square + logdet + size * jnp.log(2 * jnp.pi))

    def emission(self, state: Belief) -> distrax.Distribution:
        frames = state.mean @ self.h[...].T
        frames += jnp.broadcast_to(self.c[...], frames.shape)
        frames = frames.reshape(*state.mean.shape[:-1], *self.scale.frame_shape)
        return image_normal(frames, positive(self.raw_r[...]), len(self.scale.frame_shape))

    def vector(self, state: Belief) -> jax.Array:
        return state.mean

    def imagine_step(self, state: Belief, action: jax.Array, key: jax.Array | None = None) -> Belief:
        belief = self.predict(state, action)
        if key is None:
            return belief
        spread = jnp.linalg.cholesky(belief.covariance)
        drawn = belief.mean + jnp.einsum("...ij,...j->...i", spread, jax.random.normal(key, belief.mean.shape))
        return Belief(drawn, jnp.broadcast_to(1e-6 * jnp.eye(self.latent_size), belief.covariance.shape))

    def filter_step(self, state: Belief, action: jax.Array, frame: jax.Array, key: jax.Array | None = None) -> Belief:
        return self.correct(self.predict(state, action), frame)[0]

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> Belief:
        return self.run(frames, actions, valid)[0]

    def run(self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None) -> tuple[Belief, jax.Array]:
        """All beliefs `[B, T, ...]`, and ln p(x_t | the past) `[B, T]`, 0 for what was not seen."""
        batch, z = len(frames), self.latent_size
        seen = jnp.ones(frames.shape[:2], bool) if valid is None else valid

        def look(prior: Belief, frame: jax.Array, seen: jax.Array) -> tuple[Belief, jax.Array]:
            posterior, nats = self.correct(prior, frame)
            mean = jnp.where(seen[:, None], posterior.mean, prior.mean)
            covariance = jnp.where(seen[:, None, None], posterior.covariance, prior.covariance)
            return Belief(mean, covariance), jnp.where(seen, nats, 0)

        def step(belief: Belief, inputs: tuple) -> tuple[Belief, tuple]:
            action, frame, seen = inputs
            belief, nats = look(self.predict(belief, action), frame, seen)
            return belief, (belief, nats)

        start = Belief(jnp.zeros((batch, z)), jnp.broadcast_to(jnp.eye(z), (batch, z, z)))
        first = look(start, frames[:, 0], seen[:, 0])
        over_time = jax.tree.map(swap_time, (actions, frames[:, 1:], seen[:, 1:]))
        later = jax.tree.map(swap_time, jax.lax.scan(step, first[0], over_time)[1])
        return jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], b], axis=1), first, later)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        beliefs, nats = self.run(batch.frames, batch.actions, batch.valid)
        loss = -per_seen_frame(nats, batch.valid)
        error = (self.emission(beliefs).mean() - batch.frames) ** 2
        return loss, {"loss": loss, "frame_mse": mean_of_seen(error, batch.valid)}
