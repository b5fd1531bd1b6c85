"""Sequences of frames and actions: the one record, its timeline, its file formats.

    frames    x_0 ----- x_1 ----- x_2 -- ... -- x_{T-1}
    actions        u_0       u_1       ...  u_{T-2}
    latents   z_0 ----> z_1 ----> z_2 -- ... -> z_{T-1}

`actions[:, t]` acts between frame t and frame t+1: it takes z_t to z_{t+1}. T frames have T-1 actions, and
latent t belongs to frame t. The paper counts from 1, the arrays from 0.

A transition mask `[B, T-1]` has the same index as the actions: `observed[:, t]` says whether the step from t
to t+1 uses frame t+1 (a filter step) or not (an imagined step).
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.folder import read_folder, write_folder
from worldmodel.support.files import UserError, atomic_write

BLOCK = 2**24
"""numbers of an array that are looked at together: what a pass over memory-mapped arrays reads at a time"""
PENDULUM_STATES = ("angle", "angular_velocity")
"""rad, 0 upright; rad/s"""


@dataclasses.dataclass(frozen=True)
class Sequences:
    """N sequences of T frames with the T-1 actions between them."""

    frames: np.ndarray
    """uint8 `[N, T, H, W]` or `[N, T, H, W, C]`; 0 to 255"""
    actions: np.ndarray
    """float32 `[N, T-1, A]`; `actions[:, t]` takes frame t to frame t+1"""
    states: np.ndarray | None = None
    """float32 `[N, T, S]` the true states, used to score a model and never to train it"""
    state_names: tuple[str, ...] = ()
    """S names; for a pendulum ("angle", "angular_velocity") in rad (0 upright) and rad/s. A file without names
    and with two states is read as a pendulum's."""
    dt: float | None = None
    """seconds between two frames"""
    valid: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def length(self) -> int:
        """T, the number of frames in each sequence."""
        return self.frames.shape[1]

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""
        return self.frames.shape[2:]

    @property
    def action_size(self) -> int:
        """A."""
        return self.actions.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of what a model learns from: the frames and the actions."""
        return self.frames.nbytes + self.actions.nbytes

    def take(self, which: np.ndarray | slice) -> "Sequences":
        """Some of the sequences, whole."""
        states = None if self.states is None else self.states[which]
        return dataclasses.replace(self, frames=self.frames[which], actions=self.actions[which], states=states)

    def first_frames(self, length: int) -> "Sequences":
        """The first `length` frames of every sequence and the actions between them."""
        states = None if self.states is None else self.states[:, :length]
        return dataclasses.replace(
            self, frames=self.frames[:, :length], actions=self.actions[:, : length - 1], states=states
        )

    def state(self, name: str) -> np.ndarray | None:
        """`[N, T]` one component of the true state, or None where the data does not have it."""
        if self.states is None or name not in self.state_names:
            return None
        return self.states[:, :, self.state_names.index(name)]

    def fingerprint(self) -> str:
        """SHA-256 of what a model learns from: the frames and the actions."""
        digest = hashlib.sha256()
        for array in (self.frames, self.actions):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            for block in in_blocks(array):
                digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()


def as_unit_frames(frames: Any) -> Any:
    """uint8 frames to float32 in [0, 1]; works on NumPy and on JAX arrays."""
    return frames.astype(np.float32) / np.float32(255)


def in_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in parts of whole items of its first axis, in order, with about BLOCK numbers each."""
    size = max(1, BLOCK * len(array) // max(1, array.size))
    return (array[start : start + size] for start in range(0, len(array), size))


def spread_over(items: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the items along the first axis, evenly spread from the first to the last."""
    return items[np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def spread_within(data: Sequences, size: float) -> Sequences:
    """All sequences; where their frames and actions have more than `size` bytes, some of them that have not, evenly
    spread, and at least one."""
    if data.nbytes <= size:
        return data
    return data.take(spread_over(np.arange(len(data)), max(1, int(size * len(data) / data.nbytes))))


def join(parts: list[Sequences]) -> Sequences:
    """The sequences of all parts, in order."""
    frames, actions = (np.concatenate([getattr(part, name) for part in parts]) for name in ("frames", "actions"))
    states = [part.states for part in parts if part.states is not None]
    return dataclasses.replace(
        parts[0], frames=frames, actions=actions, states=np.concatenate(states) if states else None
    )


def hold_out(data: Sequences, share: float, source: str) -> tuple[Sequences, Sequences]:
    """Training and validation sequences: the last `share` of them (at least one) is held out.

    Raises UserError, beginning with `source`, when there are not enough sequences for both.
    """
    held_out = max(1, round(share * len(data)))
    if held_out >= len(data):
        raise UserError(
            f"{source}: {len(data)} sequence(s), of which {held_out} would be held out, leave nothing to train on"
        )
    return data.take(slice(None, -held_out)), data.take(slice(-held_out, None))


def batches(data: Sequences, size: int) -> Iterator[tuple[Sequences, int]]:
    """All sequences in order, `size` at a time; the last batch is filled up by repeating sequences, and the
    number beside it says how many of it count. One shape for all batches means one compilation."""
    for start in range(0, len(data), size):
        which = np.arange(start, start + size)
        yield data.take(which % len(data)), min(size, len(data) - start)


def save_sequences(path: Path, data: Sequences) -> None:
    """Write an .npz, whole or not at all. Raises UserError when the data does not fit the format."""
    check_sequences(data, str(path))
    arrays: dict[str, np.ndarray] = {"frames": data.frames, "actions": data.actions}
    if data.states is not None:
        arrays |= {"states": data.states, "state_names": np.array(data.state_names, dtype=np.str_)}
    if data.dt is not None:
        arrays["dt"] = np.array(data.dt, np.float32)
    with atomic_write(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def save_blocks(path: Path, blocks: Iterable[Sequences], count: int) -> None:
    """Write `count` sequences that come in blocks, whole or not at all: an .npz where the path ends so, otherwise a
    folder of arrays (array_folder.py), for which one block at a time is in memory.

    Raises UserError when the data does not fit the format.
    """
    if path.suffix == ".npz":
        save_sequences(path, join(list(blocks)))
        return

    def arrays(block: Sequences) -> dict[str, np.ndarray]:
        check_sequences(block, str(path))
        states = {} if block.states is None else {"states": block.states}
        return {"frames": block.frames, "actions": block.actions} | states

    blocks = iter(blocks)
    first = next(blocks)
    notes = {"state_names": first.state_names or None, "dt": first.dt}
    known = {name: value for name, value in notes.items() if value is not None}
    write_folder(path, map(arrays, itertools.chain([first], blocks)), count, known)


def load_sequences(path: Path) -> Sequences:
    """Read an .npz, or open a folder of arrays (array_folder.py), which stay in their files until they are touched.

    Raises UserError, with the name and what is wrong with it. Runs no code from it.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    arrays = read_folder(path) if path.is_dir() else _read_archive(path)
    for name in ("frames", "actions"):
        if name not in arrays:
            raise UserError(f"{path}: has no array '{name}'")
    if "dt" in arrays and (arrays["dt"].size != 1 or arrays["dt"].dtype.kind not in "fiu"):
        raise UserError(f"{path}: dt must be one number (seconds), not {_describe(arrays['dt'])}")
    state_names = arrays.get("state_names")
    if state_names is not None and (state_names.ndim != 1 or state_names.dtype.kind not in "US"):
        raise UserError(f"{path}: state_names must be a list of strings, not {_describe(state_names)}")
    names = () if state_names is None else tuple(_text(name) for name in state_names.tolist())
    if "states" in arrays and not names:
        size = arrays["states"].shape[-1] if arrays["states"].ndim else 0
        names = PENDULUM_STATES if size == 2 else tuple(f"state_{index}" for index in range(size))
    data = Sequences(
        frames=arrays["frames"],
        actions=arrays["actions"],
        states=arrays.get("states"),
        state_names=names if "states" in arrays else (),
        dt=float(arrays["dt"].item()) if "dt" in arrays else None,
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
            known = [name for name in ("frames", "actions", "states", "state_names", "dt") if name in archive]
            return {name: _read(path, archive, name) for name in known}
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


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", errors="replace")


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def check_sequences(data: Sequences, source: str) -> None:
    """Raise UserError, beginning with `source`, when the arrays do not fit the format or each other."""

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise UserError(f"{source}: {what}")

    frames, actions, states = data.frames, data.actions, data.states
    require(frames.dtype == np.uint8, f"frames must be uint8, not {frames.dtype}")
    require(
        frames.ndim in (4, 5) and min(frames.shape) > 0,
        f"frames must be [N, T, H, W] or [N, T, H, W, C], not {list(frames.shape)}",
    )
    require(data.length >= 2, f"frames must have T >= 2, not {data.length}")
    require(actions.dtype == np.float32, f"actions must be float32, not {actions.dtype}")
    require(
        actions.ndim == 3 and min(actions.shape) > 0,
        f"actions must be [N, T-1, A], not {list(actions.shape)}",
    )
    require(actions.shape[0] == len(data), f"{len(data)} sequences of frames but {actions.shape[0]} of actions")
    require(
        actions.shape[1] == data.length - 1,
        f"{data.length} frames need {data.length - 1} actions (T-1), not {actions.shape[1]}",
    )
    require(_all_finite(actions), "actions hold NaN or infinite numbers")
    if states is not None:
        require(states.dtype == np.float32, f"states must be float32, not {states.dtype}")
        require(
            states.ndim == 3 and states.shape[:2] == frames.shape[:2] and states.shape[2] > 0,
            f"states must be [N, T, S] = [{len(data)}, {data.length}, S], not {list(states.shape)}",
        )
        require(_all_finite(states), "states hold NaN or infinite numbers")
        require(
            len(data.state_names) == states.shape[2],
            f"{states.shape[2]} states but {len(data.state_names)} state_names",
        )
    if data.dt is not None:
        require(np.isfinite(data.dt) and data.dt > 0, f"dt must be positive seconds, not {data.dt}")


def _all_finite(array: np.ndarray) -> bool:
    return all(bool(np.isfinite(block).all()) for block in in_blocks(array))
