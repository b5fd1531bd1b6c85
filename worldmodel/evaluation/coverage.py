"""Has a dream, or the data that it is judged on, left what its model was taught? How far frames, latents and actions
are from those of the training data.

A latent is as far outside as its distance to the NEIGHBOURS-th nearest latent of the data, along the directions of
their variance, each in its standard deviation. The unit is such that INSIDE of the data's own frames are nearer than 1
to the frames of other sequences: what is above 1 is outside, a hole in the middle of the data, too. A model has seen
nothing of what is there, and what it dreams on from there is a guess. The same is asked of the frames themselves, by
their principal components and what these leave over.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from worldmodel.data.sequences import Sequences, are_choices, as_unit_frames, spread_over
from worldmodel.evaluation.record import Outside
from worldmodel.evaluation.seen import mean_of_sequences, of_seen
from worldmodel.imagination.counterfactuals import push_latents
from worldmodel.imagination.dreamer import Dreamer, Rollouts, filtered_latents
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import shown_data
from worldmodel.support.files import UserError
from worldmodel.worlds.reading import principal_directions

NEIGHBOURS = 5
"""so that a few stray frames cover nothing"""
INSIDE = 0.99
"""share of the data's own frames that are inside"""
FRAMES = 20_000
"""of the data, about, that are filtered"""
POINTS = 5000
"""that distances are measured to, at most, and as many that give their unit"""
COMPONENTS = 16
"""of frames, at most"""
THINNEST = 0.1
"""of the largest standard deviation: a direction in which latents vary less is noise, and is not blown up further"""
PUSHED = 64
"""sequences, at most, that are imagined under pushes"""
SLIVER = 0.01
"""of the range of the data's actions, by which an action may leave it"""


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Where the points of a data set lie, in D dimensions."""

    mean: np.ndarray
    """`[D]`"""
    directions: np.ndarray
    """`[D, D]` columns, each by one over its standard deviation"""
    tree: cKDTree
    """of points of half of the sequences"""
    unit: float
    """distance of the other half's, at INSIDE"""

    @staticmethod
    def of(one: np.ndarray, other: np.ndarray) -> "Cloud":
        """Of points `[M, D]`, in the unit of others of the same kind that owe them nothing, `[M', D]`. Raises UserError
        where there are too few."""
        if len(one) < NEIGHBOURS or not len(other):
            raise UserError("too few sequences to say what they cover")
        points = one.astype(np.float64)
        mean = points.mean(axis=0)
        variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(points.T)))
        spread = np.sqrt(np.maximum(variance, 0))
        directions = axes / np.maximum(spread, max(THINNEST * spread.max(), 1e-9))
        found = Cloud(mean, directions, cKDTree((spread_over(points, POINTS) - mean) @ directions), 1.0)
        unit = float(np.quantile(found(spread_over(other, POINTS)), INSIDE))
        return dataclasses.replace(found, unit=max(unit, 1e-9))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """How far outside points `[..., D]` are, `[...]`: above 1 is outside; what is not a number is infinitely
        far."""
        places = (points - self.mean) @ self.directions
        finite = np.isfinite(places).all(axis=-1)
        distance = self.tree.query(np.where(finite[..., None], places, 0), k=[NEIGHBOURS])[0][..., 0]
        return np.where(finite, distance / self.unit, np.inf)


class Looks(NamedTuple):
    """What frames look like, in few numbers: principal components, and the length of what these leave over."""

    mean: np.ndarray
    """`[P]`"""
    directions: np.ndarray
    """`[P, R]`"""

    @staticmethod
    def of(frames: np.ndarray) -> "Looks":
        """Of uint8 frames `[M, H, W(, C)]`."""
        return Looks(*principal_directions(_pixels(spread_over(frames, POINTS)), COMPONENTS))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 `[M, H, W(, C)]` to `[M, R + 1]`."""
        apart = _pixels(frames) - self.mean
        components = apart @ self.directions
        left = np.sum(apart**2, axis=-1) - np.sum(components**2, axis=-1)
        return np.concatenate([components, np.sqrt(np.maximum(left, 0))[..., None]], axis=-1)


def _pixels(frames: np.ndarray) -> np.ndarray:
    return as_unit_frames(frames).reshape(len(frames), -1)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What frames, latents and actions the data covered."""

    latents: Cloud
    looks: Looks
    frames: Cloud
    """of what `looks` says of them"""
    lowest: np.ndarray
    """`[A]` of the data's actions"""
    highest: np.ndarray
    """`[A]`"""

    @staticmethod
    def of(dreamer: Dreamer, data: Sequences) -> "Coverage":
        """What a data set covers, as the model's filter sees it along its means. Raises UserError where it is too
        little."""
        actions = data.actions[data.acted()]
        some = data.take(spread_over(np.arange(len(data)), max(2, FRAMES // data.length)))
        latents, seen = filtered_latents(dreamer, some, None), some.seen()
        shown = np.ones(latents.shape[:2], bool) if seen is None else seen
        odd = np.zeros(shown.shape, bool)
        odd[1::2] = True
        halves = shown & ~odd, shown & odd
        looks = Looks.of(some.frames[shown])
        return Coverage(
            Cloud.of(*(latents[half] for half in halves)),
            looks,
            Cloud.of(*(looks(spread_over(some.frames[half], POINTS)) for half in halves)),
            actions.min(axis=0),
            actions.max(axis=0),
        )

    @staticmethod
    def of_run(dreamer: Dreamer, run: Run) -> "Coverage":
        """That of what a run was trained on, or of the sample of it that came with the run. Raises UserError when it is
        not there any more, or another."""
        return Coverage.of(dreamer, shown_data(run)[1])

    def outside_frames(self, frames: np.ndarray) -> float:
        """Which share of uint8 frames `[M, H, W(, C)]` looks like none of the data."""
        return float(np.mean(self.frames(self.looks(spread_over(frames, POINTS))) > 1))

    def outside_actions(self, actions: np.ndarray) -> np.ndarray:
        """bool `[...]`: whether one of the numbers of actions `[..., A]` lies beyond those of the data."""
        sliver = SLIVER * (self.highest - self.lowest) + 1e-6
        return ((actions < self.lowest - sliver) | (actions > self.highest + sliver)).any(axis=-1)


def judge_coverage(
    coverage: Coverage, dreamer: Dreamer, data: Sequences, context: int, rollouts: Rollouts, horizons: list[int]
) -> Outside:
    """Which shares of some sequences have left it after so many frames, seen, imagined (`rollouts`) and pushed; of the
    sequences whose frame was seen, but for the pushed ones."""
    ahead = np.array(horizons) - 1
    some = data.take(spread_over(np.arange(len(data)), PUSHED))
    seen = data.seen()
    there = None if seen is None else seen[:, context:][:, ahead]
    latents: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        "true frames, filtered": (filtered_latents(dreamer, data, None)[:, context:], there),
        "imagined": (rollouts.latents[:, context:], there),
    }
    if (pushed := push_latents(dreamer, some, context)) is not None:
        kind = "one choice, or two in turn" if are_choices(data.actions) else "the largest pushes"
        latents[f"imagined under {kind}"] = (pushed, None)
    return Outside(
        latents={
            name: mean_of_sequences(coverage.latents(found[:, ahead]) > 1, counted).tolist()
            for name, (found, counted) in latents.items()
        },
        actions=float(coverage.outside_actions(data.actions[data.acted()]).mean()),
        frames=coverage.outside_frames(of_seen(data.frames, seen)),
    )
