"""The animation of learning: what is kept of a world model while it trains, and the GIF that is made of it.

A few held-out sequences are filtered and imagined again at every validation; truth is above what the model makes of it,
and beside it the cloud of filtered latents takes its shape.
"""

import dataclasses
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.evaluation import health
from worldmodel.evaluation.latents import View
from worldmodel.imagination.dreamer import BATCH, Dreamer, filtered_latents, roll_out
from worldmodel.models.protocol import WorldModel
from worldmodel.pictures.colours import colourings, frame_times, scatter
from worldmodel.pictures.figures import BLUE, LINGER, ORANGE, hatched, labelled_grid, rasterise, save_animation
from worldmodel.worlds.world import world_of

SHOWN_SEQUENCES = 2
SHOWN_OBSERVED, SHOWN_IMAGINED = 2, 3
"""frames of each of them"""
LARGEST_CLOUD = 500
"""points"""
MOST_PICTURES = 40
ROOM = 1.3
"""how far the axes reach, in units of the last cloud: the clouds before it are of another size"""


@dataclasses.dataclass(frozen=True)
class Watched:
    """Held-out sequences that are looked at again and again while a model learns."""

    data: Sequences
    """N sequences of the T frames that are looked at"""
    context: int
    """of which so many are observed"""

    @staticmethod
    def of(validation: Sequences, least: int) -> "Watched":
        """Some of the validation sequences, for a model that needs at least so many frames to begin with."""
        context, data = health.seen_and_imagined(validation, least)
        return Watched(data.take(spread_over(np.arange(len(data)), BATCH)), context)

    @property
    def sequences(self) -> np.ndarray:
        """Which of the sequences are shown."""
        return spread_over(np.arange(len(self.data)), SHOWN_SEQUENCES)

    @property
    def observed(self) -> np.ndarray:
        """Which of the observed frames are shown."""
        return spread_over(np.arange(self.context), SHOWN_OBSERVED)

    @property
    def imagined(self) -> np.ndarray:
        """Which of the imagined frames are shown."""
        return spread_over(np.arange(self.context, self.data.length), SHOWN_IMAGINED)

    def snapshot(self, model: WorldModel) -> dict[str, np.ndarray]:
        """What is kept: "frames" `[S, T, H, W(, C)]` in [0, 1] of the sequences shown, first reconstructed and then
        imagined, and the filtered "latents" `[N, T, Z]` of all."""
        dreamer = Dreamer(model)
        frames = roll_out(dreamer, self.data, self.context).frames[self.sequences]
        return {"frames": frames, "latents": filtered_latents(dreamer, self.data, None)}

    def animate(self, path: Path, snapshots: dict[int, dict[str, np.ndarray]]) -> None:
        """A GIF of snapshots by step. All clouds are seen in the view, and on the axes, of the last one."""
        steps = spread_over(np.array(list(snapshots)), MOST_PICTURES).tolist()
        last = snapshots[steps[-1]]["latents"]
        frames = [self.film_strip(step, snapshots[step]["frames"]) for step in steps]
        cloud = Cloud(self.data, View.of(last), last, frames[0].shape[0])
        pictures = [
            np.concatenate([left, cloud.picture(snapshots[step]["latents"])], axis=1)
            for left, step in zip(frames, steps, strict=True)
        ]
        save_animation(path, pictures, milliseconds=400, again=LINGER)

    def film_strip(self, step: int, model: np.ndarray) -> np.ndarray:
        """Truth above the model's frames `[S, T, H, W(, C)]`, observed and imagined ones side by side; uint8 RGB."""
        truth = [list(as_unit_frames(frames)) for frames in self.data.frames[self.sequences]]
        if (seen := self.data.seen()) is not None:
            for row, time in zip(*np.nonzero(~seen[self.sequences]), strict=True):
                truth[row][time] = hatched(self.data.frame_shape)
        rows = [frames for pair in zip(truth, map(list, model), strict=True) for frames in pair]
        times = frame_times(self.data)
        unit = "s" if self.data.dt else ""
        parts = []
        for which, border, footer, names in (
            (self.observed, BLUE, f"optimiser step {step}: observed", ["truth", "model"] * len(truth)),
            (self.imagined, ORANGE, "imagined from the actions alone", []),
        ):
            headings = [f"{times[t]:.4g} {unit}" for t in which]
            parts.append(
                labelled_grid([[frames[t] for t in which] for frames in rows], headings, footer, border, names)
            )
        return np.concatenate(parts, axis=1)


class Cloud:
    """A picture of latents that is drawn anew for every step, on the same axes."""

    def __init__(self, data: Sequences, view: View, last: np.ndarray, height: int):
        """For latents `[N, T, Z]`, of which `last` are the last; the picture is so many pixels high."""
        self.view = view
        self.which = np.random.default_rng(0).permutation(last[..., 0].size)[:LARGEST_CLOUD]
        colouring = colourings(data, world_of(data))[0]
        points = self._points(last)
        reach = ROOM * np.maximum(np.abs(points).max(axis=0), 1e-6)
        self.figure = Figure(figsize=(3.2, height / 100), dpi=100, layout="constrained")
        axes = self.figure.subplots(2, 1)
        self.drawn = []
        for axis, plane, name in zip(axes, ((0, 1), (0, 2)), ("end-on", "from the side"), strict=True):
            values = colouring.values.ravel()[self.which]
            self.drawn.append((scatter(axis, points, plane, colouring, values, size=6), plane))
            x, y = reach[list(plane)]
            axis.set(xlim=(-x, x), ylim=(-y, y), xticks=[], yticks=[])
            axis.set_title(f"latents, {name}", fontsize=8)
        bar = self.figure.colorbar(self.drawn[0][0], ax=list(axes), ticks=colouring.ticks)
        bar.set_label(colouring.label, fontsize=8)
        bar.ax.tick_params(labelsize=8)

    def _points(self, latents: np.ndarray) -> np.ndarray:
        return self.view(latents).reshape(-1, 3)[self.which]

    def picture(self, latents: np.ndarray) -> np.ndarray:
        """uint8 RGB of latents `[N, T, Z]`."""
        points = self._points(latents)
        for collection, plane in self.drawn:
            collection.set_offsets(points[:, plane])
        picture = rasterise(self.figure)
        self.figure.set_layout_engine("none")  # what is laid out stays where it is
        return picture
