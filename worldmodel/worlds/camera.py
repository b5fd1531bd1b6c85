"""How frames are made of pictures: of a Gymnasium environment's, of a world's own, and of those that a user has."""

import dataclasses

import cv2
import numpy as np

from worldmodel.support.settings import require_at_least, require_share

SMALLEST_SIZE = 4
SMALLEST_CROP = 0.05


@dataclasses.dataclass(frozen=True)
class Camera:
    """How a picture becomes a frame."""

    size: int
    """side of the square frame, pixels"""
    crop: float = 1.0
    """share of the picture's width and height that is kept, around its centre"""
    noise_std: float = 0.0
    """standard deviation of Gaussian noise on every pixel, in units of full brightness"""
    grey: bool = True
    """whether the frame is `[size, size]`, or has the colours red, green and blue, `[size, size, 3]`"""

    def check(self) -> None:
        """Raise UserError for what no camera can be."""
        require_at_least("--size", self.size, SMALLEST_SIZE)
        require_at_least("--noise", self.noise_std, 0)
        require_share("--crop", self.crop)
        require_at_least("--crop", self.crop, SMALLEST_CROP)

    def frame(self, picture: np.ndarray) -> np.ndarray:
        """`[H, W, 3]` to `[size, size(, 3)]` uint8; resized before it is grey: several times faster than after. What is
        grey already, `[H, W]`, stays so."""
        height, width = picture.shape[:2]
        top, left = round(height * (1 - self.crop) / 2), round(width * (1 - self.crop) / 2)
        picture = picture[top : height - top, left : width - left]
        small = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if self.grey and small.ndim == 3 else small

    def noisy(self, frame: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A frame with the noise on it, uint8; what noise pushed outside is clipped."""
        if self.noise_std == 0:
            return frame
        shown = frame / 255 + self.noise_std * random.standard_normal(frame.shape)
        return np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8)
