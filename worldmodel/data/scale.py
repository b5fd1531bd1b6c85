"""How a data set's frames and actions are scaled for the networks; plain numbers, kept in config.json."""

import dataclasses
import math
from typing import Any

import numpy as np

from worldmodel.data.sequences import Sequences, in_blocks
from worldmodel.support.files import UserError

SIGNAL_TO_NOISE = 300.0
"""A frame's variance over the data, divided by the default variance of its observation noise (of one pixel)."""

SHARPENING = 10.0


@dataclasses.dataclass(frozen=True)
class FrameScale:
    """Shapes and moments of a data set. Pixels are in [0, 1]; actions keep their own unit."""

    frame_shape: tuple[int, ...]
    """(H, W) or (H, W, C)"""
    action_size: int
    """A"""
    pixel_mean: float
    """over all pixels of all frames"""
    pixel_std: float
    """over all pixels of all frames"""
    frame_variance: float
    """variance of a pixel over the frames, summed over the pixels"""
    action_scale: float
    """root mean square of the actions; 1 where all are 0"""
    frames: int = 1
    """in the data, over which is spread what a model infers once for all of them"""

    @staticmethod
    def of(data: Sequences, source: str) -> "FrameScale":
        """Measured on `data`. Raises UserError, beginning with `source`, when all frames are the same."""
        flat = data.frames.reshape(-1, math.prod(data.frame_shape))
        count, total, squares = len(flat), 0.0, 0.0
        for part in np.array_split(flat, max(1, flat.size // 10_000_000)):
            part = part.astype(np.float64) / 255
            total, squares = total + part.sum(axis=0), squares + (part**2).sum(axis=0)
        mean, mean_square = total / count, squares / count
        frame_variance = float(np.sum(mean_square - mean**2))
        if frame_variance < 1e-8:
            raise UserError(f"{source}: all frames are the same, there is nothing to learn")
        pixel_std = float(np.sqrt(np.mean(mean_square) - np.mean(mean) ** 2))
        squared_actions = sum(np.sum(part.astype(np.float64) ** 2) for part in in_blocks(data.actions))
        action_scale = float(np.sqrt(squared_actions / data.actions.size)) or 1.0
        return FrameScale(
            data.frame_shape, data.action_size, float(np.mean(mean)), pixel_std, frame_variance, action_scale, count
        )

    @property
    def pixels(self) -> int:
        """P = H * W (* C)."""
        return math.prod(self.frame_shape)

    @property
    def default_observation_std(self) -> float:
        """The sigma of a pixel that balances reconstruction and dynamics: sigma^2 = frame variance / 300.

        Tied to the variance of a whole frame, not to one pixel: neighbouring pixels say the same thing, so more
        pixels must not mean more evidence. On 16 x 16 pendulum frames it gives about 0.18.
        """
        return math.sqrt(self.frame_variance / SIGNAL_TO_NOISE)

    def standardise(self, frames: Any) -> Any:
        """Frames `[..., H, W(, C)]` in [0, 1] to pixels `[..., P]` with mean 0 and variance 1 over the data."""
        flat = frames.reshape(*frames.shape[: frames.ndim - len(self.frame_shape)], -1)
        return (flat - self.pixel_mean) / self.pixel_std

    def restore(self, pixels: Any) -> Any:
        """Standardised pixels `[..., P]` to frames `[..., H, W(, C)]`."""
        frames = pixels * self.pixel_std + self.pixel_mean
        return frames.reshape(*pixels.shape[:-1], *self.frame_shape)

    def sharp(self, observation_std: float | None) -> float:
        """A tenth of an observation noise, or of the default: reconstruction is then dear and KL cheap."""
        return (observation_std or self.default_observation_std) / SHARPENING
