"""How a data set's frames and actions are scaled for the networks: numbers, and a picture as text, kept in
config.json."""

import base64
import dataclasses
import math
import zlib
from typing import Any

import numpy as np

from worldmodel.data.sequences import Sequences, in_blocks
from worldmodel.support.files import UserError

SIGNAL_TO_NOISE = 300.0
"""A frame's variance over the data, divided by the default variance of its observation noise (of one pixel)."""

SHARPENING = 10.0

STANDING = 2.0
"""A pixel's variance over all pixels of all frames, divided by its mean variance over the frames: from here on what
stands still is more of the picture than what moves."""


@dataclasses.dataclass(frozen=True)
class FrameScale:
    """Shapes and moments of a data set. Pixels are in [0, 1]; actions keep their own unit."""

    frame_shape: tuple[int, ...]
    """(H, W) or (H, W, C)"""
    action_size: int
    """A"""
    pixel_mean: float
    """over all pixels of all frames that were seen"""
    pixel_std: float
    """over all pixels of all frames that were seen"""
    frame_variance: float
    """variance of a pixel over the frames that were seen, summed over the pixels"""
    action_scale: float
    """root mean square of the actions that were done; 1 where all are 0"""
    frames: int = 1
    """that were seen in the data, over which is spread what a model infers once for all of them"""
    background: str = ""
    """the mean frame, where what stands still is more of the picture than what moves: networks then see the difference
    from it. A network that must first learn a landscape learns with its early, large steps that latents say nothing.
    uint8 `[P]` as zlib and base64 make text of it; "" where there is none"""

    @staticmethod
    def of(data: Sequences, source: str) -> "FrameScale":
        """Measured on the frames of `data` that were seen and the actions that were done. Raises UserError, beginning
        with `source`, when there is no such frame or all are the same."""
        flat, seen = data.frames.reshape(-1, math.prod(data.frame_shape)), data.seen()
        count, total, squares = len(flat) if seen is None else int(seen.sum()), 0.0, 0.0
        if not count:
            raise UserError(f"{source}: all frames are missing")
        pieces = max(1, flat.size // 10_000_000)
        kept: list[Any] = [...] * pieces if seen is None else np.array_split(seen.ravel(), pieces)
        for part, which in zip(np.array_split(flat, pieces), kept, strict=True):
            part = part[which].astype(np.float64) / 255
            total, squares = total + part.sum(axis=0), squares + (part**2).sum(axis=0)
        mean, mean_square = total / count, squares / count
        frame_variance = float(np.sum(mean_square - mean**2))
        if frame_variance < 1e-8:
            raise UserError(f"{source}: all frames are the same, there is nothing to learn")
        pixel_std = float(np.sqrt(np.mean(mean_square) - np.mean(mean) ** 2))
        action_scale = math.sqrt(_mean_square(data)) or 1.0
        background = _as_text(np.asarray(mean)) if pixel_std**2 * flat.shape[1] > STANDING * frame_variance else ""
        return FrameScale(
            data.frame_shape,
            data.action_size,
            float(np.mean(mean)),
            pixel_std,
            frame_variance,
            action_scale,
            count,
            background,
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

    @property
    def offset(self) -> np.ndarray | float:
        """What networks see the difference from: the background `[P]`, or the mean pixel."""
        if not self.background:
            return self.pixel_mean
        return np.frombuffer(zlib.decompress(base64.b64decode(self.background)), np.uint8).astype(np.float32) / 255

    def _offset_like(self, flat: Any) -> np.ndarray | float:
        """`offset` with as many axes as `[..., P]` has."""
        return self.offset if not self.background else np.reshape(self.offset, (*[1] * (flat.ndim - 1), -1))

    @property
    def unit(self) -> float:
        """The standard deviation of that difference."""
        return math.sqrt(self.frame_variance / self.pixels) if self.background else self.pixel_std

    def standardise(self, frames: Any) -> Any:
        """Frames `[..., H, W(, C)]` in [0, 1] to pixels `[..., P]` with mean 0 and variance 1 over the data."""
        flat = frames.reshape(*frames.shape[: frames.ndim - len(self.frame_shape)], -1)
        return (flat - self._offset_like(flat)) / self.unit

    def restore(self, pixels: Any) -> Any:
        """Standardised pixels `[..., P]` to frames `[..., H, W(, C)]`."""
        frames = pixels * self.unit + self._offset_like(pixels)
        return frames.reshape(*pixels.shape[:-1], *self.frame_shape)

    def observation_std(self, given: float | None) -> float:
        """sigma of a pixel, in units of full brightness: that which an option gives, or the default."""
        return self.default_observation_std if given is None else given

    def sharp(self, given: float | None) -> float:
        """A tenth of an observation noise, or of the default: reconstruction is then dear and KL cheap."""
        return self.observation_std(given) / SHARPENING


def _as_text(frame: np.ndarray) -> str:
    """Of a frame `[P]` in [0, 1], as FrameScale.background has it."""
    return base64.b64encode(zlib.compress(np.round(255 * frame).astype(np.uint8).tobytes(), 9)).decode("ascii")


def _mean_square(data: Sequences) -> float:
    """Of the numbers of all actions that were done."""
    acted, total, start = data.acted(), 0.0, 0
    for part in in_blocks(data.actions):
        done = True if data.ended is None else acted[start : start + len(part), :, None]
        total += float(np.sum(part.astype(np.float64) ** 2, where=done))
        start += len(part)
    return total / (data.action_size * int(acted.sum()))
