"""Has a dream left what its model was taught? How far latents and actions are from those of the training data.

A latent is as far outside as its distance to the NEIGHBOURS-th nearest latent of the data, along the directions of
their variance, each in its standard deviation. The unit is such that INSIDE of the data's own frames are nearer than 1
to the frames of other sequences: what is above 1 is outside, a hole in the middle of the data, too. A model has seen
nothing of what is there, and what it dreams on from there is a guess.
"""

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from worldmodel.data.sequences import Sequences, spread_over
from worldmodel.evaluation.record import Outside
from worldmodel.evaluation.seen import mean_of_sequences
from worldmodel.imagination.counterfactuals import push_latents
from worldmodel.imagination.dreamer import Dreamer, Rollouts, filtered_latents
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError

NEIGHBOURS = 5
"""so that a few stray frames cover nothing"""
INSIDE = 0.99
"""share of the data's own frames that are inside"""
FRAMES = 20_000
"""of the data, about, that are filtered"""
POINTS = 5000
"""latents that distances are measured to, at most, and as many that give their unit"""
THINNEST = 0.1
"""of the largest standard deviation: a direction in which latents vary less is noise, and is not blown up further"""
PUSHED = 64
"""sequences, at most, that are imagined under pushes"""
SLIVER = 0.01
"""of the range of the data's actions, by which an action may leave it"""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What latents and actions the data covered."""

    mean: np.ndarray
    """`[Z]`"""
    directions: np.ndarray
    """`[Z, Z]` columns, each by one over its standard deviation"""
    tree: cKDTree
    """of latents of half of the sequences"""
    unit: float
    """distance of the other half's, at INSIDE"""
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
        return Coverage.of_clouds(latents[shown & ~odd], latents[shown & odd], actions)

    @staticmethod
    def of_clouds(one: np.ndarray, other: np.ndarray, actions: np.ndarray) -> "Coverage":
        """What latents `[M, Z]` cover, in the unit of others of the same kind that owe them nothing, `[M', Z]`, and
        actions `[K, A]`. Raises UserError where there are too few."""
        if len(one) < NEIGHBOURS or not len(other):
            raise UserError("too few sequences to say what they cover")
        points = one.astype(np.float64)
        mean = points.mean(axis=0)
        variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(points.T)))
        spread = np.sqrt(np.maximum(variance, 0))
        directions = axes / np.maximum(spread, max(THINNEST * spread.max(), 1e-9))
        tree = cKDTree((spread_over(points, POINTS) - mean) @ directions)
        found = Coverage(mean, directions, tree, 1.0, actions.min(axis=0), actions.max(axis=0))
        unit = float(np.quantile(found(spread_over(other, POINTS)), INSIDE))
        return dataclasses.replace(found, unit=max(unit, 1e-9))

    @staticmethod
    def of_run(dreamer: Dreamer, run: Run) -> "Coverage":
        """That of what a run was trained on. Raises UserError when it is not there any more, or another."""
        return Coverage.of(dreamer, run.data())

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """How far outside latents `[..., Z]` are, `[...]`: above 1 is outside; what is not a number is infinitely
        far."""
        places = (vectors - self.mean) @ self.directions
        finite = np.isfinite(places).all(axis=-1)
        distance = self.tree.query(np.where(finite[..., None], places, 0), k=[NEIGHBOURS])[0][..., 0]
        return np.where(finite, distance / self.unit, np.inf)

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
    latents = {
        "true frames, filtered": (filtered_latents(dreamer, data, None)[:, context:], there),
        "imagined": (rollouts.latents[:, context:], there),
        "imagined under the largest pushes": (push_latents(dreamer, some, context), None),
    }
    return Outside(
        latents={
            name: mean_of_sequences(coverage(found[:, ahead]) > 1, counted).tolist()
            for name, (found, counted) in latents.items()
        },
        actions=float(coverage.outside_actions(data.actions[data.acted()]).mean()),
    )
