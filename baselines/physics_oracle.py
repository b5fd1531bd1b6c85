"""The ceiling: the true simulator, started from a state that is estimated from the context frames.

A pendulum's angles are read off the frames by templates (worlds/pendulum/reading.py), a ball's place is its centre of
mass (worlds/ball.py); nothing is learnt but those templates.
"""

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.worlds import simulator
from worldmodel.worlds.ball import BallWorld
from worldmodel.worlds.pendulum.physics import PendulumParams, simulate

FITTED_FRAMES = 5
GAUSS_NEWTON_STEPS = 20
BALL_STEPS = 3
"""of Gauss and Newton: between bounces a ball's path is linear in its start"""
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


def ball_shooting(places: np.ndarray, pushes: np.ndarray) -> np.ndarray:
    """The state `[N, 4]` of one ball at the last of its places `[N, K, 2]`, from the trajectory of the true physics
    under the pushes `[N, K-1, 2]` that fits the last five places best.

    Between two frames without a bounce their difference is the velocity, up to its sign and the pushes: in each
    direction the best of these guesses begins, and Gauss-Newton's steps, which keep to the guess's bounces, follow.
    """
    world = BallWorld()

    def walk(start: jax.Array, pushes: jax.Array) -> jax.Array:
        return simulator.simulate(world.step, start[None], pushes[None])[0]

    def residual(start: jax.Array, places: jax.Array, pushes: jax.Array) -> jax.Array:
        return walk(start, pushes)[:, :2] - places

    def fit(places: jax.Array, pushes: jax.Array) -> jax.Array:
        speeds = jnp.diff(places, axis=0) / world.dt
        guesses = jnp.concatenate([speeds, -speeds])
        starts = jnp.concatenate([jnp.broadcast_to(places[:1], guesses.shape), guesses], axis=-1)
        wrong = jax.vmap(lambda start: jnp.sum(residual(start, places, pushes) ** 2, axis=0))(starts)
        best = jnp.take_along_axis(guesses, jnp.argmin(wrong, axis=0)[None], axis=0)[0]
        start = jnp.concatenate([places[0], best])
        for _ in range(BALL_STEPS):
            jacobian = jax.jacfwd(residual)(start, places, pushes).reshape(-1, 4)
            change = jnp.linalg.lstsq(jacobian, residual(start, places, pushes).ravel())[0]
            better = start - change
            errors = [jnp.sum(residual(each, places, pushes) ** 2) for each in (start, better)]
            start = jnp.where(errors[1] < errors[0], better, start)
        return walk(start, pushes)[-1]

    last = places[:, -FITTED_FRAMES:], pushes[:, 1 - FITTED_FRAMES :]
    return np.asarray(jax.jit(jax.vmap(fit))(*map(jnp.asarray, last)))
