"""How a model of single frames uses its latent: the balance of reconstruction and KL, in figures and words."""

import dataclasses
import itertools

import distrax
import jax.numpy as jnp
import numpy as np

from worldmodel.evaluation.tables import Cell, Group, Row, Table, number

UNUSED_KL = 0.05
"""nats; a dimension that says less than this about a frame is unused"""
NOT_LEARNT = 0.5
"""a reconstruction error of this share of the frames' variance shows that they are not learnt"""
NEAR_ZERO_STD = 0.05
"""a dimension whose posterior is narrower than this (the prior has 1) is not sampled but copied"""


@dataclasses.dataclass(frozen=True)
class Posterior:
    """How each latent dimension is used, averaged over frames: written to posterior.json as it is, and read back."""

    kl: list[float]
    """Z numbers, nats per frame"""
    std: list[float]
    """Z posterior standard deviations (the prior's is 1); geometric means"""
    reconstruction_share: float
    """squared error of the reconstructed frames, over their variance; 0 is perfect"""
    in_words: list[str]
    """the verdict, in plain sentences"""

    def __post_init__(self) -> None:
        """Raises ValueError where the parts do not fit each other."""
        if not self.kl or len(self.kl) != len(self.std) or not self.in_words:
            raise ValueError("the parts of a posterior do not fit each other")

    @property
    def unused(self) -> list[int]:
        """Dimensions that collapsed to the prior."""
        return [dimension for dimension, kl in enumerate(self.kl) if kl < UNUSED_KL]

    def table(self) -> str:
        """One line for each dimension."""
        return self.in_numbers().in_text()

    def in_numbers(self) -> Table:
        """A row for each dimension."""
        rows = [
            Row(str(dimension), [Cell(number(kl, ".3f")), Cell(number(std, ".4f"))])
            for dimension, (kl, std) in enumerate(zip(self.kl, self.std, strict=True))
        ]
        return Table(
            "The posterior",
            "Averaged over held-out frames; the prior's standard deviation is 1.",
            "latent dimension",
            ["KL / nats per frame", "posterior std"],
            [Group(rows)],
        )


def describe(kl: np.ndarray, std: np.ndarray, reconstruction_share: float) -> list[str]:
    """The verdict on dimensions with these KLs and standard deviations, both `[Z]`."""
    size, unused, near_zero = len(kl), np.flatnonzero(kl < UNUSED_KL).tolist(), np.flatnonzero(std < NEAR_ZERO_STD)
    words = []
    if len(unused) == size:
        words.append(
            "Posterior collapse: no dimension is used, every frame is decoded to the same picture. The"
            " noise allowed to a pixel is too large: lower it (such as by --observation-std)."
        )
    elif unused:
        words.append(
            f"{len(unused)} of {size} dimensions collapsed (unused: {unused}). That is harmless when"
            " the pictures are good: the frames need no more. If they are not, lower the noise allowed to a pixel."
        )
    if near_zero.size:
        words.append(
            f"An autoencoder in disguise: the posterior of dimensions {near_zero.tolist()} has gone to near zero"
            f" variance (std below {NEAR_ZERO_STD}). The KL no longer shapes the latent space and samples from"
            " the prior will not look like data. The noise allowed to a pixel is too small: raise it (such as by"
            " --observation-std)."
        )
    if reconstruction_share > NOT_LEARNT and len(unused) < size:
        words.append(
            "Frames not learnt: look at the learning rate (--find-lr), then at --overfit-one-batch, then train"
            " longer (--steps)."
        )
    if not words:
        words.append(f"Healthy: all {size} dimensions are used and none has lost its variance.")
    return [*words, f"The reconstruction's error is {reconstruction_share:.1%} of the frames' variance."]


def report_posterior(posterior: distrax.Independent, frames: np.ndarray, reconstructed: np.ndarray) -> Posterior:
    """How each dimension of a batched posterior is used, averaged over all frames, and the error of `reconstructed`
    `[M, ...]` over the variance of `frames` `[M, ...]`."""
    mean, std = posterior.mean(), posterior.stddev()
    per_dimension = distrax.Normal(mean, std).kl_divergence(distrax.Normal(jnp.zeros_like(mean), jnp.ones_like(std)))
    over = tuple(range(mean.ndim - 1))
    kl, width = np.asarray(jnp.mean(per_dimension, over)), np.asarray(jnp.exp(jnp.mean(jnp.log(std), over)))
    share = float(np.mean((reconstructed - frames) ** 2) / np.mean(np.var(frames, axis=0)))
    return Posterior(kl.tolist(), width.tolist(), share, describe(kl, width, share))


def latent_walk(means: np.ndarray, stops: int = 64, frames_between: int = 2) -> np.ndarray:
    """A closed walk `[stops * frames_between, Z]` through encoded frames, in straight lines between neighbours.

    It stays close to where data is, so that the decoder is shown what it knows. `means` `[M, Z]` are posterior
    means, M >= 2.
    """
    corners = short_tour(spread_out(means, min(stops, len(means))))
    corners = np.concatenate([corners, corners[:1]])
    along = np.linspace(0, 1, frames_between, endpoint=False)[:, None]
    return np.concatenate([a + along * (b - a) for a, b in itertools.pairwise(corners)])


def spread_out(points: np.ndarray, count: int) -> np.ndarray:
    """`count` of the points, each the farthest from those before it."""
    chosen = [0]
    distance = np.full(len(points), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(distance)))
    return points[chosen]


def short_tour(points: np.ndarray) -> np.ndarray:
    """The points in the order of a short round trip: 2-opt, turning stretches around while that saves way."""
    tour, shorter = points.copy(), True
    while shorter:
        shorter = False
        for i in range(1, len(tour) - 1):
            for j in range(i + 1, len(tour)):
                a, b, c, d = tour[i - 1], tour[i], tour[j], tour[(j + 1) % len(tour)]
                saved = np.linalg.norm(a - b) + np.linalg.norm(c - d)
                saved -= np.linalg.norm(a - c) + np.linalg.norm(b - d)
                if saved > 1e-9:
                    tour[i : j + 1] = tour[i : j + 1][::-1].copy()
                    shorter = True
    return tour
