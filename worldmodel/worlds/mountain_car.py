"""Gymnasium's MountainCarContinuous-v0 as a World. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

from worldmodel.worlds.world import Measure, Rewarded, Variable

if TYPE_CHECKING:
    import jax
    import numpy as np

    from worldmodel.worlds.reading import NearestFrames

LEFT, RIGHT, GOAL = -1.2, 0.6, 0.45
"""m, of the wall, of the right end and of the flag"""
FASTEST = 0.07
"""m per step"""
POWER, SLOPE = 0.0015, 0.0025
"""m per step^2: of the largest force, and of gravity on the steepest slope"""


@dataclasses.dataclass(frozen=True)
class MountainCarOptions:
    """Gymnasium's MountainCarContinuous-v0: a car too weak for the hill must swing up it."""

    gymnasium_id: ClassVar[str] = "MountainCarContinuous-v0"
    goal_velocity: float = 0.0
    """Least speed at the flag that ends an episode, m per step."""

    def build(self) -> MountainCarWorld:
        return MountainCarWorld(self.goal_velocity)

    def before_render(self, env: Any, side: int) -> None:
        """Its picture shows no action."""

    def state_of(self, env: Any) -> np.ndarray:
        """`[2]` m, m per step."""
        return env.unwrapped.state

    def set_state(self, env: Any, state: np.ndarray) -> None:
        import numpy as np

        env.unwrapped.state = np.array(state, np.float32)


class MountainCarWorld(Rewarded):
    """A car between two hills (Moore 1990; the equations are Gymnasium's), whose place a frame shows."""

    variables = (Variable("position", "m", note="flag at 0.45"), Variable("velocity", "m/step"))
    visible = ("position",)
    measures = (
        Measure("position_error", "median position error / m", ".3f", unit=" m", statistic="median"),
        Measure("share_within_10_cm", "sequences within 10 cm", ".0%", larger_is_better=True),
    )
    dt = 1 / 30
    action_size = 1
    largest_action = 1.0
    action_unit = "of the largest force"
    action_words = ("right", "left")

    def __init__(self, goal_velocity: float = 0.0):
        self.goal_velocity = goal_velocity
        valley = -math.pi / 6
        self.places = {
            "in the valley, at rest": (valley, 0.0),
            "in the valley, rightwards": (valley, 0.03),
            "on the left hill, at rest": (-1.0, 0.0),
            "on the right hill, at rest": (0.3, 0.0),
        }

    def initial(self, key: jax.Array) -> jax.Array:
        import jax
        import jax.numpy as jnp

        return jnp.stack([jax.random.uniform(key, (), minval=-0.6, maxval=-0.4), jnp.zeros(())])

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """Against the wall it stops; against the right end it keeps its speed."""
        import jax.numpy as jnp

        position, velocity = state[..., 0], state[..., 1]
        force = jnp.clip(action[..., 0], -1, 1)
        velocity = jnp.clip(velocity + POWER * force - SLOPE * jnp.cos(3 * position), -FASTEST, FASTEST)
        position = jnp.clip(position + velocity, LEFT, RIGHT)
        velocity = jnp.where((position == LEFT) & (velocity < 0), 0, velocity)
        return jnp.stack([position, velocity], axis=-1)

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        """Effort costs, also that beyond the largest force; the flag pays 100."""
        return 100.0 * self.terminal(self.step(states, actions)) - 0.1 * actions[..., 0] ** 2

    def terminal(self, states: jax.Array) -> jax.Array:
        return (states[..., 0] >= GOAL) & (states[..., 1] >= self.goal_velocity)

    def reader(self, frames: np.ndarray, states: np.ndarray) -> NearestFrames:
        from worldmodel.worlds.reading import NearestFrames

        return NearestFrames.of(self, frames, states)

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        errors = abs(shown[..., 0] - states[:, context:, 0])
        return {"position_error": errors, "share_within_10_cm": errors < 0.1}
