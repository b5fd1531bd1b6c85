"""A data set as a folder of plain arrays, which are mapped into memory: what is touched is read, and nothing else.

D/frames.npy, actions.npy                        as sequences.py has them
D/states.npy, rewards.npy, ended.npy, valid.npy  likewise; each may be missing
D/about.json                                     {"state_names": [...], "dt": seconds, "world": {"id": ..., "arguments":
                                                 {...}, "camera": {...}}}; each or the whole file may be missing
"""

import json
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from worldmodel.support.files import UserError, read_json

ARRAYS = ("frames", "actions", "states", "rewards", "ended", "valid")
ABOUT = "about.json"
NOTES = ("state_names", "dt", "world")
"""entries of about.json"""


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder, mapped into memory, and its notes. Raises UserError when it is no data set or one of its
    files is damaged. Runs no code from them."""
    there = [name for name in ARRAYS if (folder / f"{name}.npy").is_file()]
    if not there:
        raise UserError(f"{folder}: is a folder without frames.npy and actions.npy")
    arrays = {name: _map(folder, name) for name in there}
    if (folder / ABOUT).exists():
        arrays |= _notes(folder / ABOUT)
    return arrays


def _map(folder: Path, name: str) -> np.ndarray:
    try:
        array = npy.open_memmap(folder / f"{name}.npy", mode="r")
    except OSError as error:
        raise UserError(f"{folder}: {name}.npy cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged bytes make NumPy fail in more ways than can be listed
        fault = "holds pickled objects, which are never loaded" if "Python objects" in str(error) else "is damaged"
        raise UserError(f"{folder}: array '{name}' {fault}") from None
    if not array.flags.c_contiguous:
        raise UserError(f"{folder}: array '{name}' is in Fortran order, in which no sequence lies in one piece")
    return array


def _notes(path: Path) -> dict[str, np.ndarray]:
    """As the arrays that an .npz has for them."""
    try:
        notes = read_json(path)
    except RecursionError:  # lists in lists in lists
        raise UserError(f"{path}: not JSON") from None
    if not isinstance(notes, dict) or not notes.keys() <= set(NOTES):
        raise UserError(f"{path}: must be an object with {', '.join(NOTES)}, and nothing else")
    if "world" in notes:
        notes["world"] = json.dumps(notes["world"])
    try:
        found = {name: np.array(value) for name, value in notes.items()}
    except ValueError:  # lists of different lengths
        raise UserError(f"{path}: state_names must be a list of strings") from None
    if "dt" in found and found["dt"].dtype.kind in "fi":
        found["dt"] = found["dt"].astype(np.float32)  # as an .npz keeps it
    return found
