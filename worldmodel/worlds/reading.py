"""Reading a world's visible variables off frames, by the true frames that are most similar: for any world."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import spread_over
from worldmodel.worlds.world import World

LARGEST_ALBUM = 8000
"""true frames that a frame is compared with, at most"""
SHAPES_OF, MOST_SHAPES = 1000, 64
"""frames whose principal directions are taken, and how many directions"""
AT_ONCE = 1000
"""frames that are compared with the album in one piece of memory"""
NEIGHBOURS = 4
"""most similar true frames, whose variables are averaged"""


def principal_directions(frames: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean `[P]` of frames `[M, P]`, and the orthonormal directions `[P, R]` of their largest variance, R at
    `most`."""
    mean = frames.mean(axis=0)
    some = spread_over(frames, SHAPES_OF) - mean
    # through their products with each other, of which there are fewer than of the pixels of large frames
    squares, vectors = np.linalg.eigh(some @ some.T)  # the smallest comes first
    kept = min(most, int((squares > 1e-6 * squares[-1]).sum()))
    return mean, some.T @ (vectors[:, -kept:] / np.sqrt(squares[-kept:]))


class NearestFrames(NamedTuple):
    """A Reader: the mean of the variables of the most similar true frames, weighted by one over the squared distance,
    in the principal directions of the true frames; angles are averaged as points on the circle."""

    mean: Any
    """`[P]`"""
    directions: Any
    """`[P, R]`"""
    album: Any
    """`[M, R]` the true frames"""
    points: Any
    """`[M, D']` what they show, as `shown_points` has it"""
    circular: Any
    """bool `[D]` of the visible variables"""

    @staticmethod
    def of(world: World, frames: np.ndarray, states: np.ndarray) -> "NearestFrames":
        """Of true frames `[M, P]` in [0, 1] and their states `[M, S]`."""
        keep = spread_over(np.arange(len(frames)), LARGEST_ALBUM)
        frames, points = frames[keep].astype(np.float32), shown_points(world, states[keep])
        mean, directions = principal_directions(frames, MOST_SHAPES)
        circular = [variable.circular for variable in world.variables if variable.name in world.visible]
        album = (frames - mean) @ directions
        return NearestFrames(mean, directions, album, points.astype(np.float32), np.array(circular))

    def __call__(self, frames: Any) -> Any:
        shown = _read(self, frames.astype(np.float32))
        return np.asarray(shown) if isinstance(frames, np.ndarray) else shown


@jax.jit
def _read(reader: NearestFrames, frames: jax.Array) -> jax.Array:
    """`[..., P]` to `[..., D]`."""
    mean, directions, album, points, circular = map(jnp.asarray, reader)
    squares = jnp.sum(album**2, axis=1)

    def read(frame: jax.Array) -> jax.Array:
        seen = (frame - mean) @ directions
        squared = jnp.sum(seen**2) - 2 * album @ seen + squares
        negative, nearest = jax.lax.top_k(-squared, min(NEIGHBOURS, len(album)))
        weights = 1 / (jnp.maximum(-negative, 0) + 1e-4)
        mixed = weights @ points[nearest] / jnp.sum(weights)
        return jnp.where(circular, jnp.arctan2(mixed[1::2], mixed[::2]), mixed[::2])

    shown = jax.lax.map(read, frames.reshape(-1, len(mean)), batch_size=AT_ONCE)
    return shown.reshape(*frames.shape[:-1], len(circular))


def shown_points(world: World, states: np.ndarray) -> np.ndarray:
    """`[..., 2 D]` what a frame shows of states `[..., S]`, two numbers for each visible variable: for an angle its
    point on the unit circle, for another its value and 0."""
    columns: list[np.ndarray] = []
    for index, variable in enumerate(world.variables):
        if variable.name in world.visible:
            value = np.asarray(states[..., index], np.float64)
            columns += [np.cos(value), np.sin(value)] if variable.circular else [value, np.zeros_like(value)]
    return np.stack(columns, axis=-1)
