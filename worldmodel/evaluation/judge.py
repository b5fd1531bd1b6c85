"""How good are a model's dreams? Its predictions and the naive ones, scored side by side at every horizon.

A prediction is an array of frames `[N, S, H, W(, C)]` in [0, 1] for the S frames after the context; index h - 1 is
horizon h, the h-th imagined frame. Beside the means stand sampled futures, which say how sure the model is.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import Sequences, as_unit_frames, batches
from worldmodel.evaluation.measures import (
    ANGLE_NAMES,
    AngleReader,
    AngleTemplates,
    affordable_degree,
    coverage,
    crps,
    degrees_apart,
    interval,
    probe_r2,
    psnr,
    read_angle,
    squared_error,
    ssim,
    valid_frames,
    wrap,
)
from worldmodel.imagination.rollouts import Rollouts, shuffle_actions, zero_actions
from worldmodel.models.dvbf.model import DVBF
from worldmodel.worlds.pendulum.physics import PendulumParams

HORIZONS = (1, 10, 30, 60, 100, 500)
"""that tables show, as far as the data go"""
READING = "angle read off true frames"
"""the row of what reading an angle costs"""
LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
"""of the intervals whose coverage is counted"""
SAMPLED_TOGETHER = 1600
"""futures in one compiled program"""
PIXELS_TOGETHER = 50_000_000
"""and pixels, where all are kept"""


@dataclasses.dataclass(frozen=True)
class Measure:
    """How a row's measure is shown, in tables, pictures and reports."""

    name: str
    title: str
    """with its unit"""
    form: str
    """number format"""
    unit: str = ""
    """of a number that stands alone"""
    factor: float = 1.0
    larger_is_better: bool = False


MEASURES = (
    Measure("angle_error_degrees", "median angle error / degrees", ".3g", unit="°"),
    Measure("share_within_30_degrees", "sequences within 30 degrees", ".0%", larger_is_better=True),
    Measure("energy_error", "median energy error / J", ".2f"),
    Measure("mse", "pixel MSE × 1000", ".2f", factor=1000),
    Measure("psnr", "PSNR / dB", ".1f", larger_is_better=True),
    Measure("ssim", "SSIM (1: equal)", ".3f", larger_is_better=True),
)
"""in the order of the tables; the first that a run has is its headline"""


def shown_horizons(horizon: int) -> list[int]:
    """The horizons of a table of so many imagined frames."""
    return [h for h in HORIZONS if h < horizon] + [horizon]


def predict(
    data: Sequences, context: int, rollouts: Rollouts, imagine: Callable[[Sequences], Rollouts]
) -> dict[str, np.ndarray]:
    """What the model and its naive rivals say of the frames after the context, by name; `imagine` rolls other data out
    as `rollouts` are made."""
    truth = as_unit_frames(data.frames)
    ahead, seen = truth[:, context:], truth[:, context - 1 : context]
    predictions = {
        "model": rollouts.frames[:, context:],
        "repeat last frame": np.broadcast_to(seen, ahead.shape),
        "mean frame": np.broadcast_to(truth.mean(axis=(0, 1)), ahead.shape),
        "zero actions": imagine(zero_actions(data, context)).frames[:, context:],
    }
    if len(data) > 1:  # one sequence has no other to take its actions from
        predictions["shuffled actions"] = imagine(shuffle_actions(data, context)).frames[:, context:]
    return predictions


def judge(
    data: Sequences, context: int, predictions: dict[str, np.ndarray], params: PendulumParams | None = None
) -> dict[str, Any]:
    """Every error of every prediction, with 95% bootstrap intervals over the sequences, ready for a JSON file.

    "rows" holds, by prediction and measure, the values of all S horizons. Where the data have an angle it is read off
    the frames, and the row READING is that of true frames: the floor. With the pendulum's constants the energy is
    scored too, from the angles of two frames each.
    """
    truth = as_unit_frames(data.frames)
    ahead = truth[:, context:]
    rows: dict[str, dict[str, Any]] = {}
    for name, frames in predictions.items():
        rows[name] = {
            "mse": _estimate(squared_error(ahead, frames), np.mean),
            "psnr": _estimate(psnr(ahead, frames), np.mean),
            "ssim": _estimate(ssim(ahead, frames), np.mean),
        }
    angles = true_angles(data)
    if angles is not None:
        for name, shown in read_angles(truth, angles, context, predictions).items():
            errors = degrees_apart(shown, angles[:, context:])
            row = rows.setdefault(name, {})
            row["angle_error_degrees"] = _estimate(errors, np.median)
            row["share_within_30_degrees"] = _estimate(errors < 30, np.mean)
            if params is not None:
                before = angles[:, context - 1 : context]
                wrong = energy(shown, before, params) - energy(angles[:, context:], before, params)
                row["energy_error"] = _estimate(np.abs(wrong), np.median)
    valid = {name: _estimate(valid_frames(ahead, frames), np.median) for name, frames in predictions.items()}
    horizon = data.length - context
    return {
        "sequences": len(data),
        "context": context,
        "horizon": horizon,
        "dt": data.dt,
        "shown_horizons": shown_horizons(horizon),
        "rows": rows,
        "valid_prediction_frames": valid,
    }


def _estimate(values: np.ndarray, statistic: Callable) -> dict[str, Any]:
    """A statistic over the first axis of `[N, ...]` and its interval, as JSON has them."""
    low, high = interval(values, statistic)
    return {"value": statistic(values, axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def probe_latents(latents: np.ndarray, data: Sequences) -> dict[str, Any]:
    """R^2 from latents `[N, T, Z]` to the true states, linear and polynomial; nothing where there are no states."""
    if data.states is None:
        return {}
    degree = affordable_degree(*latents.shape)
    return {
        "r2_linear": probe_r2(latents, data.states, data.state_names, 1),
        "polynomial_degree": degree,
        "r2_polynomial": probe_r2(latents, data.states, data.state_names, degree),
    }


def true_angles(data: Sequences) -> np.ndarray | None:
    """`[N, T]` the angle among the states in rad, or None where there is none."""
    return next((angles for angles in map(data.state, ANGLE_NAMES) if angles is not None), None)


def read_angles(
    truth: np.ndarray, angles: np.ndarray, context: int, predictions: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The angle in rad `[N, S]` that each prediction `[N, S, H, W(, C)]` shows.

    It is read with templates of the true frames `[N, T, ...]` and their `angles` `[N, T]` in rad. READING is what is
    read off true frames of sequences that gave no template.
    """

    def shown(read: AngleReader, frames: np.ndarray) -> np.ndarray:
        return read(frames.reshape(*frames.shape[:2], -1))

    everything = AngleReader.of(truth, angles)
    result = {name: shown(everything, frames) for name, frames in predictions.items()}
    if len(truth) > 1:
        result[READING] = np.empty_like(angles[:, context:])
        for a, b in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
            result[READING][b] = shown(AngleReader.of(truth[a], angles[a]), truth[b, context:])
    return result


def energy(angles: np.ndarray, before: np.ndarray, params: PendulumParams) -> np.ndarray:
    """The energy in J `[N, S]` that angles `[N, S]` in rad show, each with the one before it; `before` `[N, 1]` comes
    first. Kinetic energy from their difference, potential energy at their middle."""
    turned = wrap(np.diff(angles, axis=1, prepend=before))
    middle = angles - turned / 2
    potential = params.mass * params.gravity * params.centre_of_mass * np.cos(middle)
    return 0.5 * params.inertia * (turned / params.dt) ** 2 + potential


def summary_table(judged: dict[str, Any]) -> str:
    """What `judge` gives, and what probes and samples add, as a table for people: a row for each prediction, a column
    for each shown horizon."""
    shown = judged["shown_horizons"]
    lines = [f"{judged['sequences']} sequences, {judged['context']} frames observed, {judged['horizon']} imagined"]

    def block(title: str, rows: dict[str, list[float]], form: str) -> None:
        lines.append(f"{title:<34}" + "".join(f"{'@' + str(h):>9}" for h in shown))
        for name, values in rows.items():
            lines.append(f"  {name:<32}" + "".join(f"{values[h - 1]:>9{form}}" for h in shown))

    for measure in MEASURES:
        rows = {
            name: [measure.factor * value for value in row[measure.name]["value"]]
            for name, row in judged["rows"].items()
            if measure.name in row
        }
        if rows:
            block(measure.title, rows, measure.form)
    if "samples" in judged:
        samples = judged["samples"]
        covered = {f"{float(level):.0%} interval": values for level, values in samples["coverage"].items()}
        block(f"coverage of {samples['futures']} sampled futures", covered, ".0%")
        block(f"their CRPS / {samples['unit']}", {"model": samples["crps"]}, ".3f")
    lines.append("valid prediction / frames")
    lines += [f"  {name:<32}{value['value']:>9.0f}" for name, value in judged["valid_prediction_frames"].items()]
    for key, title in (("r2_linear", "R^2, linear probe"), ("r2_polynomial", "R^2, polynomial probe")):
        if key in judged:
            values = "  ".join(f"{name} {_number(value)}" for name, value in judged[key].items())
            lines.append(f"{title:<34}{values}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "n/a" if value is None or np.isnan(value) else f"{value:.3f}"


# Sampled futures


def judge_samples(model: DVBF, data: Sequences, context: int, futures: int, key: jax.Array) -> dict[str, Any]:
    """How well sampled futures cover what came, for each horizon: coverage of central intervals, and CRPS.

    Every sample draws the filter's state and the transition's noise anew. Of a data set with an angle the angle is
    scored, in degrees; of any other every pixel, in brightness, with the emission's noise. The key is consumed.
    """
    angles = true_angles(data)
    covered, scores = [], []
    read = None if angles is None else AngleReader.of(as_unit_frames(data.frames), angles)
    for batch, count, samples in sample_futures(model, data, context, futures, key, read):
        if angles is None:
            truth = as_unit_frames(batch.frames[:count, context:]).reshape(count, -1)
            samples = samples.reshape(futures, count, -1)
            score, inside = crps(samples, truth), coverage(samples, truth, LEVELS)
            horizon = data.length - context
            score = score.reshape(count, horizon, -1).mean(axis=-1)
            inside = inside.reshape(len(LEVELS), count, horizon, -1).mean(axis=-1)
        else:
            known = true_angles(batch)
            assert known is not None
            truth = known[:count, context:]
            centre = np.angle(np.exp(1j * samples).mean(axis=0))
            score = crps(samples, truth, degrees_apart)
            inside = coverage(wrap(samples - centre), wrap(truth - centre), LEVELS)
        covered.append(inside)
        scores.append(score)
    by_level = np.concatenate(covered, axis=1).mean(axis=1)  # [L, S]
    shown = shown_horizons(by_level.shape[1])
    return {
        "futures": futures,
        "unit": "brightness" if angles is None else "degrees",
        "coverage": {str(level): by_level[np.isclose(LEVELS, level)][0].tolist() for level in (0.5, 0.9)},
        "crps": np.concatenate(scores).mean(axis=0).tolist(),
        "reliability": {
            "nominal": LEVELS.tolist(),
            "observed": {str(h): by_level[:, h - 1].tolist() for h in shown},
        },
    }


def sample_futures(
    model: DVBF, data: Sequences, context: int, futures: int, key: jax.Array, read: AngleReader | None
) -> Iterator[tuple[Sequences, int, np.ndarray]]:
    """Batch by batch: the sequences, how many of them count, and what K sampled futures of each show: the angle
    `[K, B, S]` in rad that `read` finds, or without it frames `[K, B, S, P]`. The key is consumed."""
    graphdef, params = nnx.split(model)
    templates = None if read is None else read.templates
    together = SAMPLED_TOGETHER
    if read is None:
        pixels = math.prod(data.frame_shape) * (data.length - context)
        together = min(together, PIXELS_TOGETHER // pixels)
    size = max(1, min(len(data), together // futures))
    for index, (batch, count) in enumerate(batches(data, size)):
        batch_key = jax.random.fold_in(key, index)
        shown = _sample_batch(graphdef, context, futures, params, templates, batch.frames, batch.actions, batch_key)
        yield batch, count, np.asarray(shown).swapaxes(1, 2)[:, :count]


def sample_angles(
    model: DVBF, data: Sequences, which: np.ndarray, context: int, futures: int, key: jax.Array
) -> np.ndarray:
    """The angles in rad `[K, M, S]` that K sampled futures of some sequences show; the key is consumed."""
    angles = true_angles(data)
    assert angles is not None
    read = AngleReader.of(as_unit_frames(data.frames), angles)
    some = data.take(which)
    parts = [shown for _, _, shown in sample_futures(model, some, context, futures, key, read)]
    return np.concatenate(parts, axis=1)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _sample_batch(
    graphdef: nnx.GraphDef,
    context: int,
    futures: int,
    params: nnx.State,
    templates: AngleTemplates | None,
    frames: jax.Array,
    actions: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """`[K, S, B]` angles or `[K, S, B, P]` frames of K futures for uint8 frames `[B, T, H, W(, C)]`."""
    model = nnx.merge(graphdef, params)
    filter_key, imagine_key, pixel_key = jax.random.split(key, 3)
    batch, length, latent = len(frames), frames.shape[1], model.options.latent_size
    seen = jnp.repeat(as_unit_frames(frames[:, :context])[None], futures, axis=0)
    seen = seen.reshape(futures * batch, *seen.shape[2:])
    actions = jnp.tile(actions, (futures, 1, 1))
    observed = jnp.ones((futures * batch, context - 1), bool)
    noise = jax.random.normal(filter_key, (futures * batch, context, latent))
    start = model.filter(seen, actions[:, : context - 1], observed, noise).latents[:, -1]
    noise = jax.random.normal(imagine_key, (futures * batch, length - context, latent))
    latents = model.imagine(start, actions[:, context - 1 :], noise)

    def show(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        latents, key = inputs
        emission = model.emission(latents)
        if templates is None:
            frames = emission.mean()
            noisy = frames + emission.stddev() * jax.random.normal(key, frames.shape)
            return noisy.reshape(futures, batch, -1)
        return read_angle(jnp.clip(emission.mean(), 0, 1).reshape(futures, batch, -1), templates)

    steps = jnp.swapaxes(latents, 0, 1)
    return jnp.swapaxes(jax.lax.map(show, (steps, jax.random.split(pixel_key, len(steps)))), 0, 1)
