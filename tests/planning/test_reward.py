"""What is wanted: a reward learnt from data whose reward and states are known, and a picture of a goal."""

import dataclasses

import jax.numpy as jnp
import linear
import numpy as np
import pytest

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.planning import reward as learning
from worldmodel.planning.reward import DREAMT, NEAR, dreamt_rewards, filtered_steps, learn_reward
from worldmodel.planning.wanted import Goal
from worldmodel.support.files import UserError

SEQUENCES, LENGTH = 200, DREAMT + 2
EDGE = 1.5
"""an episode ends where the first state is beyond it"""


def paid(before: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Action t in state t."""
    return linear.reward(actions, before).astype(np.float32)


def states_of(data: Sequences) -> np.ndarray:
    return linear.seen(as_unit_frames(data.frames))


@pytest.fixture(scope="module")
def dreamer() -> Dreamer:
    return Dreamer(linear.Linear())


@pytest.fixture(scope="module")
def data() -> Sequences:
    """Sequences that end early, most of them, and whose padding is paid like nothing else."""
    data = linear.played(SEQUENCES, LENGTH)
    states = states_of(data)
    beyond = states[:, 1:, 0] > EDGE
    first = np.argmax(beyond, axis=1)
    over = beyond.any(axis=1)[:, None] & (np.arange(LENGTH - 1) >= first[:, None])
    ended = over & (np.arange(LENGTH - 1) == first[:, None])
    rewards = np.where(over & ~ended, 1e3, paid(states[:, :-1], data.actions)).astype(np.float32)
    return dataclasses.replace(data, rewards=rewards, ended=ended)


def test_steps_are_the_real_ones_with_what_they_were_paid(dreamer: Dreamer, data: Sequences):
    steps, states, row = filtered_steps(dreamer, data), states_of(data), 0
    for n, length in enumerate(data.lengths()):
        for t in range(length - 1):
            expected = np.concatenate([states[n, t], data.actions[n, t], states[n, t + 1]])
            np.testing.assert_allclose(steps.inputs[row], expected, atol=1e-6)
            assert steps.rewards[row] == data.rewards[n, t]
            assert steps.ends[row] == (t == length - 2 and data.ended[n].any())
            row += 1
    assert row == len(steps.rewards) < SEQUENCES * (LENGTH - 1)


def test_a_reward_and_ends_are_learnt(dreamer: Dreamer, data: Sequences):
    reward, quality = learn_reward(dreamer, data, "here")
    fresh = linear.played(50, 15, seed=1)
    states = states_of(fresh)
    going_on = states[:, :-1, 0] < EDGE
    before, actions, after = states[:, :-1][going_on], fresh.actions[going_on], states[:, 1:][going_on]
    found, ends = reward.of(dreamer.model)(*map(jnp.asarray, (before, actions, after)))
    truth = paid(before, actions)
    error = np.abs(found - truth)
    assert 1 - np.mean(error**2) / truth.var() > 0.99
    near = truth > truth.max() - NEAR * np.ptp(truth)
    assert near.sum() > 10
    assert error[near].mean() < 0.005 * np.ptp(truth)
    clear = np.abs(after[..., 0] - EDGE) > 0.15
    np.testing.assert_array_equal((np.asarray(ends) > 0.5)[clear], (after[..., 0] > EDGE)[clear])

    # what is said of it is measured on the last tenth, to which it was not fitted
    held_out = filtered_steps(dreamer, data.take(slice(-SEQUENCES // 10, None)))
    error = np.abs(np.asarray(reward(jnp.asarray(held_out.inputs))[0]) - held_out.rewards)
    assert quality.error == pytest.approx(error.mean(), rel=1e-3)
    every = filtered_steps(dreamer, data).rewards
    assert quality.r2 == pytest.approx(1 - np.mean(error**2) / every.var(), abs=1e-4)
    assert (quality.best, quality.worst, quality.steps) == (every.max(), every.min(), len(every))
    assert quality.share_near_best == pytest.approx(np.mean(every >= every.max() - NEAR * np.ptp(every)))
    assert quality.r2 > 0.99
    assert quality.error_near_best < 0.005 * np.ptp(every)
    assert quality.r2_dreamt > 0.97  # the model knows the world
    assert quality.warning() is None
    assert f"R^2 {quality.r2:.3f}" in quality.sentence()
    assert "near the best never;" in dataclasses.replace(quality, error_near_best=np.nan).sentence()

    # in the dreams of a model that takes right for left it is good for nothing
    whole = data.whole()
    found, truth = dreamt_rewards(dreamer, whole, reward)
    np.testing.assert_array_equal(truth, whole.rewards[:, :DREAMT])
    assert 1 - np.mean((found - truth) ** 2) / truth.var() > 0.98
    astray = linear.Linear()
    astray.b[...] = -astray.b[...]
    found, truth = dreamt_rewards(Dreamer(astray), whole, reward)
    share = 1 - np.mean((found - truth) ** 2) / truth.var()
    assert share < 0.5
    assert "not in dreams of 20 steps" in dataclasses.replace(quality, r2_dreamt=share).warning()


def planted(data: Sequences, rewards: np.ndarray) -> Sequences:
    return dataclasses.replace(data, rewards=rewards.astype(np.float32), ended=None)


def test_rewards_that_are_hard_to_learn_are_warned_of(
    dreamer: Dreamer, data: Sequences, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learning, "STEPS", 200)
    shape = data.actions.shape[:2]
    same, quality = learn_reward(dreamer, planted(data, np.full(shape, -3.0)), "here")
    assert "All rewards of the data are the same" in quality.warning()
    found, ends = same(jnp.asarray(filtered_steps(dreamer, data).inputs))
    np.testing.assert_allclose(found, -3, atol=1e-3)
    np.testing.assert_array_equal(ends, 0)  # nothing ends where the data says of nothing that it ended

    seldom = np.random.default_rng(0).uniform(-1, -0.5, shape)
    seldom[0, :6] = 0  # of 4200 steps
    assert (
        "Only 0.14% of the data are near the best" in learn_reward(dreamer, planted(data, seldom), "here")[1].warning()
    )

    chance = np.random.default_rng(0).uniform(-1, 0, shape)
    assert "The reward is not well known" in learn_reward(dreamer, planted(data, chance), "here")[1].warning()


def test_without_rewards_there_is_nothing_to_learn(dreamer: Dreamer):
    with pytest.raises(UserError, match=r"^here\.npz: has no rewards [^\n]+$"):
        learn_reward(dreamer, linear.scattered(10, 5), "here.npz")


def test_a_goal_pays_the_more_the_nearer_a_frame_is(dreamer: Dreamer):
    model = dreamer.model
    there = np.array([0.5, -1.0], np.float32)
    goal = Goal.of_frame(as_unit_frames(linear.shown(there)), variance=0.01).of(model)
    there = linear.seen(as_unit_frames(linear.shown(there)))  # but for the rounding of its pixels
    apart = np.linspace(0, 3, 13, dtype=np.float32)
    after = there + apart[:, None] * np.array([0.6, 0.8], np.float32)
    nowhere, nothing = jnp.full((13, 2), 9.0), jnp.ones((13, 1))
    found, ends = map(np.asarray, goal(nowhere, nothing, jnp.asarray(after)))
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(found) < 0).all()
    assert -1 < found[-1] < -0.9
    pixels = (apart / (2 * linear.FARTHEST)) ** 2
    np.testing.assert_allclose(found, -pixels / (pixels + 0.01), atol=1e-4)
    np.testing.assert_array_equal(ends, np.zeros(13))
    # any leading axes
    many = goal(*(jnp.reshape(array[:12], (3, 4, -1)) for array in (nowhere, nothing, jnp.asarray(after))))[0]
    np.testing.assert_allclose(many.reshape(-1), found[:12], atol=1e-6)
