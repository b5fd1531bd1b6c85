"""Windows: the short pieces of sequences that a model is trained on, drawn at random, never over an episode's end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames


class Batch(NamedTuple):
    """B pieces of T frames, as a loss takes them."""

    frames: jax.Array
    """float32 `[B, T, H, W(, C)]` in [0, 1]"""
    actions: jax.Array
    """float32 `[B, T-1, A]`"""
    valid: jax.Array | None = None
    """bool `[B, T]`: whether a frame was seen; None: all were"""
    rewards: jax.Array | None = None
    """float32 `[B, T-1]`"""
    ended: jax.Array | None = None
    """bool `[B, T-1]`: the episode ended with this action, which only a piece's last can do"""


def mean_of_seen(values: jax.Array, valid: jax.Array | None) -> jax.Array:
    """The mean of values `[B, T, ...]` of frames over those that were seen (`valid` `[B, T]`), or over all."""
    if valid is None:
        return jnp.mean(values)
    of_frame = jnp.mean(values, axis=tuple(range(2, values.ndim)))
    return jnp.sum(jnp.where(valid, of_frame, 0)) / jnp.maximum(jnp.sum(valid), 1)


def per_seen_frame(values: jax.Array, valid: jax.Array | None) -> jax.Array:
    """The sum of values `[B, T]` over the number of frames that were seen, so that nats per frame compare however many
    are missing; the mean where none is. Unlike in mean_of_seen all values count: where nothing was seen of the first
    frame, the initial state still has its KL."""
    return jnp.mean(values) if valid is None else jnp.sum(values) / jnp.maximum(jnp.sum(valid), 1)


class DeviceData(NamedTuple):
    """What lies on the device: a whole data set, or the batches of some updates. Leading axes `...` are `[N]` sequences
    or `[U, B]` pieces of U updates."""

    frames: jax.Array
    """uint8 `[..., T, H, W(, C)]`"""
    actions: jax.Array
    """float32 `[..., T-1, A]`"""
    valid: jax.Array | None = None
    """bool `[..., T]`"""
    rewards: jax.Array | None = None
    """float32 `[..., T-1]`"""
    ended: jax.Array | None = None
    """bool `[..., T-1]`"""

    @staticmethod
    def of(data: Sequences) -> "DeviceData":
        """The arrays of a data set where they are, still NumPy's."""
        return DeviceData(*(getattr(data, name) for name in DeviceData._fields))

    def cut(self, which: jax.Array, time: jax.Array) -> "DeviceData":
        """Pieces of a data set `[N]`: `which` sequences `[..., 1]`, and which of their frames `[..., window]`."""

        def piece(array: jax.Array | None, time: jax.Array) -> jax.Array | None:
            return None if array is None else array[which, time]

        between = time[..., :-1]
        return DeviceData(
            self.frames[which, time],
            self.actions[which, between],
            piece(self.valid, time),
            piece(self.rewards, between),
            piece(self.ended, between),
        )

    def batch(self) -> Batch:
        """The same with frames in [0, 1]."""
        return Batch(as_unit_frames(self.frames), *self[1:])


def to_device(data: Sequences) -> DeviceData:
    """A data set on JAX's device."""
    return jax.device_put(DeviceData.of(data))


def draw_windows(
    key: jax.Array,
    batch_size: int,
    window: int,
    sequences: int,
    length: int,
    ended: jax.Array | np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Which of the sequences, with replacement, and from which of their frames on: two times int `[B, 1]`.

    Uniform over the sequences that have `window` frames before their end, then over where it fits; `ended` bool `[N,
    T-1]` tells the ends (data/sequences.py). At least one sequence must have so many.

    Every update's windows come from here, wherever the data lies; the key is consumed.
    """
    which, start = jax.random.bits(key, (2, batch_size, 1))
    if ended is None:
        return below(which, sequences), below(start, length - window + 1)
    lengths = jnp.where(ended.any(axis=1), ended.argmax(axis=1) + 2, length)
    fit = lengths >= window
    number = below(which, fit.sum())
    which = jnp.searchsorted(jnp.cumsum(fit), number, side="right")  # of those that fit, that with this number
    return which, below(start, lengths[which] - window + 1)


def below(bits: jax.Array, count: jax.Array | int) -> jax.Array:
    """int32 in [0, count) of random uint32, uniform but for count / 2^32. jax.random.randint, which has no such
    remainder, is seven times as much to compile."""
    return (bits % jnp.asarray(count, jnp.uint32)).astype(jnp.int32)


def sample_windows(data: DeviceData, key: jax.Array, batch_size: int, window: int) -> Batch:
    """Random windows of `window` frames; the key is consumed."""
    sequences, length = data.frames.shape[:2]
    which, start = draw_windows(key, batch_size, window, sequences, length, data.ended)
    return data.cut(which, start + jnp.arange(window)[None, :]).batch()
