"""Rollouts of a trained model over a data set: filter a context and imagine the rest; and its bounds."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import Sequences, as_unit_frames, batches
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import bound_terms, importance_log_weight
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
from worldmodel.training.options import DVBFOptions

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


def open_dvbf(folder: Path) -> tuple[Run, DVBF]:
    """A run and its trained model. Raises UserError when the folder does not hold a trained DVBF."""
    run = Run.open(folder, "dvbf")
    options = run.model_options(DVBFOptions)
    return run, run.restore_model(lambda rngs: DVBF(run.card.scale, options, rngs))


def roll_out(model: DVBF, data: Sequences, context: int, key: jax.Array) -> Rollouts:
    """Filter `context` frames of every sequence, then imagine to the end with the data's own actions.

    The key is consumed: by the samples of the posterior, not by the imagined means. Raises UserError when the
    sequences are too short.
    """
    if context < model.options.initial_frames:
        raise UserError(
            f"--context must be at least {model.options.initial_frames} frames, which the initial state needs"
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


def zero_actions(data: Sequences, context: int) -> Sequences:
    """Every sequence without any action from the first imagined frame on."""
    actions = data.actions.copy()
    actions[:, context - 1 :] = 0
    return dataclasses.replace(data, actions=actions)
