"""A recurrent world model without any randomness: it expects a state, and a frame corrects what it expected.

s'  = s + step([s, u])                   imagined
s'' = s' + correct([s', encode(x')])     filtered, where there is a frame
x   ~ N(decode(s), sigma^2 I)
"""

import dataclasses

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen, per_seen_frame
from worldmodel.models.distributions import image_normal
from worldmodel.models.networks import MLP
from worldmodel.models.protocol import swap_time
from worldmodel.support.settings import require_at_least


@dataclasses.dataclass(frozen=True)
class RecurrentOptions:
    """A recurrent world model without randomness."""

    state_size: int = 16
    """Numbers in its state."""
    hidden_size: int = 128
    """Units in the hidden layer of each network."""

    def check(self) -> None:
        require_at_least("--state-size", self.state_size, 1)
        require_at_least("--hidden-size", self.hidden_size, 1)

    def build(self, scale: FrameScale, rngs: nnx.Rngs) -> "Recurrent":
        return Recurrent(scale, self, rngs)


class Recurrent(nnx.Module):
    """A WorldModel whose state is a vector `[..., Z]`."""

    context = 2  # fewest frames that filter needs: one does not show how fast things move

    def __init__(self, scale: FrameScale, options: RecurrentOptions, rngs: nnx.Rngs):
        self.scale, self.latent_size = scale, options.state_size
        z, hidden = options.state_size, options.hidden_size
        self.encoder = MLP((scale.pixels, hidden, z), rngs)
        self.step = MLP((z + scale.action_size, hidden, z), rngs)
        self.correction = MLP((2 * z, hidden, z), rngs)
        self.decoder = MLP((z, hidden, scale.pixels), rngs)

    def imagine_step(self, state: jax.Array, action: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return state + self.step(jnp.concatenate([state, action / self.scale.action_scale], axis=-1))

    def corrected(self, state: jax.Array, frame: jax.Array) -> jax.Array:
        seen = self.encoder(self.scale.standardise(frame))
        return state + self.correction(jnp.concatenate([state, seen], axis=-1))

    def filter_step(
        self, state: jax.Array, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        return self.corrected(self.imagine_step(state, action), frame)

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        seen = jnp.ones(frames.shape[:2], bool) if valid is None else valid
        nothing = jnp.zeros((len(frames), self.latent_size))
        first = jnp.where(seen[:, :1], self.corrected(nothing, frames[:, 0]), nothing)

        def step(state: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
            action, frame, seen = inputs
            expected = self.imagine_step(state, action)
            state = jnp.where(seen[:, None], self.corrected(expected, frame), expected)
            return state, state

        over_time = jax.tree.map(swap_time, (actions, frames[:, 1:], seen[:, 1:]))
        _, later = jax.lax.scan(step, first, over_time)
        return jnp.concatenate([first[:, None], swap_time(later)], axis=1)

    def emission(self, state: jax.Array) -> distrax.Distribution:
        frames = self.scale.restore(self.decoder(state))
        return image_normal(frames, self.scale.default_observation_std, len(self.scale.frame_shape))

    def vector(self, state: jax.Array) -> jax.Array:
        return state

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Each sequence shows its frames up to a random one, and the rest must be foreseen."""
        size, length = batch.frames.shape[:2]
        last = jax.random.randint(key, (size, 1), self.context - 1, length)
        shown = jnp.arange(length)[None, :] <= last
        if batch.valid is not None:
            shown &= batch.valid
        emission = self.emission(self.filter(batch.frames, batch.actions, shown))
        nats = emission.log_prob(batch.frames)
        if batch.valid is not None:
            nats = jnp.where(batch.valid, nats, 0)
        loss = -per_seen_frame(nats, batch.valid)
        return loss, {"loss": loss, "frame_mse": mean_of_seen((emission.mean() - batch.frames) ** 2, batch.valid)}
