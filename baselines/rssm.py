"""The recurrent state-space model of PlaNet (Hafner et al. 2019, arXiv 1811.04551), whose state is in two parts.

    h_0     = GRU(0, [0, 0])
    h_{t+1} = GRU(h_t, network(s_t, u_t))                            belief, deterministic
    s_t     ~ N(mean(h_t), std(h_t)^2)                               prior
    x_t     ~ N(decoder(h_t, s_t), sigma^2 I)                        emission
    q(s_t | h_t, x_t)                                                posterior

The belief remembers, the stochastic part is what a frame can tell that was not foreseen. The loss is the negative ELBO,
with one sample of the posterior at each step, in which a step's KL costs nothing below `free_nats`:

    sum_t -ln p(x_t | h_t, s_t) + max(free_nats, KL(q(s_t | h_t, x_t) || p(s_t | h_t)))

Glossary: belief h and state s are the paper's words; here the state is both, `RSSMState`. The file is of two models:
`RSSM` is what PlaNet's and DreamerV3's have in common (rssm_categorical.py), `GaussianRSSM` is PlaNet's.

Departures from PlaNet: rewards are learnt afterwards, for every model alike, not as a term of the loss; sigma is the
data's, as of all models here (PlaNet: 1, of brightness in [-0.5, 0.5] that is quantised to 5 bits); the optimiser is
this project's; the default sizes are smaller, `PLANET` has the paper's. `spread`, a factor on all sampled noise,
is fitted after the training (evaluation/calibration.py).
"""

from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.rival_options import RSSMOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen, per_seen_frame
from worldmodel.models.distributions import MIN_STD, diagonal_normal, draw, image_normal
from worldmodel.models.networks import MLP, split_in_two
from worldmodel.models.protocol import Bound, swap_time
from worldmodel.models.vision.networks import make_decoder, make_encoder


class RSSMState(NamedTuple):
    """What a recurrent state-space model believes at one time."""

    belief: jax.Array
    """h `[..., D]`, deterministic"""
    stochastic: jax.Array
    """s `[..., S]`"""


class Inferred(NamedTuple):
    """What the filter finds in B sequences of T frames, with what its samples were drawn from."""

    state: RSSMState
    """`[B, T, ...]`"""
    posterior: distrax.Distribution
    """q(s_t | h_t, x_t), batch shape `[B, T]`"""
    prior: distrax.Distribution
    """p(s_t | h_t), batch shape `[B, T]`"""


class RSSM(nnx.Module):
    """A WorldModel with a bound, without the networks and distributions that set one such model apart from another.

    A subclass makes `encoder` and `decoder` and has the sizes of the two parts of its state.
    """

    scale: FrameScale
    latent_size: int
    belief_size: int
    stochastic_size: int
    context = 1

    # What a subclass has

    def believe(self, state: RSSMState, action: jax.Array) -> jax.Array:
        """h' `[B, D]` after a scaled action `[B, A]`."""
        raise NotImplementedError

    def prior(self, belief: jax.Array) -> distrax.Distribution:
        """p(s | h), of beliefs of any leading axes."""
        raise NotImplementedError

    def posterior(self, belief: jax.Array, features: jax.Array) -> distrax.Distribution:
        """q(s | h, x), of features of the frame."""
        raise NotImplementedError

    def choose(
        self, distribution: distrax.Distribution, key: jax.Array | None, spread: jax.Array | float = 1.0
    ) -> jax.Array:
        """s `[..., S]`: a sample through which gradients flow, its noise multiplied by `spread` where that can be, or
        without a key what is followed in its place."""
        raise NotImplementedError

    def spread_of_samples(self) -> jax.Array | float:
        """What noise is multiplied by outside of training."""
        return 1.0

    def log_prob(self, distribution: distrax.Distribution, stochastic: jax.Array) -> jax.Array:
        """ln p(s) `[...]`."""
        raise NotImplementedError

    def kl_cost(self, inferred: Inferred) -> jax.Array:
        """`[B, T]`: what stands beside the reconstruction in the loss."""
        raise NotImplementedError

    # One step

    def encode(self, frames: jax.Array) -> jax.Array:
        """What each frame says by itself: `[..., H, W(, C)]` to features `[..., F]`."""
        return jax.nn.silu(self.encoder(self.scale.standardise(frames)))

    def emission(self, state: RSSMState) -> distrax.Independent:
        """p(x | h, s): a distribution over frames `[..., H, W(, C)]`."""
        frames = self.scale.restore(self.decoder(self.vector(state)))
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))

    @property
    def observation_std(self) -> float:
        """sigma of a pixel, in units of full brightness."""
        return self.scale.observation_std(self.options.observation_std)

    def vector(self, state: RSSMState) -> jax.Array:
        """Both parts, `[..., D + S]`."""
        return jnp.concatenate([state.belief, state.stochastic], axis=-1)

    def filter_step(
        self, state: RSSMState, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> RSSMState:
        """As WorldModel.filter_step."""
        belief = self.believe(state, action / self.scale.action_scale)
        return RSSMState(belief, self.choose(self.posterior(belief, self.encode(frame)), key, self.spread_of_samples()))

    def imagine_step(self, state: RSSMState, action: jax.Array, key: jax.Array | None = None) -> RSSMState:
        """As WorldModel.imagine_step."""
        belief = self.believe(state, action / self.scale.action_scale)
        return RSSMState(belief, self.choose(self.prior(belief), key, self.spread_of_samples()))

    # Whole sequences

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> RSSMState:
        """As WorldModel.filter."""
        return self.infer(frames, actions, valid, key, self.spread_of_samples()).state

    def infer(
        self,
        frames: jax.Array,
        actions: jax.Array,
        valid: jax.Array | None,
        key: jax.Array | None,
        spread: jax.Array | float = 1.0,
    ) -> Inferred:
        """The filter of frames `[B, T, H, W(, C)]` and actions `[B, T-1, A]`, with its distributions. Before the first
        frame the state and the action are 0."""
        batch, length = frames.shape[:2]
        features = self.encode(frames)
        before = jnp.concatenate([jnp.zeros((batch, 1, self.scale.action_size)), actions / self.scale.action_scale], 1)
        seen = jnp.ones((batch, length), bool) if valid is None else valid
        keys = None if key is None else jax.random.split(key, length)

        def step(state: RSSMState, inputs: tuple) -> tuple[RSSMState, tuple]:
            action, features, seen, key = inputs
            belief = self.believe(state, action)
            told_key, foreseen_key = (None, None) if key is None else jax.random.split(key)
            stochastic = self.choose(self.posterior(belief, features), told_key, spread)
            if valid is not None:
                foreseen = self.choose(self.prior(belief), foreseen_key, spread)
                stochastic = jnp.where(seen[:, None], stochastic, foreseen)
            return (state := RSSMState(belief, stochastic)), state

        start = RSSMState(jnp.zeros((batch, self.belief_size)), jnp.zeros((batch, self.stochastic_size)))
        over_time = jax.tree.map(swap_time, (before, features, seen))
        _, states = jax.lax.scan(step, start, (*over_time, keys))
        states = jax.tree.map(swap_time, states)
        return Inferred(states, self.posterior(states.belief, features), self.prior(states.belief))

    def kl(self, inferred: Inferred, valid: jax.Array | None) -> jax.Array:
        """`[B, T]` KL(q || p), 0 where no frame was seen."""
        kl = inferred.posterior.kl_divergence(inferred.prior)
        return kl if valid is None else jnp.where(valid, kl, 0)

    def bound(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Bound:
        """As Bounded.bound."""
        inferred = self.infer(frames, actions, valid, key)
        reconstruction = self.emission(inferred.state).log_prob(frames)
        drawn = inferred.state.stochastic
        ratio = self.log_prob(inferred.prior, drawn) - self.log_prob(inferred.posterior, drawn)
        if valid is not None:
            reconstruction, ratio = jnp.where(valid, reconstruction, 0), jnp.where(valid, ratio, 0)
        return Bound(reconstruction, self.kl(inferred, valid), jnp.sum(reconstruction + ratio, axis=1))

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As WorldModel.loss; the metrics have the plain bound."""
        frames, valid = batch.frames, batch.valid
        inferred = self.infer(frames, batch.actions, valid, key)
        emission = self.emission(inferred.state)
        reconstruction, cost = emission.log_prob(frames), self.kl_cost(inferred)
        if valid is not None:
            reconstruction, cost = jnp.where(valid, reconstruction, 0), jnp.where(valid, cost, 0)
        kl = self.kl(inferred, valid)
        loss = per_seen_frame(cost - reconstruction, valid)
        return loss, {
            "loss": loss,
            "elbo": per_seen_frame(reconstruction - kl, valid),
            "reconstruction": per_seen_frame(reconstruction, valid),
            "kl": per_seen_frame(kl, valid),
            "frame_mse": mean_of_seen((emission.mean() - frames) ** 2, valid),
        }


class GaussianRSSM(RSSM):
    """PlaNet's recurrent state-space model, a WorldModel."""

    def __init__(self, scale: FrameScale, options: RSSMOptions, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        self.belief_size, self.stochastic_size = options.belief_size, options.stochastic_size
        self.latent_size = options.belief_size + options.stochastic_size
        belief, stochastic, hidden = options.belief_size, options.stochastic_size, options.hidden_size
        self.spread = nnx.Param(jnp.ones(()))
        self.encoder = make_encoder(scale, options, (options.vision_size, options.feature_size), rngs)
        self.join = MLP((stochastic + scale.action_size, hidden), rngs)
        self.cell = nnx.GRUCell(hidden, belief, rngs=rngs)
        self.prior_network = MLP((belief, hidden, 2 * stochastic), rngs, jax.nn.relu)
        self.posterior_network = MLP((belief + options.feature_size, hidden, 2 * stochastic), rngs, jax.nn.relu)
        self.decoder = make_decoder(scale, options, (self.latent_size, options.vision_size, options.vision_size), rngs)

    def believe(self, state: RSSMState, action: jax.Array) -> jax.Array:
        """As RSSM.believe."""
        joined = jax.nn.relu(self.join(jnp.concatenate([state.stochastic, action], axis=-1)))
        return self.cell(state.belief, joined)[0]

    def _gaussian(self, told: jax.Array) -> distrax.Independent:
        mean, raw_std = split_in_two(told)
        return diagonal_normal(mean, jax.nn.softplus(raw_std) + max(self.options.min_std, MIN_STD))

    def prior(self, belief: jax.Array) -> distrax.Independent:
        """As RSSM.prior."""
        return self._gaussian(self.prior_network(belief))

    def posterior(self, belief: jax.Array, features: jax.Array) -> distrax.Independent:
        """As RSSM.posterior."""
        return self._gaussian(self.posterior_network(jnp.concatenate([belief, features], axis=-1)))

    def choose(
        self, distribution: distrax.Independent, key: jax.Array | None, spread: jax.Array | float = 1.0
    ) -> jax.Array:
        """A sample, or the mean."""
        return draw(distribution, key, spread)

    def spread_of_samples(self) -> jax.Array:
        """As RSSM.spread_of_samples."""
        return self.spread[...]

    def log_prob(self, distribution: distrax.Independent, stochastic: jax.Array) -> jax.Array:
        """As RSSM.log_prob."""
        return distribution.log_prob(stochastic)

    def kl_cost(self, inferred: Inferred) -> jax.Array:
        """max(free_nats, KL)."""
        return jnp.maximum(self.options.free_nats, inferred.posterior.kl_divergence(inferred.prior))
