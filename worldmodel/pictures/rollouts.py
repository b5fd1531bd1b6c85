"""Imagined frames beside the true ones: a film strip, and an animation in real time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
    median = ranking[len(ranking) // 2]
    title = f"sequence {median}, the one with the median error of {len(truth)}"
    draw_film_strip(folder / "film_strip.png", truth[median], model[median], context, dt, title)
    names = [f"better than {1 - rank:.0%}" for rank in RANKS]
    shown = at_ranks(ranking)
    animate_rollouts(folder / "rollouts.gif", truth[shown], model[shown], names, context, dt)


def draw_film_strip(
    path: Path, truth: np.ndarray, model: np.ndarray, context: int, dt: float | None, title: str, columns: int = 16
) -> None:
    """Rows truth / model / error of one sequence `[T, H, W(, C)]`, over time; imagination begins at `context`."""
    shown = np.unique(np.linspace(0, len(truth) - 1, min(columns, len(truth))).round().astype(int))
    strip = Strip("model", list(model[shown]), [ORANGE if t >= context else BLUE for t in shown])
    title += "\nblue border: frame was observed, orange border: imagined from the actions alone"
    draw_beside_truth(path, truth[shown], strip, [at_time(t, dt) for t in shown], title)


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
