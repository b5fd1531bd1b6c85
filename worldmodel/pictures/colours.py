"""What the colours of latents mean: the true variables of the data's world, or the time."""

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap, ListedColormap

from worldmodel.data.sequences import Sequences
from worldmodel.evaluation.seen import of_seen
from worldmodel.imagination.variables import label, shown, true_variables
from worldmodel.worlds.world import Variable, World


class Colouring(NamedTuple):
    """What the colours of latents mean."""

    label: str
    values: np.ndarray
    """`[N, T]`"""
    colours: Colormap
    limits: tuple[float, float]
    ticks: list[float] | None


def colourings(data: Sequences, world: World | None) -> list[Colouring]:
    """By each true variable, where the data has them, else by time."""
    found = []
    for variable, raw in true_variables(data, world):
        values = shown(variable, raw)
        if goes_round(variable, of_seen(values, data.seen())):
            # Twilight comes back to where it began, as an angle does; darker, it shows on white.
            colours: Colormap = ListedColormap(0.85 * colormaps["twilight"](np.linspace(0, 1, 256))[:, :3])
            limits, ticks = (-180.0, 180.0), [-180.0, -90.0, 0.0, 90.0, 180.0]
        else:
            low, high = np.quantile(of_seen(values, data.seen()), (0.01, 0.99))
            largest = float(max(abs(low), abs(high))) or 1.0
            limits = (-largest, largest) if low < 0 < high else (float(low), float(max(high, low + 1e-6)))
            colours, ticks = colormaps["viridis"], None
        found.append(Colouring(f"true {label(variable)}", values, colours, limits, ticks))
    if not found:
        times = np.broadcast_to(frame_times(data), data.frames.shape[:2])
        found.append(Colouring(time_label(data), times, colormaps["viridis"], (0, float(times.max())), None))
    return found


def goes_round(variable: Variable, values: np.ndarray) -> bool:
    """Whether values of a variable, as they are shown, need the whole circle; a pole that falls needs a part of it."""
    return variable.circular and bool(np.abs(values).max() > 90)


def frame_times(data: Sequences) -> np.ndarray:
    """`[T]` in seconds, or in frames where the data does not say how long one takes."""
    return np.arange(data.length) * (data.dt or 1)


def time_label(data: Sequences) -> str:
    return "time / s" if data.dt else "time / frames"


def scatter(
    axis: Axes, points: np.ndarray, plane: tuple[int, int], colouring: Colouring, values: np.ndarray, size: float
) -> PathCollection:
    """Points `[M, 3]` in one plane of a view, with the colours of `values` `[M]`."""
    low, high = colouring.limits
    x, y = plane
    return axis.scatter(
        points[:, x], points[:, y], c=values, s=size, cmap=colouring.colours, vmin=low, vmax=high, linewidths=0
    )
