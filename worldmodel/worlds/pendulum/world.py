"""The pendulum as a World: its variables, its measures and what a frame shows of it."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, join
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.circle import degrees_apart, wrap
from worldmodel.worlds.collecting import compiled_blocks
from worldmodel.worlds.pendulum.physics import PAPER, PendulumParams, pendulum_reward, pendulum_step
from worldmodel.worlds.pendulum.reading import AngleReader, AngleTemplates
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.world import CompiledWorld, Measure, Rewarded, Variable

ANGLES = {"hanging": math.pi, "horizontal": math.pi / 2, "upright": 0.0}
"""rad, of the places"""
SPEED = 2.0
"""rad/s of the places in motion"""


LONGEST = 1000
"""steps of an episode whose optimum is looked for"""
LAST, UPRIGHT = 50, 15.0
"""states at an episode's end that are looked at, and degrees within which a pendulum stands"""


class PendulumWorld(CompiledWorld, Rewarded):
    """A torque-driven pendulum, whose angle a frame shows (worlds/world.py)."""

    variables = (Variable("angle", "rad", circular=True, note="0: upright"), Variable("angular_velocity", "rad/s"))
    visible = ("angle",)
    measures = (
        Measure("angle_error_degrees", "median angle error / degrees", ".3g", unit="°", statistic="median"),
        Measure("share_within_30_degrees", "sequences within 30 degrees", ".0%", larger_is_better=True),
        Measure("energy_error", "median energy error / J", ".2f", statistic="median"),
    )
    action_size = 1
    action_unit = "N m"
    action_words = ("counter-clockwise", "clockwise")

    def __init__(self, params: PendulumParams = PAPER):
        self.params = params
        self.places = {
            f"{place}, {motion}": (angle, speed)
            for place, angle in ANGLES.items()
            for speed, motion in ((0.0, "at rest"), (SPEED, f"at {SPEED:g} rad/s"))
        }
        self.dt = params.dt
        self.largest_action = params.max_torque

    def initial(self, key: jax.Array) -> jax.Array:
        high = jnp.array([self.params.initial_angle, self.params.initial_speed])
        return high * jax.random.uniform(key, (2,), minval=-1.0)

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        return pendulum_step(state, action[..., 0], self.params)

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        return pendulum_reward(states, actions[..., 0], self.params)

    def terminal(self, states: jax.Array) -> jax.Array:
        """It never ends."""
        return jnp.zeros(states.shape[:-1], bool)

    def frames(self, states: jax.Array, size: int) -> jax.Array:
        return render_pendulum(states[..., 0], size)

    def reader(self, frames: np.ndarray, states: np.ndarray) -> AngleTemplates:
        return AngleReader.of(frames, states[:, 0]).templates

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        """The energy is that of the angles of two frames each."""
        angles, true = shown[..., 0], states[:, context:, 0]
        before = states[:, context - 1 : context, 0]
        errors = degrees_apart(angles, true)
        energies = energy(angles, before, self.params) - energy(true, before, self.params)
        return {
            "angle_error_degrees": errors,
            "share_within_30_degrees": errors < 30,
            "energy_error": np.abs(energies),
        }

    def outcomes(self, episodes: list[np.ndarray]) -> dict[str, float]:
        """ "upright", the share of the episodes whose last 50 states all lie within 15 degrees of upright, and
        "rest_degrees", the median distance from upright in them."""
        apart = [degrees_apart(states[-LAST:, 0], np.zeros(())) for states in episodes]
        return {
            "upright": float(np.mean([each.max() < UPRIGHT for each in apart])),
            "rest_degrees": float(np.median(np.concatenate(apart))),
        }

    def optimal_returns(self, starts: np.ndarray, steps: int) -> np.ndarray | None:
        """By dynamic programming (optimum.py), which needs a largest speed, and 5 MB a step."""
        if not math.isfinite(self.params.max_speed) or steps > LONGEST:
            return None

        from worldmodel.worlds.pendulum.optimum import optimal_returns

        return optimal_returns(starts, steps, self.params)


def energy(angles: np.ndarray, before: np.ndarray, params: PendulumParams) -> np.ndarray:
    """The energy in J `[N, H]` that angles `[N, H]` in rad show, each with the one before it; `before` `[N, 1]` comes
    first. Kinetic energy from their difference, potential energy at their middle."""
    turned = wrap(np.diff(angles, axis=1, prepend=before))
    middle = angles - turned / 2
    potential = params.mass * params.gravity * params.centre_of_mass * np.cos(middle)
    return 0.5 * params.inertia * (turned / params.dt) ** 2 + potential


def collect_pendulum(
    seed: int, sequences: int, length: int, params: PendulumParams, size: int, noise_std: float = 0.0
) -> Sequences:
    """Sequences of a pendulum with any constants, as collecting.compiled_blocks has them; no world is recorded."""
    camera = Camera(size, noise_std=noise_std)
    return join(list(compiled_blocks(PendulumWorld(params), seed, sequences, length, camera)))
