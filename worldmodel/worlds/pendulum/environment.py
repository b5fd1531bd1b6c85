"""The pendulum as a Gymnasium environment (worlds/registered.py has its id)."""

from typing import Any, ClassVar

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.functional_jax_env import FunctionalJaxEnv
from gymnasium.experimental.functional import FuncEnv

from worldmodel.worlds.pendulum.physics import PAPER, PRESETS, PendulumParams, pendulum_reward, pendulum_step
from worldmodel.worlds.pendulum.rendering import render_pendulum


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
        return pendulum_reward(state, jnp.asarray(action)[0], self.params)

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

    Importing worldmodel after gymnasium registers it (worlds/registered.py). Keyword arguments: `preset` ("paper" or
    "gymnasium"), `picture_size`, the side of its
    pictures in pixels, `render_mode`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10, "jax": True}

    def __init__(self, render_mode: str | None = None, preset: str = "paper", picture_size: int = 64):
        params = PRESETS[preset]
        functional = PendulumFunctional(params, picture_size)
        functional.transition = jax.jit(functional.transition)  # type: ignore[method-assign]
        metadata = self.metadata | {"render_fps": round(1 / params.dt)}
        super().__init__(functional, metadata=metadata, render_mode=render_mode)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        observation, *rest = super().step(action)
        return np.asarray(observation), *rest

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        observation, info = super().reset(seed=seed, options=options)
        return np.asarray(observation), info
