"""The bouncing balls, against small time steps, the laws of conservation, and discs drawn by many points."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.data.sequences import as_unit_frames
from worldmodel.support.files import UserError
from worldmodel.worlds.ball import PUSH, RADIUS, REACH, BallOptions, BallWorld
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.simulator import Simulator
from worldmodel.worlds.world import world_of


def slowly(state: np.ndarray, push: np.ndarray, steps: int = 4000) -> np.ndarray:
    """The state `[S]` a tenth of a second later, in small steps, in each of which what has gone too far turns back."""
    balls = state.astype(np.float64).reshape(-1, 4).copy()
    balls[:, 2:] += push.reshape(-1, 2)
    for _ in range(steps):
        balls[:, :2] += balls[:, 2:] * 0.1 / steps
        for ball, axis in itertools.product(range(len(balls)), (0, 1)):
            if abs(balls[ball, axis]) > REACH and balls[ball, axis] * balls[ball, 2 + axis] > 0:
                balls[ball, 2 + axis] *= -1
        if len(balls) == 2:
            apart, faster = balls[1, :2] - balls[0, :2], balls[1, 2:] - balls[0, 2:]
            if apart @ apart < (2 * RADIUS) ** 2 and apart @ faster < 0:
                change = (apart @ faster) * apart / (apart @ apart)
                balls[0, 2:] += change
                balls[1, 2:] -= change
    return balls.ravel()


@pytest.mark.parametrize("balls", [1, 2])
def test_a_step_is_what_many_small_steps_come_to(balls: int):
    """From starts of which many hit a wall, a corner or each other within the step; faster than any in the data."""
    world, random = BallWorld(balls), np.random.default_rng(balls)
    states = np.asarray(jax.jit(jax.vmap(world.initial))(jax.random.split(jax.random.key(0), 30))).copy()
    states.reshape(30, balls, 4)[..., 2:] *= 2
    if balls == 2:  # two of three are about to meet
        for state in states[::3].reshape(-1, 2, 4):
            state[0, :2], state[1, :2] = random.uniform(-0.7, -0.3, 2), random.uniform(0.1, 0.3, 2)
            state[:, 2:] = 4 * (state[::-1, :2] - state[:, :2]) + random.normal(0, 0.5, (2, 2))
    pushes = random.uniform(-PUSH, PUSH, (30, 2 * balls)).astype(np.float32)
    after = np.asarray(jax.jit(world.step)(jnp.asarray(states), jnp.asarray(pushes)))
    slow = np.array([slowly(*pair) for pair in zip(states, pushes, strict=True)])
    turned = np.abs(slow - states).reshape(30, balls, 4)[..., 2:] > 0.2
    assert turned.any(axis=(1, 2)).sum() >= 9
    np.testing.assert_allclose(after, slow, atol=2e-2)
    np.testing.assert_allclose(np.median(np.abs(after - slow)), 0, atol=1e-4)


@pytest.mark.parametrize("balls", [1, 2])
def test_without_pushes_energy_is_kept_and_balls_stay_in_the_box_and_apart(balls: int):
    world = BallWorld(balls)
    state, walk = jax.jit(jax.vmap(world.initial))(jax.random.split(jax.random.key(1), 50)), []
    step = jax.jit(lambda state: world.step(state, jnp.zeros((50, 2 * balls))))
    for _ in range(200):
        walk.append(state)
        state = step(state)
    path = np.array(walk).reshape(200, 50, balls, 4)
    speeds = np.abs(path[..., 2:]) if balls == 1 else (path[..., 2:] ** 2).sum(axis=(-2, -1))
    np.testing.assert_allclose(speeds, np.broadcast_to(speeds[:1], speeds.shape), rtol=1e-3)
    assert np.abs(path[..., :2]).max() <= REACH + 1e-5
    turned = np.diff(np.sign(path[..., 2:]), axis=0) != 0
    assert turned.mean() > 0.02
    if balls == 2:
        apart = np.linalg.norm(path[:, :, 1, :2] - path[:, :, 0, :2], axis=-1)
        assert apart.min() > 2 * RADIUS - 1e-3
        assert (apart < 2 * RADIUS + 0.1).mean() > 0.02


def test_pushes_change_the_velocity_at_once_and_are_clipped():
    after = jax.jit(BallWorld().step)(jnp.array([0.1, 0.2, 0.0, 1.0]), jnp.array([0.03, 5.0]))
    np.testing.assert_allclose(after, [0.1 + 0.003, 0.2 + 0.1 + 0.1 * PUSH, 0.03, 1 + PUSH], atol=1e-6)


@pytest.mark.parametrize(("balls", "size"), [(1, 16), (2, 20)])
def test_frames_show_discs(balls: int, size: int):
    """The share of each pixel that is within a disc, by 400 points."""
    world = BallWorld(balls)
    states = jax.jit(jax.vmap(world.initial))(jax.random.split(jax.random.key(2), 10))
    frames = np.asarray(jax.jit(world.frames, static_argnums=1)(states, size))
    points = (np.arange(20 * size) + 0.5) * 2 / (20 * size) - 1
    expected = np.zeros((10, size, size))
    for n, ball in itertools.product(range(10), range(balls)):
        x, y = np.asarray(states).reshape(10, balls, 4)[n, ball, :2]
        inside = (points[None, :] - x) ** 2 + (-points[:, None] - y) ** 2 < RADIUS**2
        expected[n] += (1.0, 0.5)[ball] * inside.reshape(size, 20, size, 20).mean(axis=(1, 3))
    assert np.abs(frames - expected).max() < 0.15
    assert np.abs(frames - expected).mean() < 0.005


@pytest.mark.parametrize(("balls", "size", "error"), [(1, 16, 0.004), (2, 20, 0.02)])
def test_places_are_read_off_frames(balls: int, size: int, error: float):
    data = collect(BallOptions(balls), 40, 20, seed=balls)
    assert data.frame_shape == (size, size)
    world = world_of(data)
    reader = Simulator.of(data, "data").reader()
    frames = as_unit_frames(data.frames).reshape(40, 20, -1)
    shown = reader(frames)
    true = data.states.reshape(40, 20, balls, 4)[..., :2].reshape(40, 20, 2 * balls)
    assert np.abs(shown - true).max() < error
    scored = world.score(shown[:, 5:], data.states, 5)
    assert list(scored) == [measure.name for measure in world.measures]
    expected = np.linalg.norm((shown - true).reshape(40, 20, balls, 2), axis=-1).mean(axis=-1)
    np.testing.assert_allclose(scored["position_error"], expected[:, 5:], atol=1e-6)
    compiled = jax.jit(lambda reader, frames: reader(frames))(reader, frames)
    np.testing.assert_allclose(compiled, shown, atol=1e-4)


def test_a_blurred_or_dark_picture_is_read_without_harm():
    data = collect(BallOptions(), 20, 5)
    read = jax.jit(Simulator.of(data, "data").reader().__call__)
    frames = 0.9 * as_unit_frames(data.frames).reshape(100, -1) + 0.05
    assert np.abs(read(frames) - data.states[..., :2].reshape(100, 2)).max() < 0.01
    np.testing.assert_array_equal(read(0 * frames), np.zeros((100, 2)))


def test_there_are_one_or_two_balls():
    with pytest.raises(UserError, match="--balls must be 1 or 2, not 3"):
        BallOptions(3).build()  # type: ignore[arg-type]
