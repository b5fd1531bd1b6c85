"""Every figure that the benchmark reports of one trained model, and of the predictors that learn nothing."""

import dataclasses
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from baselines.physics_oracle import predict_angles, quadratic_fit, shooting
from baselines.study.lineup import Entry
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.evaluation.calibration import calibrated
from worldmodel.evaluation.health import measure
from worldmodel.evaluation.judge import judge_samples, probe_latents
from worldmodel.evaluation.measures import squared_error, valid_frames
from worldmodel.imagination.dreamer import Dreamer, bounds, filtered_latents, roll_out
from worldmodel.models.protocol import FrameModel, WorldModel
from worldmodel.support.machine import machine
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import train_seeds
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER, PendulumParams
from worldmodel.worlds.pendulum.reading import AngleReader
from worldmodel.worlds.pendulum.world import PendulumWorld, collect_pendulum

HORIZONS = (1, 10, 30, 60, 100, 500)
CONTEXTS = (15, 5)
COVERED_HORIZONS = (10, 30, 60)
SAMPLED = 100
"""futures of each of so many long sequences, of which coverage is counted"""
FIRST_SEED = 100
"""of the data. Others serve for choosing; nothing is chosen by these"""
IWAE_SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class Trials:
    """What all models are trained and scored on."""

    params: PendulumParams
    training: Sequences
    validation: Sequences
    """for the health check, and to calibrate"""
    test: Sequences
    """for probes and bounds"""
    long: Sequences
    """for rollouts"""
    clean: Sequences
    """the long sequences without pixel noise: what imagined frames are compared with"""

    @staticmethod
    def collect(world: str, sequences: int, rollouts: int, noise: float) -> "Trials":
        """So many training and long sequences of the "paper" or the "frictionless" world, with noise of that standard
        deviation on every pixel."""
        paper = world == "paper"
        params = PAPER if paper else dataclasses.replace(GYMNASIUM, initial_speed=GYMNASIUM.max_speed)
        sizes = ((sequences, 15 if paper else 50), (500, 15), (500, 15), (rollouts, 515 if paper else 115))
        training, validation, test, long = (
            collect_pendulum(FIRST_SEED + i, *size, params, 16, noise) for i, size in enumerate(sizes)
        )
        clean = collect_pendulum(FIRST_SEED + 3, *sizes[3], params, 16) if noise else long
        return Trials(params, training, validation, test, long, clean)

    @property
    def horizons(self) -> list[int]:
        """The horizons that the long sequences have room for after every context."""
        return [h for h in HORIZONS if h <= self.long.length - max(CONTEXTS)]

    @cached_property
    def truth(self) -> np.ndarray:
        """The clean frames `[N, T, H, W]` in [0, 1]."""
        return as_unit_frames(self.clean.frames)

    @cached_property
    def angles(self) -> np.ndarray:
        """rad, `[N, T]`"""
        return state(self.clean, "angle")

    @cached_property
    def reader(self) -> AngleReader:
        """With templates of the clean frames."""
        return AngleReader.of(self.truth, self.angles)

    def read(self, frames: np.ndarray) -> np.ndarray:
        """The angles `[N, S]` that frames `[N, S, H, W]` show."""
        return self.reader(frames.reshape(*frames.shape[:2], -1))

    @cached_property
    def unclipped(self) -> np.ndarray:
        """bool `[N, T]`: the sequences whose speed has not been clipped up to each frame."""
        fastest = np.maximum.accumulate(np.abs(state(self.clean, "angular_velocity")), axis=1)
        return fastest < 0.9999 * self.params.max_speed

    def by_horizon(self, angles: np.ndarray, context: int) -> dict[str, Any]:
        """What the errors of predicted angles `[N, S]` come to at each horizon: of all sequences, and of those not
        clipped yet."""
        errors = {h: degrees_apart(angles[:, h - 1], self.angles[:, context + h - 1]) for h in self.horizons}
        result: dict[str, Any] = {
            "angle_error_degrees": {h: float(np.median(error)) for h, error in errors.items()},
            "within_30_degrees": {h: float(np.mean(error < 30)) for h, error in errors.items()},
        }
        if np.isfinite(self.params.max_speed):
            kept = {h: self.unclipped[:, context + h - 1] for h in errors}
            result["unclipped"] = {
                "share": {h: float(np.mean(kept[h])) for h in errors},
                "angle_error_degrees": {h: float(np.median(error[kept[h]])) for h, error in errors.items()},
            }
        return result

    def frame_mse(self, frames: np.ndarray, context: int) -> dict[int, float]:
        """The pixel error of predicted frames at each horizon; `[N, S, H, W]`, or what broadcasts to it."""
        errors = squared_error(self.truth[:, context:], frames).mean(axis=0)
        return {h: float(errors[h - 1]) for h in self.horizons}


def state(data: Sequences, name: str) -> np.ndarray:
    """`[N, T]` of the true state."""
    found = data.state(name)
    assert found is not None
    return found


def study(name: str, entry: Entry, trials: Trials, seeds: int, steps: int | None) -> dict[str, Any]:
    """Train and score all seeds of one model; `steps` are in place of the model's own number."""
    scale = FrameScale.of(trials.training, "the benchmark's data")
    own = getattr(entry.options, "TRAINING", {}) | entry.recipe | ({} if steps is None else {"steps": steps})
    build = partial(entry.options.build, scale)
    of_sequences = isinstance(nnx.eval_shape(lambda: build(nnx.Rngs(params=0))), WorldModel)
    recipe = Recipe(tuple(range(seeds)), window=trials.training.length if of_sequences else 1, **own)
    models = train_seeds(name, build, trials.training, recipe, entry.make_optimiser)
    spread = {"train": trials.training, "test": trials.test}
    return {
        "model": name,
        "about": entry.about,
        "options": dataclasses.asdict(entry.options),
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "training_sequences": len(trials.training),
        "rollouts": len(trials.long),
        "machine": machine(),
        "velocity_std": {part: round(float(state(data, "angular_velocity").std()), 3) for part, data in spread.items()},
        "runs": [score(model, seed, trials) for seed, model in enumerate(models)],
    }


def score(model: WorldModel | FrameModel, seed: int, trials: Trials) -> dict[str, Any]:
    """Every figure of one seed; horizons are keyed by their number of imagined frames. Of a model of single frames
    there are only probes and bounds, and it never works: it cannot imagine."""
    sample_key, bound_key, future_key = jax.random.split(jax.random.key(1000 + seed), 3)
    if isinstance(model, WorldModel):
        model = calibrated(model, trials.validation)
    test, dreamer, world = trials.test, Dreamer(model), PendulumWorld(trials.params)
    if isinstance(model, WorldModel):
        latents = filtered_latents(dreamer, test, sample_key)
    else:
        latents = dreamer.vector(dreamer.encode(test.frames, sample_key))
    nats = bounds(dreamer, test, bound_key, IWAE_SAMPLES)
    result = {
        "seed": seed,
        **probe_latents(latents, test, world),
        "nats_per_sequence": nats,
        "nats_per_frame": {part: value / test.length for part, value in nats.items()},
        "works": False,
    }
    if not isinstance(model, WorldModel):
        return result
    health = measure(model, trials.validation)
    result |= {"health": health.figures, "problems": [problem.name for problem in health.problems]}
    for context in CONTEXTS:
        imagined = roll_out(dreamer, trials.long, context).frames[:, context:]
        result[f"context_{context}"] = trials.by_horizon(trials.read(imagined), context) | {
            "frame_mse": trials.frame_mse(imagined, context),
            "valid_prediction_frames": float(np.median(valid_frames(trials.truth[:, context:], imagined))),
        }
    some = trials.long.take(slice(SAMPLED)).first_frames(CONTEXTS[0] + max(COVERED_HORIZONS))
    samples = judge_samples(dreamer, some, CONTEXTS[0], SAMPLED, future_key, world, trials.reader.templates)
    result["coverage"] = {
        level: {h: inside[h - 1] for h in COVERED_HORIZONS} for level, inside in samples.coverage.items()
    }
    return result | {"works": works(result, friction=trials.params.friction > 0)}


def works(run: dict[str, Any], friction: bool) -> bool:
    """The written criterion: all polynomial R^2 at least 0.98, and after 15 frames the median angle error at most 5
    degrees at 10, 30 and 100 imagined frames, with at least 90% of the sequences within 30 degrees. Without friction
    only 10 and 30 are asked: there the smallest error decides to which side a pendulum falls that stood upright."""
    rolled = run["context_15"]
    horizons = (10, 30, 100) if friction else (10, 30)
    close = all(rolled["angle_error_degrees"][h] <= 5 and rolled["within_30_degrees"][h] >= 0.9 for h in horizons)
    return close and min(run["r2_polynomial"].values()) >= 0.98


def floors_and_ceilings(trials: Trials) -> dict[str, Any]:
    """Angle errors and frame errors of predictors that learn nothing, after 15 frames of half of the sequences, which
    have no pixel noise. What an oracle sees is read with templates of the other half."""
    context, half = 15, len(trials.long) // 2
    others, judged = (
        dataclasses.replace(trials, long=trials.long.take(which), clean=trials.clean.take(which))
        for which in (slice(0, half), slice(half, None))
    )
    params, frames, states = trials.params, judged.truth, judged.clean.states
    assert states is not None
    seen, torques = others.read(frames[:, :context]), judged.long.actions[:, :, 0]
    later = torques[:, context - 1 :]
    shot, parabola = shooting(seen, torques[:, : context - 1], params), quadratic_fit(seen, params.dt)
    predictions = {
        "true state, true physics": predict_angles(states[:, context - 1], later, params),
        "oracle: shooting on 5 frames": predict_angles(shot, later, params),
        "oracle: quadratic fit of 5 frames": predict_angles(parabola, later, params),
        "repeat last frame": np.broadcast_to(seen[:, -1:], later.shape),
        "always hanging down": np.full(later.shape, np.pi),
    }
    rows = {name: judged.by_horizon(angles, context) for name, angles in predictions.items()}
    rows["repeat last frame"]["frame_mse"] = judged.frame_mse(frames[:, context - 1 : context], context)
    rows["mean frame"] = {"frame_mse": judged.frame_mse(trials.truth.mean(axis=(0, 1)), context)}
    return rows
