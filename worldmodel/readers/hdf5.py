"""HDF5, by h5py: arrays that lie in groups, as robomimic, ALOHA and many a lab's own script write them.

The episodes are the groups that have an array of actions, wherever they lie: data/demo_0, data/demo_1, ... in one file,
or the root of every file of a folder. In such a group:

    actions  [T, A] or [T-1, A]      --action; else action or actions
    pictures [T, H, W(, C)] uint8    --camera; else the only ones, at any depth: obs/agentview_image, observations/
                                     images/top, ...; or [T] image files (JPEG, PNG), also as padded bytes [T, bytes]
    states   [T, S]                  --state; else state or states, where there are any
    reward(s), ended or terminated   [T] or [T-1], where there are any
    valid    [T]                     likewise

Where actions have three axes the group holds many episodes of one length, as data sets here do: actions `[N, T-1, A]`,
frames `[N, T, H, W(, C)]`, and so on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from worldmodel.readers.catalogue import Episode, Keys, Source, chosen, in_order, reading
from worldmodel.support.extras import library
from worldmodel.support.files import UserError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".h5", ".hdf5", ".hdf")
ACTION = ("action", "actions")
STATE = ("state", "states")
REWARD = ("reward", "rewards")
ENDED = ("ended", "terminated", "terminations")
VALID = ("valid",)
CHUNK = 16
"""pictures that are read together, at least"""
IMAGE_FILES = (b"\xff\xd8\xff", b"\x89PNG")
"""first bytes of a JPEG and of a PNG"""


class HDF5:
    """HDF5 files: a group with actions and pictures for each episode, as robomimic and ALOHA write them"""

    @staticmethod
    def recognises(source: Path) -> bool:
        return bool(_files(source))

    @staticmethod
    def read(source: Path, keys: Keys) -> Source:
        h5py = library("h5py", "hdf5")
        places = [place for path in _files(source) or [source] for place in _places(h5py, path, keys)]
        if not places:
            raise UserError(
                f"{source}: no group has actions ({keys.action or ' or '.join(ACTION)}); name them: --action"
            )
        return Source([place.length for place in places], (_episode(h5py, place, keys) for place in places))


class _Place(NamedTuple):
    """Where an episode is."""

    path: Path
    group: str
    number: int | None
    """of an episode in arrays of many"""
    actions: str
    pictures: str
    length: int

    def __str__(self) -> str:
        return f"{self.path.name}/{self.group}" + ("" if self.number is None else f" [{self.number}]")


def _files(source: Path) -> list[Path]:
    inside = source.iterdir() if source.is_dir() else [source]
    found = [path for path in inside if path.suffix in SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: in_order(path.name))


@contextlib.contextmanager
def _open(h5py: Any, path: Path) -> Iterator[Any]:
    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        yield file


def _places(h5py: Any, path: Path, keys: Keys) -> list[_Place]:
    found: list[_Place] = []
    with _open(h5py, path) as file:
        groups = [""]
        file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
        holding: list[str] = []
        for name in sorted(groups, key=in_order):
            below = any(above == "" or name.startswith(f"{above}/") for above in holding)
            if not below and _first(h5py, file[f"/{name}"], keys.action, ACTION):
                holding.append(name)
        for name in holding:
            group = file[f"/{name}"]
            actions = _first(h5py, group, keys.action, ACTION)
            many = group[actions].ndim == 3
            cameras = _cameras(h5py, group, many)
            pictures = chosen(keys.camera, cameras, "pictures (uint8)", "--camera", f"{path}: /{name}")
            shape = group[pictures].shape
            if many and shape[0] != group[actions].shape[0]:
                raise UserError(f"{path}: /{name}: {shape[0]} sequences of {pictures}, but not of {actions}")
            numbers = range(shape[0]) if many else [None]
            found += [_Place(path, name, number, actions, pictures, shape[int(many)]) for number in numbers]
    return found


def _first(h5py: Any, group: Any, wanted: str | None, usual: tuple[str, ...]) -> str:
    """The first of the usual names, or the wanted one, by which the group has an array with an axis; else ""."""
    names = usual if wanted is None else (wanted,)
    return next((name for name in names if isinstance(group.get(name), h5py.Dataset) and group[name].ndim), "")


def _cameras(h5py: Any, group: Any, many: bool) -> list[str]:
    """The names of all pictures of a group."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.size and (_is_encoded(h5py, item, many) or _is_raw(item, many)):
            found.append(name)

    group.visititems(visit)
    return found


def _is_raw(dataset: Any, many: bool) -> bool:
    return dataset.dtype == "uint8" and dataset.ndim - many in (3, 4)


def _is_encoded(h5py: Any, dataset: Any, many: bool) -> bool:
    """Whether it holds files of images."""
    axes = dataset.ndim - many
    each = h5py.check_vlen_dtype(dataset.dtype)
    if (each == "uint8" and axes == 1) or (dataset.dtype == "uint8" and axes == 2):
        return dataset[(0,) * (1 + many)].tobytes().startswith(IMAGE_FILES)
    return False


def _episode(h5py: Any, place: _Place, keys: Keys) -> Episode:
    with _open(h5py, place.path) as file:
        group = file[f"/{place.group}"]

        def read(wanted: str | None, usual: tuple[str, ...]) -> np.ndarray | None:
            name = _first(h5py, group, wanted, usual)
            if not name and wanted is not None:
                raise UserError(f"{place.path}: /{place.group}: has no {wanted}")
            if not name:
                return None
            array = group[name][()] if place.number is None else group[name][place.number]
            if array.dtype.kind not in "fiub":
                raise UserError(f"{place.path}: /{place.group}/{name}: must be numbers, not {array.dtype}")
            return array

        actions, states = read(place.actions, ()), read(keys.state, STATE)
        assert actions is not None
        return Episode(
            str(place),
            _pictures(h5py, place),
            _vectors(actions),
            None if states is None else _vectors(states),
            *(_numbers(read(None, names)) for names in (REWARD, ENDED, VALID)),
        )


def _vectors(array: np.ndarray) -> np.ndarray:
    """`[T, ...]` as `[T, A]`."""
    return array.reshape(len(array), -1)


def _numbers(array: np.ndarray | None) -> np.ndarray | None:
    """`[T]` or `[T, 1]` as `[T]`."""
    return array[:, 0] if array is not None and array.shape[1:] == (1,) else array


def _pictures(h5py: Any, place: _Place) -> Iterator[np.ndarray]:
    from worldmodel.readers.pictures import image

    with _open(h5py, place.path) as file:
        dataset, many = file[f"/{place.group}"][place.pictures], place.number is not None
        encoded = _is_encoded(h5py, dataset, many)
        step = max(CHUNK, dataset.chunks[int(many)] if dataset.chunks else 0)
        for start in range(0, place.length, step):
            which = slice(start, start + step)
            for item in dataset[which] if place.number is None else dataset[place.number, which]:
                yield image(item, f"{place.path}: /{place.group}/{place.pictures}") if encoded else item
