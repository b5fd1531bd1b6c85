"""Are a model's dreams as wide as they are wrong? One factor on all sampled noise, fitted on held-out sequences.

The bound hardly asks for it: noise that no picture shows costs nothing, so that what is learnt is several times too
wide. As temperature scaling does for classifiers (Guo, Pleiss, Sun, Weinberger 2017), a factor that is fitted after the
training mends what the training leaves, and changes no mean.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.evaluation.seen import of_seen, seen_after
from worldmodel.imagination.compiled import compiled
from worldmodel.imagination.dreamer import first_seen, last
from worldmodel.models.protocol import Sampled, WorldModel, imagine

SAMPLES = 32
"""futures of each sequence"""
LARGEST = 2**24
"""pixels of sampled frames at a time"""
FEWEST = 8
"""sequences that are looked at, however large their frames"""
FACTORS = np.geomspace(0.05, 5, 200)
"""among which the best is taken"""
QUANTILES = {0.5: 0.6745, 0.9: 1.6449}
"""share of a normal distribution that lies within so many standard deviations"""


def calibrated(model: WorldModel, data: Sequences) -> WorldModel:
    """The model with the `spread` that its errors on whole held-out sequences ask for; a model without one, and one
    whose futures do not differ, as it is."""
    if not isinstance(model, Sampled):
        return model
    graphdef, params = nnx.split(model)
    plain = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf, params))  # variables of its own
    plain.spread[...] = jnp.ones(())
    errors, variances, noise = errors_along_spread(plain, data, jax.random.key(0))
    plain.spread[...] = jnp.asarray(fitted_factor(errors, variances, noise), jnp.float32)
    return plain


def errors_along_spread(model: WorldModel, data: Sequences, key: jax.Array) -> tuple[np.ndarray, np.ndarray, float]:
    """Of each frame `[M]` after the first two thirds that was seen: how far it lies from the mean of sampled futures
    along the direction of pixels in which they differ most, and the variance of the futures in that direction. And the
    variance of frames along any other direction: of a pixel's noise, and of what the emission does not draw. The key is
    consumed."""
    context = min(max(model.context, 2 * data.length // 3), data.length - 1)
    data = data.to_foresee(context)
    if not len(data):
        return np.zeros(0), np.zeros(0), 0.0
    pixels = math.prod(data.frame_shape) * (data.length - context) * SAMPLES
    some = data.take(spread_over(np.arange(len(data)), max(FEWEST, LARGEST // pixels)))
    seen, frames = some.seen(), as_unit_frames(some.frames)
    found = _errors_along_spread(model, frames, some.actions, first_seen(seen, context), key, context)
    errors, variances, rest = (of_seen(np.asarray(each), seen_after(seen, context)) for each in found)
    return errors, variances, float(np.mean(rest))


def _along_spread(
    model: WorldModel, frames: jax.Array, actions: jax.Array, valid: jax.Array | None, key: jax.Array, context: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Errors, variances and the rest, each `[B, S]`, for frames `[B, T, H, W(, C)]` in [0, 1], with `valid`
    `[B, context]`."""
    ahead = frames[:, context:].reshape(*frames.shape[:1], frames.shape[1] - context, -1)

    def future(key: jax.Array) -> jax.Array:
        filter_key, imagine_key = jax.random.split(key)
        start = last(model.filter(frames[:, :context], actions[:, : context - 1], valid, filter_key))
        states = imagine(model, start, actions[:, context - 1 :], imagine_key)
        return model.emission(states).mean().reshape(ahead.shape)

    futures = jax.lax.map(future, jax.random.split(key, SAMPLES))  # [K, B, S, P]
    mean = jnp.mean(futures, axis=0)
    apart = futures - mean[None]
    # the principal direction of a few samples in many pixels, by their products with one another
    squares, vectors = jnp.linalg.eigh(jnp.einsum("kbsp,lbsp->bskl", apart, apart))
    largest = jnp.maximum(squares[..., -1], 1e-12)
    direction = jnp.einsum("bsk,kbsp->bsp", vectors[..., -1], apart) / jnp.sqrt(largest[..., None])
    wrong = ahead - mean
    along = jnp.sum(direction * wrong, axis=-1)
    rest = (jnp.sum(wrong**2, axis=-1) - along**2) / max(1, ahead.shape[-1] - 1)
    return along, largest / (SAMPLES - 1), rest


_errors_along_spread = compiled(_along_spread, static_argnums=(5,))


def fitted_factor(errors: np.ndarray, variances: np.ndarray, noise: float) -> float:
    """The factor f, of FACTORS, with which N(0, f^2 variance + noise) covers the errors best: half of them within its
    50% interval, nine tenths within its 90% interval. 1 where nothing varies.

    The errors are those of the mean of SAMPLES futures, which has an error of its own."""
    if not variances.size or np.median(variances) < 1e-10:
        return 1.0
    std = np.sqrt((FACTORS[:, None] ** 2 + 1 / SAMPLES) * variances.ravel() + noise)
    missed = [
        abs(np.mean(np.abs(errors.ravel()) < quantile * std, axis=1) - share) for share, quantile in QUANTILES.items()
    ]
    return float(FACTORS[np.argmin(np.sum(missed, axis=0))])
