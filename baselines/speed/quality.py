"""How good trainings of different lengths are."""

import dataclasses
import functools
from typing import Any

import jax

from baselines.study.scores import Trials
from worldmodel.data.scale import FrameScale
from worldmodel.evaluation.calibration import calibrated
from worldmodel.evaluation.judge import probe_latents
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, roll_out
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import train_seeds
from worldmodel.worlds.pendulum.world import PendulumWorld

CONTEXT, QUALITY_HORIZONS = 15, (10, 30, 60, 100)
"""frames observed, and frames imagined after them, where quality is measured"""


def quality(steps: list[int], seeds: int) -> list[dict[str, Any]]:
    """What trainings of so many steps give on the paper's pendulum, with all options at their defaults: for each number
    R^2 of the latents and the median angle errors in degrees after 15 frames, of every seed."""
    trials = Trials.collect("paper", 500, 200, 0.0)
    long = trials.long.first_frames(CONTEXT + max(QUALITY_HORIZONS))
    trials = dataclasses.replace(trials, long=long, clean=long)
    scale, world = FrameScale.of(trials.training, "the benchmark's data"), PendulumWorld(trials.params)
    points = []
    for count in steps:
        recipe = Recipe(tuple(range(seeds)), count, window=trials.training.length)
        runs = []
        for model in train_seeds(
            f"{count} steps", functools.partial(DVBFOptions().build, scale), trials.training, recipe
        ):
            dreamer = Dreamer(calibrated(model, trials.validation))
            probed = probe_latents(filtered_latents(dreamer, trials.test, jax.random.key(0)), trials.test, world)
            imagined = roll_out(dreamer, long, CONTEXT).frames[:, CONTEXT:]
            degrees = trials.by_horizon(trials.read(imagined), CONTEXT)["angle_error_degrees"]
            runs.append(
                {kind: list(probed[kind].values()) for kind in ("r2_linear", "r2_polynomial")}
                | {"degrees": [degrees[h] for h in QUALITY_HORIZONS]}
            )
        points.append({"steps": count, "runs": runs})
    return points
