"""Gymnasium's CartPole-v1 as a World. Nothing heavy is imported here."""

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
"""m/s^2"""
CART, POLE = 1.0, 0.1
"""kg"""
HALF_LENGTH = 0.5
"""m, of the pole from its joint to its centre of mass"""
FORCE = 10.0
"""N, to the left or to the right"""
FARTHEST, STEEPEST = 2.4, math.radians(12)
"""m and rad, beyond which an episode ends"""


@dataclasses.dataclass(frozen=True)
class CartPoleOptions:
    """Gymnasium's CartPole-v1: a cart that is pushed to the left or to the right must keep its pole upright."""

    gymnasium_id: ClassVar[str] = "CartPole-v1"
    sutton_barto_reward: bool = False
    """Pay 0 for every step and -1 for the last, instead of 1 for every step."""

    def build(self) -> CartPoleWorld:
        return CartPoleWorld(self.sutton_barto_reward)

    def before_render(self, env: Any, side: int) -> None:
        """Its picture shows no action."""

    def state_of(self, env: Any) -> np.ndarray:
        """`[4]` m, m/s, rad, rad/s."""
        return env.unwrapped.state

    def set_state(self, env: Any, state: np.ndarray) -> None:
        import numpy as np

        env.unwrapped.state = np.array(state, np.float64)


class CartPoleWorld(Rewarded):
    """A pole on a cart (Barto, Sutton & Anderson 1983; the equations are Gymnasium's), both of which a frame shows."""

    variables = (
        Variable("position", "m", note="0: the middle"),
        Variable("velocity", "m/s"),
        Variable("angle", "rad", circular=True, note="0: upright"),
        Variable("angular_velocity", "rad/s"),
    )
    visible = ("position", "angle")
    measures = (
        Measure("position_error", "median position error / m", ".3f", unit=" m", statistic="median"),
        Measure("angle_error_degrees", "median angle error / degrees", ".3g", unit="°", statistic="median"),
    )
    dt = 0.02
    action_size = 2
    largest_action = 1.0
    discrete = True
    action_unit = "choices of force"
    action_words = ("right", "left")

    def __init__(self, sutton_barto_reward: bool = False):
        self.sutton_barto_reward = sutton_barto_reward
        self.places = {
            "in the middle, upright, at rest": (0.0, 0.0, 0.0, 0.0),
            "in the middle, upright, rightwards": (0.0, 1.0, 0.0, 0.0),
            "in the middle, leaning, at rest": (0.0, 0.0, 0.1, 0.0),
            "on the right, upright, at rest": (1.5, 0.0, 0.0, 0.0),
        }

    def initial(self, key: jax.Array) -> jax.Array:
        import jax

        return jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """One step of Euler's method. A mixture of choices has the mean of their forces."""
        import jax.numpy as jnp

        force = FORCE * (action[..., 1] - action[..., 0])
        _, velocity, angle, turning = jnp.moveaxis(state, -1, 0)
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        pushed = (force + POLE * HALF_LENGTH * turning**2 * sine) / (CART + POLE)
        inertia = HALF_LENGTH * (4 / 3 - POLE * cosine**2 / (CART + POLE))
        turned = (GRAVITY * sine - cosine * pushed) / inertia
        faster = pushed - POLE * HALF_LENGTH * turned * cosine / (CART + POLE)
        return state + self.dt * jnp.stack([velocity, faster, turning, turned], axis=-1)

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        """Every step pays 1, that which ends the episode, too."""
        import jax.numpy as jnp

        ends = self.terminal(self.step(states, actions))
        return -1.0 * ends if self.sutton_barto_reward else jnp.ones(ends.shape)

    def terminal(self, states: jax.Array) -> jax.Array:
        """The cart has left the picture, or the pole leans by more than 12 degrees."""
        return (abs(states[..., 0]) > FARTHEST) | (abs(states[..., 2]) > STEEPEST)

    def reader(self, frames: np.ndarray, states: np.ndarray) -> NearestFrames:
        from worldmodel.worlds.reading import NearestFrames

        return NearestFrames.of(self, frames, states)

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        from worldmodel.worlds.circle import degrees_apart

        true = states[:, context:]
        return {
            "position_error": abs(shown[..., 0] - true[..., 0]),
            "angle_error_degrees": degrees_apart(shown[..., 1], true[..., 2]),
        }
