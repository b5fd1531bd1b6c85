"""Reading a pendulum's angle off frames, by true frames of known angle."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import spread_over
from worldmodel.worlds.circle import wrap

LARGEST_READER = 20_000
"""frames that an AngleReader's templates are made of, at most"""
KEPT_SHAPE = 0.9999
"""of the templates' squares, that reading an angle keeps"""


class AngleTemplates(NamedTuple):
    """Correlation with every template is (x - mean) @ directions @ shapes."""

    mean: np.ndarray
    """`[P]`"""
    directions: np.ndarray
    """`[P, R]`"""
    shapes: np.ndarray
    """`[R, G]`"""
    grid: np.ndarray
    """`[G]` the templates' angles in rad"""

    def __call__(self, frames: Any) -> Any:
        """`[..., P]` frames to `[..., 1]` angles in rad, in (-pi, pi]: a world's Reader."""
        angles = read_angle(frames.astype(np.float32), self)[..., None]
        return np.asarray(angles) if isinstance(frames, np.ndarray) else angles


class AngleReader:
    """Reads a pendulum's angle off a frame by comparing it with true frames of known angle.

    One template for every degree is a local average of the true frames; a frame's angle is that of the
    template with the highest correlation, refined by a parabola through its neighbours.
    """

    def __init__(self, frames: np.ndarray, angles: np.ndarray, width_degrees: float = 1.5):
        """`frames` `[M, P]` in [0, 1] and their `angles` `[M]` in rad."""
        grid = np.deg2rad(np.arange(360.0))
        apart = np.rad2deg(np.abs(wrap(grid[:, None] - angles[None, :])))
        # Where no true frame is near, there is no template: an angle is never read where none was seen.
        seen = apart.min(axis=1) < max(2 * width_degrees, 1.01 * np.sort(apart.min(axis=1))[0])
        apart = apart[seen]
        nearest = apart.min(axis=1, keepdims=True)
        weights = np.exp(-(apart**2 - nearest**2) / (2 * width_degrees**2))
        templates = weights @ frames / weights.sum(axis=1, keepdims=True)
        mean = templates.mean(axis=0)
        templates = templates - mean
        templates /= np.maximum(np.linalg.norm(templates, axis=1, keepdims=True), 1e-12)
        # All templates are one rod turned: their first principal directions hold nearly everything, and make reading
        # several times cheaper.
        squares, vectors = np.linalg.eigh(templates @ templates.T)  # the smallest comes first
        rank = 1 + int(np.searchsorted(np.cumsum(squares[::-1]), KEPT_SHAPE * np.sum(squares)))
        kept = vectors[:, : -1 - rank : -1]
        scale = np.sqrt(np.maximum(squares[: -1 - rank : -1], 1e-12))
        self.templates = AngleTemplates(
            mean.astype(np.float32),
            (templates.T @ kept / scale).astype(np.float32),
            (kept * scale).T.astype(np.float32),
            grid[seen].astype(np.float32),
        )

    @staticmethod
    def of(frames: np.ndarray, angles: np.ndarray) -> "AngleReader":
        """A reader with templates of sequences: frames `[N, T, ...]` in [0, 1] and their `angles` `[N, T]` in rad."""
        keep = spread_over(np.arange(angles.size), LARGEST_READER)
        return AngleReader(frames.reshape(angles.size, -1)[keep], angles.ravel()[keep])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """`[..., P]` frames to `[...]` angles in rad, in (-pi, pi]."""
        return np.asarray(read_angle(frames.astype(np.float32), self.templates))


@jax.jit
def read_angle(frames: jax.Array, templates: AngleTemplates) -> jax.Array:
    """AngleReader for use within compiled programs: `[..., P]` frames to `[...]` angles in rad."""
    mean, directions, shapes, grid = templates
    match = ((frames.reshape(-1, len(mean)) - mean[None]) @ directions) @ shapes
    best = jnp.argmax(match, axis=1, keepdims=True)
    below, at, above = (jnp.take_along_axis(match, (best + step) % len(grid), axis=1)[:, 0] for step in (-1, 0, 1))
    curvature = below - 2 * at + above
    shift = jnp.where(curvature < 0, 0.5 * (below - above) / jnp.where(curvature < 0, curvature, 1), 0)
    angle = grid[best[:, 0]] + jnp.deg2rad(jnp.clip(shift, -0.5, 0.5))
    return (jnp.pi - (jnp.pi - angle) % (2 * jnp.pi)).reshape(frames.shape[:-1])
