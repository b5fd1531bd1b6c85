"""A world model that expects the last frame for ever: the naive predictor as a guest.

x_{t+1} ~ N(x_t, sigma^2 I), one learned sigma
"""

import dataclasses

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch
from worldmodel.models.distributions import image_normal, positive


@dataclasses.dataclass(frozen=True)
class RepeatingOptions:
    """A model that repeats the last frame."""

    def check(self) -> None: ...

    def build(self, scale: FrameScale, rngs: nnx.Rngs) -> "Repeating":
        return Repeating(scale)


class Repeating(nnx.Module):
    """A WorldModel. Its state is the last frame that was seen, `[..., H, W(, C)]`."""

    context = 1

    def __init__(self, scale: FrameScale):
        self.scale, self.latent_size = scale, scale.pixels
        self.raw_std = nnx.Param(jnp.zeros(()))

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        return frames

    def filter_step(self, state: jax.Array, action: jax.Array, frame: jax.Array, key: None = None) -> jax.Array:
        return frame

    def imagine_step(self, state: jax.Array, action: jax.Array, key: None = None) -> jax.Array:
        return state

    def emission(self, state: jax.Array) -> distrax.Distribution:
        return image_normal(state, positive(self.raw_std[...]), len(self.scale.frame_shape))

    def vector(self, state: jax.Array) -> jax.Array:
        return state.reshape(*state.shape[: state.ndim - len(self.scale.frame_shape)], -1)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        before, after = batch.frames[:, :-1], batch.frames[:, 1:]
        loss = -jnp.mean(self.emission(before).log_prob(after))
        return loss, {"loss": loss, "frame_mse": jnp.mean((after - before) ** 2)}
