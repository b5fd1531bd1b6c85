"""Rollouts of a trained model over a data set: filter a context, imagine the rest, and score it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.dvbf import DVBF
from worldmodel.evaluation import ANGLE_NAMES, AngleReader, affordable_degree, degrees_apart, probe_r2
from worldmodel.files import UserError
from worldmodel.objectives import bound_terms, importance_log_weight
from worldmodel.sequences import Sequences, as_unit_frames, batches

BATCH = 64
"""sequences at a time; the last batch is filled up, so that there is one compilation"""


class Rollouts(NamedTuple):
    """N sequences of T frames, of which the first `context` were observed."""

    frames: np.ndarray
    """float32 `[N, T, H, W(, C)]` in [0, 1]: the decoded means, reconstructions first, then imagination"""
    latents: np.ndarray
    """float32 `[N, T, Z]` the latents behind them: filtered without noise, then imagined without noise"""
    posterior_latents: np.ndarray
    """float32 `[N, T, Z]` samples of the filter that observes all T frames"""


def roll_out(model: DVBF, data: Sequences, context: int, key: jax.Array) -> Rollouts:
    """Filter `context` frames of every sequence, then imagine to the end with the data's own actions.

    The key is consumed: by the samples of the posterior, not by the imagined means. Raises UserError when the
    sequences are too short.
    """
    if context < model.options.initial_frames:
        raise UserError(
            f"context must be at least {model.options.initial_frames} frames (what the initial state needs)"
        )
    if data.length <= context:
        raise UserError(f"sequences of {data.length} frames leave nothing to imagine after a context of {context}")
    graphdef, params = nnx.split(model)
    parts = []
    for index, (batch, count) in enumerate(batches(data, min(BATCH, len(data)))):
        shape = (len(batch), data.length, model.options.latent_size)
        noise = jax.random.normal(jax.random.fold_in(key, index), shape)
        part = _roll_out_batch(graphdef, context, params, batch.frames, batch.actions, noise)
        parts.append([np.asarray(array[:count]) for array in part])
    return Rollouts(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@partial(jax.jit, static_argnums=(0, 1))
def _roll_out_batch(
    graphdef: nnx.GraphDef,
    context: int,
    params: nnx.State,
    frames: jax.Array,
    actions: jax.Array,
    noise: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The arrays of `roll_out` for uint8 frames `[B, T, H, W(, C)]` and the posterior samples' noise `[B, T, Z]`."""
    model = nnx.merge(graphdef, params)
    frames = as_unit_frames(frames)
    all_observed, no_noise = jnp.ones(actions.shape[:2], bool), jnp.zeros_like(noise)
    seen = (frames[:, :context], actions[:, : context - 1], all_observed[:, : context - 1], no_noise[:, :context])
    filtered = model.filter(*seen).latents
    imagined = model.imagine(filtered[:, -1], actions[:, context - 1 :], no_noise[:, context:])
    latents = jnp.concatenate([filtered, imagined], axis=1)
    posterior_latents = model.filter(frames, actions, all_observed, noise).latents
    decoded = jnp.clip(model.emission(latents).mean(), 0, 1)
    return decoded, latents, posterior_latents


def reconstruct(model: DVBF, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Frames `[B, T, H, W(, C)]` in [0, 1] as the filter, following its means, decodes them."""
    observed = jnp.ones(actions.shape[:2], bool)
    noise = jnp.zeros((*frames.shape[:2], model.options.latent_size))
    latents = model.filter(jnp.asarray(frames), jnp.asarray(actions), observed, noise).latents
    return np.clip(model.emission(latents).mean(), 0, 1)


def validation_elbo(model: DVBF, data: Sequences, key: jax.Array) -> float:
    """The unweighted ELBO in nats per frame of the filter that observes every frame; the key is consumed."""
    return bounds(model, data, key, samples=1)["elbo"] / data.length


def bounds(model: DVBF, data: Sequences, key: jax.Array, samples: int) -> dict[str, float]:
    """Bounds on ln p(x | u) and their parts, nats per sequence, of the filter that observes every frame.

    "iwae" is the importance-weighted bound with so many samples; the others are means over them. The key is
    consumed.
    """
    graphdef, params = nnx.split(model)
    parts = []
    for index, (batch, count) in enumerate(batches(data, min(BATCH, len(data)))):
        keys = jax.random.split(jax.random.fold_in(key, index), samples)
        draws = [_bound_of_batch(graphdef, params, batch.frames, batch.actions, key) for key in keys]
        parts.append(np.stack([np.asarray(draw) for draw in draws])[:, :, :count])
    reconstruction, kl, weight = np.concatenate(parts, axis=2).astype(np.float64).swapaxes(0, 1)
    return {
        "elbo": float(np.mean(reconstruction - kl)),
        "reconstruction": float(np.mean(reconstruction)),
        "kl": float(np.mean(kl)),
        "iwae": float(np.mean(np.logaddexp.reduce(weight, axis=0) - np.log(samples))),
    }


@partial(jax.jit, static_argnums=0)
def _bound_of_batch(
    graphdef: nnx.GraphDef, params: nnx.State, frames: jax.Array, actions: jax.Array, key: jax.Array
) -> jax.Array:
    """Reconstruction, KL and importance weight `[3, B]` of one sample for uint8 frames, every one observed."""
    model = nnx.merge(graphdef, params)
    frames = as_unit_frames(frames)
    observed = jnp.ones(actions.shape[:2], bool)
    noise = jax.random.normal(key, (*frames.shape[:2], model.options.latent_size))
    filtered = model.filter(frames, actions, observed, noise)
    terms = bound_terms(model, frames, filtered, observed)
    weight = importance_log_weight(model, frames, filtered)
    return jnp.stack([jnp.sum(terms.reconstruction, axis=1), jnp.sum(terms.kl, axis=1), weight])


def shuffle_actions(data: Sequences, context: int) -> Sequences:
    """Every sequence with the actions of the next one, from the first imagined frame on: what a model that ignores
    actions would not notice. What the filter sees stays as it is."""
    actions = data.actions.copy()
    actions[:, context - 1 :] = np.roll(actions[:, context - 1 :], 1, axis=0)
    return dataclasses.replace(data, actions=actions)


def frame_errors(truth: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Mean squared error for each horizon `[S]` of frames `[N, S, H, W(, C)]`, over sequences and pixels."""
    return np.mean((truth - frames) ** 2, axis=(0, *range(2, truth.ndim)))


def score_rollouts(
    data: Sequences, context: int, rollouts: Rollouts, roll_out_again: Callable[[Sequences], Rollouts]
) -> dict[str, Any]:
    """Everything that metrics.json holds. Index h - 1 of a list is horizon h, the h-th imagined frame.

    `roll_out_again` rolls other data out in the same way; it serves the row with shuffled actions.
    """
    truth = as_unit_frames(data.frames)
    ahead, seen = truth[:, context:], truth[:, context - 1 : context]
    predictions = {
        "model": rollouts.frames[:, context:],
        "repeat_last_frame": np.broadcast_to(seen, ahead.shape),
        "mean_frame": np.broadcast_to(truth.mean(axis=(0, 1)), ahead.shape),
    }
    if len(data) > 1:
        # One sequence has no other to take its actions from.
        predictions["shuffled_actions"] = roll_out_again(shuffle_actions(data, context)).frames[:, context:]
    metrics: dict[str, Any] = {
        "sequences": len(data),
        "context": context,
        "horizon": data.length - context,
        "reconstruction_mse": float(np.mean((truth[:, :context] - rollouts.frames[:, :context]) ** 2)),
        "mse": {name: frame_errors(ahead, frames).tolist() for name, frames in predictions.items()},
    }
    if data.states is not None:
        latents = rollouts.posterior_latents
        metrics["r2_linear"] = probe_r2(latents, data.states, data.state_names, degree=1)
        metrics["polynomial_degree"] = affordable_degree(*latents.shape)
        metrics["r2_polynomial"] = probe_r2(latents, data.states, data.state_names, metrics["polynomial_degree"])
        for name in ANGLE_NAMES:
            angles = data.state(name)
            if angles is not None:
                errors = angle_errors(truth, angles, context, predictions)
                metrics["angle_error_degrees"] = {who: np.median(e, axis=0).tolist() for who, e in errors.items()}
                metrics["share_within_30_degrees"] = {who: (e < 30).mean(axis=0).tolist() for who, e in errors.items()}
    return metrics


def angle_errors(
    truth: np.ndarray, angles: np.ndarray, context: int, predictions: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Absolute error in degrees `[N, S]` of the angle that each prediction `[N, S, H, W(, C)]` shows.

    The angle is read off the frames with templates of the true frames `[N, T, ...]` and their `angles`
    `[N, T]` in rad. "reading" is the error of that reading on true frames of sequences that gave no template: the
    floor.
    """
    ahead = slice(context, None)

    def errors(read: AngleReader, shown: np.ndarray, true: np.ndarray) -> np.ndarray:
        return degrees_apart(read(shown.reshape(*shown.shape[:2], -1)), true)

    everything = AngleReader.of(truth, angles)
    result = {name: errors(everything, shown, angles[:, ahead]) for name, shown in predictions.items()}
    if len(truth) > 1:
        halves = (slice(0, None, 2), slice(1, None, 2))
        parts = [
            errors(AngleReader.of(truth[a], angles[a]), truth[b, ahead], angles[b, ahead])
            for a, b in (halves, halves[::-1])
        ]
        result["reading"] = np.concatenate(parts)
    return result


def summary_table(metrics: dict[str, Any]) -> str:
    """metrics.json as a table for people: one row for each predictor, one column for each of some horizons."""
    horizon = metrics["horizon"]
    shown = [h for h in (1, 10, 30, 60, 100, 500) if h < horizon] + [horizon]
    lines = [f"{metrics['sequences']} sequences, {metrics['context']} frames observed, {horizon} imagined"]

    def block(title: str, rows: dict[str, list[float]], form: str) -> None:
        lines.append(f"{title:<34}" + "".join(f"{'@' + str(h):>9}" for h in shown))
        for name, values in rows.items():
            lines.append(f"  {name.replace('_', ' '):<32}" + "".join(f"{values[h - 1]:>9{form}}" for h in shown))

    block("frame MSE at imagined step", metrics["mse"], ".4f")
    if "angle_error_degrees" in metrics:
        block("median angle error / degrees", metrics["angle_error_degrees"], ".2f")
        block("share within 30 degrees", {"model": metrics["share_within_30_degrees"]["model"]}, ".2f")
    for key, title in (("r2_linear", "R^2, linear probe"), ("r2_polynomial", "R^2, polynomial probe")):
        if key in metrics:
            values = "  ".join(f"{name} {_number(value)}" for name, value in metrics[key].items())
            lines.append(f"{title:<34}{values}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "n/a" if value is None or np.isnan(value) else f"{value:.3f}"
