"""A policy learnt in the dream of a linear world, against the best that can be done there."""

import jax
import jax.numpy as jnp
import linear
import numpy as np
import pytest

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.planning.options import PolicyOptions
from worldmodel.planning.planner import imagined_rewards
from worldmodel.planning.policy import LearntPolicy, filtered_states, learn_policy, propose
from worldmodel.planning.spaces import ActionSpace
from worldmodel.support.files import UserError

SPACE = ActionSpace((-3.0,), (5.0,))
OPTIONS = PolicyOptions(horizon=12, updates=300, dreams=32, hidden_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def dreamer() -> Dreamer:
    return Dreamer(linear.Linear())


@pytest.fixture(scope="module")
def data() -> Sequences:
    return linear.scattered(20, 10, widest=1.0)


@pytest.fixture(scope="module")
def learnt(dreamer: Dreamer, data: Sequences) -> tuple[LearntPolicy, np.ndarray]:
    return learn_policy(dreamer, data, linear.Near(), SPACE, OPTIONS)


def test_it_does_nearly_as_well_as_is_possible(
    dreamer: Dreamer, data: Sequences, learnt: tuple[LearntPolicy, np.ndarray]
):
    policy, returns = learnt
    starts = linear.seen(as_unit_frames(data.frames))[:, 0]
    model, horizon = dreamer.model, OPTIONS.horizon

    @jax.jit
    def paid(states: jax.Array, actions: jax.Array) -> jax.Array:
        return imagined_rewards(model.imagine_step, linear.wanted, states, actions)[1].sum(axis=1)

    raw = jax.jit(jax.vmap(lambda state: propose(model, SPACE, policy, state[None], horizon)[0]))(starts)
    assert np.abs(raw).max() <= 1
    best = [linear.best_plan(start, horizon) for start in starts]
    assert min(SPACE.low) < min(plan.min() for plan, _ in best) < max(plan.max() for plan, _ in best) < max(SPACE.high)
    most = np.array([most for _, most in best])
    found, nothing = paid(starts, SPACE.action(raw)), paid(starts, jnp.zeros((len(starts), horizon, 1)))
    assert (np.asarray(found) <= most + 1e-3).all()
    assert np.mean(found) > 1.1 * np.mean(most)
    assert np.mean(nothing) < 3 * np.mean(most)

    assert returns.shape == (OPTIONS.updates,)
    assert returns[-50:].mean() > returns[:5].mean() / 3  # they are negative


def test_what_it_proposes_is_what_it_does_step_by_step(dreamer: Dreamer, learnt: tuple[LearntPolicy, np.ndarray]):
    policy, model, state = learnt[0], dreamer.model, np.array([[0.7, -0.2]], np.float32)
    proposed = propose(model, SPACE, policy, state, 4)
    assert proposed.shape == (1, 4, 1)
    for t in range(4):
        raw = policy.raw(state)
        np.testing.assert_allclose(proposed[:, t], raw, atol=1e-5)
        state = linear.step(state, np.asarray(raw) * 4 + 1)  # -1 to 1 is -3 to 5
    assert propose(model, SPACE, None, state, 4).shape == (0, 4, 1)


def test_dreams_begin_in_the_real_states_of_the_data(dreamer: Dreamer, data: Sequences):
    ended = np.zeros((20, 9), bool)
    ended[3, 5] = True  # frame 6 is the last one
    padded = Sequences(data.frames, data.actions, ended=ended)
    found, states = filtered_states(dreamer, padded), linear.seen(as_unit_frames(data.frames))
    expected = np.concatenate([states[n, : 7 if n == 3 else 10] for n in range(20)])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_options_that_cannot_be_are_one_line():
    for changed in ({"updates": 0}, {"horizon": 0}, {"learning_rate": 0.0}):
        with pytest.raises(UserError, match=r"^--[a-z-]+ must be [^\n]+$"):
            PolicyOptions(**changed).check()
