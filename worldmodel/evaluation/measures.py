"""The measures by which a model is judged: probes from latents to true states, errors of frames, and how well sampled
futures cover what came.

NumPy in and out; true states score a model here and are seen nowhere else.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial

import dm_pix
import jax
import numpy as np
from scipy.stats import bootstrap

from worldmodel.evaluation.seen import lengths_seen, of_seen
from worldmodel.worlds.world import Measure, Variable

PIXEL_MEASURES = (
    Measure("mse", "pixel MSE × 1000", ".2f", factor=1000),
    Measure("psnr", "PSNR / dB", ".1f", larger_is_better=True),
    Measure("ssim", "SSIM (1: equal)", ".3f", larger_is_better=True),
)
"""of frames of any world"""
VALID_ERROR = 0.025
"""normalised squared error at which a prediction stops to be valid (Botev et al. 2021)"""
BEST_PSNR = 100.0
"""dB; what equal frames are given, whose PSNR is infinite"""
PROBED_COMPONENTS = 64
"""of a longer latent, its first principal components are what probes see: from hundreds of numbers least squares learns
the frames by heart"""
RESAMPLES = 200
"""of a bootstrap"""
RESAMPLED_TOGETHER = 10_000_000
"""numbers in memory at a time"""


def principal(latents: np.ndarray, means: np.ndarray, count: int = PROBED_COMPONENTS) -> np.ndarray:
    """Latents `[N, T, Z]` as they are where they are short enough, else along the first principal components of the
    `means` `[N, T, Z]`, `[N, T, count]`: among samples, what nothing is told of varies most."""
    if latents.shape[-1] <= count:
        return latents
    flat = means.reshape(-1, means.shape[-1])
    flat = flat - flat.mean(axis=0)
    _, directions = np.linalg.eigh(flat.T @ flat)
    return latents @ directions[:, -count:]


def polynomial_features(latents: np.ndarray, degree: int = 4) -> np.ndarray:
    """All monomials of the standardised latents up to `degree`: `[M, Z]` to `[M, features]`."""
    spread = latents.std(axis=0)
    x = (latents - latents.mean(axis=0)) / np.where(spread > 0, spread, 1)
    columns = [np.ones(len(x))]
    for order in range(1, degree + 1):
        for which in itertools.combinations_with_replacement(range(x.shape[1]), order):
            columns.append(np.prod(x[:, which], axis=1))
    return np.stack(columns, axis=1)


def affordable_degree(sequences: int, length: int, latent_size: int, largest: int = 4) -> int:
    """The highest degree, up to `largest`, whose monomials have at least 20 frames each to be fitted on; else 1."""
    frames = sequences * length / 2
    degrees = [d for d in range(1, largest + 1) if 20 * math.comb(latent_size + d, d) <= frames]
    return max(degrees, default=1)


def r_squared(features: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """R^2 `[D]` of least-squares fits from `features` `[M, F]` to `targets` `[M, D]`, on sequences they were not fitted
    on; nan for a target that does not vary.

    `groups` `[M]` numbers the sequence of each row: the fit on the even ones is scored on the odd ones and the
    other way round.
    """
    even = groups % 2 == 0
    if not np.isfinite(features).all() or even.all() or not even.any():
        return np.full(targets.shape[1], np.nan)
    residual = np.empty(targets.shape)
    for fit in (even, ~even):
        weights, *_ = np.linalg.lstsq(features[fit], targets[fit], rcond=1e-10)
        residual[~fit] = targets[~fit] - features[~fit] @ weights
    spread = np.where(targets.std(axis=0) < 1e-8, np.nan, np.sum((targets - targets.mean(axis=0)) ** 2, axis=0))
    return 1 - np.sum(residual**2, axis=0) / spread


def probe_r2(
    latents: np.ndarray,
    variables: list[tuple[Variable, np.ndarray]],
    degree: int,
    seen: np.ndarray | None = None,
) -> dict[str, float]:
    """R^2 of a polynomial probe (degree 1 is OLS) from latents `[N, T, Z]` to the true values `[N, T]` of variables: to
    the sine and cosine of a circular one, and to every other as it is; at the frames that were `seen` (seen.py)."""
    features = polynomial_features(of_seen(latents, seen).astype(np.float64), degree)
    groups = of_seen(np.repeat(np.arange(latents.shape[0])[:, None], latents.shape[1], axis=1), seen)
    targets: dict[str, np.ndarray] = {}
    for variable, values in variables:
        values = of_seen(values, seen).astype(np.float64)
        if variable.circular:
            targets |= {f"sin {variable.name}": np.sin(values), f"cos {variable.name}": np.cos(values)}
        else:
            targets[variable.name] = values
    columns = np.stack(list(targets.values()), axis=1)
    return dict(zip(targets, r_squared(features, columns, groups).tolist(), strict=True))


def squared_error(truth: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Mean over the pixels of frames `[N, S, H, W(, C)]`: `[N, S]`."""
    return np.mean((truth - frames) ** 2, axis=tuple(range(2, truth.ndim)))


def rank_by_error(truth: np.ndarray, frames: np.ndarray, context: int, seen: np.ndarray | None = None) -> np.ndarray:
    """The numbers `[N]` of sequences `[N, T, H, W(, C)]`, that with the smallest error after the context first; each
    has a frame there that was `seen` (seen.py)."""
    errors = squared_error(truth[:, context:], frames[:, context:])
    return np.argsort(errors.mean(axis=1) if seen is None else errors.mean(axis=1, where=seen[:, context:]))


def valid_frames(truth: np.ndarray, frames: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """How many frames of `[N, S, H, W(, C)]` pass before the squared error exceeds 2.5% of the true squares: `[N]`.
    Only frames that were `seen` `[N, S]` can tell; at most as many pass as there are up to the last of them.

    Brightness counts from the background (the median pixel of each channel): on a bright one the squares would hide
    every error.
    """
    pixels = tuple(range(2, truth.ndim))
    background = np.median(of_seen(truth, seen), axis=(0, 1, 2))
    invalid = np.sum((frames - truth) ** 2, axis=pixels) > VALID_ERROR * np.sum((truth - background) ** 2, axis=pixels)
    if seen is not None:
        invalid &= seen
    return np.where(invalid.any(axis=1), invalid.argmax(axis=1), lengths_seen(seen, *invalid.shape))


def pixel_scores(truth: np.ndarray, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Each of PIXEL_MEASURES of frames `[N, S, H, W(, C)]` in [0, 1]: `[N, S]`."""
    return {"mse": squared_error(truth, frames), "psnr": psnr(truth, frames), "ssim": ssim(truth, frames)}


def psnr(truth: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB `[N, S]` of frames `[N, S, H, W(, C)]` in [0, 1]."""
    return np.minimum(_each_pair(_psnr, truth, frames), BEST_PSNR)


def ssim(truth: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Structural similarity `[N, S]` of frames `[N, S, H, W(, C)]` in [0, 1] (Wang et al. 2004; a window of 11 pixels,
    or as many as the frame has)."""
    window = min(11, *truth.shape[2:4])
    window -= 1 - window % 2
    return _each_pair(partial(_ssim, filter_size=window), truth, frames)


_psnr = jax.jit(dm_pix.psnr)
_ssim = jax.jit(dm_pix.ssim, static_argnames="filter_size")


def _each_pair(measure: Callable, truth: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """A measure of two images for all frames `[N, S, H, W(, C)]`, one horizon at a time."""
    channels = truth.shape[4:] or (1,)
    pairs = (np.swapaxes(x, 0, 1).reshape(-1, len(x), *x.shape[2:4], *channels) for x in (truth, frames))
    return np.stack([np.asarray(measure(*pair)) for pair in zip(*pairs, strict=True)], axis=1)


def interval(values: np.ndarray, statistic: Callable) -> tuple[np.ndarray, np.ndarray]:
    """A 95% bootstrap interval of a statistic (np.mean, np.median) over the first axis of `[N, ...]`."""
    if len(values) < 2:
        return values[0], values[0]
    found = bootstrap(
        (values,),
        statistic,
        axis=0,
        n_resamples=RESAMPLES,
        batch=max(1, RESAMPLED_TOGETHER // values.size),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return found.low, found.high


def coverage(deviations: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Whether the central interval of the samples, at each of L levels, holds the truth: bool `[L, ...]`.

    `deviations` `[K, ...]` are the samples and `truth` `[...]` what came, both as differences from one centre.
    The quantiles are those that K calibrated samples cover as often as they say (i / (K + 1)).
    """
    ends = np.concatenate([0.5 - levels / 2, 0.5 + levels / 2])
    low, high = np.split(np.quantile(deviations, ends, axis=0, method="weibull"), 2)
    return (low <= truth) & (truth <= high)


def crps(samples: np.ndarray, truth: np.ndarray, distance: Callable = lambda a, b: np.abs(a - b)) -> np.ndarray:
    """The continuous ranked probability score E|X - x| - E|X - X'| / 2 of samples `[K, ...]`, in their unit, `[...]`.

    With the distance on the circle it is the score of Grimit et al. (2006). The second mean is over different samples,
    so that few samples are not an advantage. For one sample it is the absolute error.
    """
    count = len(samples)
    error = distance(samples, truth).mean(axis=0)
    apart = np.zeros_like(error)
    for shift in range(1, count // 2 + 1):  # a shift and its complement pair the same samples
        pairs = 1 if 2 * shift == count else 2
        apart += pairs * distance(samples, np.roll(samples, shift, axis=0)).mean(axis=0)
    return error - apart / (2 * max(count - 1, 1))
