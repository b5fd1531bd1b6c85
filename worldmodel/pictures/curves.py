"""Learning curves: the metrics of a training over its steps, and those of several trainings over one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from worldmodel.models.protocol import Panel, Plotted
from worldmodel.pictures.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    add_legend,
    legend_below,
    new_figure,
    save_figure,
)

PANELS = (
    Panel(
        "ELBO and reconstruction",
        "nats per frame",
        "elbo",
        {"elbo": "ELBO", "reconstruction": "reconstruction", "validation_elbo": "ELBO (validation)"},
    ),
    Panel("Loss", "nats per frame", "loss", {"loss": "loss"}, unless="elbo"),
    Panel("KL", "nats per frame", "kl", {"kl": "KL(q || prior)"}),
    Panel(
        "Reconstruction error",
        "pixel MSE",
        "validation_mse",
        {"frame_mse": "training", "validation_mse": "validation"},
    ),
    Panel(
        "Open loop, 10 frames (validation)",
        "pixel MSE",
        "validation_open_loop_mse",
        {
            "validation_open_loop_mse": "imagined",
            "validation_repeat_last_frame_mse": "repeat last frame",
            "validation_mean_frame_mse": "mean frame",
        },
    ),
)

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), "-.")
"""tell the lines of a panel apart where colours tell runs apart"""
COLUMNS = 3


def panels_for(model: Any, metrics: set[str]) -> list[Panel]:
    """What can be drawn of a model's metrics: the general panels, or the model's own in their place."""
    every = (*PANELS, *(model.panels if isinstance(model, Plotted) else ()))
    return list({each.title: each for each in every if each.needs in metrics and each.unless not in metrics}.values())


def draw_curves(path: Path, metrics: list[dict[str, Any]], panels: Sequence[Panel]) -> None:
    """Metrics over steps."""
    figure = new_figure(4.2 * len(panels), 3.2)
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        smallest = []
        for colour, (name, legend) in zip((BLUE, ORANGE, GREEN, VERMILION), panel.lines.items(), strict=False):
            smallest += draw_line(axis, metrics, name, color=colour, label=legend)
        finish(axis, panel, smallest)
    save_figure(figure, path)


def overlaid_curves(runs: Mapping[str, Sequence[dict[str, Any]]], colours: Mapping[str, str]) -> Figure | None:
    """The general panels, in each the metrics of all runs that have them: colours tell runs apart, dashes the metrics.
    None where no run has a metric. `runs` and `colours` are by the run's name."""
    of_run = {run: panels_for(None, {name for line in metrics for name in line}) for run, metrics in runs.items()}
    panels = [panel for panel in PANELS if any(panel in found for found in of_run.values())]
    if not panels:
        return None
    rows = -(-len(panels) // COLUMNS)
    figure = new_figure(4.1 * COLUMNS, 3.1 * rows + 0.4)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        smallest, drawn = [], []
        for dashes, (name, legend) in zip(DASHES, panel.lines.items(), strict=False):
            lines = [
                draw_line(axis, runs[run], name, color=colours[run], linestyle=dashes, linewidth=1.5)
                for run, found in of_run.items()
                if panel in found
            ]
            if any(lines):
                smallest += [least for line in lines for least in line]
                drawn.append(Line2D([], [], color=GREY, linestyle=dashes, label=legend))
        finish(axis, panel, smallest)
        axis.legend(handles=drawn, fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    legend_below(figure, {run: Line2D([], [], color=colours[run], linewidth=3) for run in runs})
    return figure


def draw_line(axis: Axes, metrics: Sequence[dict[str, Any]], name: str, **style: Any) -> list[float]:
    """A metric over the steps that have it; its smallest value after the first steps, nothing where none has it."""
    points = [(line["step"], line[name]) for line in metrics if name in line]
    if not points:
        return []
    x, y = np.array(points).T
    axis.plot(x, y, marker="." if len(points) < 30 else "", **style)
    return [y[len(y) // 20 :].min()]


def finish(axis: Axes, panel: Panel, smallest: Sequence[float]) -> None:
    """Labels and limits of a panel; `smallest` are the least values of its lines."""
    axis.set(title=panel.title, xlabel="optimiser step", ylabel=panel.label)
    add_legend(axis)
    if "MSE" in panel.label:
        axis.set_yscale("log")
    if smallest and panel.title.startswith("ELBO"):
        # The first steps are so far down that they would hide the rest.
        axis.set_ylim(bottom=min(smallest))
