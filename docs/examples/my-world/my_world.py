"""A mass on a spring, seen from the side and pushed: a world that draws itself.

m x'' = -k x - c x' + u
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from worldmodel.support.settings import require_positive
from worldmodel.worlds.world import CompiledWorld, Measure, Variable

if TYPE_CHECKING:
    import jax
    import numpy as np

    from worldmodel.worlds.reading import NearestFrames


@dataclasses.dataclass(frozen=True)
class SpringOptions:
    """A mass on a spring."""

    stiffness: float = 4.0
    """k, N/m; the mass is 1 kg."""
    friction: float = 0.2
    """c, N s/m."""

    def build(self) -> SpringWorld:
        require_positive("--stiffness", self.stiffness)
        return SpringWorld(self)


class SpringWorld(CompiledWorld):
    """Its states are (position, velocity); a frame shows the position."""

    variables = (Variable("position", "m", note="0: at rest"), Variable("velocity", "m/s"))
    visible = ("position",)
    measures = (Measure("position_error", "median position error / m", ".3f", unit=" m", statistic="median"),)
    dt = 0.1
    action_size = 1
    largest_action = 3.0
    action_unit = "N"
    action_words = ("right", "left")

    def __init__(self, options: SpringOptions):
        self.options = options
        self.places = {"at rest": (0.0, 0.0), "pulled out": (1.5, 0.0), "on its way": (0.0, 2.0)}

    def initial(self, key: jax.Array) -> jax.Array:
        import jax
        import jax.numpy as jnp

        return jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0) * jnp.array([1.5, 3.0])

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """Ten small steps: first the velocity, then the position with it."""
        import jax.numpy as jnp

        position, velocity = state[..., 0], state[..., 1]
        force = jnp.clip(action[..., 0], -self.largest_action, self.largest_action)
        for _ in range(10):
            pull = self.options.stiffness * position + self.options.friction * velocity
            velocity += (force - pull) * self.dt / 10
            position += velocity * self.dt / 10
        return jnp.stack([position, velocity], axis=-1)

    def frames(self, states: jax.Array, size: int) -> jax.Array:
        """A soft bright spot on black; the frame reaches from -3 to 3 m."""
        import jax.numpy as jnp

        metres = jnp.linspace(-3, 3, size).reshape(*[1] * (states.ndim - 1), size)
        across = jnp.exp(-(((metres - states[..., :1]) / 0.4) ** 2))
        along = jnp.exp(-((metres / 0.4) ** 2))
        return along[..., :, None] * across[..., None, :]

    def reader(self, frames: np.ndarray, states: np.ndarray) -> NearestFrames:
        from worldmodel.worlds.reading import NearestFrames

        return NearestFrames.of(self, frames, states)

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        return {"position_error": abs(shown[..., 0] - states[:, context:, 0])}
