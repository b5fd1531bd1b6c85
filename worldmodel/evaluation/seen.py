"""What there is to look at where frames are missing; `seen`, bool `[N, T]` or None where all were, is Sequences.seen.

With None every function computes what it says of all frames, in the same order as without it.
"""

import numpy as np


def of_seen(values: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """Those values of `[N, T, ...]` whose frame was seen, `[M, ...]`, sequence by sequence."""
    return values.reshape(-1, *values.shape[2:]) if seen is None else values[seen]


def mean_frame(frames: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """The mean `[H, W(, C)]` of frames `[N, T, H, W(, C)]`."""
    return frames.mean(axis=(0, 1)) if seen is None else frames[seen].mean(axis=0)


def last_frame(frames: np.ndarray, context: int, seen: np.ndarray | None) -> np.ndarray:
    """`[N, 1, H, W(, C)]`: the last of the first `context` frames of each sequence; one at least was seen."""
    if seen is None:
        return frames[:, context - 1 : context]
    back = seen[:, :context][:, ::-1].argmax(axis=1)
    return frames[np.arange(len(frames)), context - 1 - back][:, None]


def seen_after(seen: np.ndarray | None, context: int) -> np.ndarray | None:
    """`[N, S]` of the frames after the context."""
    return None if seen is None else seen[:, context:]


def seen_with_the_one_before(seen: np.ndarray | None) -> np.ndarray | None:
    """Of frames `[N, S]`: those that were seen and follow one that was, or come first."""
    if seen is None:
        return None
    before = np.concatenate([np.ones_like(seen[:, :1]), seen[:, :-1]], axis=1)
    return seen & before


def lengths_seen(seen: np.ndarray | None, count: int, length: int) -> np.ndarray:
    """int `[N]`: the frames of each of `count` sequences of `length` frames up to the last that was seen."""
    if seen is None:
        return np.full(count, length)
    return np.where(seen.any(axis=1), length - seen[:, ::-1].argmax(axis=1), 0)


def mean_of_sequences(values: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """`[..., S]`: the mean of values `[..., N, S]` over the sequences whose frame was seen; NaN where none was."""
    if seen is None:
        return values.mean(axis=-2)
    count = seen.sum(axis=0)
    return np.where(count > 0, np.where(seen, values, 0).sum(axis=-2) / np.maximum(count, 1), np.nan)
