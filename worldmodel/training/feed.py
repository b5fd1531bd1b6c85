"""How a training gets its batches: from a data set that lies on the devices or, where that is larger than the memory
budget, from its files, read ahead.

Either way an update gets the windows that data.windows.draw_windows draws with its key.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from worldmodel.data.sequences import Sequences
from worldmodel.data.windows import Batch, DeviceData, draw_windows, sample_windows, to_device
from worldmodel.support.files import UserError
from worldmodel.training.options import Recipe
from worldmodel.training.step import LOG_EVERY, update_keys

PIECE = 64e6
"""bytes of batches that are laid on the devices at a time, at most; the next ones come while they are trained on"""
READERS = 8
"""threads that read"""


class Resident:
    """The whole data set on every device, where the compiled program cuts its batches."""

    seed_axis = None
    """the seeds share the data"""

    def __init__(self, data: Sequences, recipe: Recipe, mesh: Mesh):
        self._data = jax.device_put(to_device(data), NamedSharding(mesh, PartitionSpec()))
        self._recipe = recipe

    def start(self, keys: np.ndarray, step: int) -> None:
        """Nothing to do: the compiled program draws with the keys in its state."""

    def next_batch(self, data: DeviceData, key: jax.Array, index: jax.Array) -> Batch:
        """A NextBatch for the data of `pieces`."""
        return sample_windows(data, key, self._recipe.batch_size, self._recipe.window)

    @property
    def shapes(self) -> DeviceData:
        """What is like the data of `pieces`."""
        return self._data

    def pieces(self, updates: int) -> Iterator[tuple[DeviceData, int]]:
        """The data for the next updates, in parts, and for how many of them each is."""
        yield self._data, updates

    def close(self) -> None:
        """Nothing to end."""


class Stream:
    """Batches cut on the host by grain's threads, and laid on the devices a few updates at a time."""

    seed_axis = 0
    """each seed has batches of its own"""

    def __init__(self, data: Sequences, recipe: Recipe, mesh: Mesh):
        """Half of the budget is for the piece that is trained on, half for the next.

        But a piece has two updates at least: for one the compiler makes another program, which rounds differently.
        """
        self._sharding = NamedSharding(mesh, PartitionSpec("seed", None, "data"))
        seeds, batch_size = len(recipe.seeds), recipe.batch_size
        bytes_of_update = seeds * batch_size * recipe.window * data.nbytes / math.prod(data.frames.shape[:2])
        pieces = math.ceil(LOG_EVERY * bytes_of_update / min(PIECE, recipe.memory_budget / 2))
        self._shape = (seeds, max(2, math.ceil(LOG_EVERY / pieces)), batch_size)
        self._window = recipe.window
        self._whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), DeviceData.of(data))
        self._own_seeds, _, self._own_batch = own_part(self._sharding, self._shape)
        self._windows = functools.partial(Windows, data, recipe, seeds=self._own_seeds, batch=self._own_batch)
        self._batches: Any = None

    def start(self, keys: np.ndarray, step: int) -> None:
        """The next batch is that of update `step`, for seeds with the training keys `[S, 2]`."""
        import grain  # slow, and not needed for data that fits

        self.close()
        ahead = self._shape[1]
        read = grain.ReadOptions(num_threads=min(READERS, ahead), prefetch_buffer_size=ahead)
        self._batches = iter(grain.MapDataset.source(self._windows(keys=keys))[step:].to_iter_dataset(read))

    def next_batch(self, data: DeviceData, key: jax.Array, index: jax.Array) -> Batch:
        """A NextBatch for the data of `pieces`."""
        return jax.tree.map(lambda array: array[index], data).batch()

    @property
    def shapes(self) -> DeviceData:
        """What is like the data of `pieces`."""
        places = (jax.ShapeDtypeStruct((*self._shape, frames), np.int32) for frames in (1, self._window))
        pieces = jax.eval_shape(DeviceData.cut, self._whole, *places)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding), pieces)

    def pieces(self, updates: int) -> Iterator[tuple[DeviceData, int]]:
        """The batches of the next updates in parts of one shape, and how many batches of each count."""
        while updates > 0:
            count = min(updates, self._shape[1])
            batches = [next(self._batches) for _ in range(count)]
            yield jax.tree.map(lambda *arrays: self._on_devices(arrays), *batches), count
            updates -= count

    def close(self) -> None:
        """End the threads."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _on_devices(self, batches: tuple[np.ndarray, ...]) -> jax.Array:
        """`[S, U, B, ...]` over all devices, from this process's part of at most U batches, `[s, b, ...]` each."""
        shape = (*self._shape, *batches[0].shape[2:])
        own = np.zeros((len(batches[0]), self._shape[1], *batches[0].shape[1:]), batches[0].dtype)
        for index, batch in enumerate(batches):
            own[:, index] = batch

        def part(where: Any) -> np.ndarray:
            """What one device holds, in the indices of the whole."""
            seeds, _, batch, *_ = (slice(*index.indices(size)) for index, size in zip(where, shape, strict=True))
            first, begin = self._own_seeds.start, self._own_batch.start
            return own[seeds.start - first : seeds.stop - first, :, batch.start - begin : batch.stop - begin]

        return jax.make_array_from_callback(shape, self._sharding, part)


class Windows:
    """What grain reads: record i holds the windows of update i, for some of the seeds and some of each batch."""

    def __init__(
        self,
        data: Sequences,
        recipe: Recipe,
        keys: np.ndarray,
        seeds: slice = slice(None),
        batch: slice = slice(None),
    ):
        """For training keys `[S, 2]`."""
        self._data, self._recipe, self._part = DeviceData.of(data), recipe, (slice(None), seeds, batch)
        size, window, ended = recipe.batch_size, recipe.window, data.ended
        known_ended = None if ended is None else np.asarray(ended)

        def draw(step: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            return draw_windows(update_keys(key, step)[0], size, window, len(data), data.length, known_ended)

        each = jax.jit(jax.vmap(jax.vmap(draw, in_axes=(None, 0)), in_axes=(0, None)))

        @functools.lru_cache(maxsize=2)
        def drawn(group: int) -> list[np.ndarray]:
            """Sequences and first frames of LOG_EVERY updates at once, for a call is dear: int `[U, s, b, 1]` each."""
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                steps = np.arange(group * LOG_EVERY, (group + 1) * LOG_EVERY)
                return [np.asarray(array)[self._part] for array in each(steps, keys)]

        self._drawn = drawn

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, update: int) -> DeviceData:
        """The windows `[s, b, ...]` of an update, in NumPy."""
        which, start = (array[update % LOG_EVERY] for array in self._drawn(update // LOG_EVERY))
        return self._data.cut(which, start + np.arange(self._recipe.window))


def own_part(sharding: NamedSharding, shape: tuple[int, ...]) -> list[slice]:
    """The part of an array, along each axis, that holds all that the devices of this process need of it."""
    parts = [part for part in sharding.addressable_devices_indices_map(shape).values() if part is not None]
    spans = [
        [index.indices(size)[:2] for index in axis] for axis, size in zip(zip(*parts, strict=True), shape, strict=True)
    ]
    return [slice(min(start for start, _ in axis), max(stop for _, stop in axis)) for axis in spans]


def make_feed(data: Sequences, recipe: Recipe, mesh: Mesh) -> Resident | Stream:
    """The data set on the devices or, where it has more bytes than the budget, streamed from where it is.

    Raises UserError where no sequence is as long as a window.
    """
    if data.lengths().max() < recipe.window:
        raise UserError(f"no training sequence has {recipe.window} frames before its end")
    return (Resident if data.nbytes <= recipe.memory_budget else Stream)(data, recipe, mesh)
