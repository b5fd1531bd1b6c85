"""Pictures of how good predictions are: errors over the horizon, sampled futures, coverage, and counterfactuals."""

from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.evaluation.judge import MEASURES, READING
from worldmodel.evaluation.measures import wrap
from worldmodel.imagination.counterfactuals import Counterfactuals
from worldmodel.pictures.figures import (
    BLUE,
    FASTEST,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SLOWEST,
    VERMILION,
    add_legend,
    as_error,
    as_rgb,
    labelled_grid,
    new_figure,
    save_animation,
    save_figure,
)

STYLES = {
    "model": (BLUE, "-"),
    "repeat last frame": (GREY, "--"),
    "mean frame": (ORANGE, "-."),
    "zero actions": (GREEN, (0, (5, 1))),
    "shuffled actions": (VERMILION, ":"),
    "static VAE reconstruction": (PURPLE, (0, (3, 1, 1, 1, 1, 1))),
    READING: (SKY, (0, (1, 1))),
}
"""colour and line of every row of a table"""
STRIP = 10
"""frames of a strip, at most"""


def draw_errors(path: Path, judged: dict[str, Any]) -> None:
    """Every measure over the horizon, one line a row of the table, with its bootstrap band."""
    rows, dt = judged["rows"], judged["dt"]
    measures = [measure for measure in MEASURES if any(measure.name in row for row in rows.values())]
    columns = 3
    lines = -(-len(measures) // columns)
    figure = new_figure(4.1 * columns, 3.1 * lines + 0.5)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    drawn: dict[str, Any] = {}
    for axis, measure in zip(axes, measures, strict=False):
        for name, row in rows.items():
            if measure.name not in row:
                continue
            colour, style = STYLES[name]
            value, low, high = (measure.factor * np.array(row[measure.name][part]) for part in ("value", "low", "high"))
            time = np.arange(1, len(value) + 1) * (dt or 1)
            [drawn[name]] = axis.plot(time, value, linestyle=style, color=colour, linewidth=1.5)
            axis.fill_between(time, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set(ylabel=measure.title, xlabel="imagined time / s" if dt else "imagined frames")
        if not measure.larger_is_better:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
    for axis in axes[len(measures) :]:
        axis.set_axis_off()
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=min(4, len(drawn)), fontsize=9)
    figure.suptitle(
        f"Errors of imagined frames, {judged['sequences']} sequences after {judged['context']} observed frames"
        " (bands: 95% bootstrap intervals)",
        fontsize=11,
    )
    save_figure(figure, path)


def draw_futures(
    path: Path, samples: np.ndarray, truth: np.ndarray, seen: np.ndarray, names: list[str], dt: float | None
) -> None:
    """Fans of sampled angles `[K, N, S]` in rad around the true ones `[N, S]`, after the observed `seen` `[N, C]`."""
    figure = new_figure(4.2 * len(names), 3.6)
    for column, (axis, name) in enumerate(zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True)):
        true = np.unwrap(np.concatenate([seen[column], truth[column]]))
        start, unit = len(seen[column]), dt or 1
        later = true[start:]
        near = np.rad2deg(later + wrap(samples[:, column] - later))
        time = np.arange(len(true)) * unit
        ends = np.quantile(near, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0, method="weibull")
        axis.fill_between(time[start:], ends[0], ends[4], color=ORANGE, alpha=0.25, linewidth=0, label="90% of samples")
        axis.fill_between(time[start:], ends[1], ends[3], color=ORANGE, alpha=0.5, linewidth=0, label="50% of samples")
        axis.plot(time[start:], ends[2], color=VERMILION, label="median sample")
        axis.plot(time, np.rad2deg(true), color="black", linewidth=1, linestyle="--", label="truth")
        axis.axvspan(0, time[start - 1], color=BLUE, alpha=0.12, label="observed")
        axis.set(title=name, xlabel="time / s" if dt else "frame", ylabel="angle / degrees (0 upright)")
        axis.grid(alpha=0.3)
        if column == 0:
            add_legend(axis)
    figure.suptitle(
        f"{len(samples)} sampled futures of single sequences: how sure is the model, and is it right?", fontsize=11
    )
    save_figure(figure, path)


def draw_reliability(path: Path, samples: dict[str, Any], dt: float | None) -> None:
    """How often the truth lies in the samples' central intervals: against their nominal share, and over the horizon."""
    figure = new_figure(9.5, 4)
    left, right = figure.subplots(1, 2)
    nominal = np.array(samples["reliability"]["nominal"])
    left.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    colours = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "black")
    for colour, (horizon, observed) in zip(colours, samples["reliability"]["observed"].items(), strict=False):
        left.plot(nominal, observed, color=colour, marker=".", label=f"{horizon} imagined frames")
    left.set(
        title="below the line: too sure; above: too unsure",
        xlabel="nominal share of an interval",
        ylabel="share of truths inside it",
        aspect="equal",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    for colour, (level, values) in zip((BLUE, ORANGE), samples["coverage"].items(), strict=True):
        time = np.arange(1, len(values) + 1) * (dt or 1)
        right.plot(time, values, color=colour, label=f"{float(level):.0%} interval")
        right.axhline(float(level), color=colour, linestyle="--", linewidth=1)
    right.set(
        title="over the horizon (dashed: what it should be)",
        xlabel="imagined time / s" if dt else "imagined frames",
        ylabel="share of truths inside",
        ylim=(0, 1.02),
    )
    for axis in (left, right):
        add_legend(axis)
    figure.suptitle(f"Are {samples['futures']} sampled futures as sure as they should be?", fontsize=11)
    save_figure(figure, path)


def draw_counterfactuals(path: Path, found: Counterfactuals, dt: float | None) -> None:
    """A row for each plan: the angle over time where it is known, and strips of true and imagined frames."""
    count, length = found.imagined.shape[:2]
    shown = np.unique(np.linspace(found.context - 1, length - 1, STRIP).round().astype(int))
    figure = new_figure(15, 1.75 * count + 1)
    parts: Any = figure.subfigures(1, 2, width_ratios=(1, 2.1))
    curves, strips = parts
    time = np.arange(length) * (dt or 1)
    unit = "s" if dt else "frames"
    for index, axis in enumerate(curves.subplots(count, 1, sharex=True, squeeze=False)[:, 0]):
        if found.true_angles is not None and found.imagined_angles is not None:
            true = np.unwrap(found.true_angles[index])
            imagined = true + wrap(found.imagined_angles[index] - true)
            axis.plot(time, np.rad2deg(true), color="black", linestyle="--", linewidth=1, label="true simulator")
            axis.plot(time, np.rad2deg(imagined), color=ORANGE, label="imagined")
            label = "angle / degrees"
        else:
            axis.step(time[:-1], found.actions[index, :, 0], where="post", color=ORANGE, label="action")
            label = "action"
        axis.axvspan(0, time[found.context - 1], color=BLUE, alpha=0.12, label="observed")
        axis.set_ylabel(label, fontsize=8)
        axis.set_title(f"actions: {found.names[index]}", fontsize=9, loc="left")
        axis.grid(alpha=0.3)
        if index == 0:
            axis.legend(fontsize=7, loc="best")
        if index == count - 1:
            axis.set_xlabel(f"time / {unit}")
    kinds = (
        [("imagined", found.imagined)] if found.true is None else [("true", found.true), ("imagined", found.imagined)]
    )
    axes = strips.subplots(count * len(kinds), len(shown), squeeze=False)
    for index in range(count):
        for line, (kind, frames) in enumerate(kinds):
            for column, t in enumerate(shown):
                axis = axes[index * len(kinds) + line, column]
                axis.imshow(as_rgb(frames[index, t]), interpolation="nearest", vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[])
                colour = BLUE if t < found.context else (ORANGE if kind == "imagined" else "black")
                for spine in axis.spines.values():
                    spine.set(color=colour, linewidth=2)
            axes[index * len(kinds) + line, 0].set_ylabel(kind, fontsize=8)
    for column, t in enumerate(shown):
        axes[0, column].set_title(f"{time[t]:.2f} s" if dt else f"{t}", fontsize=8)
    figure.suptitle(
        "What if? One observed prefix, other actions from there on (blue: the last observed frame)", fontsize=11
    )
    save_figure(figure, path)


def animate_counterfactuals(path: Path, found: Counterfactuals, dt: float | None) -> None:
    """The same as a GIF in real time: a row for each plan."""
    milliseconds = 1000 * dt if dt else 100
    stride = max(1, int(np.ceil(FASTEST / milliseconds)))
    pictures = []
    for t in range(0, found.imagined.shape[1], stride):
        rows = []
        for index in range(len(found.names)):
            dreamt = as_rgb(found.imagined[index, t])
            if found.true is None:
                rows.append([dreamt])
            else:
                rows.append(
                    [as_rgb(found.true[index, t]), dreamt, as_error(found.imagined[index, t], found.true[index, t])]
                )
        headings = ["imagined"] if found.true is None else ["true", "imagined", "|error|"]
        now, border = ("imagined", ORANGE) if t >= found.context else ("observed", BLUE)
        time = f"{t * dt:.2f} s" if dt else f"frame {t}"
        pictures.append(labelled_grid(rows, headings, f"{time}  {now}", border, found.names))
    save_animation(path, pictures, min(SLOWEST, round(stride * milliseconds)))
