"""Writing a data set as a folder of arrays (folder.py), block by block: whole or not at all, or so that what was
written before a stop is kept and gone on with."""

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from worldmodel.data.folder import ABOUT, ARRAYS
from worldmodel.support.files import (
    UNFINISHED,
    UserError,
    atomic_folder,
    read_json,
    require_new,
    require_writable,
    write_json,
)


class Growing:
    """The arrays of so many sequences in the files of a folder, which grow by blocks: one at a time is in memory."""

    def __init__(
        self,
        folder: Path,
        sequences: int,
        files: contextlib.ExitStack,
        done: int = 0,
        tell: Callable[[int], None] = lambda done: None,
    ):
        """Of what is there the first `done` sequences are kept. `files` closes the files; `tell` is told how many
        sequences there are whenever there are more."""
        self.folder, self.sequences, self.done = folder, sequences, done
        self._opened, self._tell = files, tell
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple] = {}
        for name in ARRAYS if done else ():
            if (path := folder / f"{name}.npy").exists():
                file: BinaryIO = files.enter_context(path.open("r+b"))
                self._files[name] = file
                npy.read_magic(file)
                shape, _, dtype = npy.read_array_header_1_0(file)
                self._kinds[name] = (dtype, shape[1:])
                end = file.tell() + done * math.prod(shape[1:]) * dtype.itemsize
                if path.stat().st_size < end:
                    raise UserError(f"{path}: is damaged; delete {folder.parent}")
                file.truncate(end)
                file.seek(end)

    def add(self, block: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
        """Write further sequences; they are on disk when it returns. The notes are those of the first block. Raises
        ValueError when they do not fit those before."""
        if not self.done:
            write_json(self.folder / ABOUT, notes)
        if self.done and block.keys() != self._kinds.keys():
            raise ValueError(f"a block has {list(block)}, those before have {list(self._kinds)}")
        for name, array in block.items():
            kind = (array.dtype, array.shape[1:])
            if name not in self._files:
                file: BinaryIO = self._opened.enter_context((self.folder / f"{name}.npy").open("wb"))
                header = npy.header_data_from_array_1_0(array) | {"shape": (self.sequences, *array.shape[1:])}
                npy.write_array_header_1_0(file, header)
                self._files[name], self._kinds[name] = file, kind
            if kind != self._kinds[name]:
                raise ValueError(f"a block of {name} is {kind}, those before are {self._kinds[name]}")
            self._files[name].write(np.ascontiguousarray(array).data)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        done = self.done + len(block["frames"])
        self._tell(done)
        self.done = done

    def require_all(self) -> None:
        """Raise ValueError unless all sequences came."""
        if self.done != self.sequences:
            raise ValueError(f"{self.done} sequences came, not {self.sequences}")


@contextlib.contextmanager
def new_folder(folder: Path, sequences: int) -> Iterator[Growing]:
    """A data set of so many sequences, written whole or not at all. Raises UserError when it cannot be written, and
    ValueError when others came."""
    with atomic_folder(folder) as temporary, _writing(folder), contextlib.ExitStack() as files:
        growing = Growing(temporary, sequences, files)
        yield growing
        growing.require_all()


@contextlib.contextmanager
def continued_folder(folder: Path, sequences: int, task: dict[str, Any]) -> Iterator[Growing]:
    """As `new_folder`, but what was added before a stop, of whatever kind, is kept in a hidden folder beside, and
    gone on with when the same task (JSON) is given again:

        .unfinished.D/progress.json    {"task": {...}, "done": sequences that are kept}
        .unfinished.D/data             what becomes D when all is there

    Raises UserError as well when what is kept is of another task, or another process is at it; KeyboardInterrupt says
    what is kept.
    """
    place = folder.parent / f"{UNFINISHED}{folder.name}"
    data, progress = place / "data", place / "progress.json"
    task = json.loads(json.dumps(task, default=lambda number: number.item()))  # of NumPy's numbers, too
    require_writable(folder)
    with _writing(folder):
        place.mkdir(exist_ok=True)
        with _alone(place, folder), contextlib.ExitStack() as files:
            require_new(folder)  # another process may have finished it meanwhile
            done = _kept(progress, task, folder) if data.is_dir() else 0
            if not done:
                shutil.rmtree(data, ignore_errors=True)
                data.mkdir()
            growing = Growing(
                data, sequences, files, done, lambda done: write_json(progress, {"task": task, "done": done})
            )
            try:
                yield growing
                growing.require_all()
                data.replace(folder)
            except BaseException as error:
                if not growing.done or isinstance(error, UserError):  # what cannot be will not be the next time
                    shutil.rmtree(place, ignore_errors=True)
                elif isinstance(error, KeyboardInterrupt):
                    kept = f"{growing.done} of {sequences} sequences are kept in {place}"
                    raise KeyboardInterrupt(f"{kept}; the same command goes on from there") from None
                raise
            shutil.rmtree(place, ignore_errors=True)


def _kept(progress: Path, task: dict[str, Any], folder: Path) -> int:
    """How many sequences of this task are there. Raises UserError where they are of another."""
    if not progress.exists():
        return 0
    try:
        there = read_json(progress)
        done, theirs = int(there["done"]), dict(there["task"])
    except (TypeError, KeyError, ValueError):
        raise UserError(f"{progress}: is damaged; delete {progress.parent}") from None
    others = [name for name in task | theirs if task.get(name) != theirs.get(name)]
    if others:
        told = ", ".join(f"{name} {theirs.get(name)}, not {task.get(name)}" for name in others)
        ways = f"give those, or another --out, or delete {progress.parent}"
        raise UserError(f"{folder}: was begun with other options ({told}); {ways}")
    return done


@contextlib.contextmanager
def _alone(place: Path, folder: Path) -> Iterator[None]:
    """While no other process is at it; a lock that goes with its process."""
    handle = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: is being written by another process") from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
