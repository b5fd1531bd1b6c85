"""What the tests of the readers write: pictures that come back bit for bit, and some that a video keeps nearly so."""

from fractions import Fraction
from pathlib import Path

import numpy as np

RANDOM = np.random.default_rng(0)
FRAMES = 6


def noise(length: int) -> np.ndarray:
    """uint8 `[length, 16, 16, 3]`."""
    return RANDOM.integers(0, 256, (length, 16, 16, 3), np.uint8)


def smooth(length: int, phase: float = 0.0, side: int = 32) -> np.ndarray:
    """uint8 `[length, side, side, 3]`: a bright disc on its way over a slope, every picture unlike the others."""
    y, x = np.mgrid[0:side, 0:side] / side
    pictures = []
    for t in range(length):
        along = (0.2 + 0.6 * t / max(1, length - 1) + phase) % 1
        disc = np.exp(-(((x - along) ** 2 + (y - 0.5) ** 2) / 0.02))
        pictures.append(np.stack([0.2 + 0.7 * disc, 0.3 + 0.3 * x, 0.5 * y], axis=2))
    return np.round(np.array(pictures) * 255).astype(np.uint8)


def write_video(path: Path, pictures: np.ndarray, fps: int = 10, codec: str = "libx264") -> None:
    """As PyAV encodes it."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    av.logging.set_level(None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def assert_near(frames: np.ndarray, pictures: np.ndarray) -> None:
    """As near as a lossy video comes, and nearer to its own picture than to those beside it."""
    difference = np.abs(frames.astype(float)[:, None] - pictures.astype(float)[None]).mean(axis=(2, 3, 4))
    assert difference.diagonal().max() < 4
    np.testing.assert_array_equal(difference.argmin(axis=1), np.arange(len(pictures)))
