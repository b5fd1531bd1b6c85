"""Imagined frames beside the true ones: a film strip, and an animation in real time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldmodel.data.sequences import spread_over
from worldmodel.pictures.figures import (
    BLUE,
    ORANGE,
    Strip,
    as_error,
    as_rgb,
    at_time,
    draw_beside_truth,
    labelled_grid,
    real_time,
    save_animation,
)

COLUMNS = 16
"""frames of a film strip, at most"""
RANKS = (0.1, 0.4, 0.6, 0.9)
"""of the sequences that pictures show, among all by their error: good and bad ones"""


def at_ranks(ranking: np.ndarray) -> np.ndarray:
    """The sequences of a ranking `[N]` that pictures show."""
    return ranking[[round(rank * (len(ranking) - 1)) for rank in RANKS]]


def draw_rollouts(
    folder: Path, truth: np.ndarray, model: np.ndarray, ranking: np.ndarray, context: int, dt: float | None
) -> None:
    """film_strip.png and rollouts.gif of frames `[N, T, H, W(, C)]`, imagined from `context` on.

    The sequences shown are spread over the ranking by error `[N]`, not the best ones only.
    """
    median, times = ranking[len(ranking) // 2], spread_over(np.arange(truth.shape[1]), COLUMNS)
    draw_beside_truth(
        folder / "film_strip.png",
        truth[median, times],
        Strip("model", list(model[median, times]), [ORANGE if t >= context else BLUE for t in times]),
        [at_time(t, dt) for t in times],
        f"sequence {median}, the one with the median error of {len(truth)}\n"
        "blue border: frame was observed, orange border: imagined from the actions alone",
    )
    names, shown = [f"better than {1 - rank:.0%}" for rank in RANKS], at_ranks(ranking)
    animate_rollouts(folder / "rollouts.gif", truth[shown], model[shown], names, context, dt)


def animate_rollouts(
    path: Path,
    truth: np.ndarray | None,
    model: np.ndarray,
    names: Sequence[str],
    context: int,
    dt: float | None,
    headings: Sequence[str] = ("truth", "model", "|error|"),
) -> None:
    """A GIF in real time: truth, model and error side by side, a named row for each sequence `[N, T, H, W(, C)]`;
    without a truth the model alone."""
    pictures = []
    stride, milliseconds = real_time(dt)
    for t in range(0, model.shape[1], stride):
        rows = [[as_rgb(frames[t])] for frames in model]
        if truth is not None:
            rows = [[as_rgb(a[t]), *row, as_error(b[t], a[t])] for a, row, b in zip(truth, rows, model, strict=True)]
        now, border = ("imagined", ORANGE) if t >= context else ("observed", BLUE)
        time = at_time(t, dt) if dt else f"frame {t}"
        pictures.append(labelled_grid(rows, headings, f"{time}  {now}", border, names))
    save_animation(path, pictures, milliseconds)
