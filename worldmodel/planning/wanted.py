"""What is wanted of the world: a reward that was learnt (reward.py), or a picture that shows the goal."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from worldmodel.models.protocol import State, WorldModel

Rewards = tuple[jax.Array, jax.Array]
"""what steps are paid `[...]`, and the probability `[...]` that the episode ends with them"""


class Wanted(Protocol):
    """What states and actions are worth, bound to one model."""

    def __call__(self, before: State, actions: jax.Array, after: State) -> Rewards:
        """Of steps from states `[..., ]` by actions `[..., A]` to states; any leading axes."""
        ...


class Wish(Protocol):
    """What is wanted, before it is bound to a model: a pytree of arrays, handed to compiled programs."""

    def of(self, model: WorldModel) -> Wanted:
        """The same, in the states of a model."""
        ...


class Goal(NamedTuple):
    """A picture of what the world should look like, and stay. Each imagined frame is paid from -1 (nothing of it is
    right) to 0, by its saturated distance: a frame that shows nothing of the goal in its place is as far as any other,
    so that no way there is dearer for leading through unlike pictures."""

    frame: jax.Array
    """`[H, W(, C)]` in [0, 1]"""
    width: jax.Array
    """`[]` squared distance, summed over the pixels, at which a frame is as good as none"""

    @staticmethod
    def of_frame(frame: Any, variance: float) -> "Goal":
        """`variance` is that of a whole frame over the data (FrameScale.frame_variance)."""
        return Goal(jnp.asarray(frame, jnp.float32), jnp.asarray(variance, jnp.float32))

    def pay(self, frames: jax.Array) -> jax.Array:
        """`[...]`: what frames `[..., H, W(, C)]` in [0, 1] are paid."""
        pixels = tuple(range(frames.ndim - self.frame.ndim, frames.ndim))
        frame = self.frame.reshape((1,) * (frames.ndim - self.frame.ndim) + self.frame.shape)
        apart = jnp.sum((frames - frame) ** 2, axis=pixels)
        return -apart / (apart + self.width)

    def of(self, model: WorldModel) -> Wanted:
        def wanted(before: State, actions: jax.Array, after: State) -> Rewards:
            rewards = self.pay(jnp.clip(model.emission(after).mean(), 0, 1))
            return rewards, jnp.zeros_like(rewards)

        return wanted
