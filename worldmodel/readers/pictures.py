"""Pictures out of compressed files: videos, by PyAV (which reads AV1, too; OpenCV's wheels do not), and images."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from worldmodel.readers.catalogue import reading
from worldmodel.support.extras import library
from worldmodel.support.files import UserError

EXTRA = "video"


class Video:
    """The pictures of a video file in their order, decoded once each as long as they are asked for in order, and
    turned as the file says, which a telephone's does.

    Raises UserError when the file is none that can be decoded.
    """

    def __init__(self, path: Path):
        self.path, self._av = path, library("av", EXTRA)
        with self._open() as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            self.fps = float(rate) if rate else None
            """pictures a second, where the file tells"""
            self.count = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
            """number of pictures"""
        self._position, self._decoded = 0, self._decode()

    def pictures(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """uint8 `[H, W, 3]`, from number `start` to before `stop`, or to the end of a shorter video."""
        if start < self._position:
            self._position, self._decoded = 0, self._decode()
        while self._position < stop:
            picture = next(self._decoded, None)
            if picture is None:
                return
            self._position += 1
            if self._position > start:
                yield np.rot90(picture.to_ndarray(format="rgb24"), picture.rotation // 90)

    def _decode(self) -> Iterator[Any]:
        with self._open() as container:
            container.streams.video[0].thread_type = "AUTO"
            yield from container.decode(video=0)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        with reading(self.path, "a video"), self._av.open(str(self.path)) as container:
            if not container.streams.video:
                raise UserError(f"{self.path}: has no pictures")
            yield container


def image(data: bytes | np.ndarray, place: object) -> np.ndarray:
    """The picture `[H, W]` or `[H, W, 3]` in the bytes of an image file. Raises UserError, beginning with `place`, when
    they are none."""
    raw = np.frombuffer(data, np.uint8)
    found = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED) if raw.size else None
    if found is None:
        raise UserError(f"{place}: holds an image that cannot be decoded")
    return found if found.ndim == 2 else cv2.cvtColor(found[:, :, :3], cv2.COLOR_BGR2RGB)
