"""Sampled futures: every sample draws the filter's state and each imagined step anew."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames, batches
from worldmodel.imagination.compiled import compiled
from worldmodel.imagination.dreamer import Dreamer, first_seen, last
from worldmodel.models.protocol import WorldModel, imagine, swap_time
from worldmodel.worlds.world import Reader

SAMPLED_TOGETHER = 1600
"""futures in one compiled program"""
PIXELS_TOGETHER = 50_000_000
"""and pixels, where all are kept"""


def sample_futures(
    dreamer: Dreamer, data: Sequences, context: int, futures: int, key: jax.Array, read: Reader | None
) -> Iterator[tuple[Sequences, int, np.ndarray]]:
    """Batch by batch: the sequences, how many of them count, and what K sampled futures of each show: the variables
    `[K, B, H, D]` that `read` finds on the mean frames, or without it pixels `[K, B, H, P]` with the emission's noise.
    The key is consumed."""
    together = SAMPLED_TOGETHER
    if read is None:
        together = min(together, PIXELS_TOGETHER // (math.prod(data.frame_shape) * (data.length - context)))
    size = max(1, min(len(data), together // futures))
    for index, (batch, count) in enumerate(batches(data, size)):
        batch_key = jax.random.fold_in(key, index)
        valid = first_seen(batch.seen(), context)
        shown = _sample_batch(dreamer, context, futures, read, batch.frames, batch.actions, valid, batch_key)
        yield batch, count, np.asarray(shown).swapaxes(1, 2)[:, :count]


def _sample(
    model: WorldModel,
    context: int,
    futures: int,
    read: Reader | None,
    frames: jax.Array,
    actions: jax.Array,
    valid: jax.Array | None,
    key: jax.Array,
) -> jax.Array:
    """`[K, H, B, D]` or `[K, H, B, P]` of K futures for uint8 frames `[B, T, ...]`, with `valid` `[B, context]`."""
    filter_key, imagine_key, pixel_key = jax.random.split(key, 3)

    def repeated(array: jax.Array) -> jax.Array:
        return jnp.tile(array, (futures, *[1] * (array.ndim - 1)))

    seen, actions = repeated(as_unit_frames(frames[:, :context])), repeated(actions)
    valid = None if valid is None else repeated(valid)
    start = last(model.filter(seen, actions[:, : context - 1], valid, filter_key))
    states = imagine(model, start, actions[:, context - 1 :], imagine_key)

    def show(inputs: tuple[Any, jax.Array]) -> jax.Array:
        state, key = inputs
        emission = model.emission(state)
        shown = emission.sample(seed=key) if read is None else jnp.clip(emission.mean(), 0, 1)
        shown = shown.reshape(futures, len(frames), -1)
        return shown if read is None else read(shown)

    steps = jax.tree.map(swap_time, states)
    keys = jax.random.split(pixel_key, actions.shape[1] - context + 1)
    return swap_time(jax.lax.map(show, (steps, keys)))


_sample_batch = compiled(_sample, static_argnums=(1, 2))
