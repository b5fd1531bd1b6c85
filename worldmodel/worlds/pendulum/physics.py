"""A torque-driven pendulum seen as frames: its constants, its physics in JAX, and its Gymnasium environment.

    I phi'' = m g r sin(phi) - mu phi' + u

with phi the angle from upright (rad), u the torque (N m), I the moment of inertia about the pivot and r the
distance from the pivot to the centre of mass. A point mass has I = m l^2 and r = l (Karl et al. 2017); a
uniform rod, which Gymnasium's Pendulum-v1 swings, has I = m l^2 / 3 and r = l / 2.
"""

import dataclasses
import math
from typing import Any, ClassVar

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.functional_jax_env import FunctionalJaxEnv
from gymnasium.experimental.functional import FuncEnv

from worldmodel.worlds.pendulum.rendering import render_pendulum


@dataclasses.dataclass(frozen=True)
class PendulumParams:
    """Physical constants, in SI units."""

    mass: float = 1.0
    """kg"""
    length: float = 1.0
    """m"""
    gravity: float = 9.81
    """m/s^2"""
    friction: float = 0.5
    """N m s/rad, viscous, at the pivot"""
    uniform_rod: bool = False
    """False: all the mass at the end of the rod. True: spread evenly along it."""
    dt: float = 0.1
    """s between two frames; the torque is constant in between"""
    substeps: int = 10
    """integration steps between two frames (semi-implicit Euler)"""
    max_torque: float = 2.0
    """N m; larger torques are clipped"""
    max_speed: float = math.inf
    """rad/s; the angular velocity is clipped after every integration step"""
    initial_angle: float = math.pi
    """rad; the initial angle is uniform in [-initial_angle, initial_angle]"""
    initial_speed: float = 8.0
    """rad/s; the initial angular velocity is uniform in [-initial_speed, initial_speed]"""

    @property
    def inertia(self) -> float:
        """kg m^2, about the pivot."""
        return self.mass * self.length**2 / (3 if self.uniform_rod else 1)

    @property
    def centre_of_mass(self) -> float:
        """m from the pivot."""
        return self.length / 2 if self.uniform_rod else self.length


PAPER = PendulumParams()
"""Karl et al. 2017: m = l = 1, mu = 0.5, g = 9.81. The paper states neither dt nor torque nor initial states;
these give angles near uniform on the circle and a standard deviation of the angular velocity of 3.69 rad/s
over sequences of 15 frames, which its Table 1 implies."""

GYMNASIUM = PendulumParams(
    gravity=10.0,
    friction=0.0,
    uniform_rod=True,
    dt=0.05,
    substeps=1,
    max_torque=2.0,
    max_speed=8.0,
    initial_speed=1.0,
)
"""Gymnasium's Pendulum-v1, step for step."""

PRESETS = {"paper": PAPER, "gymnasium": GYMNASIUM}


def pendulum_step(state: jax.Array, torque: jax.Array, params: PendulumParams) -> jax.Array:
    """The state one frame later.

    Args:
        state: `[..., 2]` angle in rad (not wrapped) and angular velocity in rad/s.
        torque: `[...]` N m, clipped to the largest torque.
    """
    torque = jnp.clip(torque, -params.max_torque, params.max_torque)
    angle, velocity = state[..., 0], state[..., 1]
    step = params.dt / params.substeps
    gravity_torque = params.mass * params.gravity * params.centre_of_mass
    for _ in range(params.substeps):
        acceleration = (gravity_torque * jnp.sin(angle) - params.friction * velocity + torque) / params.inertia
        velocity = jnp.clip(velocity + acceleration * step, -params.max_speed, params.max_speed)
        angle = angle + velocity * step
    return jnp.stack([angle, velocity], axis=-1)


def simulate(initial_state: jax.Array, torques: jax.Array, params: PendulumParams) -> jax.Array:
    """All states of a batch of pendulums: `[N, 2]` and `[N, T-1]` N m to `[N, T, 2]`; torque t acts between
    states t and t+1."""

    def step(state: jax.Array, torque: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = pendulum_step(state, torque, params)
        return state, state

    _, later = jax.lax.scan(step, initial_state, torques.T)
    return jnp.concatenate([initial_state[:, None], jnp.swapaxes(later, 0, 1)], axis=1)


class PendulumFunctional(FuncEnv):
    """The pendulum as a Gymnasium functional environment: pure functions of a state `[2]` and a torque `[1]`.

    The observation is (cos, sin, angular velocity in rad/s) and the reward is Pendulum-v1's. `transform` maps
    all functions, for instance by `jax.vmap` and `jax.jit` for a compiled batch.
    """

    def __init__(self, params: PendulumParams = PAPER, size: int = 64):
        self.params = params
        self.size = size
        torque = params.max_torque
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, shape=(3,), dtype=np.float32)
        self.action_space = gym.spaces.Box(-torque, torque, shape=(1,), dtype=np.float32)
        super().__init__()

    def initial(self, rng: jax.Array, params: Any = None) -> jax.Array:
        high = jnp.array([self.params.initial_angle, self.params.initial_speed])
        return jax.random.uniform(rng, (2,), minval=-high, maxval=high)

    def transition(self, state: jax.Array, action: jax.Array, rng: Any, params: Any = None) -> jax.Array:
        return pendulum_step(state, jnp.asarray(action)[0], self.params)

    def observation(self, state: jax.Array, rng: Any, params: Any = None) -> jax.Array:
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]]).astype(jnp.float32)

    def reward(
        self, state: jax.Array, action: jax.Array, next_state: jax.Array, rng: Any, params: Any = None
    ) -> jax.Array:
        torque = jnp.clip(jnp.asarray(action)[0], -self.params.max_torque, self.params.max_torque)
        wrapped = (state[0] + jnp.pi) % (2 * jnp.pi) - jnp.pi
        return -(wrapped**2 + 0.1 * state[1] ** 2 + 0.001 * torque**2)

    def terminal(self, state: jax.Array, rng: Any, params: Any = None) -> jax.Array:
        return jnp.zeros((), bool)

    def frame(self, state: jax.Array) -> jax.Array:
        """`[size, size]` brightness in [0, 1]."""
        return render_pendulum(state[0], self.size)

    def render_init(self, params: Any = None, **kwargs: Any) -> None:
        return None

    def render_image(self, state: jax.Array, render_state: None, params: Any = None) -> tuple[None, np.ndarray]:
        """`[size, size, 3]` uint8."""
        grey = np.asarray(jnp.round(self.frame(state) * 255), np.uint8)
        return None, np.repeat(grey[..., None], 3, axis=-1)

    def render_close(self, render_state: None, params: Any = None) -> None:
        return None


class PendulumEnv(FunctionalJaxEnv):
    """The pendulum as an ordinary Gymnasium environment: `gymnasium.make("worldmodel/Pendulum-v0")`.

    Keyword arguments: `preset` ("paper" or "gymnasium"), `size` of the frames in pixels, `render_mode`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10, "jax": True}

    def __init__(self, render_mode: str | None = None, preset: str = "paper", size: int = 64):
        params = PRESETS[preset]
        functional = PendulumFunctional(params, size)
        functional.transition = jax.jit(functional.transition)  # type: ignore[method-assign]
        metadata = self.metadata | {"render_fps": round(1 / params.dt)}
        super().__init__(functional, metadata=metadata, render_mode=render_mode)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        observation, *rest = super().step(action)
        return np.asarray(observation), *rest

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        observation, info = super().reset(seed=seed, options=options)
        return np.asarray(observation), info
