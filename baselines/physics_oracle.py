"""The ceiling: the true simulator, started from a state that is estimated from the context frames.

The angles are read off the frames by templates (worlds/pendulum/reading.py); nothing is learnt but those templates.
"""

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.worlds.pendulum.physics import PendulumParams, simulate

FITTED_FRAMES = 5
GAUSS_NEWTON_STEPS = 20
DAMPING = 1e-5
"""added to the normal equations, whose entries are of order 1"""


def quadratic_fit(angles: np.ndarray, dt: float) -> np.ndarray:
    """The state `[N, 2]` (rad, rad/s) at the last of the angles `[N, K]`, from a parabola through the last five."""
    last = np.unwrap(angles, axis=1)[:, -FITTED_FRAMES:]
    time = dt * np.arange(1 - FITTED_FRAMES, 1)
    coefficients = np.polynomial.polynomial.polyfit(time, last.T, 2)
    return coefficients[:2].T


def shooting(angles: np.ndarray, actions: np.ndarray, params: PendulumParams) -> np.ndarray:
    """The state `[N, 2]` at the last of the angles `[N, K]`, from the trajectory of the true physics under the torques
    `[N, K-1]` that fits the last five angles best (Gauss-Newton from the parabola's velocity)."""
    angles, actions = angles[:, -FITTED_FRAMES:], actions[:, 1 - FITTED_FRAMES :]
    backwards = quadratic_fit(angles[:, ::-1], params.dt)  # the parabola's state at the first of the five
    start = jnp.stack([backwards[:, 0], -backwards[:, 1]], axis=1)

    def residual(state: jax.Array, angle: jax.Array, action: jax.Array) -> jax.Array:
        difference = simulate(state[None], action[None], params)[0, :, 0] - angle
        return jnp.arctan2(jnp.sin(difference), jnp.cos(difference))

    def improve(state: jax.Array, angle: jax.Array, action: jax.Array) -> jax.Array:
        jacobian = jax.jacfwd(residual)(state, angle, action)
        # A speed that is clipped leaves no trace of the initial one: the damping keeps the system solvable.
        normal = jacobian.T @ jacobian + DAMPING * jnp.eye(2)
        return state - jnp.linalg.solve(normal, jacobian.T @ residual(state, angle, action))

    improve_all = jax.jit(jax.vmap(improve))
    for _ in range(GAUSS_NEWTON_STEPS):
        start = improve_all(start, jnp.asarray(angles), jnp.asarray(actions))
    return np.asarray(simulate(start, jnp.asarray(actions), params)[:, -1])


def predict_angles(state: np.ndarray, actions: np.ndarray, params: PendulumParams) -> np.ndarray:
    """Angles `[N, S]` in rad after each of the torques `[N, S]`, by the true physics."""
    return np.asarray(simulate(jnp.asarray(state, jnp.float32), jnp.asarray(actions), params)[:, 1:, 0])
