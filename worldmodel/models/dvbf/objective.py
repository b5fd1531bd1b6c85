"""What a DVBF is trained on: the evidence lower bound, what the recipe adds to it, and its schedules.

Every term stays `[B, T]` until the last line; index t is frame t.
"""

from typing import TYPE_CHECKING

import chex
import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.windows import Batch, below, mean_of_seen, per_seen_frame
from worldmodel.models.variational import Inference, annealed, bound_terms, observed_steps, temperature, watched

if TYPE_CHECKING:
    from worldmodel.models.dvbf.model import FilterThroughTransition

NOISE_FALLS = (0.2, 0.7)
"""shares of the steps between which the transition's noise falls"""


def open_loop_tails(key: jax.Array, batch: int, steps: int, share: jax.Array | float) -> jax.Array:
    """A mask `[batch, steps]` in which a share of the sequences is not observed from a random step on."""
    which, where = jax.random.uniform(key, (2, batch, 1))
    return (which >= share) | (jnp.arange(steps)[None, :] < jnp.floor(where * steps))


def early(progress: jax.Array, end: float) -> jax.Array:
    """1 for the first third of the time up to `end`, 0 from there on, a straight line between: the help a beginner
    gets.

    It makes the model explain motion by its dynamics first: corrections by the frames are dear (the weight of the
    transition's KL), and some sequences end without frames (open-loop tails). What is learnt so stays when the help
    ends, and is refined by the bound alone.
    """
    return jnp.clip(1.5 * (1 - progress / end), 0, 1)


def noise_scale(progress: jax.Array, final: float) -> jax.Array:
    """1 until the first number of NOISE_FALLS, `final` from the second on, a straight line of its logarithm between.

    Early noise lets the filter find the velocity, late noise only blurs the transition.
    """
    begin, end = NOISE_FALLS
    return final ** jnp.clip((progress - begin) / (end - begin), 0, 1)


@jax.named_scope("consistency_penalty")
def restart_distance(
    model: "FilterThroughTransition", inferred: Inference, actions: jax.Array, starts: jax.Array
) -> jax.Array:
    """How far the filtered latent at the frame `starts` `[B]` of each sequence is from the initial state that the
    frames from there on give: squared, averaged over dimensions, `[B]`. Actions are `[B, T-1, A]`.

    A filter may write into its latents what only their place in the window explains, since all windows begin anew:
    a memory of the start, a clock. It costs nothing within the window and drifts beyond it. A latent that could as
    well be an initial state cannot hold such things.
    """
    count, actions = model.options.initial_frames, actions / model.scale.action_scale
    restart = model.initial(stretch(inferred.features, starts, count), stretch(actions, starts, count - 1))
    here = stretch(inferred.latents, starts, 1)[:, 0]
    return jnp.mean((here - restart.mean()) ** 2, axis=-1)


def stretch(values: jax.Array, starts: jax.Array, count: int) -> jax.Array:
    """`[B, count, N]`: of `values` `[B, T, N]`, those from the frame `starts` `[B]` of each sequence on."""
    return jnp.take_along_axis(values, starts[:, None, None] + np.arange(count)[None, :, None], axis=1)


@jax.named_scope("glimpse")
def glimpse_loss(
    model: "FilterThroughTransition", inferred: Inference, actions: jax.Array, key: jax.Array
) -> jax.Array:
    """-ln q(z_0 | some of its frames), in nats `[B]`, at the z_0 that was drawn with all of them; actions are
    `[B, T-1, A]`, the key is consumed. Its expectation is least where q is what those frames leave open, on average
    over the others (q(z_0 | all) marginalised). Half of the sequences show the first few frames, half a random choice.

    Neither z_0 nor the features learn from it.
    """
    size, count = len(actions), model.options.initial_frames
    few_key, some_key, which_key = jax.random.split(key, 3)
    few = jnp.arange(count)[None, :] <= below(jax.random.bits(few_key, (size, 1)), max(count - 1, 1))
    some = jax.random.bernoulli(some_key, 0.5, (size, count))
    seen = jnp.where(jax.random.bernoulli(which_key, 0.5, (size, 1)), few, some)
    features, target = jax.lax.stop_gradient((inferred.features, inferred.latents[:, 0]))
    return -model.glimpse(features, actions / model.scale.action_scale, seen).log_prob(target)


def dvbf_loss(
    model: "FilterThroughTransition", batch: Batch, key: jax.Array, progress: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The training objective in nats per frame that was seen, and what to watch.

    With temperature 1 and KL weight 1 the loss is the negative ELBO plus the penalty on the latents' distance from an
    initial state, at one random frame of each sequence, and the glimpse's own loss, which moves the glimpse alone. The
    metrics always hold the plain, unweighted ELBO beside it.
    The key is consumed.
    """
    options, frames, actions = model.options, batch.frames, batch.actions
    size, length = frames.shape[:2]
    mask_key, noise_key, start_key = jax.random.split(key, 3)
    help_given = early(progress, options.help_ends)
    observed = open_loop_tails(mask_key, size, length - 1, help_given * options.open_loop_share)
    if batch.valid is not None:
        observed &= observed_steps(actions, batch.valid)
    noise = jax.random.normal(noise_key, (size, length, options.latent_size))
    scale = noise_scale(progress, options.final_noise_scale)
    inferred = model.infer(frames, actions, observed, noise, batch.valid, scale)
    terms = bound_terms(model, frames, inferred, observed, batch.valid)

    c = temperature(progress, options.annealing_share)
    step_weight = 1 + (options.transition_kl_weight - 1) * help_given
    weight = jnp.concatenate([jnp.ones((1, 1)), jnp.full((1, length - 1), step_weight)], axis=1)
    regulariser = weight * annealed(terms, c)
    chex.assert_shape(regulariser, (size, length))
    loss = per_seen_frame(-c * terms.reconstruction + regulariser, batch.valid)
    metrics = {}
    if options.consistency_weight > 0:
        starts = below(jax.random.bits(start_key, (size,)), length - options.initial_frames + 1)
        distance = restart_distance(model, inferred, actions, starts)
        whole = None
        if batch.valid is not None:
            whole = jnp.all(stretch(batch.valid[..., None], starts, options.initial_frames), axis=(1, 2))
        distance = mean_of_seen(distance, whole)
        loss += options.consistency_weight * distance
        metrics["restart_distance"] = distance
    if options.glimpse_weight > 0:
        glimpse = glimpse_loss(model, inferred, actions, jax.random.fold_in(key, 3))
        whole = None if batch.valid is None else jnp.all(batch.valid[:, : options.initial_frames], axis=1)
        loss += options.glimpse_weight * mean_of_seen(glimpse, whole)
    return loss, metrics | {"loss": loss} | watched(model, batch, inferred, terms, observed)
