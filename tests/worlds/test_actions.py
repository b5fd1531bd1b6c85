"""Kinds of random actions, against their definitions: in compiled worlds and in Gymnasium's spaces."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from worldmodel.data.sequences import join
from worldmodel.support.files import UserError
from worldmodel.worlds.actions import drawn_actions, sampled_actions, segments
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.collecting import collect, compiled_blocks
from worldmodel.worlds.pendulum.options import PendulumOptions
from worldmodel.worlds.pendulum.world import PendulumWorld

STEPS, SEQUENCES = 500, 150


def drawn(kind: str, size: int, discrete: bool = False) -> np.ndarray:
    """`[N, T, A]` of a compiled world."""
    keys = jax.random.split(jax.random.key(3), SEQUENCES)
    draw = jax.jit(jax.vmap(lambda key, number: drawn_actions(kind, key, number, STEPS, size, discrete)))
    return np.asarray(draw(keys, jnp.arange(SEQUENCES)))


def sampled(kind: str, size: int, discrete: bool = False) -> np.ndarray:
    """`[N, T, A]` of a Gymnasium environment."""
    space = Discrete(size, start=2) if discrete else Box(-1, 1, (size,), np.float32)
    rows = []
    for number in range(SEQUENCES):
        space.seed(number)
        rows.append(sampled_actions(kind, space, np.random.default_rng(number), number, STEPS))
    return np.eye(size)[np.array(rows) - 2] if discrete else np.array(rows)


def runs(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How long actions `[N, T, A]` are held, and which; those at the ends of the sequences may be cut and are left
    out."""
    lengths, held = [], []
    for row in actions:
        changes = np.flatnonzero((np.diff(row, axis=0) != 0).any(axis=1)) + 1
        starts = np.concatenate([[0], changes])
        lengths += list(np.diff(starts))
        held += list(row[starts[:-1]])
    return np.array(lengths), np.array(held)


@pytest.mark.parametrize("make", [drawn, sampled])
def test_held_actions_are_held_for_log_uniform_durations(make: Callable):
    lengths, held = runs(make("held", 6))
    strong = (np.abs(held) == 1).all(axis=1)
    weak, once = held[~strong], lengths[~strong]  # a corner may be drawn again, and is then held for longer
    assert (once.min(), once.max()) == (1, 32)
    for duration in (1, 2, 5, 20):
        expected = np.log((duration + 1) / duration) / np.log(33)
        assert np.mean(once == duration) == pytest.approx(expected, abs=0.015)
    assert strong.mean() == pytest.approx(0.4, abs=0.02)
    corners = np.unique(held[strong], axis=0)
    assert len(corners) == 2**6
    assert np.abs(weak).max() < 1
    assert weak.std() == pytest.approx(1 / np.sqrt(3), abs=0.01)


@pytest.mark.parametrize("make", [drawn, sampled])
def test_held_choices_are_any_of_them(make: Callable):
    actions = make("held", 3, discrete=True)
    assert set(np.unique(actions)) == {0, 1}
    assert (actions.sum(axis=-1) == 1).all()
    np.testing.assert_allclose(actions.mean(axis=(0, 1)), np.full(3, 1 / 3), atol=0.03)
    changes = (np.diff(actions, axis=1) != 0).any(axis=-1).mean()
    mean_duration = sum(k * np.log((k + 1) / k) for k in range(1, 33)) / np.log(33)
    assert changes == pytest.approx(2 / 3 / mean_duration, abs=0.01)  # the next one is another in two of three
    white = make("white", 3, discrete=True)
    np.testing.assert_allclose(white.mean(axis=(0, 1)), np.full(3, 1 / 3), atol=0.01)
    assert (np.diff(white, axis=1) != 0).any(axis=-1).mean() == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("make", [drawn, sampled])
def test_mixed_actions_are_white_and_held_in_turn(make: Callable):
    white, held, mixed = (make(kind, 2) for kind in ("white", "held", "mixed"))
    np.testing.assert_array_equal(mixed[::2], white[::2])
    np.testing.assert_array_equal(mixed[1::2], held[1::2])
    assert (np.diff(white, axis=1) != 0).all()


def test_segments_follow_one_another():
    uniform = np.random.default_rng(0).random(60)
    expected: list[int] = []
    for number, share in enumerate(uniform):
        expected += [number] * int(33**share)
    for xp in (np, jnp):
        np.testing.assert_array_equal(segments(xp.asarray(uniform), xp), expected[:60])


def test_an_unbounded_box_has_no_corners():
    space = Box(-np.inf, np.inf, (2,), np.float32, seed=0)
    actions = np.array(sampled_actions("held", space, np.random.default_rng(0), 0, 200))
    assert np.isfinite(actions).all()
    assert len(runs(actions[None])[0]) > 5


def test_held_actions_drive_the_pendulum_further():
    speeds = {
        kind: join(list(compiled_blocks(PendulumWorld(), 0, 200, 40, Camera(4), kind=kind))).states[..., 1].std()
        for kind in ("white", "held", "mixed")
    }
    assert speeds["white"] < speeds["mixed"] < speeds["held"]


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="--actions must be one of white, held, mixed, not red"):
        collect(PendulumOptions(), 2, 4, actions="red")
