"""Gymnasium's Acrobot-v1 as a World. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

from worldmodel.worlds.world import Measure, Rewarded, Variable

if TYPE_CHECKING:
    import jax
    import numpy as np

    from worldmodel.worlds.reading import NearestFrames

GRAVITY = 9.8
"""m/s^2; both links are 1 m long, of 1 kg with its centre in the middle, and 1 kg m^2 around it"""
FASTEST = (4 * math.pi, 9 * math.pi)
"""rad/s, of the two links"""
TORQUES = (-1.0, 0.0, 1.0)
"""N m of the three choices"""


@dataclasses.dataclass(frozen=True)
class AcrobotOptions:
    """Gymnasium's Acrobot-v1: two links, of which a motor between them must swing up the tip."""

    gymnasium_id: ClassVar[str] = "Acrobot-v1"

    def build(self) -> AcrobotWorld:
        return AcrobotWorld()

    def before_render(self, env: Any, side: int) -> None:
        """Its picture shows no action."""

    def state_of(self, env: Any) -> np.ndarray:
        """`[4]` rad, rad/s."""
        return env.unwrapped.state

    def set_state(self, env: Any, state: np.ndarray) -> None:
        import numpy as np

        env.unwrapped.state = np.array(state, np.float64)


class AcrobotWorld(Rewarded):
    """Two links with a motor between them (Sutton & Barto 2018, 11.3 of the first edition; the equations are
    Gymnasium's), whose angles a frame shows."""

    variables = (
        Variable("angle_1", "rad", circular=True, note="0: hanging"),
        Variable("angle_2", "rad", circular=True, note="0: stretched"),
        Variable("angular_velocity_1", "rad/s"),
        Variable("angular_velocity_2", "rad/s"),
    )
    visible = ("angle_1", "angle_2")
    measures = (
        Measure("angle_error_degrees", "median angle error, mean of both links / degrees", ".3g", "°"),
        Measure("angle_1_error_degrees", "median angle error of the first link / degrees", ".3g", "°"),
        Measure("angle_2_error_degrees", "median angle error of the second link / degrees", ".3g", "°"),
    )
    dt = 0.2
    action_size = 3
    largest_action = 1.0
    discrete = True
    action_unit = "choices of torque"
    action_words = ("lower link counter-clockwise", "lower link clockwise")

    def __init__(self) -> None:
        self.places = {
            "hanging, at rest": (0.0, 0.0, 0.0, 0.0),
            "hanging, at 2 rad/s": (0.0, 0.0, 2.0, 0.0),
            "horizontal, at rest": (math.pi / 2, 0.0, 0.0, 0.0),
            "upright, at rest": (math.pi, 0.0, 0.0, 0.0),
        }

    def initial(self, key: jax.Array) -> jax.Array:
        import jax

        return jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1)

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """One step of the classical Runge-Kutta method, then the angles wrapped and the speeds clipped. A mixture of
        choices has the mean of their torques."""
        import jax.numpy as jnp

        from worldmodel.worlds.circle import wrap

        torque = (action * jnp.broadcast_to(jnp.array(TORQUES), action.shape)).sum(axis=-1)
        first = _slope(state, torque)
        second = _slope(state + self.dt / 2 * first, torque)
        third = _slope(state + self.dt / 2 * second, torque)
        fourth = _slope(state + self.dt * third, torque)
        state = state + self.dt / 6 * (first + 2 * second + 2 * third + fourth)
        speeds = [jnp.clip(state[..., 2 + link], -FASTEST[link], FASTEST[link]) for link in (0, 1)]
        return jnp.stack([wrap(state[..., 0]), wrap(state[..., 1]), *speeds], axis=-1)

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        """Every step costs 1, but the one that ends the episode."""
        return self.terminal(self.step(states, actions)) - 1.0

    def terminal(self, states: jax.Array) -> jax.Array:
        """The tip is a metre above the axis."""
        import jax.numpy as jnp

        return -jnp.cos(states[..., 0]) - jnp.cos(states[..., 0] + states[..., 1]) > 1

    def reader(self, frames: np.ndarray, states: np.ndarray) -> NearestFrames:
        from worldmodel.worlds.reading import NearestFrames

        return NearestFrames.of(self, frames, states)

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        from worldmodel.worlds.circle import degrees_apart

        errors = degrees_apart(shown, states[:, context:, :2])
        return {
            "angle_error_degrees": errors.mean(axis=-1),
            "angle_1_error_degrees": errors[..., 0],
            "angle_2_error_degrees": errors[..., 1],
        }


def _slope(state: jax.Array, torque: jax.Array) -> jax.Array:
    """The derivative of states `[..., 4]` by time under torques `[...]` in N m."""
    import jax.numpy as jnp

    angle_1, angle_2, speed_1, speed_2 = jnp.moveaxis(state, -1, 0)
    inertia_1 = 0.25 + (1.25 + jnp.cos(angle_2)) + 2
    inertia_2 = 1.25 + 0.5 * jnp.cos(angle_2)
    weight_2 = 0.5 * GRAVITY * jnp.sin(angle_1 + angle_2)
    weight_1 = 1.5 * GRAVITY * jnp.sin(angle_1) + weight_2
    turning = 0.5 * jnp.sin(angle_2)
    force_1 = weight_1 - turning * speed_2 * (speed_2 + 2 * speed_1)
    pull = torque + inertia_2 / inertia_1 * force_1 - turning * speed_1**2 - weight_2
    faster_2 = pull / (1.25 - inertia_2**2 / inertia_1)
    faster_1 = -(inertia_2 * faster_2 + force_1) / inertia_1
    return jnp.stack([speed_1, speed_2, faster_1, faster_2], axis=-1)
