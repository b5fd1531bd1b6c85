"""The recurrent state-space model of DreamerV3 (Hafner et al. 2023, arXiv 2301.04104), with a discrete stochastic part.

    h_0     = GRU(0, [0, 0])
    h_{t+1} = GRU(h_t, s_t, u_t), in blocks                          belief, deterministic
    s_t     ~ L categorical variables of C classes, given h_t        prior
    x_t     ~ N(decoder(h_t, s_t), sigma^2 I)                        emission
    q(s_t | h_t, x_t)                                                posterior

All probabilities are 99% the network's and 1% uniform, so that no KL is infinite. Samples are one-hot; gradients pass
them as if they were the probabilities (straight through: Bengio, Leonard, Courville 2013). The loss is

    sum_t -ln p(x_t | h_t, s_t) + dynamics max(1, KL(sg(q_t) || p_t)) + representation max(1, KL(q_t || sg(p_t)))

with sg the stop-gradient: the prior learns to foresee the posterior ten times as fast as the posterior learns to be
foreseeable, and neither where the KL is below `free_nats`.

The block GRU sees h as `blocks` parts, each of which is told of its own part and of the whole state and the action, and
gates its own part; layers are followed by an RMS norm (Zhang, Sennrich 2019) and SiLU. The update gate begins at
sigmoid(-1): beliefs change slowly at first. The norm after the layer that sees the action divides by the action's size,
of which that layer's bias, 0 at first, must learn to let something through.

Departures from DreamerV3: no rewards, no ends and no actor in the loss (they are learnt afterwards, for every model
alike); sigma is the data's, as of all models here (DreamerV3: squared errors of brightness in [0, 1], which is
sigma^2 = 1/2); frames are standardised; actions are scaled by their root mean square (DreamerV3's are in [-1, 1], and
drawn back to it); the optimiser is this project's; the default sizes are smaller than those of
the smallest preset, which `DREAMER` has. Without a key the mode is followed: no model mean exists.
"""

import itertools

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.rival_options import CategoricalRSSMOptions
from baselines.rssm import RSSM, Inferred, RSSMState
from worldmodel.data.scale import FrameScale
from worldmodel.models.vision.networks import make_decoder, make_encoder

NORM_EPSILON = 1e-4
FIRST_UPDATE = -1.0
"""added to what the update gate sees"""


class Normed(nnx.Module):
    """Linear layers, each followed by an RMS norm and SiLU: `[..., sizes[0]]` to `[..., sizes[-1]]`."""

    def __init__(self, sizes: tuple[int, ...], rngs: nnx.Rngs):
        pairs = list(itertools.pairwise(sizes))
        self.layers = nnx.List([nnx.Linear(i, o, rngs=rngs) for i, o in pairs])
        self.norms = nnx.List([nnx.RMSNorm(o, epsilon=NORM_EPSILON, rngs=rngs) for _, o in pairs])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.silu(norm(layer(x)))
        return x


class BlockLinear(nnx.Module):
    """A linear layer whose matrix is block-diagonal: `[..., G, I]` to `[..., G, O]`, a matrix for each of G blocks."""

    def __init__(self, blocks: int, inputs: int, outputs: int, rngs: nnx.Rngs):
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=2, batch_axis=0)
        self.kernel = nnx.Param(init(rngs.params(), (blocks, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((blocks, outputs)))

    def __call__(self, x: jax.Array) -> jax.Array:
        out = jnp.einsum("...gi,gio->...go", x, self.kernel[...])
        return out + jnp.broadcast_to(self.bias[...], out.shape)


class BlockGRU(nnx.Module):
    """h' `[B, D]` of h `[B, D]` and inputs `[B, I]`, in blocks that see one another through the inputs alone."""

    def __init__(self, size: int, inputs: int, blocks: int, rngs: nnx.Rngs):
        self.blocks, part = blocks, size // blocks
        self.hidden = BlockLinear(blocks, part + inputs, part, rngs)
        self.norm = nnx.RMSNorm(size, epsilon=NORM_EPSILON, rngs=rngs)
        self.gates = BlockLinear(blocks, part, 3 * part, rngs)

    def __call__(self, belief: jax.Array, inputs: jax.Array) -> jax.Array:
        batch, parts = len(belief), belief.reshape(len(belief), self.blocks, -1)
        told = jnp.broadcast_to(inputs[:, None], (batch, self.blocks, inputs.shape[-1]))
        hidden = self.hidden(jnp.concatenate([parts, told], axis=-1)).reshape(belief.shape)
        hidden = jax.nn.silu(self.norm(hidden)).reshape(parts.shape)
        reset, candidate, update = jnp.split(self.gates(hidden), 3, axis=-1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
        update = jax.nn.sigmoid(update + FIRST_UPDATE)
        return (update * candidate + (1 - update) * parts).reshape(belief.shape)


class CategoricalRSSM(RSSM):
    """DreamerV3's recurrent state-space model, a WorldModel."""

    def __init__(self, scale: FrameScale, options: CategoricalRSSMOptions, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        belief, hidden, flat = options.belief_size, options.hidden_size, options.variables * options.classes
        self.belief_size, self.stochastic_size, self.latent_size = belief, flat, belief + flat
        self.encoder = make_encoder(scale, options, (options.vision_size, options.feature_size), rngs)
        self.of_belief = Normed((belief, hidden), rngs)
        self.of_stochastic = Normed((flat, hidden), rngs)
        self.of_action = Normed((scale.action_size, hidden), rngs)
        self.cell = BlockGRU(belief, 3 * hidden, options.blocks, rngs)
        self.prior_hidden = Normed((belief, hidden, hidden), rngs)
        self.prior_logits = nnx.Linear(hidden, flat, rngs=rngs)
        self.posterior_hidden = Normed((belief + options.feature_size, hidden), rngs)
        self.posterior_logits = nnx.Linear(hidden, flat, rngs=rngs)
        self.decoder = make_decoder(scale, options, (self.latent_size, options.vision_size, options.vision_size), rngs)

    def believe(self, state: RSSMState, action: jax.Array) -> jax.Array:
        """As RSSM.believe."""
        inputs = [self.of_belief(state.belief), self.of_stochastic(state.stochastic), self.of_action(action)]
        return self.cell(state.belief, jnp.concatenate(inputs, axis=-1))

    def _categorical(self, logits: jax.Array) -> distrax.Independent:
        options = self.options
        shaped = logits.reshape(*logits.shape[:-1], options.variables, options.classes)
        probabilities = (1 - options.uniform_share) * jax.nn.softmax(shaped) + options.uniform_share / options.classes
        return distrax.Independent(distrax.OneHotCategorical(jnp.log(probabilities)), 1)

    def prior(self, belief: jax.Array) -> distrax.Independent:
        """As RSSM.prior."""
        return self._categorical(self.prior_logits(self.prior_hidden(belief)))

    def posterior(self, belief: jax.Array, features: jax.Array) -> distrax.Independent:
        """As RSSM.posterior."""
        told = jnp.concatenate([belief, features], axis=-1)
        return self._categorical(self.posterior_logits(self.posterior_hidden(told)))

    def choose(
        self, distribution: distrax.Independent, key: jax.Array | None, spread: jax.Array | float = 1.0
    ) -> jax.Array:
        """A one-hot sample, or the mode; no factor makes such noise wider."""
        logits = log_probabilities(distribution)
        which = jnp.argmax(logits, axis=-1) if key is None else jax.random.categorical(key, logits)
        probabilities = jnp.exp(logits)
        one_hot = jax.nn.one_hot(which, logits.shape[-1]) + probabilities - jax.lax.stop_gradient(probabilities)
        return one_hot.reshape(*one_hot.shape[:-2], -1)

    def log_prob(self, distribution: distrax.Independent, stochastic: jax.Array) -> jax.Array:
        """As RSSM.log_prob, of one-hot samples."""
        logits = log_probabilities(distribution)
        return jnp.sum(stochastic.reshape(logits.shape) * logits, axis=(-2, -1))

    def kl_cost(self, inferred: Inferred) -> jax.Array:
        """The dynamics' and the representation's loss."""
        options, posterior, prior = self.options, inferred.posterior, inferred.prior
        dynamics = stopped(posterior).kl_divergence(prior)
        representation = posterior.kl_divergence(stopped(prior))
        return options.dynamics_weight * jnp.maximum(options.free_nats, dynamics) + (
            options.representation_weight * jnp.maximum(options.free_nats, representation)
        )


def log_probabilities(distribution: distrax.Independent) -> jax.Array:
    """`[..., L, C]` of L categorical variables of C classes."""
    return distribution.distribution.logits


def stopped(distribution: distrax.Independent) -> distrax.Independent:
    """The same, through which no gradient flows."""
    return distrax.Independent(distrax.OneHotCategorical(jax.lax.stop_gradient(log_probabilities(distribution))), 1)
