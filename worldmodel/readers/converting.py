"""A data set in another format, made one of this project: frames cut and scaled, episodes padded to one length."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.sequences import PER_FRAME, Sequences, check_sequences
from worldmodel.data.storage import gather
from worldmodel.readers.catalogue import READERS, Episode, Keys, Source, format_of
from worldmodel.support.files import UserError, require_new
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_positive
from worldmodel.worlds.camera import Camera


def convert(
    source: Path,
    out: Path | None = None,
    *,
    format: str | None = None,
    size: int = 32,
    crop: float = 1.0,
    grey: bool = True,
    centre: tuple[float, float] = (0.5, 0.5),
    camera: str | None = None,
    action: str | None = None,
    state: str | None = None,
    fps: float | None = None,
) -> Sequences:
    """Read a data set in a format of the catalogue, one episode at a time, with a progress bar on stderr.

    The frames are square, whatever the pictures are. All sequences are as long as the longest episode: a shorter one is
    said to have `ended` with its last action, also where it was merely broken off, and is padded with its last frame
    and state, and with zeros.

    Args:
        source: a file or folder.
        out: data set to write, where it must not lie in memory: an .npz or, by a name without, a folder that is written
            an episode at a time; whole or not at all.
        format: name in the catalogue; default: what the source looks like.
        size, crop, grey, centre: see Camera.
        camera, action, state: names within the source, where it does not speak for itself (Keys).
        fps: pictures a second, in place of what the source says; none is left out or made up.

    Raises UserError when one of these does not fit, or `out` exists or cannot be written.
    """
    lens = Camera(size, crop, grey=grey, centre=centre)
    lens.check()
    if fps is not None:
        require_positive("--fps", fps)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if out is not None:
        require_new(out)
    name = format or format_of(source)
    if name is None:
        raise UserError(f"{source}: looks like none of the formats {', '.join(READERS.names())}; choose by --format")
    opened: Source = READERS.options(name).read(source, Keys(camera, action, state))
    if not opened.lengths:
        raise UserError(f"{source}: has no episodes")
    if fps is not None:
        opened = opened._replace(dt=1 / fps)
    return gather(_sequences(opened, source, lens), len(opened.lengths), out)


def _sequences(opened: Source, source: Path, lens: Camera) -> Iterator[Sequences]:
    """Each episode as a data set of one sequence."""
    longest, first, seen = max(opened.lengths), None, _Seen()
    with progress_bar("convert", len(opened.lengths), "episode") as bar:
        for length, episode in zip(opened.lengths, opened.episodes, strict=True):
            place = f"{source}: {episode.name}"
            arrays = _arrays(episode, length, place, lens, seen)
            padded: dict[str, Any] = {key: _padded(array, longest - length, key)[None] for key, array in arrays.items()}
            names: tuple[str, ...] = ()
            if "states" in padded:
                count = padded["states"].shape[-1]
                same = len(opened.state_names) == count
                names = opened.state_names if same else tuple(f"state_{index}" for index in range(count))
            sequence = Sequences(**padded, state_names=names, dt=opened.dt)
            check_sequences(sequence, place)
            shapes = {key: array.shape[2:] for key, array in sequence.arrays().items()}
            first = first or shapes
            if shapes != first:
                raise UserError(f"{place}: has {_told(shapes)}; those before have {_told(first)}")
            yield sequence
            bar.update(1)


class _Seen:
    """The shape of the first picture, which all must have."""

    shape: tuple[int, ...] | None = None


def _arrays(episode: Episode, length: int, place: str, lens: Camera, seen: _Seen) -> dict[str, np.ndarray]:
    """The arrays of one episode as data sets have them, without the axis of sequences, not padded yet."""
    if length < 2:
        raise UserError(f"{place}: has {length} frame(s), and needs 2 at least")
    count = len(episode.actions)
    if count not in (length, length - 1):
        raise UserError(f"{place}: has {length} frames and {count} actions; {length - 1} or {length} would fit")

    def of_actions(values: np.ndarray | None, dtype: type, what: str) -> np.ndarray | None:
        if values is None:
            return None
        if len(values) not in (length, length - 1):
            raise UserError(f"{place}: has {len(values)} {what} for {count} actions")
        return np.asarray(values[: length - 1]).astype(dtype)

    def of_frames(values: np.ndarray | None, dtype: type, what: str) -> np.ndarray | None:
        if values is None:
            return None
        if len(values) != length:
            raise UserError(f"{place}: has {len(values)} {what} for {length} frames")
        return np.asarray(values).astype(dtype)

    frames = []
    for picture in episode.pictures:
        picture = _picture(picture, place)
        seen.shape = seen.shape or picture.shape
        if picture.shape != seen.shape:
            raise UserError(f"{place}: has a picture {list(picture.shape)}; those before are {list(seen.shape)}")
        frames.append(lens.frame(picture))
    if len(frames) != length:
        raise UserError(f"{place}: has {len(frames)} pictures, and should have {length}")
    ended = of_actions(episode.ended, bool, "ended")
    arrays = {
        "frames": np.stack(frames),
        "actions": of_actions(episode.actions, np.float32, "actions"),
        "states": of_frames(episode.states, np.float32, "states"),
        "rewards": of_actions(episode.rewards, np.float32, "rewards"),
        "ended": np.zeros(length - 1, bool) if ended is None else ended,
        "valid": of_frames(episode.valid, bool, "valid"),
    }
    return {key: array for key, array in arrays.items() if array is not None}


def _picture(array: np.ndarray, place: str) -> np.ndarray:
    """A picture `[H, W]` or `[H, W, 3]`, uint8, in which colours may also have come first."""
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UserError(f"{place}: pictures must be uint8 [H, W] or [H, W, 3], not {array.dtype} {list(array.shape)}")
    if array.ndim == 3:
        array = array[:, :, 0] if array.shape[2] == 1 else array[:, :, :3]
    return np.ascontiguousarray(array)


def _padded(array: np.ndarray, missing: int, name: str) -> np.ndarray:
    """An array of an episode, longer along time by what is missing: the last frame and state again, and zeros."""
    if missing == 0:
        return array
    shown = name in PER_FRAME and name != "valid"
    padding = np.repeat(array[-1:] if shown else np.zeros_like(array[-1:]), missing, axis=0)
    padded = np.concatenate([array, padding])
    if name == "ended":
        padded[len(array) - 1] = True
    return padded


def _told(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" if shape else name for name, shape in shapes.items())
