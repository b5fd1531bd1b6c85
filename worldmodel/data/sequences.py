"""Sequences of frames and actions: the one record, its timeline, its checks.

    frames    x_0 ----- x_1 ----- x_2 -- ... -- x_{T-1}
    actions        u_0       u_1       ...  u_{T-2}
    latents   z_0 ----> z_1 ----> z_2 -- ... -> z_{T-1}
    rewards        r_0       r_1       ...  r_{T-2}
    ended          no        yes       (padding)          x_2 is the last frame: L = 3 of the T count

`actions[:, t]` acts between frame t and frame t+1: it takes z_t to z_{t+1}, and is paid `rewards[:, t]`. T frames have
T-1 actions, and latent t belongs to frame t. The paper counts from 1, the arrays from 0.

`ended[:, t]` says that the episode ended with action t, in frame t+1; whatever comes after is padding. `valid[:, t]`
says whether frame t was seen. What stands in the place of a frame that is missing or padding counts nowhere: nothing is
learnt from it, nothing is scored against it, and a filter imagines that step.

A transition mask `[B, T-1]` has the same index as the actions: `observed[:, t]` says whether the step from t
to t+1 uses frame t+1 (a filter step) or not (an imagined step).
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from worldmodel.support.files import UserError

BLOCK = 2**24
"""numbers of an array that are looked at together: what a pass over memory-mapped arrays reads at a time"""
PER_FRAME = ("frames", "states", "valid")
"""arrays `[N, T, ...]`"""
PER_ACTION = ("actions", "rewards", "ended")
"""arrays `[N, T-1, ...]`"""
LEARNT_FROM = ("frames", "actions", "rewards", "ended", "valid")
"""arrays that a model may learn from"""


@dataclasses.dataclass(frozen=True)
class WorldRecord:
    """What made a data set; the truth behind it is rebuilt from this (worlds/world.py)."""

    id: str
    """name of the world in the catalogue of worlds, or the Gymnasium id of an environment"""
    arguments: dict[str, Any]
    """of the world's dataclass of options, as JSON has them"""
    camera: dict[str, Any]
    """how frames were made of its pictures: size, crop, centre, grey, noise_std (worlds/camera.py)"""
    actions: str = "white"
    """how they were chosen: the kind of random actions (worlds/actions.py)"""
    start: str | None = None
    """the place of the world at which every sequence starts; None: the world's own random start"""


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
    """S names"""
    dt: float | None = None
    """seconds between two frames"""
    rewards: np.ndarray | None = None
    """float32 `[N, T-1]`; what each action was paid"""
    ended: np.ndarray | None = None
    """bool `[N, T-1]`: the episode ended with this action, and the frames after the next are padding; None: none did"""
    valid: np.ndarray | None = None
    """bool `[N, T]`: whether the frame was seen; None: all were"""
    world: WorldRecord | None = None
    """what made the data, where that is known"""

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        more = [name for name in self.arrays() if name not in ("frames", "actions")]
        return f"<{'; '.join([self.shape_in_words(), *more])}>"

    def shape_in_words(self) -> str:
        """How many sequences and frames there are, and their sizes."""
        told = "" if self.dt is None else f", {self.dt:.4g} s apart"
        return (
            f"{len(self)} sequences of {self.length} frames {list(self.frame_shape)}{told}, actions of size"
            f" {self.action_size}"
        )

    @property
    def length(self) -> int:
        """T, the number of frames in each sequence, padding among them."""
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
        """Bytes of what a model may learn from."""
        return sum(array.nbytes for name, array in self.arrays().items() if name in LEARNT_FROM)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name."""
        found = {name: getattr(self, name) for name in (*PER_FRAME, *PER_ACTION)}
        return {name: array for name, array in found.items() if array is not None}

    def lengths(self) -> np.ndarray:
        """int `[N]` the frames of each sequence before its padding."""
        if self.ended is None:
            return np.full(len(self), self.length)
        return np.where(self.ended.any(axis=1), self.ended.argmax(axis=1) + 2, self.length)

    def seen(self) -> np.ndarray | None:
        """bool `[N, T]`: whether there is a frame to be looked at, neither missing nor padding; None: all are."""
        if self.ended is None and self.valid is None:
            return None
        before_end = np.arange(self.length) < self.lengths()[:, None]
        return before_end if self.valid is None else before_end & self.valid

    def acted(self) -> np.ndarray:
        """bool `[N, T-1]`: whether an action was done, before the padding."""
        return np.arange(self.length - 1) < self.lengths()[:, None] - 1

    def missing_share(self) -> float:
        """Of the frames before the padding, how many were not seen."""
        seen = self.seen()
        return 0.0 if seen is None else 1 - float(seen.sum() / self.lengths().sum())

    def in_words(self) -> str:
        """How many frames are missing, and of how many the sequences are, where that is worth a word; else empty."""
        lengths, missing = self.lengths(), self.missing_share()
        words = [f"{missing:.1%} of the frames are missing"] if missing else []
        if lengths.min() < lengths.max():
            words.append(f"sequences have {lengths.min()} to {lengths.max()} frames")
        return "; ".join(words)

    def take(self, which: np.ndarray | slice) -> "Sequences":
        """Some of the sequences, whole."""
        return self._with(lambda name, array: array[which])

    def first_frames(self, length: int) -> "Sequences":
        """The first `length` frames of every sequence and the actions between them."""
        return self._with(lambda name, array: array[:, : length - (name in PER_ACTION)])

    def whole(self, length: int | None = None) -> "Sequences":
        """The first `length` (default: T) frames of the sequences in which these are one unbroken episode, whichever of
        them are missing; there may be none."""
        length = self.length if length is None else length
        fit = self.lengths() >= length
        return self.first_frames(length).take(slice(None) if fit.all() else fit)

    def to_foresee(self, context: int) -> "Sequences":
        """The sequences of which at least one of the first `context` frames was seen and one after them, up to the last
        frame that was seen of any; there may be none."""
        seen = self.seen()
        if seen is None:
            return self
        fit = np.logical_and(seen[:, :context].any(axis=1), seen[:, context:].any(axis=1))
        if fit.all():
            return self.first_frames(1 + int(np.flatnonzero(seen.any(axis=0))[-1]))
        some = self.take(fit)
        return some.to_foresee(context) if fit.any() else some

    def _with(self, change: Callable[[str, np.ndarray], np.ndarray]) -> "Sequences":
        """Each array as `change(name, array)`."""
        changed: dict[str, Any] = {name: change(name, array) for name, array in self.arrays().items()}
        return dataclasses.replace(self, **changed)

    def state(self, name: str) -> np.ndarray | None:
        """`[N, T]` one component of the true state, or None where the data does not have it."""
        if self.states is None or name not in self.state_names:
            return None
        return self.states[:, :, self.state_names.index(name)]

    def fingerprint(self) -> str:
        """SHA-256 of what a model learns from: the frames, the actions and, where they are given, what ended and what
        was seen."""
        digest = hashlib.sha256()
        for name in ("frames", "actions", "ended", "valid"):
            array = getattr(self, name)
            if array is None:
                continue
            named = () if name in ("frames", "actions") else (name,)  # runs know their data by the hash of these two
            digest.update(repr((*named, array.shape, array.dtype.str)).encode())
            for block in in_blocks(array):
                digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()


def as_unit_frames(frames: Any) -> Any:
    """uint8 frames to float32 in [0, 1], others are so already; works on NumPy and on JAX arrays."""
    return frames.astype(np.float32) / np.float32(255) if frames.dtype == np.uint8 else frames


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
    """The sequences of all parts, which have the same arrays, in order."""
    return parts[0]._with(lambda name, array: np.concatenate([getattr(part, name) for part in parts]))


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


def are_choices(actions: np.ndarray) -> bool:
    """Whether each of the actions `[..., A]` is one of A > 1 choices, as a one-hot vector. Zeros, which stand where
    nothing was done, do not speak against it where there is anything else."""
    flat = actions.reshape(-1, actions.shape[-1])
    one_hot = bool(np.all((flat == 0) | (flat == 1)) and np.all(flat.sum(axis=1) <= 1))
    return flat.shape[1] > 1 and one_hot and bool(flat.any())


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
    require(
        frames.ndim == 4 or frames.shape[2] not in (1, 3) or max(frames.shape[3:]) < 8 or frames.shape[4] <= 4,
        f"frames are {list(frames.shape)}: channels come last, [N, T, H, W, C]",
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
    for name, array in data.arrays().items():
        if name in ("rewards", "ended", "valid"):
            kind = np.float32 if name == "rewards" else np.bool_
            steps = "T" if name in PER_FRAME else "T-1"
            shape = (len(data), data.length - (name in PER_ACTION))
            require(array.dtype == kind, f"{name} must be {np.dtype(kind)}, not {array.dtype}")
            require(array.shape == shape, f"{name} must be [N, {steps}] = {list(shape)}, not {list(array.shape)}")
    require(data.rewards is None or _all_finite(data.rewards), "rewards hold NaN or infinite numbers")
    if data.dt is not None:
        require(np.isfinite(data.dt) and data.dt > 0, f"dt must be positive seconds, not {data.dt}")


def _all_finite(array: np.ndarray) -> bool:
    return all(bool(np.isfinite(block).all()) for block in in_blocks(array))
