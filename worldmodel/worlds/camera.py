"""How frames are made of pictures: of a Gymnasium environment's, of a world's own, and of those that a user has."""

import dataclasses
from typing import Any

import cv2
import numpy as np

from worldmodel.support.files import UserError
from worldmodel.support.settings import from_json, require_at_least, require_share

SMALLEST_SIZE = 4
SMALLEST_CROP = 0.05
ROUNDING = 1e-9
"""by so much a centre may be out of its range: 1 - 0.55 / 2 is no number of a computer's"""


@dataclasses.dataclass(frozen=True)
class Camera:
    """How a picture becomes a frame."""

    size: int
    """side of the square frame, pixels"""
    crop: float = 1.0
    """share of the picture's width and height that is kept"""
    noise_std: float = 0.0
    """standard deviation of Gaussian noise on every pixel, in units of full brightness"""
    grey: bool = True
    """whether the frame is `[size, size]`, or has the colours red, green and blue, `[size, size, 3]`"""
    centre: tuple[float, float] = (0.5, 0.5)
    """of what is kept: from the left in shares of the picture's width, from the top in shares of its height"""

    @staticmethod
    def of(record: dict[str, Any]) -> "Camera":
        """The camera of a data set's record, in which data sets of before have no centre. Raises UserError for what is
        none."""
        try:
            camera = from_json(Camera, record)
            camera.check()
        except (TypeError, ValueError, UserError) as error:
            raise UserError(f"the camera {record} in a data set's record cannot be: {error}") from None
        return camera

    def record(self) -> dict[str, Any]:
        """As JSON has it: what `of` reads."""
        return dataclasses.asdict(self) | {"centre": list(self.centre)}

    def check(self) -> None:
        """Raise UserError for what no camera can be."""
        require_at_least("--size", self.size, SMALLEST_SIZE)
        require_at_least("--noise", self.noise_std, 0)
        require_share("--crop", self.crop)
        require_at_least("--crop", self.crop, SMALLEST_CROP)
        if len(self.centre) != 2:
            raise UserError(f"--centre must be two numbers, not {len(self.centre)}")
        first = self.crop / 2
        for share in self.centre:
            if not first - ROUNDING <= share <= 1 - first + ROUNDING:
                raise UserError(
                    f"--centre must be between {first:g} and {1 - first:g} where --crop is {self.crop:g}, not {share:g}"
                    ": what is kept must lie within the picture"
                )

    def frame(self, picture: np.ndarray) -> np.ndarray:
        """`[H, W, 3]` to `[size, size(, 3)]` uint8; resized before it is grey: several times faster than after. What is
        grey already, `[H, W]`, stays so."""
        height, width = picture.shape[:2]
        picture = picture[_kept(height, self.crop, self.centre[1]), _kept(width, self.crop, self.centre[0])]
        small = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if self.grey and small.ndim == 3 else small

    def noisy(self, frame: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A frame with the noise on it, uint8; what noise pushed outside is clipped."""
        if self.noise_std == 0:
            return frame
        shown = frame / 255 + self.noise_std * random.standard_normal(frame.shape)
        return np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8)


def _kept(side: int, crop: float, centre: float) -> slice:
    """The pixels of a side that are kept; around its middle as many are cut off on the left as on the right."""
    kept = max(1, side - 2 * round(side * (1 - crop) / 2))
    first = min(max(round(side * centre - kept / 2), 0), side - kept)
    return slice(first, first + kept)
