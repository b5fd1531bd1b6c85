"""Pictures of acting: episodes with the futures that were planned, and dreamt beside real returns."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldmodel.pictures.figures import (
    BLUE,
    GREY,
    ORANGE,
    add_legend,
    as_rgb,
    new_figure,
    real_time,
    save_animation,
    save_figure,
)

LARGE, SMALL = 192, 45
"""sides of the true frame and of an imagined one, pixels"""
BAR, MARGIN = 16, 4


class Shown(NamedTuple):
    """An episode, for the animation."""

    name: str
    frames: np.ndarray
    """uint8 `[L, H, W(, C)]` the true ones"""
    futures: np.ndarray
    """`[L, K, H, W(, C)]` in [0, 1]: frames of the plan that was made at each"""
    rewards: np.ndarray
    """`[L]`"""


def animate_acting(path: Path, episodes: Sequence[Shown], ahead: Sequence[float], unit: str, dt: float | None) -> None:
    """A GIF in real time: the true frames above, below each what its plan meant to bring, so many seconds (or frames,
    the `unit`) `ahead`."""
    stride, milliseconds = real_time(dt)
    length = max(len(episode.frames) for episode in episodes)
    footer = "imagined " + ", ".join(f"{each:.2g}" for each in ahead) + f" {unit} ahead"
    pictures = [
        np.concatenate([_column(episode, min(t, len(episode.frames) - 1), footer) for episode in episodes], axis=1)
        for t in range(0, length, stride)
    ]
    save_animation(path, pictures, milliseconds, again=round(1000 / milliseconds))


def _column(episode: Shown, t: int, footer: str) -> np.ndarray:
    """One episode at one time, uint8 `[h, w, 3]`."""
    count = episode.futures.shape[1]
    width = max(LARGE, count * (SMALL + MARGIN) - MARGIN)
    canvas = Image.new("RGB", (width + 2 * MARGIN, LARGE + SMALL + 2 * BAR + 4 * MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    total = episode.rewards[: t + 1].sum()
    draw.text((MARGIN, BAR / 2 + 1), f"{episode.name}, return so far {total:.0f}", fill=BLUE, font=font, anchor="lm")
    x, y = MARGIN + (width - LARGE) // 2, BAR + MARGIN
    _paste(canvas, episode.frames[t] / 255, x, y, LARGE, BLUE)
    y += LARGE + 2 * MARGIN
    for k in range(count):
        x = MARGIN + (width - count * (SMALL + MARGIN) + MARGIN) // 2 + k * (SMALL + MARGIN)
        _paste(canvas, episode.futures[t, k], x, y, SMALL, ORANGE)
    draw.text((MARGIN, canvas.height - BAR / 2 - 1), footer, fill="#8a5f00", font=font, anchor="lm")
    return np.asarray(canvas)


def _paste(canvas: Image.Image, frame: np.ndarray, x: int, y: int, side: int, border: str) -> None:
    """A frame in [0, 1], enlarged without smoothing, with a border."""
    picture = Image.fromarray((as_rgb(frame) * 255).round().astype(np.uint8))
    ImageDraw.Draw(canvas).rectangle((x - 2, y - 2, x + side + 1, y + side + 1), fill=border)
    canvas.paste(picture.resize((side, side), Image.Resampling.NEAREST), (x, y))


def draw_returns(
    path: Path,
    rows: Sequence[tuple[str, Sequence[float]]],
    mine: str,
    dreamt: np.ndarray,
    real: np.ndarray,
    horizon: int,
) -> None:
    """Left the returns of all episodes, from floor to ceiling; right what stretches of `horizon` steps were dreamt to
    be paid, with the actions that were done, and what they were paid."""
    figure = new_figure(10.5, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    for place, (name, returns) in enumerate(rows):
        spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(returns))
        colour = ORANGE if name == mine else GREY
        left.plot(returns, place + spread, ".", color=colour, markersize=4, alpha=0.7)
        left.plot(np.mean(returns), place, "|", color="black", markersize=18, markeredgewidth=2)
    labels = [f"this model, {name}" if name == mine else name for name, _ in rows]
    left.set(yticks=range(len(rows)), yticklabels=labels)
    left.set(xlabel="return of an episode (line: mean)", title="Returns on the same starts")
    left.grid(alpha=0.3, axis="x")
    if len(dreamt):
        ends = [min(dreamt.min(), real.min()), max(dreamt.max(), real.max())]
        right.plot(ends, ends, "--", color=GREY, label="as dreamt")
        right.plot(dreamt, real, ".", color=ORANGE, markersize=4, alpha=0.6, label=f"{horizon} steps of an episode")
    right.set(xlabel="dreamt return", ylabel="real return", title="Dreamt and real returns")
    add_legend(right)
    save_figure(figure, path)


def draw_rounds(
    path: Path,
    frames: Sequence[int],
    near_best: Sequence[float],
    rows: Sequence[Sequence[tuple[str, Sequence[float]]]],
    mine: str,
) -> None:
    """Of every round of the online loop: returns of the test beside floors and ceilings, which the first round has, and
    how much of the data is near the best reward; over the frames that were collected."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    returns = [dict(of_round)[mine] for of_round in rows]
    for count, values in zip(frames, returns, strict=True):
        left.plot([count] * len(values), values, ".", color=ORANGE, alpha=0.5, markersize=4)
    left.plot(frames, [np.mean(values) for values in returns], "o-", color=ORANGE, label="mean of the test")
    for style, (name, values) in zip(("-", "--", ":", "-."), (r for r in rows[0] if r[0] != mine), strict=False):
        left.axhline(float(np.mean(values)), color=GREY, linestyle=style, label=name)
    left.set(xlabel="frames collected", ylabel="return of an episode", title="Acting")
    right.plot(frames, 100 * np.asarray(near_best), "o-", color=BLUE)
    right.set(xlabel="frames collected", ylabel="share near the best reward / %", title="What the data covers")
    right.set_ylim(bottom=0)
    add_legend(left)
    add_legend(right)
    save_figure(figure, path)
