"""docs/speed.png: what a training step costs as the problem grows."""

import statistics
from pathlib import Path
from typing import Any

from worldmodel.pictures.figures import BLUE, ORANGE, new_figure, save_figure


def draw_costs(path: Path, found: dict[str, Any]) -> None:
    """Milliseconds of an update over batch, sequence length, latent size and number of seeds."""
    labels = {"batch": "windows in a batch", "length": "frames in a window", "latent": "dimensions of the latent"}
    figure = new_figure(9, 6.4)
    axes = figure.subplots(2, 2).ravel()
    for axis, cost in zip(axes, found["one_core"]["growth"], strict=False):
        points = cost["points"]
        x = [point["value"] for point in points]
        for name, label, colour in (("dvbf", "ours", BLUE), ("twin", "PyTorch", ORANGE)):
            if all(name in point["rates"] for point in points):
                draw_milliseconds(axis, x, [point["rates"][name] for point in points], label, colour)
        axis.set(xlabel=labels[cost["axis"]], ylabel="ms for an update, one thread", xticks=x)
    every = found["all_cores"]
    seeds, twin = every["seeds"]["rates"], every["training"]["rates"].get("twin")
    draw_milliseconds(axes[-1], list(map(int, seeds)), list(seeds.values()), "ours", BLUE)
    if twin:
        label = "PyTorch, one alone"
        axes[-1].axhline(1e3 / statistics.median(twin), color=ORANGE, linestyle="--", label=label)
    axes[-1].set(
        xlabel="seeds trained at once, all cores", ylabel="ms for an update of one seed", xticks=list(map(int, seeds))
    )
    for axis in axes:
        axis.set_xlim(left=0)
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
    axes[0].legend(loc="upper left", fontsize=8)
    axes[-1].legend(loc="lower left", fontsize=8)
    figure.suptitle(
        "What a training step costs: median, and range over the turns; all else is the reference's", fontsize=10
    )
    save_figure(figure, path)


def draw_milliseconds(axis: Any, x: list[int], rates: list[list[float]], label: str, colour: str) -> None:
    """Medians of 1 / rate with their range, for a list of rates at each x."""
    middle = [1e3 / statistics.median(rate) for rate in rates]
    below = [m - 1e3 / max(rate) for m, rate in zip(middle, rates, strict=True)]
    above = [1e3 / min(rate) - m for m, rate in zip(middle, rates, strict=True)]
    axis.errorbar(x, middle, (below, above), color=colour, marker="o", markersize=4, capsize=3, label=label)
