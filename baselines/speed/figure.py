"""docs/speed.png: what a training step costs as the problem grows."""

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from worldmodel.pictures.figures import BLUE, ORANGE, new_figure, save_figure

LABELS = {
    "batch": ("windows in a batch", "ms for an update, one thread"),
    "length": ("frames in a window", "ms for an update, one thread"),
    "latent": ("dimensions of the latent", "ms for an update, one thread"),
    "side": ("side of a frame, pixels", "ms for an update, one thread"),
    "seeds": ("seeds trained at once, all cores", "ms for an update of one seed"),
}


def draw_costs(path: Path, found: dict[str, Any]) -> None:
    """Milliseconds of an update over batch, sequence length, latent size, frame size and number of seeds: the median of
    the turns and their range."""
    figure = new_figure(12, 6.4)
    growth = found["one_core"]["growth"] | found["all_cores"]["growth"]
    *axes, empty = figure.subplots(2, 3).ravel()
    empty.set_axis_off()
    for axis, (name, labels) in zip(axes, LABELS.items(), strict=True):
        for kind, label, colour in (("dvbf", "ours", BLUE), ("twin", "PyTorch", ORANGE)):
            points = [point for point in growth[name] if kind in point]
            if points:
                low, middle, high = np.transpose(
                    [[1e3 / each(point[kind]) for each in (max, median, min)] for point in points]
                )
                x, spread = [point["value"] for point in points], (middle - low, high - middle)
                axis.errorbar(x, middle, spread, color=colour, marker="o", markersize=4, capsize=3, label=label)
        axis.set(xlabel=labels[0], ylabel=labels[1], xticks=[point["value"] for point in growth[name]])
        axis.set_xlim(left=0)
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(
        "What a training step costs: median, and range over the turns; all else is the reference's", fontsize=10
    )
    save_figure(figure, path)
