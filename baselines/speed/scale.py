"""Scale on paper: what an update costs, by a formula fitted to measured ones, and what large trainings take by it."""

import dataclasses
from statistics import median
from typing import Any

import numpy as np

from baselines.markdown import table
from baselines.speed.measures import HIDDEN_SIZE, PIXELS, Setting
from worldmodel.training.options import Recipe

CHECKED = 111
"""side of the frames that are predicted and not fitted to: as many pixels as 64 x 64 in colour, but for 33"""
COLOUR = 64 * 64 * 3
FED = 0.5e9
"""bytes a second that a training was fed from files, on two cores (docs/scale.md)"""


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of an update of `frames` frames with `pixels` numbers each: start + frames (frame + pixel pixels)."""

    start: float
    frame: float
    pixel: float

    def update(self, frames: int, pixels: int) -> float:
        return self.start + frames * (self.frame + self.pixel * pixels)

    @staticmethod
    def of(points: list[tuple[int, int, float]]) -> "Costs":
        """That fits points (frames, pixels, seconds) best, by the squares of relative errors."""
        frames, pixels, seconds = np.transpose(points)
        columns = np.stack([np.ones(len(points)), frames, frames * pixels], axis=1) / seconds[:, None]
        return Costs(*np.linalg.lstsq(columns, np.ones(len(points)), rcond=None)[0].tolist())


def measured(growth: dict[str, list[dict[str, Any]]]) -> list[tuple[int, int, float]]:
    """Frames and pixels of an update and its seconds, of every setting in which one of them is varied."""
    shapes = {
        "batch": lambda value: (value * Setting.length, PIXELS**2),
        "length": lambda value: (Setting.batch * value, PIXELS**2),
        "side": lambda value: (Setting.batch * Setting.length, value**2),
    }
    return [
        (*shape(point["value"]), 1 / median(point["dvbf"])) for axis, shape in shapes.items() for point in growth[axis]
    ]


def scale_section(found: dict[str, Any]) -> str:
    """The formula, the point that checks it, and large trainings."""
    points = measured(found["one_core"]["growth"])
    costs = Costs.of([point for point in points if point[1] < CHECKED**2])
    checks = [(costs.update(*shape), seconds) for *shape, seconds in points if shape[1] >= CHECKED**2]
    worst = max(abs(costs.update(frames, pixels) / seconds - 1) for frames, pixels, seconds in points)
    check = "".join(
        f"The formula was not fitted to frames of {CHECKED**2:,} pixels: it says {1e3 * said:.1f} ms for an update of"
        f" {Setting.batch} windows of them, and it is {1e3 * seconds:.1f} ms."
        for said, seconds in checks
    )
    frames, cores, reading = Recipe.batch_size * Recipe.window, found["machine"].split()[0], 1e7 * COLOUR / FED
    *_, most = found["all_cores"]["growth"]["seeds"]
    together = median(most["dvbf"]) / median(found["one_core"]["training"]["dvbf"])
    small, colour = costs.update(frames, PIXELS**2), costs.update(frames, COLOUR)
    rows = [
        [
            f"{Recipe.steps:,} updates of {Recipe.batch_size} windows, 16 x 16",
            f"{Recipe.steps:,} x {1e3 * small:.2f} ms",
            duration(Recipe.steps * small),
        ],
        ["the same, 64 x 64 in colour", f"{Recipe.steps:,} x {1e3 * colour:.1f} ms", duration(Recipe.steps * colour)],
        [
            f"128 seeds on the {cores} cores",
            f"128 x {Recipe.steps:,} x {1e3 * small:.2f} ms / {together:.2f}",
            duration(128 * Recipe.steps * small / together),
        ],
        [
            "every one of 10 million frames once, 16 x 16",
            f"1e7 / {frames} updates x {1e3 * small:.2f} ms",
            duration(1e7 / frames * small),
        ],
        [
            "the same, 64 x 64 in colour",
            f"1e7 / {frames} x {1e3 * colour:.1f} ms, while {bytes_of(COLOUR)} are read in {duration(reading)}",
            duration(max(1e7 / frames * colour, reading)),
        ],
    ]
    return f"""An update of n frames with p numbers each takes, on one thread,

    {1e3 * costs.start:.2f} ms + n x ({1e6 * costs.frame:.2f} us + p x {1e9 * costs.pixel:.2f} ns)

(hidden size {HIDDEN_SIZE}), fitted to the updates of the next section up to
{max(pixels for _, pixels, _ in points if pixels < CHECKED**2):,} pixels; the largest error at any point is
{worst:.0%}.
{check}
By it:

{table(["one thread, if it says nothing else", "", "takes"], rows)}

Data cost nothing until they are streamed. Ten million frames have {bytes_of(PIXELS**2)} at 16 x 16, which lie on the
device, and {bytes_of(COLOUR)} at 64 x 64 in colour, which are read ahead at {FED / 1e9:g} GB a second: enough for
{FED / COLOUR / frames:.0f} updates of {frames} frames a second. That is where the formula ends for an accelerator. It
ends, too, where an update no longer fits the caches, and for networks that are not fully connected.

Eight GPUs train 8 k seeds in the time in which one trains k, for seeds exchange nothing. One seed on eight of them,
with its gradient exchanged at every update, was tested for its results, not for its speed."""


def duration(seconds: float) -> str:
    """Seconds in the unit that is easiest to read."""
    units = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, unit = next((each for each in units if seconds >= 1.5 * each[0]), units[-1])
    return f"{seconds / size:.3g} {unit}"


def bytes_of(pixels: int) -> str:
    """Of ten million frames with so many numbers each."""
    return f"{1e7 * pixels / 1e9:.3g} GB"
