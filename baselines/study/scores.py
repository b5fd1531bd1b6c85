"""Every figure that the benchmark reports of one trained model, and of the predictors that learn nothing."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from baselines.physics_oracle import predict_angles, quadratic_fit, shooting
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.evaluation.health import measure
from worldmodel.evaluation.judge import probe_latents
from worldmodel.evaluation.measures import squared_error, valid_frames
from worldmodel.imagination.dreamer import Dreamer, bounds, filtered_latents, roll_out
from worldmodel.models.distributions import from_noise, standard_normal_like
from worldmodel.models.protocol import FrameModel, WorldModel
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.pendulum.physics import PendulumParams
from worldmodel.worlds.pendulum.reading import AngleReader
from worldmodel.worlds.pendulum.world import PendulumWorld

HORIZONS = (1, 10, 30, 60, 100, 500)
CONTEXTS = (15, 5)
IWAE_SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class Trials:
    """What all models are scored on."""

    params: PendulumParams
    validation: Sequences
    """for the health check"""
    test: Sequences
    """for probes and bounds"""
    long: Sequences
    """for rollouts"""
    clean: Sequences
    """the long sequences without pixel noise: what imagined frames are compared with"""

    @property
    def horizons(self) -> list[int]:
        """The horizons that the long sequences have room for after every context."""
        return [h for h in HORIZONS if h <= self.long.length - max(CONTEXTS)]

    def unclipped(self, context: int, horizon: int) -> np.ndarray:
        """bool `[N]`: the sequences whose speed has not been clipped by then."""
        velocity = self.long.state("angular_velocity")
        assert velocity is not None
        return np.all(np.abs(velocity[:, : context + horizon]) < 0.9999 * self.params.max_speed, axis=1)


def by_horizon(trials: Trials, errors: np.ndarray, context: int) -> dict[str, Any]:
    """What angle errors `[N, S]` in degrees come to at each horizon: of all sequences, and of those not clipped yet."""
    horizons = trials.horizons
    result: dict[str, Any] = {
        "angle_error_degrees": {h: float(np.median(errors[:, h - 1])) for h in horizons},
        "within_30_degrees": {h: float(np.mean(errors[:, h - 1] < 30)) for h in horizons},
    }
    if np.isfinite(trials.params.max_speed):
        kept = {h: trials.unclipped(context, h) for h in horizons}
        result["unclipped"] = {
            "share": {h: float(np.mean(kept[h])) for h in horizons},
            "angle_error_degrees": {h: float(np.median(errors[kept[h], h - 1])) for h in horizons},
        }
    return result


def score(model: WorldModel, seed: int, trials: Trials, read: AngleReader) -> dict[str, Any]:
    """Every figure of one seed of a sequential model; horizons are keyed by their number of imagined frames.

    `read` has templates of the clean long frames.
    """
    sample_key, bound_key, _ = jax.random.split(jax.random.key(1000 + seed), 3)
    test = trials.test
    dreamer, health = Dreamer(model), measure(model, trials.validation)
    result = {
        "seed": seed,
        **probe_latents(filtered_latents(dreamer, test, sample_key), test, PendulumWorld(trials.params)),
        **nats(bounds(dreamer, test, bound_key, IWAE_SAMPLES), test.length),
        "health": health.figures,
        "problems": [problem.name for problem in health.problems],
    }
    truth, angles = as_unit_frames(trials.clean.frames), trials.clean.state("angle")
    assert angles is not None
    for context in CONTEXTS:
        imagined = roll_out(dreamer, trials.long, context).frames[:, context:]
        ahead = truth[:, context:]
        shown = read(imagined.reshape(*imagined.shape[:2], -1))
        result[f"context_{context}"] = by_horizon(trials, degrees_apart(shown, angles[:, context:]), context) | {
            "frame_mse": {h: float(squared_error(ahead, imagined)[:, h - 1].mean()) for h in trials.horizons},
            "valid_prediction_frames": float(np.median(valid_frames(ahead, imagined))),
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


def nats(per_sequence: dict[str, float], length: int) -> dict[str, Any]:
    """Bounds and their parts, per sequence of `length` frames and per frame."""
    per_frame = {name: value / length for name, value in per_sequence.items()}
    return {"nats_per_sequence": per_sequence, "nats_per_frame": per_frame}


def score_static(model: FrameModel, seed: int, trials: Trials) -> dict[str, Any]:
    """What can be said of a model of single frames: probes and bounds. It never works: it cannot imagine."""
    frames = jnp.asarray(as_unit_frames(trials.test.frames))
    posterior = model.posterior(frames)

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        """Reconstruction and importance weight `[2, N]` of whole sequences."""
        latents = from_noise(posterior, jax.random.normal(key, posterior.mean().shape))
        reconstruction = model.emission(latents).log_prob(frames)
        prior = standard_normal_like(posterior).log_prob(latents)
        weight = reconstruction + prior - posterior.log_prob(latents)
        return jnp.sum(jnp.stack([reconstruction, weight]), axis=-1)

    keys = jax.random.split(jax.random.key(1000 + seed), IWAE_SAMPLES + 1)
    reconstruction, weight = np.asarray(jax.lax.map(draw, keys[1:]), np.float64).swapaxes(0, 1)
    kl = float(jnp.mean(jnp.sum(posterior.kl_divergence(standard_normal_like(posterior)), axis=1)))
    per_sequence = {
        "elbo": float(np.mean(reconstruction)) - kl,
        "reconstruction": float(np.mean(reconstruction)),
        "kl": kl,
        "iwae": float(np.mean(np.logaddexp.reduce(weight, axis=0) - np.log(IWAE_SAMPLES))),
    }
    latents = np.asarray(from_noise(posterior, jax.random.normal(keys[0], posterior.mean().shape)))
    bound = nats(per_sequence, trials.test.length)
    return {"seed": seed, **probe_latents(latents, trials.test, PendulumWorld(trials.params)), **bound, "works": False}


def floors_and_ceilings(trials: Trials) -> dict[str, Any]:
    """Angle errors and frame errors of predictors that learn nothing, after 15 frames of half of the sequences."""
    context, long = 15, trials.long
    frames, angles = as_unit_frames(long.frames), long.state("angle")
    assert angles is not None
    assert long.states is not None
    # What an oracle sees of half of the sequences is read with templates of the other half.
    half = len(long) // 2
    flat = frames.reshape(*frames.shape[:2], -1)
    seen = AngleReader.of(frames[:half], angles[:half])(flat[half:, :context])
    torques, ahead = long.actions[half:, :, 0], angles[half:, context:]
    later = torques[:, context - 1 :]
    parabola = quadratic_fit(seen, trials.params.dt)
    shot = shooting(seen, torques[:, : context - 1], trials.params)
    predictions = {
        "true state, true physics": predict_angles(long.states[half:, context - 1], later, trials.params),
        "oracle: shooting on 5 frames": predict_angles(shot, later, trials.params),
        "oracle: quadratic fit of 5 frames": predict_angles(parabola, later, trials.params),
        "repeat last frame": np.broadcast_to(seen[:, -1:], ahead.shape),
        "always hanging down": np.full(ahead.shape, np.pi),
    }
    judged = dataclasses.replace(trials, long=long.take(slice(half, None)))
    rows: dict[str, Any] = {
        name: by_horizon(judged, degrees_apart(predicted, ahead), context) for name, predicted in predictions.items()
    }
    shown = frames[half:, context:]
    for name, picture in (
        ("repeat last frame", frames[half:, context - 1 : context]),
        ("mean frame", np.broadcast_to(frames.mean(axis=(0, 1)), shown.shape)),
    ):
        errors = squared_error(shown, picture).mean(axis=0)
        rows.setdefault(name, {})["frame_mse"] = {h: float(errors[h - 1]) for h in trials.horizons}
    return rows
