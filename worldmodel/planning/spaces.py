"""The actions that there are, and how a planner that searches plain numbers comes by them."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import are_choices
from worldmodel.support.files import UserError


@dataclasses.dataclass(frozen=True)
class ActionSpace:
    """Actions as data sets keep them: A numbers within bounds, or one of A choices as a one-hot vector.

    Planners and policies search *raw* actions, plain numbers `[..., A]`, and never look at the kind: -1 to 1 is from
    the lowest to the highest number, or the largest raw number is the choice.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    discrete: bool = False

    @property
    def size(self) -> int:
        """A."""
        return len(self.low)

    @property
    def free(self) -> bool:
        """Whether one action is another than the other."""
        return self.discrete or self.low != self.high

    @staticmethod
    def of_choices(count: int) -> "ActionSpace":
        """One of so many choices."""
        return ActionSpace((0.0,) * count, (1.0,) * count, discrete=True)

    @staticmethod
    def of(space: gymnasium.Space) -> "ActionSpace":
        """Of a Gymnasium environment. Raises UserError for spaces without bounds, and for other kinds than a
        one-dimensional Box and Discrete."""
        if isinstance(space, gymnasium.spaces.Discrete):
            return ActionSpace.of_choices(int(space.n))
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(f"actions must be vectors (a one-dimensional Box) or Discrete, not {space}")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise UserError(f"a planner needs actions within bounds, not {space}")
        return ActionSpace(tuple(map(float, space.low)), tuple(map(float, space.high)))

    @staticmethod
    def of_data(actions: np.ndarray) -> "ActionSpace":
        """What the actions `[N, T-1, A]` of a data set span: one-hot vectors are choices."""
        if are_choices(actions):
            return ActionSpace.of_choices(actions.shape[-1])
        flat = actions.reshape(-1, actions.shape[-1])
        return ActionSpace(tuple(map(float, flat.min(axis=0))), tuple(map(float, flat.max(axis=0))))

    def gymnasium(self) -> gymnasium.Space:
        """The same as a Gymnasium space."""
        if self.discrete:
            return gymnasium.spaces.Discrete(self.size)
        return gymnasium.spaces.Box(np.array(self.low, np.float32), np.array(self.high, np.float32))

    def bound(self, raw: jax.Array) -> jax.Array:
        """Raw actions that mean the same and are no larger than they need to be."""
        return raw if self.discrete else jnp.clip(raw, -1, 1)

    def action(self, raw: jax.Array) -> jax.Array:
        """The actions `[..., A]` that raw ones mean. Differentiable: a choice passes the gradient of its softmax."""
        if self.discrete:
            soft = jax.nn.softmax(raw, axis=-1)
            hard = jax.nn.one_hot(jnp.argmax(raw, axis=-1), self.size)
            return hard + soft - jax.lax.stop_gradient(soft)
        low, high = (jnp.broadcast_to(jnp.asarray(end), raw.shape) for end in (self.low, self.high))
        return low + (jnp.clip(raw, -1, 1) + 1) / 2 * (high - low)
