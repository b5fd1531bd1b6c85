"""Pictures: film strips, animations and curves, in one style, with colours that colour-blind people can tell apart.

Frames are arrays in [0, 1], `[H, W]` grey or `[H, W, C]`; small ones are enlarged without smoothing.
"""

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from worldmodel.support.files import atomic_write

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#888888"
"""from the palette of Okabe and Ito (2008)"""
ERROR_COLOURS = "magma"
LARGEST_ERROR = 0.5
"""brightness difference that has the last colour"""
FASTEST, SLOWEST = 20, 10_000
"""milliseconds that a picture of an animation can be shown; quicker ones are left out, to stay in real time"""
LINGER = 6
"""how often the last picture of a learning is shown again: an eye needs it to see where learning ended"""
CELL = 96
"""side of an enlarged frame, pixels"""
GAP, BORDER = 6, 3
"""pixels around an enlarged frame in a strip, and how many of them are its border"""
DPI = 120


def drawn_actions(actions: np.ndarray, choices: bool) -> tuple[str, np.ndarray]:
    """What is drawn of actions `[S, A]`, and its name: of numbers the first four, `[4, S]` or fewer, of choices which
    was made, `[1, S]`, counted from 1."""
    return ("choice", actions.argmax(axis=1)[None] + 1) if choices else ("action", actions.T[:4])


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    with atomic_write(path) as file:
        file.write(as_png(figure))


def as_png(figure: Figure) -> bytes:
    """The file that a figure is as a PNG."""
    file = io.BytesIO()
    figure.set_dpi(DPI)
    Image.fromarray(rasterise(figure)).save(file, "PNG", dpi=(DPI, DPI))
    return file.getvalue()


def rasterise(figure: Figure) -> np.ndarray:
    """`[H, W, 3]` uint8 at the figure's resolution. It is laid out and drawn once; savefig would do both twice."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that keeps its labels inside."""
    return Figure(figsize=(width, height), layout="constrained")


def save_animation(path: Path, pictures: Sequence[np.ndarray], milliseconds: int, again: int = 0) -> None:
    """A looping GIF of uint8 RGB pictures, each shown for so long, the last one so many times again."""
    # One palette for all pictures: what does not change from one to the next is then not stored again.
    sample = np.concatenate([pictures[i] for i in np.linspace(0, len(pictures) - 1, 8).round().astype(int)])
    palette = Image.fromarray(sample).quantize(128, dither=Image.Dither.NONE)
    images = [Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    with atomic_write(path) as file:
        later = images[1:] + images[-1:] * again
        images[0].save(file, "GIF", save_all=True, append_images=later, duration=milliseconds, loop=0)


def as_rgb(frame: np.ndarray) -> np.ndarray:
    """`[H, W]` or `[H, W, C]` in [0, 1] to `[H, W, 3]`; of other than three channels the mean is shown."""
    if frame.ndim == 3 and frame.shape[-1] != 3:
        frame = frame.mean(axis=-1)
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=-1)
    return np.clip(frame, 0, 1)


def as_error(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The absolute difference of two frames, averaged over channels, as `[H, W, 3]` colours; black is none, and
    what is larger than LARGEST_ERROR has the last colour."""
    difference = np.abs(np.clip(frame, 0, 1) - other)
    difference = difference.mean(axis=-1) if difference.ndim == 3 else difference
    return colormaps[ERROR_COLOURS](difference / LARGEST_ERROR)[..., :3]


def hatched(shape: Sequence[int]) -> np.ndarray:
    """`[H, W, 3]`: stripes that stand where a frame `[H, W(, C)]` is missing."""
    height, width = shape[:2]
    stripes = np.add.outer(np.arange(height), np.arange(width)) // max(1, min(height, width) // 8) % 4 == 0
    return np.repeat(np.where(stripes, 0.55, 0.95)[..., None], 3, axis=-1)


class Strip(NamedTuple):
    """A row of frames."""

    name: str
    frames: Sequence[np.ndarray]
    """or colours `[H, W, 3]`"""
    borders: Sequence[str] = ()
    """a colour for each"""


def show_strips(figure: Any, strips: Sequence[Strip], titles: Sequence[str] = ()) -> list[Axes]:
    """Rows of frames, each one picture, with titles above the columns; the axes of the rows."""
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axis, strip in zip(axes, strips, strict=True):
        axis.imshow(side_by_side(strip), interpolation="nearest")
        axis.set_ylabel(strip.name, fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    cells = (np.arange(len(titles)) + 0.5) * axes[0].get_images()[0].get_array().shape[1] / len(strips[0].frames)
    axes[0].set_xticks(cells, titles, fontsize=8)
    axes[0].tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    return list(axes)


def side_by_side(strip: Strip) -> np.ndarray:
    """The frames of a strip in one picture `[H, W, 3]`: enlarged without smoothing, each with its border, on white."""
    height, width = strip.frames[0].shape[:2]
    factor = max(1, round(CELL / max(height, width)))
    cells = []
    for frame, border in itertools.zip_longest(strip.frames, strip.borders):
        cell = np.ones((height * factor + 2 * GAP, width * factor + 2 * GAP, 3))
        cell[GAP - BORDER : BORDER - GAP, GAP - BORDER : BORDER - GAP] = to_rgb(border or "black")
        inner = np.repeat(np.repeat(as_rgb(frame), factor, axis=0), factor, axis=1)
        cell[GAP:-GAP, GAP:-GAP] = inner
        cells.append(cell)
    return np.concatenate(cells, axis=1)


def draw_beside_truth(
    path: Path, truth: np.ndarray, made: Strip, titles: Sequence[str], title: str, seen: np.ndarray | None = None
) -> None:
    """Rows truth, what was made of it, and error, for frames `[M, H, W(, C)]`; where a true frame was not `seen` `[M]`,
    it and the error are hatched."""
    true_frames, errors = list(truth), [as_error(*pair) for pair in zip(made.frames, truth, strict=True)]
    for index in () if seen is None else np.flatnonzero(~seen):
        true_frames[index] = errors[index] = hatched(truth.shape[1:])
    figure = new_figure(0.85 * len(truth) + 1.3, 3.5)
    strips = [Strip("truth", true_frames, made.borders), made, Strip("error", errors, made.borders)]
    rows = show_strips(figure, strips, titles)
    scale = ScalarMappable(Normalize(0, LARGEST_ERROR), ERROR_COLOURS)
    bar = figure.colorbar(
        scale, ax=rows, shrink=0.3, anchor=(0, 0), aspect=8, pad=0.01, ticks=[0, LARGEST_ERROR], extend="max"
    )
    bar.set_label("|error|", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


def real_time(dt: float | None) -> tuple[int, int]:
    """Every how many frames of `dt` seconds an animation shows one, and for how many milliseconds."""
    milliseconds = 1000 * dt if dt else 100
    stride = max(1, math.ceil(FASTEST / milliseconds))
    return stride, min(SLOWEST, round(stride * milliseconds))


def imagined_times(count: int, dt: float | None) -> tuple[np.ndarray, str]:
    """`[count]` the times of imagined frames, in seconds where these are known, and what to call them."""
    return np.arange(1, count + 1) * (dt or 1), "imagined time / s" if dt else "imagined frames"


def at_time(t: int, dt: float | None) -> str:
    """Frame t in seconds, or by its number where these are not known."""
    return f"{t * dt:.2f} s" if dt else f"{t}"


def labelled_grid(
    grid: Sequence[Sequence[np.ndarray]],
    headings: Sequence[str],
    footer: str,
    border: str,
    names: Sequence[str] = (),
) -> np.ndarray:
    """Frames in rows and columns, enlarged, with column headings, row names and a footer; uint8 RGB."""
    height, width = grid[0][0].shape[:2]
    factor = max(1, round(CELL / max(height, width)))
    cell_width, cell_height, gap, bar = width * factor, height * factor, 6, 20
    font = ImageFont.load_default(12)
    left = gap + (max(round(font.getlength(name)) for name in names) + gap if names else 0)
    size = (left + len(headings) * (cell_width + gap), 2 * bar + gap + len(grid) * (cell_height + gap))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        x = left + column * (cell_width + gap) + cell_width / 2
        draw.text((x, bar / 2 + 1), heading, fill="black", font=font, anchor="mm")
    for row, frames in enumerate(grid):
        y = bar + gap + row * (cell_height + gap)
        if names:
            draw.text((left - gap, y + cell_height / 2), names[row], fill="black", font=font, anchor="rm")
        for column, frame in enumerate(frames):
            x = left + column * (cell_width + gap)
            picture = Image.fromarray((as_rgb(frame) * 255).round().astype(np.uint8))
            draw.rectangle((x - 3, y - 3, x + cell_width + 2, y + cell_height + 2), fill=border)
            canvas.paste(picture.resize((cell_width, cell_height), Image.Resampling.NEAREST), (x, y))
    draw.text((left, canvas.height - bar / 2 - 1), footer, fill=border, font=font, anchor="lm")
    return np.asarray(canvas)


def beneath_truth(step: int, frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Frames `[N, H, W(, C)]` of a step of learning beneath the true ones; uint8 RGB."""
    headings, names = [""] * len(truth), ["truth", "model"]
    return labelled_grid([list(truth), list(frames)], headings, f"optimiser step {step}", GREY, names)


def animate_grid(path: Path, steps: Sequence[int], pictures: Sequence[np.ndarray], truth: np.ndarray) -> None:
    """A GIF of learning: frames `[N, H, W(, C)]` at every step beneath the true ones."""
    drawn = [beneath_truth(step, frames, truth) for step, frames in zip(steps, pictures, strict=True)]
    save_animation(path, drawn, milliseconds=300, again=LINGER)


def animate_walk(path: Path, frames: np.ndarray) -> None:
    """A GIF of decoded frames `[S, H, W(, C)]` along a walk through the latent space."""
    drawn = [
        labelled_grid([[frame]], ["decoder"], f"{index + 1}/{len(frames)}", GREY) for index, frame in enumerate(frames)
    ]
    save_animation(path, drawn, milliseconds=80)


def draw_posterior(path: Path, kl: np.ndarray, std: np.ndarray) -> None:
    """KL and posterior standard deviation of every latent dimension."""
    figure = new_figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    dimensions = np.arange(len(kl))
    left.bar(dimensions, kl, color=BLUE)
    left.set(title="How much each dimension says", ylabel="KL / nats per frame")
    right.plot(dimensions, std, "o", color=ORANGE, label="posterior")
    right.axhline(1, color=GREY, linestyle="--", label="prior: a dimension here is unused")
    right.set(title="How sure the encoder is", ylabel="posterior std", yscale="log", ylim=(1e-3, 2))
    for axis in (left, right):
        axis.set(xlabel="latent dimension", xticks=dimensions)
    add_legend(right)
    save_figure(figure, path)


def draw_range_test(path: Path, rates: np.ndarray, losses: np.ndarray, suggestion: float) -> None:
    """The smoothed loss over the learning rate."""
    figure = new_figure(6, 3.6)
    axis = figure.subplots()
    axis.plot(rates, losses, color=BLUE, label="smoothed training loss")
    axis.axvline(suggestion, color=ORANGE, linestyle="--", label=f"suggestion {suggestion:.1e}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss / nats per frame", title="Learning-rate range test")
    add_legend(axis)
    save_figure(figure, path)


def draw_overfit(path: Path, share: np.ndarray, limit: float, truth: np.ndarray, model: np.ndarray) -> None:
    """How one batch was overfitted: the error over the steps, and frames `[M, H, W(, C)]` beside their truth."""
    figure = new_figure(9, 5)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.2, 1))
    top, bottom = parts
    axis = top.subplots()
    axis.plot(np.arange(1, len(share) + 1), share, color=BLUE, label="reconstruction error")
    axis.axhline(limit, color=ORANGE, linestyle="--", label=f"pass: below {limit:.0%}")
    axis.set(yscale="log", xlabel="optimiser step", ylabel="share of the pixel variance", title="Overfitting one batch")
    add_legend(axis)
    show_strips(bottom, [Strip("truth", list(truth)), Strip("model", list(model))])
    save_figure(figure, path)


def add_legend(axis: Axes) -> None:
    """A legend where there is something to tell, and a faint grid."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def legend_below(figure: Figure, lines: dict[str, Any]) -> None:
    """One legend for all axes, beneath them, of lines by name; a name may be a folder's, so no part of it is TeX."""
    columns = math.ceil(len(lines) / max(1, math.ceil(len(lines) / 4)))
    legend = figure.legend(lines.values(), lines, loc="outside lower center", ncols=max(1, columns), fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
