"""The best return of the pendulum, against every sequence of torques, controllers, and what a state of rest is paid."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.worlds.pendulum.optimum import Grid, optimal_returns
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER, pendulum_reward, pendulum_step, simulate

COARSE = Grid(angles=200, speeds=161, torques=11, tried=51)
STEPS = 150


@pytest.fixture(scope="module")
def starts() -> np.ndarray:
    """Twelve of Pendulum-v1's, the first at rest and hanging."""
    drawn = np.random.default_rng(0).uniform(-1, 1, (11, 2)) * [np.pi, 1]
    return np.concatenate([[[np.pi, 0]], drawn]).astype(np.float32)


@pytest.fixture(scope="module")
def best(starts: np.ndarray) -> np.ndarray:
    return optimal_returns(starts, STEPS, grid=COARSE)


def paid(starts: np.ndarray, torques: np.ndarray) -> np.ndarray:
    """The returns of torques `[N, S]` from states `[N, 2]`."""
    states = simulate(jnp.asarray(starts), jnp.asarray(torques, jnp.float32), GYMNASIUM)
    return np.asarray(pendulum_reward(states[:, :-1], torques, GYMNASIUM)).sum(axis=1)


def test_it_is_the_best_of_all_sequences_of_torques():
    starts = np.array([[0.3, -0.5], [0.1, 0.4], [np.pi, 0.0], [-2.0, 7.9], [3.1, 1.0]], np.float32)
    every = np.array(list(itertools.product((-2.0, 0.0, 2.0), repeat=7)))
    expected = [paid(np.tile(start, (len(every), 1)), every).max() for start in starts]
    found = optimal_returns(starts, 7, grid=Grid(angles=400, speeds=321, torques=3, tried=3))
    np.testing.assert_array_less(found, np.array(expected) + 1e-4)
    np.testing.assert_allclose(found, expected, atol=0.02)
    # the last action moves nothing that is paid, and one step is its first state's reward alone
    one = optimal_returns(starts, 1, grid=COARSE)
    np.testing.assert_allclose(one, pendulum_reward(jnp.asarray(starts), jnp.zeros(5), GYMNASIUM), rtol=1e-6)


def test_no_other_controller_is_paid_more(starts: np.ndarray, best: np.ndarray):
    def controlled(state: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        """Energy is pumped up to that of rest upright; near there, a spring and a damper."""
        angle, speed = (state[:, 0] + jnp.pi) % (2 * jnp.pi) - jnp.pi, state[:, 1]
        missing = 5 * (1 - jnp.cos(angle)) - speed**2 / 6
        torque = jnp.where(jnp.abs(angle) < 0.4, -10 * angle - 2 * speed, 2 * jnp.sign(missing * (speed + 1e-3)))
        return pendulum_step(state, torque, GYMNASIUM), pendulum_reward(state, torque, GYMNASIUM)

    pumped = np.asarray(jax.lax.scan(controlled, jnp.asarray(starts), length=STEPS)[1]).sum(axis=0)
    assert pumped[0] > -500  # it does swing up: to hang costs 1480
    for other in (pumped, paid(starts, np.zeros((12, STEPS)))):
        np.testing.assert_array_less(other, best)
    random = np.random.default_rng(1)
    for _ in range(20):
        np.testing.assert_array_less(paid(starts, random.uniform(-2, 2, (12, STEPS))), best)


def test_it_is_what_a_mirrored_pendulum_and_a_turned_one_is_paid(starts: np.ndarray, best: np.ndarray):
    np.testing.assert_allclose(optimal_returns(-starts, STEPS, grid=COARSE), best, atol=0.5)
    np.testing.assert_allclose(optimal_returns(starts + np.array([2 * np.pi, 0]), STEPS, grid=COARSE), best, atol=0.5)


def test_rest_upright_costs_nothing_and_more_steps_cost_more(starts: np.ndarray, best: np.ndarray):
    assert optimal_returns(np.zeros((1, 2)), STEPS, grid=COARSE).tolist() == [0.0]
    shorter = optimal_returns(starts, STEPS // 3, grid=COARSE)
    assert np.all(shorter > best - 0.1)
    assert np.all(shorter[[0]] > best[[0]] + 10)


def test_a_finer_grid_is_paid_hardly_more(starts: np.ndarray, best: np.ndarray):
    finer = optimal_returns(starts, STEPS, grid=Grid(angles=400, speeds=321, torques=11, tried=51))
    assert 0 < finer.mean() - best.mean() < 2


def test_a_speed_without_an_end_has_no_grid():
    with pytest.raises(AssertionError, match="needs an end"):
        optimal_returns(np.zeros((1, 2)), 3, PAPER)
