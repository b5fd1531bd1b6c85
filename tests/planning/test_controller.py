"""Acting frame by frame, against slow loops of filter and plan (the belief alone: test_belief.py)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import linear
import numpy as np
import pytest
from conftest import make_tiny_dvbf
from flax import nnx

from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.networks import initialise
from worldmodel.planning.catalogue import PLANNERS
from worldmodel.planning.controller import Belief, Controller
from worldmodel.planning.planner import nothing_planned, plan
from worldmodel.planning.spaces import ActionSpace
from worldmodel.support.files import UserError

FIRST, LENGTH = 3, 7
SPACE = ActionSpace((-1.5, -1.5), (1.5, 1.5))
CEM: Any = PLANNERS.options("cem")


@pytest.fixture
def watched() -> tuple[np.ndarray, np.ndarray]:
    """Frames `[T, 4, 4]` uint8 and the actions `[T-1, 2]` between them."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (LENGTH, 4, 4), dtype=np.uint8)
    return frames, random.standard_normal((LENGTH - 1, 2)).astype(np.float32)


def believed(dreamer: Dreamer, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What a slow loop over whole sequences believes after each frame, `[T, Z]`."""
    context, found = dreamer.model.context, []
    padded, between = np.full((1, context, 4, 4), 77, np.uint8), np.zeros((1, context - 1, 2), np.float32)
    state: Any = None
    for t in range(LENGTH):
        if t < context:
            padded[0, t] = frames[t]
            if t > 0:
                between[0, t - 1] = actions[t - 1]
            state = dreamer.filter(padded.copy(), between.copy(), np.arange(context)[None] <= t)[:, t]
        else:
            state = dreamer.filter_step(state, actions[t - 1][None], frames[t][None])
        found.append(state[0])
    return np.stack(found)


def test_a_buffer_that_is_used_again_does_not_change_the_past():
    """It lies where JAX would read it without a copy of its own, and nothing is waited for between two frames."""
    model = make_tiny_dvbf("fusion", initial_frames=1, hidden_size=256)
    scale = dataclasses.replace(model.scale, frame_shape=(64, 64))
    dreamer = Dreamer(nnx.merge(*initialise(lambda rngs: DVBF(scale, model.options, rngs), jax.random.key(0))))
    random, length = np.random.default_rng(0), 30
    frames = random.integers(0, 256, (length, 64, 64), dtype=np.uint8)
    actions = random.standard_normal((length, 2)).astype(np.float32)
    memory = np.zeros(64 * 64 + 64, np.uint8)
    frame = memory[-memory.ctypes.data % 64 :][: 64 * 64].reshape(64, 64)
    assert frame.ctypes.data % 64 == 0

    def beliefs(again: bool) -> np.ndarray:
        belief, states = Belief(dreamer), []
        for t in range(length):
            frame[:] = frames[t]
            states.append(belief.see(frame if again else frame.copy(), actions[t] if t else None))
            frame[:] = 255
        return np.concatenate(states)

    expected = beliefs(again=False)
    for _ in range(3):
        np.testing.assert_array_equal(beliefs(again=True), expected)


def test_what_is_done_is_the_plan_from_the_belief(watched: tuple):
    """A slow loop of filter and plan with the same keys; the plan goes on from the last one."""
    dreamer, (frames, _) = Dreamer(make_tiny_dvbf("fusion", initial_frames=FIRST)), watched
    model, planner, key = dreamer.model, CEM(horizon=4, samples=16), jax.random.key(5)
    controller = Controller(dreamer, planner, SPACE, linear.Near())
    controller.warm_up()
    controller.reset(key)
    decisions = [controller.act(frame) for frame in frames]
    actions = np.stack([decision.action for decision in decisions])
    assert np.abs(actions).max() <= 1.5
    planned = jax.jit(lambda *arguments: plan(planner, model.imagine_step, linear.wanted, SPACE, *arguments))
    raw, none = nothing_planned(planner, SPACE), jnp.zeros((0, 4, 2))
    for t, state in enumerate(believed(dreamer, frames, actions)):
        np.testing.assert_allclose(decisions[t].state[0], state, rtol=1e-5, atol=1e-6)
        _, plan_key = jax.random.split(jax.random.fold_in(key, t))
        raw, future = planned(decisions[t].state, raw, none, plan_key)
        np.testing.assert_allclose(actions[t], SPACE.action(raw[0]), atol=1e-5)
        np.testing.assert_allclose(decisions[t].future.actions, future.actions, atol=1e-5)
        np.testing.assert_allclose(decisions[t].future.rewards, future.rewards, atol=1e-4)

    # the same key does the same again; noise is what is added, and stays within the bounds
    controller.reset(key)
    np.testing.assert_array_equal([controller.act(frame).action for frame in frames], actions)
    noisy = Controller(dreamer, planner, SPACE, linear.Near(), noise=0.3)
    noisy.reset(key)
    first = noisy.act(frames[0])
    np.testing.assert_array_equal(first.future.actions, decisions[0].future.actions)
    assert (first.action != actions[0]).any()
    for seed in range(10):
        noisy.reset(jax.random.key(seed))
        assert np.abs(noisy.act(frames[0]).action).max() <= 1.5


def test_a_planner_that_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"^--samples must be at least 1, not 0$"):
        Controller(Dreamer(linear.Linear()), CEM(samples=0), SPACE, linear.Near())
