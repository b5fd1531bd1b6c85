"""Pictures of how good predictions are: imagined frames beside the true ones, errors over the horizon, sampled futures,
coverage, and counterfactuals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from worldmodel.data.sequences import are_choices, spread_over
from worldmodel.evaluation.judge import CEILING
from worldmodel.evaluation.record import Curve, Evaluation, Samples
from worldmodel.evaluation.seen import lengths_seen
from worldmodel.evaluation.tables import plural
from worldmodel.imagination.counterfactuals import Counterfactuals
from worldmodel.imagination.variables import deviation, label
from worldmodel.pictures.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Strip,
    add_legend,
    as_error,
    as_rgb,
    at_time,
    draw_beside_truth,
    drawn_actions,
    hatched,
    imagined_times,
    labelled_grid,
    legend_below,
    new_figure,
    real_time,
    save_animation,
    save_figure,
    show_strips,
)
from worldmodel.worlds.world import Measure, Variable

STYLES = {
    "model": (BLUE, "-"),
    "repeat last frame": (GREY, "--"),
    "mean frame": (ORANGE, "-."),
    "zero actions": (GREEN, (0, (5, 1))),
    "shuffled actions": (VERMILION, ":"),
    CEILING: (PURPLE, (0, (3, 1, 1, 1, 1, 1))),
}
"""colour and line of the rows of a table"""
FLOOR_STYLE = (SKY, (0, (1, 1)))
"""of the row of what reading costs"""
FILM_STRIP, STRIP = 16, 10
"""frames of a film strip and of a counterfactual's, at most"""
RANKS = (0.1, 0.4, 0.6, 0.9)
"""of the sequences that pictures show, among all by their error: good and bad ones"""


def at_ranks(ranking: np.ndarray) -> np.ndarray:
    """The sequences of a ranking `[N]` that pictures show."""
    return ranking[[round(rank * (len(ranking) - 1)) for rank in RANKS]]


def draw_rollouts(
    folder: Path,
    truth: np.ndarray,
    model: np.ndarray,
    ranking: np.ndarray,
    context: int,
    dt: float | None,
    seen: np.ndarray | None = None,
) -> None:
    """film_strip.png and rollouts.gif of frames `[N, T, H, W(, C)]`, imagined from `context` on; where a true frame was
    not `seen` `[N, T]` it is hatched, and the model's is imagined.

    The sequences shown are spread over the ranking by error `[N]`, not the best ones only.
    """
    median = ranking[len(ranking) // 2]
    times = spread_over(np.arange(lengths_seen(seen, *truth.shape[:2])[median]), FILM_STRIP)
    there = np.ones(len(times), bool) if seen is None else seen[median, times]
    observed = there & (times < context)
    draw_beside_truth(
        folder / "film_strip.png",
        truth[median, times],
        Strip("model", list(model[median, times]), [BLUE if each else ORANGE for each in observed]),
        [at_time(t, dt) for t in times],
        f"sequence {median}, the one with the median error of {len(truth)}\n"
        "blue border: frame was observed, orange border: imagined from the actions alone"
        + ("" if there.all() else "; hatched: the frame is missing"),
        there,
    )
    names, shown = [f"better than {1 - rank:.0%}" for rank in RANKS], at_ranks(ranking)
    some = None if seen is None else seen[shown]
    animate_rollouts(folder / "rollouts.gif", truth[shown], model[shown], names, context, dt, seen=some)


def animate_rollouts(
    path: Path,
    truth: np.ndarray | None,
    model: np.ndarray,
    names: Sequence[str],
    context: int,
    dt: float | None,
    headings: Sequence[str] = ("truth", "model", "|error|"),
    seen: np.ndarray | None = None,
) -> None:
    """A GIF in real time: truth, model and error side by side, a named row for each sequence `[N, T, H, W(, C)]`;
    without a truth the model alone. Truth and error are hatched where a frame was not `seen` `[N, T]`."""
    pictures = []
    stride, milliseconds = real_time(dt)
    for t in range(0, model.shape[1], stride):
        rows = [[as_rgb(frames[t])] for frames in model]
        if truth is not None:
            rows = [[as_rgb(a[t]), *row, as_error(b[t], a[t])] for a, row, b in zip(truth, rows, model, strict=True)]
        for row in () if truth is None or seen is None else np.flatnonzero(~seen[:, t]):
            rows[row] = [hatched(model.shape[2:]), rows[row][1], hatched(model.shape[2:])]
        now, border = ("imagined", ORANGE) if t >= context else ("observed", BLUE)
        time = at_time(t, dt) if dt else f"frame {t}"
        pictures.append(labelled_grid(rows, headings, f"{time}  {now}", border, names))
    save_animation(path, pictures, milliseconds)


def draw_errors(path: Path, found: Evaluation) -> None:
    """Every measure over the horizon, one line a row of the table, with its bootstrap band."""
    styles = {name: STYLES.get(name, FLOOR_STYLE) for name in found.rows}
    title = f"Errors of imagined frames, {found.sequences} sequences after {found.context} observed frames"
    save_figure(errors_over_horizon(found.measures, found.rows, styles, found.dt, title), path)


def errors_over_horizon(
    measures: Sequence[Measure],
    rows: Mapping[str, Mapping[str, Curve]],
    styles: Mapping[str, tuple[str, Any]],
    dt: float | None,
    title: str,
) -> Figure:
    """Every measure over the horizon, a line with its bootstrap band for each of the rows, which are by name, and their
    curves by measure; `styles` are colour and line by row."""
    columns = 3
    lines = -(-len(measures) // columns)
    figure = new_figure(4.1 * columns, 3.1 * lines + 0.5)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    drawn: dict[str, Any] = {}
    for axis, measure in zip(axes, measures, strict=False):
        for name, row in rows.items():
            if measure.name not in row:
                continue
            colour, style = styles[name]
            curve = row[measure.name]
            value, low, high = (measure.factor * np.array(part) for part in (curve.value, curve.low, curve.high))
            time, time_label = imagined_times(len(value), dt)
            [drawn[name]] = axis.plot(time, value, linestyle=style, color=colour, linewidth=1.5)
            axis.fill_between(time, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set(ylabel=measure.title, xlabel=time_label)
        if not measure.larger_is_better:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
    for axis in axes[len(measures) :]:
        axis.set_axis_off()
    legend_below(figure, drawn)
    figure.suptitle(f"{title} (bands: 95% bootstrap intervals)", fontsize=11)
    return figure


def around(variable: Variable, values: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True values `[T]` and others `[..., T]` near them, in the unit in which the variable is shown: unbroken lines,
    also where they come round a circle."""
    true = np.unwrap(true) if variable.circular else true
    near = true + deviation(variable, values, true)
    return (np.rad2deg(true), np.rad2deg(near)) if variable.circular else (true, near)


def draw_futures(
    path: Path,
    variable: Variable,
    samples: np.ndarray,
    truth: np.ndarray,
    context: int,
    names: list[str],
    dt: float | None,
) -> None:
    """Fans of sampled values `[K, N, S]` of a variable around the true ones `[N, T]`, after the observed ones."""
    figure = new_figure(4.2 * len(names), 3.6)
    start, unit = context, dt or 1
    for column, (axis, name) in enumerate(zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True)):
        seen = np.repeat(truth[None, column, :start], len(samples), axis=0)
        true, near = around(variable, np.concatenate([seen, samples[:, column]], axis=1), truth[column])
        near = near[:, start:]
        time = np.arange(len(true)) * unit
        ends = np.quantile(near, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0, method="weibull")
        axis.fill_between(time[start:], ends[0], ends[4], color=ORANGE, alpha=0.25, linewidth=0, label="90% of samples")
        axis.fill_between(time[start:], ends[1], ends[3], color=ORANGE, alpha=0.5, linewidth=0, label="50% of samples")
        axis.plot(time[start:], ends[2], color=VERMILION, label="median sample")
        axis.plot(time, true, color="black", linewidth=1, linestyle="--", label="truth")
        axis.axvspan(0, time[start - 1], color=BLUE, alpha=0.12, label="observed")
        axis.set(title=name, xlabel="time / s" if dt else "frame", ylabel=label(variable))
        axis.grid(alpha=0.3)
        if column == 0:
            add_legend(axis)
    figure.suptitle(
        f"{len(samples)} sampled futures of single sequences: how sure is the model, and is it right?", fontsize=11
    )
    save_figure(figure, path)


def draw_reliability(path: Path, samples: Samples, dt: float | None) -> None:
    """How often the truth lies in the samples' central intervals: against their nominal share, and over the horizon."""
    figure = new_figure(9.5, 4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    colours = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "black")
    for colour, (horizon, observed) in zip(colours, samples.reliability.observed.items(), strict=False):
        left.plot(
            samples.reliability.nominal,
            observed,
            color=colour,
            marker=".",
            label=f"{plural(int(horizon), 'imagined frame')}",
        )
    left.set(
        title="below the line: too sure; above: too unsure",
        xlabel="nominal share of an interval",
        ylabel="share of truths inside it",
        aspect="equal",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    for colour, (level, values) in zip((BLUE, ORANGE), samples.coverage.items(), strict=True):
        time, time_label = imagined_times(len(values), dt)
        right.plot(time, values, color=colour, label=f"{float(level):.0%} interval")
        right.axhline(float(level), color=colour, linestyle="--", linewidth=1)
    right.set(
        title="over the horizon (dashed: what it should be)",
        xlabel=time_label,
        ylabel="share of truths inside",
        ylim=(0, 1.02),
    )
    for axis in (left, right):
        add_legend(axis)
    figure.suptitle(f"Are {samples.futures} sampled futures as sure as they should be?", fontsize=11)
    save_figure(figure, path)


def draw_counterfactuals(path: Path, found: Counterfactuals, variable: Variable | None, dt: float | None) -> None:
    """A row for each plan: a variable over time where it is known, and strips of true and imagined frames."""
    count, length = found.imagined.shape[:2]
    columns = spread_over(np.arange(found.context - 1, length), STRIP)
    figure = new_figure(15, 1.75 * count + 1)
    parts: Any = figure.subfigures(1, 2, width_ratios=(1, 2.1))
    curves, strips = parts
    time = np.arange(length) * (dt or 1)
    for index, axis in enumerate(curves.subplots(count, 1, sharex=True, squeeze=False)[:, 0]):
        if variable is None or found.true_shown is None or found.imagined_shown is None:
            name, numbers = drawn_actions(found.actions[index], are_choices(found.actions))
            axis.step(time[:-1], numbers[0], where="post", color=ORANGE, label=name)
            axis.set_ylabel(name, fontsize=8)
        else:
            true, imagined = around(variable, found.imagined_shown[index, :, 0], found.true_shown[index, :, 0])
            axis.plot(time, true, color="black", linestyle="--", linewidth=1, label="true simulator")
            axis.plot(time, imagined, color=ORANGE, label="imagined")
            axis.set_ylabel(label(variable), fontsize=8)
        axis.axvspan(0, time[found.context - 1], color=BLUE, alpha=0.12, label="observed")
        axis.set_title(f"actions: {found.names[index]}", fontsize=9, loc="left")
        axis.grid(alpha=0.3)
        if index == 0:
            axis.legend(fontsize=7, loc="best")
        if index == count - 1:
            axis.set_xlabel(f"time / {'s' if dt else 'frames'}")
    kinds = [("imagined", found.imagined, ORANGE)]
    if found.true is not None:
        kinds.insert(0, ("true", found.true, "black"))
    rows = [
        Strip(kind, list(frames[index, columns]), [BLUE if t < found.context else colour for t in columns])
        for index in range(count)
        for kind, frames, colour in kinds
    ]
    show_strips(strips, rows, [at_time(t, dt) for t in columns])
    figure.suptitle(
        "What if? One observed prefix, other actions from there on (blue: the last observed frame)", fontsize=11
    )
    save_figure(figure, path)


def animate_counterfactuals(path: Path, found: Counterfactuals, dt: float | None) -> None:
    """The same as a GIF in real time: a row for each plan."""
    headings = ["imagined"] if found.true is None else ["true", "imagined", "|error|"]
    animate_rollouts(path, found.true, found.imagined, found.names, found.context, dt, headings)
