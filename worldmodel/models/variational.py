"""What the models share whose filter is a chain of diagonal Gaussians: the terms of the bound, its sampled weight, what
a training watches, and a diagnosis.

Every term stays `[B, T]` until the last line; index t is frame t. Sums run over pixels and latent dimensions,
means over sequences and the frames that were seen.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import chex
import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen, per_seen_frame
from worldmodel.models.distributions import standard_normal_like
from worldmodel.models.protocol import Bound, Panel, Problem

COLLAPSED = 0.5
"""nats; when the initial state holds less information on the frames, it has collapsed to one and the same for all"""
LEAST = ("actions unused",)
"""problems that are told last"""
SMALLEST_STD = 0.003
"""of the initial posterior, whose prior has 1; healthy ones have 0.01 and more"""


class Inference(NamedTuple):
    """What a filter finds in B sequences of T frames, with the distributions that its latents were drawn from."""

    features: jax.Array
    """`[B, T, F]` what the posteriors were told of each frame"""
    latents: jax.Array
    """`[B, T, Z]` samples"""
    draws: jax.Array
    """`[B, T, Z]` what the distributions below are over: the latents, unless a model infers w itself"""
    initial: distrax.Distribution
    """q(z_0), batch shape `[B]`"""
    posterior: distrax.Distribution
    """q(z_{t+1} | z_t, u_t, x_{t+1}), batch shape `[B, T-1]`"""
    prior: distrax.Distribution
    """p(z_{t+1} | z_t, u_t), batch shape `[B, T-1]`"""


class VariationalFilter(nnx.Module):
    """What such a WorldModel has beside its filter: a bound and a diagnosis."""

    scale: FrameScale
    options: Any
    latent_size: int
    remedies: ClassVar[dict[str, str]] = {}
    """what to change in the model's options, by the name of a problem"""
    panels: ClassVar[tuple[Panel, ...]] = (
        Panel("KL", "nats", "kl_step", {"kl_initial": "initial state", "kl_step": "one filtered step"}),
    )
    """as Plotted.panels"""

    def infer(
        self,
        frames: jax.Array,
        actions: jax.Array,
        observed: jax.Array,
        noise: jax.Array,
        valid: jax.Array | None = None,
    ) -> Inference:
        """Filter B sequences; where `observed` is False a step is imagined instead.

        Args:
            frames: `[B, T, H, W(, C)]` in [0, 1].
            actions: `[B, T-1, A]`.
            observed: bool `[B, T-1]`; whether the step from t to t+1 uses frame t+1.
            noise: `[B, T, Z]` standard normal; zeros follow the means.
            valid: bool `[B, T]`; False where a frame was not seen: nothing is told of it.
        """
        raise NotImplementedError

    def emit(self, latents: jax.Array) -> distrax.Distribution:
        """p(x | z) for latents `[..., Z]`: the emission, where a state is its latent."""
        return self.emission(latents)

    @property
    def observation_std(self) -> Any:
        """sigma of a pixel, in units of full brightness."""
        return self.scale.observation_std(self.options.observation_std)

    def infer_all(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None, key: jax.Array | None
    ) -> Inference:
        """`infer` of every frame that was seen, with samples or, without a key, along the means."""
        noise = standard_noise(key, (*frames.shape[:2], self.latent_size))
        return self.infer(frames, actions, observed_steps(actions, valid), noise, valid=valid)

    def bound(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Bound:
        """As Bounded.bound."""
        inferred = self.infer_all(frames, actions, valid, key)
        terms = bound_terms(self, frames, inferred, observed_steps(actions, valid), valid)
        return Bound(terms.reconstruction, terms.kl, importance_log_weight(self, frames, inferred, valid))

    def diagnosis(self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None) -> dict[str, jax.Array]:
        """Of the filter along its means: "kl_initial" and "kl_step" in nats; "information", nats of the initial state
        on the frames (how far its means differ between sequences, in units of its width); "initial_std", of the initial
        posterior in its narrowest dimension, whose prior has 1."""
        inferred = self.infer_all(frames, actions, valid, None)
        initial, observed = inferred.initial, None if valid is None else valid[:, 1:]
        signal = jnp.var(initial.mean(), axis=0) / jnp.mean(initial.variance(), axis=0)
        return {
            "kl_initial": jnp.mean(initial.kl_divergence(standard_normal_like(initial))),
            "information": jnp.sum(jnp.log1p(signal)) / 2,
            "kl_step": mean_of_seen(inferred.posterior.kl_divergence(inferred.prior), observed),
            "initial_std": jnp.min(jnp.exp(jnp.mean(jnp.log(initial.stddev()), axis=0))),
        }

    def explain(self, figures: dict[str, float], problems: list[Problem]) -> list[Problem]:
        """As Diagnosed.explain."""
        return explain(figures, problems, self.remedies)

    def remark(self, figures: dict[str, float]) -> str:
        """As Remarking.remark."""
        return f"KL {figures['kl_initial']:.1f} nats in the initial state and {figures['kl_step']:.2f} in a step."


class BoundTerms(NamedTuple):
    """The parts of the bound, nats, each `[B, T]`."""

    reconstruction: jax.Array
    """ln p(x_t | z_t) at the sampled latent"""
    kl: jax.Array
    """t = 0: KL(q(z_0) || N(0, I)); later KL(q(z_t | .) || p(z_t | z_{t-1}, u_{t-1})), 0 where the step was not
    observed: its posterior is the prior"""
    entropy: jax.Array
    """of q, in units of the prior's noise w; 0 where the step was not observed"""


def observed_steps(actions: jax.Array, valid: jax.Array | None) -> jax.Array:
    """bool `[B, T-1]` for actions `[B, T-1, A]`: whether each step's frame was seen."""
    return jnp.ones(actions.shape[:2], bool) if valid is None else valid[:, 1:]


def standard_noise(key: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal numbers, or zeros without a key: the means are then followed. The key is consumed."""
    return jnp.zeros(shape) if key is None else jax.random.normal(key, shape)


def bound_terms(
    model: VariationalFilter,
    frames: jax.Array,
    inferred: Inference,
    observed: jax.Array,
    valid: jax.Array | None = None,
) -> BoundTerms:
    """The terms of the bound for frames `[B, T, H, W(, C)]` filtered with the mask `observed` `[B, T-1]`.

    With any mask the bound is a lower bound of ln p(x | u): an unobserved step only chooses a posterior that
    equals the prior. A frame that was not seen (`valid` `[B, T]`) has no likelihood.
    """
    reconstruction = model.emit(inferred.latents).log_prob(frames)
    if valid is not None:
        reconstruction = jnp.where(valid, reconstruction, 0)
    initial_kl = inferred.initial.kl_divergence(standard_normal_like(inferred.initial))
    step_kl = inferred.posterior.kl_divergence(inferred.prior)
    log_unit = jnp.sum(jnp.log(inferred.prior.stddev()), axis=-1)
    step_entropy = inferred.posterior.entropy() - log_unit
    terms = BoundTerms(
        reconstruction=reconstruction,
        kl=jnp.concatenate([initial_kl[:, None], jnp.where(observed, step_kl, 0)], axis=1),
        entropy=jnp.concatenate([inferred.initial.entropy()[:, None], jnp.where(observed, step_entropy, 0)], axis=1),
    )
    chex.assert_equal_shape(terms)
    return terms


def importance_log_weight(
    model: VariationalFilter, frames: jax.Array, inferred: Inference, valid: jax.Array | None = None
) -> jax.Array:
    """ln p(x, z | u) - ln q(z | x, u) `[B]` in nats per sequence, at the draws of a filter that observed all frames
    that were seen (`valid` `[B, T]`).

    Its mean over samples is the ELBO; the logarithm of the mean of its exponential over k samples is the IWAE bound
    (Burda, Grosse, Salakhutdinov 2016, eq. 8).
    """
    first, later = inferred.draws[:, 0], inferred.draws[:, 1:]
    likelihood = model.emit(inferred.latents).log_prob(frames)
    transition = inferred.prior.log_prob(later) - inferred.posterior.log_prob(later)
    if valid is not None:  # an imagined step is drawn from its prior
        likelihood, transition = jnp.where(valid, likelihood, 0), jnp.where(valid[:, 1:], transition, 0)
    weight = jnp.sum(likelihood, axis=1)
    weight += standard_normal_like(inferred.initial).log_prob(first) - inferred.initial.log_prob(first)
    return weight + jnp.sum(transition, axis=1)


def temperature(progress: jax.Array, annealing_share: float) -> jax.Array:
    """c = min(1, 0.01 + step / T_A) (Karl et al. 2017, eq. 10, with the min that their text describes), T_A as a share
    of the training; 1 without annealing."""
    if annealing_share == 0:
        return jnp.ones(())
    return jnp.minimum(1.0, 0.01 + progress / annealing_share)


def annealed(terms: BoundTerms, c: jax.Array) -> jax.Array:
    """`[B, T]`: what stands beside the reconstruction in E_q[c ln p(x|z) - ln q(w) + c ln p(w)] (Karl et al. 2017,
    eq. 10), with its sign changed: c KL - (1 - c) entropy is the same in closed form."""
    return c * terms.kl - (1 - c) * terms.entropy


def watched(
    model: VariationalFilter, batch: Batch, inferred: Inference, terms: BoundTerms, observed: jax.Array
) -> dict[str, jax.Array]:
    """The metrics of a training: the plain, unweighted bound and its parts in nats per frame that was seen, the error
    of those frames."""
    error = (model.emit(inferred.latents).mean() - batch.frames) ** 2
    return {
        "elbo": per_seen_frame(terms.reconstruction - terms.kl, batch.valid),
        "reconstruction": per_seen_frame(terms.reconstruction, batch.valid),
        "kl": per_seen_frame(terms.kl, batch.valid),
        "kl_initial": jnp.mean(terms.kl[:, 0]),
        "kl_step": jnp.sum(terms.kl[:, 1:]) / jnp.maximum(jnp.sum(observed), 1),
        "frame_mse": mean_of_seen(error, batch.valid),
        "latent_rms": jnp.sqrt(jnp.mean(inferred.latents**2)),
    }


def explain(figures: dict[str, float], problems: list[Problem], remedies: dict[str, str]) -> list[Problem]:
    """The general check's problems in the light of `diagnosis`: what is a collapse of the KL, and what has no variance
    left. `remedies` say what to change in a model's own options, by the name of a problem."""
    found = []
    collapsed = figures["information"] < COLLAPSED
    for problem in problems:
        if problem.name == "latents grow" and collapsed:
            continue
        if problem.name == "frames not learnt" and collapsed:
            left = figures["reconstruction_share"]
            problem = Problem(
                "KL collapse",
                f"the latent says nothing of the frames ({figures['information']:.2f} nats, {left:.0%} of their"
                " variance left).",
                "The noise allowed to a pixel is too large: lower --observation-std; if that is not it, see"
                " --overfit-one-batch and --find-lr.",
            )
        if problem.name == "positions only":
            seen = problem.seen.rstrip(".") + f", and every step is corrected by {figures['kl_step']:.1f} nats."
            problem = dataclasses.replace(problem, seen=seen)
        found.append(problem)
    if figures["initial_std"] < SMALLEST_STD:
        narrow = Problem(
            "zero variance",
            f"the initial posterior is as narrow as {figures['initial_std']:.4f} (its prior has 1): an autoencoder in"
            " disguise, whose frames override the dynamics.",
            "The noise allowed to a pixel is too small: raise --observation-std.",
        )
        found.append(narrow)
    found.sort(key=lambda problem: problem.name in LEAST)
    return [dataclasses.replace(each, remedy=remedies.get(each.name, each.remedy)) for each in found]
