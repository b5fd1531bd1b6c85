"""Data sets in files: an .npz, which is read whole, or a folder of plain arrays (folder.py).

An .npz holds frames and actions and, as far as there are any, states, state_names, dt, rewards, ended, valid, as
sequences.py has them, and world: {"id": ..., "arguments": {...}, "camera": {...}}, and where they are not as usual
"actions" and "start", as a string of JSON.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.folder import ARRAYS, NOTES, read_folder
from worldmodel.data.growing import Growing, continued_folder, new_folder
from worldmodel.data.sequences import Sequences, WorldRecord, check_sequences, join
from worldmodel.support.files import UserError, atomic_write


def save_sequences(path: Path, data: Sequences) -> None:
    """Write an .npz, whole or not at all. Raises UserError when the data does not fit the format."""
    check_sequences(data, str(path))
    arrays, notes = data.arrays(), _notes(data)
    if "state_names" in notes:
        arrays["state_names"] = np.array(notes["state_names"], dtype=np.str_)
    if "dt" in notes:
        arrays["dt"] = np.array(notes["dt"], np.float32)
    if "world" in notes:
        arrays["world"] = np.array(json.dumps(notes["world"], allow_nan=False))
    with atomic_write(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def save_blocks(path: Path, blocks: Iterable[Sequences], count: int) -> None:
    """Write `count` sequences that come in blocks, whole or not at all: an .npz where the path ends so, otherwise a
    folder of arrays (folder.py), for which one block at a time is in memory.

    Raises UserError when the data does not fit the format.
    """
    if path.suffix == ".npz":
        save_sequences(path, join(list(blocks)))
        return
    with new_folder(path, count) as growing:
        _fill(growing, blocks, path)


def _fill(growing: Growing, blocks: Iterable[Sequences], path: Path) -> None:
    """Add the last blocks; `ended` is left out where nothing ended."""
    for block in blocks:
        check_sequences(block, str(path))
        growing.add(block.arrays(), _notes(block))
    ended = growing.folder / "ended.npy"
    if ended.exists() and not np.load(ended, mmap_mode="r").any():
        ended.unlink()


def gather(blocks: Iterable[Sequences], count: int, out: Path | None) -> Sequences:
    """The `count` sequences that come in blocks: in memory and, where `out` is given, in that .npz; or in that folder,
    a block at a time. `ended` is left out where nothing ended, which goes without saying."""
    if out is None or out.suffix == ".npz":
        data = join(list(blocks))
        if data.ended is not None and not data.ended.any():
            data = dataclasses.replace(data, ended=None)
        if out is not None:
            save_sequences(out, data)
        return data
    save_blocks(out, blocks, count)
    return load_sequences(out)


def gather_on(
    blocks: Callable[[int], Iterable[Sequences]], count: int, out: Path | None, task: dict[str, Any]
) -> Sequences:
    """As `gather`, of `blocks(first)`, those of the sequences from number `first` on. In a folder what came before a
    stop is kept, and gone on with by the same task (growing.py)."""
    if out is None or out.suffix == ".npz":
        return gather(blocks(0), count, out)
    with continued_folder(out, count, task) as growing:
        _fill(growing, blocks(growing.done) if growing.done < count else (), out)
    return load_sequences(out)


def _notes(data: Sequences) -> dict[str, Any]:
    """What a data set has beside its arrays, as JSON has it."""
    world = None if data.world is None else _record(data.world)
    notes = {"state_names": data.state_names or None, "dt": data.dt, "world": world}
    return {name: value for name, value in notes.items() if value is not None}


def _record(world: WorldRecord) -> dict[str, Any]:
    """Without what is as usual: such a record is read by what does not know of it."""
    usual = {field.name: field.default for field in dataclasses.fields(world)}
    return {name: value for name, value in dataclasses.asdict(world).items() if value != usual[name]}


def load_sequences(path: Path) -> Sequences:
    """Read an .npz, or open a folder of arrays (folder.py), which stay in their files until they are touched.

    Raises UserError, with the name and what is wrong with it. Runs no code from it.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    found = read_folder(path) if path.is_dir() else _read_archive(path)
    for name in ("frames", "actions"):
        if name not in found:
            raise UserError(f"{path}: has no array '{name}'")
    arrays = {name: found[name] for name in ARRAYS if name in found}
    if "dt" in found and (found["dt"].size != 1 or found["dt"].dtype.kind not in "fiu"):
        raise UserError(f"{path}: dt must be one number (seconds), not {_describe(found['dt'])}")
    state_names = found.get("state_names")
    if state_names is not None and (state_names.ndim != 1 or state_names.dtype.kind not in "US"):
        raise UserError(f"{path}: state_names must be a list of strings, not {_describe(state_names)}")
    names = () if state_names is None else tuple(_text(name) for name in state_names.tolist())
    if "states" in arrays and not names:
        size = arrays["states"].shape[-1] if arrays["states"].ndim else 0
        names = tuple(f"state_{index}" for index in range(size))
    data = Sequences(
        **arrays,
        state_names=names if "states" in arrays else (),
        dt=float(found["dt"].item()) if "dt" in found else None,
        world=_world(path, found["world"]) if "world" in found else None,
    )
    check_sequences(data, str(path))
    return data


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path}: not an .npz file but a single array")
            return {name: _read(path, archive, name) for name in (*ARRAYS, *NOTES) if name in archive}
    except UserError:
        raise
    except Exception:  # bytes that are no archive make NumPy and zipfile fail in more ways than can be listed
        raise UserError(f"{path}: not an .npz file") from None


def _read(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:  # as above; only pickles have a message of their own
        fault = "holds pickled objects, which are never loaded" if "pickle" in str(error).lower() else "is damaged"
        raise UserError(f"{path}: array '{name}' {fault}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: '{name}' is not an array")
    return array


def _world(path: Path, text: np.ndarray) -> WorldRecord:
    """The record in a string of JSON, an array without axes."""
    try:
        record = WorldRecord(**json.loads(_text(text.item())))
        kinds = {name: type(value) for name, value in vars(record).items()}
        start = kinds.pop("start")
        if kinds != {"id": str, "arguments": dict, "camera": dict, "actions": str} or start not in (str, type(None)):
            raise TypeError
    except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, or of something else
        raise UserError(f"{path}: world must be JSON of an object with id, arguments and camera") from None
    return record


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", errors="replace")


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
