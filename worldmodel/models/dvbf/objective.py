"""What is maximised: the evidence lower bound of the DVBF, its schedules, and its terms in nats per frame.

Every term stays `[B, T]` until the last line; index t is frame t. Sums run over pixels and latent dimensions,
means over sequences and time.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.models.distributions import standard_normal_like
from worldmodel.models.dvbf.model import DVBF, Filtered
from worldmodel.training.options import DVBFOptions


class BoundTerms(NamedTuple):
    """The parts of the bound, nats, each `[B, T]`."""

    reconstruction: jax.Array
    """ln p(x_t | z_t) at the sampled latent"""
    kl: jax.Array
    """t = 0: KL(q(z_0) || N(0, I)); later KL(q(z_t | .) || p(z_t | z_{t-1}, u_{t-1})), 0 where the step was not
    observed: its posterior is the prior"""
    entropy: jax.Array
    """of q, in units of the prior's noise w; 0 where the step was not observed"""


def bound_terms(model: DVBF, frames: jax.Array, filtered: Filtered, observed: jax.Array) -> BoundTerms:
    """The terms of the bound for frames `[B, T, H, W(, C)]` filtered with the mask `observed` `[B, T-1]`.

    With any mask the bound is a lower bound of ln p(x | u): an unobserved step only chooses a posterior that
    equals the prior.
    """
    reconstruction = model.emission(filtered.latents).log_prob(frames)
    initial_kl = filtered.initial.kl_divergence(standard_normal_like(filtered.initial))
    step_kl = filtered.posterior.kl_divergence(filtered.prior)
    log_unit = jnp.sum(jnp.log(filtered.prior.stddev()), axis=-1)
    step_entropy = filtered.posterior.entropy() - log_unit
    terms = BoundTerms(
        reconstruction=reconstruction,
        kl=jnp.concatenate([initial_kl[:, None], jnp.where(observed, step_kl, 0)], axis=1),
        entropy=jnp.concatenate([filtered.initial.entropy()[:, None], jnp.where(observed, step_entropy, 0)], axis=1),
    )
    chex.assert_equal_shape(terms)
    return terms


def importance_log_weight(model: DVBF, frames: jax.Array, filtered: Filtered) -> jax.Array:
    """ln p(x, z | u) - ln q(z | x, u) `[B]` in nats per sequence, at the draws of a filter that observed all frames.

    Its mean over samples is the ELBO; the logarithm of the mean of its exponential over k samples is the IWAE bound
    (Burda, Grosse, Salakhutdinov 2016, eq. 8).
    """
    first, later = filtered.draws[:, 0], filtered.draws[:, 1:]
    weight = jnp.sum(model.emission(filtered.latents).log_prob(frames), axis=1)
    weight += standard_normal_like(filtered.initial).log_prob(first) - filtered.initial.log_prob(first)
    return weight + jnp.sum(filtered.prior.log_prob(later) - filtered.posterior.log_prob(later), axis=1)


def open_loop_tails(key: jax.Array, batch: int, steps: int, share: jax.Array | float) -> jax.Array:
    """A mask `[batch, steps]` in which a share of the sequences is not observed from a random step on."""
    which, where = jax.random.split(key)
    open_loop = jax.random.bernoulli(which, share, (batch, 1))
    start = jax.random.randint(where, (batch, 1), 0, steps)
    return ~open_loop | (jnp.arange(steps)[None, :] < start)


def temperature(step: jax.Array, annealing_steps: int) -> jax.Array:
    """c = min(1, 0.01 + step / T_A) (Karl et al. 2017, eq. 10, with the min that their text describes)."""
    if annealing_steps == 0:
        return jnp.ones(())
    return jnp.minimum(1.0, 0.01 + step / annealing_steps)


def early(step: jax.Array, steps: int) -> jax.Array:
    """1 for the first 30% of the steps, 0 from 70% on, a straight line between: the help that a beginner gets.

    It makes the model explain motion by its dynamics first: corrections by the frames are dear (the weight of the
    transition's KL), and some sequences end without frames (open-loop tails). What is learnt so stays when the help
    ends, and is refined by the bound alone.
    """
    return jnp.clip((0.7 - step / steps) / 0.4, 0, 1)


def noise_scale(step: jax.Array, steps: int, final: float) -> jax.Array:
    """1 for the first 20% of the steps, `final` from 70% on, a straight line of its logarithm between.

    Early noise lets the filter find the velocity, late noise only blurs the transition.
    """
    return final ** jnp.clip((step / steps - 0.2) / 0.5, 0, 1)


def restart_distance(model: DVBF, filtered: Filtered, actions: jax.Array) -> jax.Array:
    """How far each filtered latent is from the initial state that the frames from there on give: squared, averaged over
    dimensions, `[B, T - K + 1]` with K the frames that the initial posterior sees. Actions are `[B, T-1, A]`.

    A filter may write into its latents what only their place in the window explains, since all windows begin anew:
    a memory of the start, a clock. It costs nothing within the window and drifts beyond it. A latent that could as
    well be an initial state cannot hold such things.
    """
    seen = model.options.initial_frames
    starts = np.arange(filtered.latents.shape[1] - seen + 1)
    window = starts[:, None] + np.arange(seen)  # [T - K + 1, K]
    actions = actions / model.scale.action_scale
    restart = jax.vmap(model.initial, in_axes=1, out_axes=1)(filtered.features[:, window], actions[:, window[:, :-1]])
    return jnp.mean((filtered.latents[:, : len(starts)] - restart.mean()) ** 2, axis=-1)


def dvbf_loss(
    model: DVBF,
    frames: jax.Array,
    actions: jax.Array,
    key: jax.Array,
    step: jax.Array,
    *,
    steps: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The training objective in nats per frame, and what to watch.

    The annealed objective E_q[c ln p(x|z) - ln q(w) + c ln p(w)] is written with c KL - (1 - c) entropy, which
    is the same in closed form. With temperature 1 and KL weight 1 the loss is the negative ELBO plus the penalty on the
    latents' distance from an initial state. The metrics always hold the plain, unweighted ELBO beside it.

    Args:
        frames: `[B, T, H, W(, C)]` in [0, 1].
        actions: `[B, T-1, A]`.
        key: consumed.
        step, steps: where in the training this is.
    """
    options: DVBFOptions = model.options
    batch, length = frames.shape[:2]
    mask_key, noise_key = jax.random.split(key)
    help_given = early(step, steps)
    observed = open_loop_tails(mask_key, batch, length - 1, help_given * options.open_loop_share)
    noise = jax.random.normal(noise_key, (batch, length, options.latent_size))
    filtered = model.filter(frames, actions, observed, noise, noise_scale(step, steps, options.final_noise_scale))
    terms = bound_terms(model, frames, filtered, observed)

    c = temperature(step, options.annealing_steps)
    step_weight = 1 + (options.transition_kl_weight - 1) * help_given
    weight = jnp.concatenate([jnp.ones((1, 1)), jnp.full((1, length - 1), step_weight)], axis=1)
    regulariser = weight * (c * terms.kl - (1 - c) * terms.entropy)
    chex.assert_shape(regulariser, (batch, length))
    loss = jnp.mean(-c * terms.reconstruction + regulariser)
    metrics = {}
    if options.consistency_weight > 0:
        distance = jnp.mean(restart_distance(model, filtered, actions))
        loss += options.consistency_weight * distance
        metrics["restart_distance"] = distance

    steps_filtered = jnp.maximum(jnp.sum(observed), 1)
    error = (model.emission(filtered.latents).mean() - frames) ** 2
    metrics |= {
        "loss": loss,
        "elbo": jnp.mean(terms.reconstruction - terms.kl),
        "reconstruction": jnp.mean(terms.reconstruction),
        "kl": jnp.mean(terms.kl),
        "kl_initial": jnp.mean(terms.kl[:, 0]),
        "kl_step": jnp.sum(terms.kl[:, 1:]) / steps_filtered,
        "frame_mse": jnp.mean(error),
        "latent_rms": jnp.sqrt(jnp.mean(filtered.latents**2)),
    }
    return loss, metrics
