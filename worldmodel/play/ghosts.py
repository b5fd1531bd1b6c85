"""Several frames in one picture: what moves in the later ones is a ghost in the colour of what is imagined."""

from typing import NamedTuple

import numpy as np

from worldmodel.pictures.figures import ORANGE, as_rgb

STRENGTHS = (0.9, 0.65, 0.45, 0.3)
"""of the colour, the nearest first"""
FAINT = 0.1
"""of what moves, is still the backdrop: a decoder is never quite sure of it"""
COLOUR = np.array([int(ORANGE[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


class Backdrop(NamedTuple):
    """What stands still in a world's frames."""

    frame: np.ndarray
    """`[H, W(, C)]` in [0, 1]"""
    contrast: float
    """of what moves before it"""

    @staticmethod
    def of(frames: np.ndarray) -> "Backdrop":
        """Of frames `[M, H, W(, C)]` in [0, 1], most of which show it in any one place."""
        frame = np.median(frames, axis=0)
        pixels = np.abs(frames - frame).reshape(len(frames), -1)
        return Backdrop(frame, max(float(np.median(pixels.max(axis=1))), 1e-3))

    def with_ghosts(self, now: np.ndarray, later: np.ndarray) -> np.ndarray:
        """`[H, W, 3]`: frame `now` `[H, W(, C)]` and, behind it, the ghosts of later ones `[K, ...]`, a strength for
        each, the nearer before the farther."""
        picture = as_rgb(self.frame)
        for frame, strength in reversed(list(zip(later, STRENGTHS, strict=True))):
            picture = _over(picture, COLOUR, strength * self._moves(frame))
        return _over(picture, as_rgb(now), self._moves(now))

    def colours(self) -> list[np.ndarray]:
        """`[3]` of each ghost, on the backdrop's mean colour."""
        ground = as_rgb(self.frame).mean(axis=(0, 1))
        return [ground + strength * (COLOUR - ground) for strength in STRENGTHS]

    def _moves(self, frame: np.ndarray) -> np.ndarray:
        """`[H, W]` from 0, where a frame shows the backdrop, to 1."""
        apart = np.abs(frame - self.frame)
        share = (apart.max(axis=-1) if apart.ndim == 3 else apart) / self.contrast
        return np.clip((share - FAINT) / (1 - FAINT), 0, 1)


def _over(picture: np.ndarray, colours: np.ndarray, share: np.ndarray) -> np.ndarray:
    return picture + share[..., None] * (colours - picture)
