"""Windows: where they may lie, and that they are the same in memory and streamed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.data.sequences import Sequences
from worldmodel.data.windows import DeviceData, draw_windows, sample_windows, to_device
from worldmodel.support.files import UserError
from worldmodel.training.feed import Windows, make_feed
from worldmodel.training.options import Recipe
from worldmodel.training.step import update_keys

LENGTHS = (10, 4, 3, 2, 7, 10)
"""of the sequences below"""
WINDOW = 4


@pytest.fixture(scope="module")
def ending() -> Sequences:
    """Sequences of 10 frames that tell 10 n + t, and end after LENGTHS of them, the first with its last action; the
    last does not end. Padding is 255."""
    number = 10 * np.arange(6)[:, None] + np.arange(10)[None, :]
    ended = np.zeros((6, 9), bool)
    for n, length in enumerate(LENGTHS[:-1]):
        ended[n, length - 2] = True
        number[n, length:] = 255
    return Sequences(
        frames=np.broadcast_to(number[..., None, None], (6, 10, 2, 2)).astype(np.uint8),
        actions=number[:, :-1, None].astype(np.float32),
        rewards=number[:, :-1].astype(np.float32),
        ended=ended,
        valid=number % 3 > 0,
    )


def test_no_window_crosses_an_end_and_all_that_fit_are_drawn(ending: Sequences):
    device = to_device(ending)
    found = {}
    sample = jax.jit(lambda key: sample_windows(device, key, 200, WINDOW))
    for seed in range(20):
        batch = jax.tree.map(np.asarray, sample(jax.random.key(seed)))
        numbers = np.asarray(batch.frames * 255).round().astype(int)[..., 0, 0]
        for index, number in enumerate(numbers):
            n, t = divmod(int(number[0]), 10)
            np.testing.assert_array_equal(number, 10 * n + t + np.arange(WINDOW))
            np.testing.assert_array_equal(batch.actions[index, :, 0], number[:-1])
            np.testing.assert_array_equal(batch.rewards[index], number[:-1])
            np.testing.assert_array_equal(batch.valid[index], number % 3 > 0)
            np.testing.assert_array_equal(batch.ended[index], ending.ended[n, t : t + WINDOW - 1])
            found[n, t] = found.get((n, t), 0) + 1
    assert set(found) == {(n, t) for n, length in enumerate(LENGTHS) for t in range(length - WINDOW + 1)}
    # uniform over the four sequences that are long enough, then over where the window fits
    for (n, _), count in found.items():
        assert count / 4000 == pytest.approx(1 / 4 / (LENGTHS[n] - WINDOW + 1), rel=0.3)


def test_sequences_that_do_not_end_are_drawn_uniformly_whether_ends_are_told_or_not():
    which, start = draw_windows(jax.random.key(7), 4000, WINDOW, 6, 10)
    counts = np.histogram2d(np.ravel(which), np.ravel(start), (np.arange(7), np.arange(10 - WINDOW + 2)))[0]
    assert counts.sum() == 4000
    np.testing.assert_allclose(counts, 4000 / counts.size, rtol=0.3)
    told = draw_windows(jax.random.key(7), 4000, WINDOW, 6, 10, np.zeros((6, 9), bool))
    np.testing.assert_array_equal(told[0], which)
    np.testing.assert_array_equal(told[1], start)


def test_windows_of_sequences_that_end_are_the_same_in_memory_and_streamed(ending: Sequences):
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), 2)))
    windows, device = Windows(ending, Recipe((0, 1), 20, 5, window=WINDOW), keys), to_device(ending)
    for update in range(20):
        for seed in range(2):
            expected = sample_windows(device, update_keys(keys[seed], np.int32(update))[0], 5, WINDOW)
            streamed = DeviceData(*(jnp.asarray(array[seed]) for array in windows[update])).batch()
            for one, other in zip(streamed, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_windows_that_fit_nowhere_are_refused(ending: Sequences):
    mesh = jax.make_mesh((1, 1), ("seed", "data"))
    short = ending.take(np.array([1, 2, 3]))
    for budget in (1e9, 1.0):
        with pytest.raises(UserError, match="no training sequence has 5 frames before its end"):
            make_feed(short, Recipe((0,), 10, 2, window=5, memory_budget=budget), mesh)
