"""The static VAE (Kingma and Welling, 2014): each frame by itself, the stage before the DVBF.

    z ~ N(0, I),   x ~ N(decoder(z), sigma^2 I),   q(z | x) = N(mean(x), std(x)^2)

It cannot know a velocity: one frame does not hold it. What it is for: to see that the frames can be encoded,
and to see the balance between reconstruction and KL before any dynamics enter.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from baselines.options import StaticVAEOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.models.distributions import diagonal_normal, from_noise, image_normal, positive, standard_normal_like
from worldmodel.models.networks import MLP, flatten_frames, split_in_two
from worldmodel.runs.folder import Run

UNUSED_KL = 0.05
"""nats; a dimension that says less than this about a frame is unused"""
NOT_LEARNT = 0.5
"""a reconstruction error of this share of the frames' variance shows that they are not learnt"""
NEAR_ZERO_STD = 0.05
"""a dimension whose posterior is narrower than this (the prior has 1) is not sampled but copied"""


class StaticVAE(nnx.Module):
    """A variational autoencoder of single frames, float `[..., H, W(, C)]` in [0, 1]."""

    def __init__(self, scale: FrameScale, options: StaticVAEOptions, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        pixels, hidden, latent = scale.pixels, options.hidden_size, options.latent_size
        self.encoder = MLP((pixels, hidden, hidden, 2 * latent), rngs)
        self.decoder = MLP((latent, hidden, hidden, pixels), rngs)

    @property
    def observation_std(self) -> float:
        """sigma of a pixel, in units of full brightness."""
        given = self.options.observation_std
        return self.scale.default_observation_std if given is None else given

    def posterior(self, frames: jax.Array) -> distrax.Independent:
        """q(z | x), event `[Z]`, for every frame."""
        pixels = flatten_frames(frames, self.scale.frame_shape)
        mean, raw_std = split_in_two(self.encoder((pixels - self.scale.pixel_mean) / self.scale.pixel_std))
        return diagonal_normal(mean, positive(raw_std))

    def emission(self, latents: jax.Array) -> distrax.Independent:
        """p(x | z): `[..., Z]` to a distribution over frames `[..., H, W(, C)]`."""
        frames = self.decoder(latents) * self.scale.pixel_std + self.scale.pixel_mean
        frames = frames.reshape(*latents.shape[:-1], *self.scale.frame_shape)
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))


def vae_loss(
    model: StaticVAE, frames: jax.Array, actions: jax.Array, key: jax.Array, step: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The negative ELBO in nats per frame of `[B, T, H, W(, C)]`; actions and step play no part."""
    posterior = model.posterior(frames)
    latents = from_noise(posterior, jax.random.normal(key, posterior.mean().shape))
    emission = model.emission(latents)
    reconstruction = emission.log_prob(frames)
    kl = posterior.kl_divergence(standard_normal_like(posterior))
    loss = jnp.mean(kl - reconstruction)
    return loss, {
        "loss": loss,
        "elbo": -loss,
        "reconstruction": jnp.mean(reconstruction),
        "kl": jnp.mean(kl),
        "frame_mse": jnp.mean((emission.mean() - frames) ** 2),
    }


def reconstruct(model: StaticVAE, frames: np.ndarray, actions: np.ndarray | None = None) -> np.ndarray:
    """Frames `[..., H, W(, C)]` through the posterior's mean and the decoder; actions play no part."""
    return np.clip(model.emission(model.posterior(jnp.asarray(frames)).mean()).mean(), 0, 1)


@dataclasses.dataclass(frozen=True)
class PosteriorReport:
    """How each latent dimension is used, averaged over frames."""

    kl: np.ndarray
    """`[Z]` nats per frame"""
    std: np.ndarray
    """`[Z]` posterior standard deviation (the prior's is 1); geometric mean"""
    reconstruction_share: float
    """squared error of the reconstructed frames, over their variance; 0 is perfect"""

    @property
    def unused(self) -> list[int]:
        """Dimensions that collapsed to the prior."""
        return [int(i) for i in np.flatnonzero(self.kl < UNUSED_KL)]

    @property
    def near_zero(self) -> list[int]:
        """Dimensions whose posterior has almost no variance."""
        return [int(i) for i in np.flatnonzero(self.std < NEAR_ZERO_STD)]

    def to_json(self) -> dict[str, Any]:
        return {
            "kl_nats": self.kl.tolist(),
            "std": self.std.tolist(),
            "reconstruction_share": self.reconstruction_share,
            "unused": self.unused,
            "near_zero_variance": self.near_zero,
            "in_words": self.in_words(),
        }

    def table(self) -> str:
        """One line for each dimension."""
        lines = [f"{'dimension':>9}  {'KL / nats':>9}  {'posterior std':>13}"]
        for dimension, (kl, std) in enumerate(zip(self.kl, self.std, strict=True)):
            lines.append(f"{dimension:>9}  {kl:>9.3f}  {std:>13.4f}")
        return "\n".join(lines)

    def in_words(self) -> list[str]:
        """The verdict, in plain sentences."""
        size = len(self.kl)
        words = []
        if len(self.unused) == size:
            words.append(
                "Posterior collapse: no dimension is used, every frame is decoded to the same picture. The"
                " observation noise is too large: lower --observation-std."
            )
        elif self.unused:
            words.append(
                f"{len(self.unused)} of {size} dimensions collapsed (unused: {self.unused}). That is harmless when"
                " the pictures are good: the frames need no more. If they are not, lower --observation-std."
            )
        if self.near_zero:
            words.append(
                f"An autoencoder in disguise: the posterior of dimensions {self.near_zero} has gone to near zero"
                f" variance (std below {NEAR_ZERO_STD}). The KL no longer shapes the latent space and samples from"
                " the prior will not look like data. The observation noise is too small: raise --observation-std."
            )
        if self.reconstruction_share > NOT_LEARNT and len(self.unused) < size:
            words.append(
                "Frames not learnt: look at the learning rate (--find-lr), then at --overfit-one-batch, then train"
                " longer (--steps)."
            )
        if not words:
            words.append(f"Healthy: all {size} dimensions are used and none has lost its variance.")
        words.append(f"The reconstruction's error is {self.reconstruction_share:.1%} of the frames' variance.")
        return words


def open_vae(folder: Path, data: Sequences, path: Path) -> StaticVAE:
    """The trained model of a run. Raises UserError when the folder does not hold a static VAE of such frames."""
    run = Run.open(folder, "static_vae")
    run.check_fits(data, path)
    options = run.model_options(StaticVAEOptions)
    return run.restore_model(lambda rngs: StaticVAE(run.card.scale, options, rngs))


def report_posterior(posterior: distrax.Independent, frames: np.ndarray, reconstructed: np.ndarray) -> PosteriorReport:
    """How each dimension of a batched posterior is used, averaged over all frames, and the error of `reconstructed`
    `[M, ...]` over the variance of `frames` `[M, ...]`."""
    mean, std = posterior.mean(), posterior.stddev()
    per_dimension = distrax.Normal(mean, std).kl_divergence(distrax.Normal(jnp.zeros_like(mean), jnp.ones_like(std)))
    over = tuple(range(mean.ndim - 1))
    return PosteriorReport(
        kl=np.asarray(jnp.mean(per_dimension, over)),
        std=np.asarray(jnp.exp(jnp.mean(jnp.log(std), over))),
        reconstruction_share=float(np.mean((reconstructed - frames) ** 2) / np.mean(np.var(frames, axis=0))),
    )


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
