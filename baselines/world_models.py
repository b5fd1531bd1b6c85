"""World Models (Ha and Schmidhuber 2018, arXiv 1803.10122; the shorter 1809.01999): a static VAE that sees (V), and a
recurrent network with a mixture density (MDN-RNN) that remembers and foresees (M). Their third part, the controller, is
a policy like any other.

    z_t     ~ N(0, I),   x_t ~ N(decoder(z_t), sigma^2 I)                        V: the static VAE of single frames
    q(z_t | x_t)                                                                 posterior, from the one frame alone
    c_{t+1}, h_{t+1} = LSTM(c_t, h_t, (z_t, u_t)),   c_0 = h_0 = 0               memory
    z_{t+1} ~ prod_d sum_k pi_dk N(mu_dk, s_dk^2),   (pi, mu, s) = W h_{t+1} + b M: a mixture in each dimension d

    z_t   latent of frame t                     h_t   output of the LSTM, which has seen z_0..z_{t-1}, u_0..u_{t-1}
    u_t   action between frames t and t+1       c_t   its cell

The state at t is (z_t, c_t, h_t), and its vector (z_t, h_t): what Ha's controller sees. A frame shows no velocity, so
there is none in z: it is in h, one frame late, and comes out only through the next step.

A filter advances the LSTM by (z_t, u_t), and reads z_{t+1} off the frame; where there is none, z_{t+1} is drawn from
the mixture, or is the mixture's mean. The frame is thus believed alone, however well it was foreseen.

For the first `vae_share` of a training V learns alone, by the negative ELBO of single frames. Then the loss also has
M's -ln p(z_{t+1} | z_0..z_t, u_0..u_t), of latents that are drawn anew from the posterior for every batch; nothing of
it reaches V. Together they are the bound of whole sequences,

    ln p(x | u) >= E_q sum_t [ln p(x_t | z_t) - ln q(z_t | x_t) + ln p(z_t | z_0..z_{t-1}, u_0..u_{t-1})],

but that V keeps N(0, I) for its prior, which here is z_0's alone. A mixture has no KL in closed form: that of a step is
taken at the one latent that was drawn, and may there be below zero.

Learning rate and optimiser are one for both. In the paper V stands still when M begins (`vae_goes_on` False): on this
schedule it then stops at a high rate, and frames never get the sharpness that low ones give. On the paper's pendulum
(8,000 updates, two seeds, a share of .25) reconstructions of held-out frames then have 80 times the error and more, the
first imagined frame seven times and more, the 10th and the 30th about the same: by then M's errors outweigh V's. With
a share of .4 these are half as large again and more (one training). A V that stops is moved on by its momentum for a
dozen updates' worth, which has died off after a hundred. Before M begins, a training pays for V alone; several seeds in
one program pay for both all along, since each has its own count of steps.

`spread` is the paper's temperature tau, as its square root: tau = spread^2. A component's standard deviation is
multiplied by sqrt(tau) = spread and its logit divided by tau, as in theirs; a filter's draws from q(z_t | x_t) are
spread likewise.

Departures from Ha and Schmidhuber:
- V goes on learning beside M, as said above.
- V is the project's static VAE, with its networks and a plain ELBO; theirs is convolutional for 64 x 64 in colour, and
  its KL has a floor.
- A memory of 128 units and 4 latents; `PUBLISHED_WORLD_MODELS` has their 256 and 32. More latents than frames need are
  more to foresee: with 8 the 30th imagined frame of the paper's pendulum had twice the error.
- Standard deviations are softplus(raw) + 0.001, theirs exp(raw).
- M foresees neither reward nor the end of an episode: here a reward is learnt of any model alike (planning/reward.py).
- Without a key a dream follows the mixture's mean; theirs are always drawn.
"""

from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.options import WorldModelsOptions
from baselines.static_vae import StaticVAE
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen
from worldmodel.models.distributions import draw, positive, standard_normal_like
from worldmodel.models.protocol import Bound, swap_time


class WorldModelsState(NamedTuple):
    """What it believes at one time."""

    latent: jax.Array
    """z `[..., Z]`"""
    cell: jax.Array
    """c `[..., H]` of the LSTM"""
    hidden: jax.Array
    """h `[..., H]` of the LSTM, which has seen every latent and action before z"""


class Inference(NamedTuple):
    """What the loss and the bound are made of."""

    posterior: distrax.Independent
    """q(z_t | x_t), batch shape `[B, T]`"""
    states: WorldModelsState
    """`[B, T, ...]`, with latents drawn from it where there is a frame, from the prior elsewhere"""
    log_prior: jax.Array
    """`[B, T]` ln p(z_t | z_<t, u_<t)"""


class WorldModels(nnx.Module):
    """A VAE and an MDN-RNN, a WorldModel."""

    context = 1

    def __init__(self, scale: FrameScale, options: WorldModelsOptions, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        latent, hidden = options.latent_size, options.hidden_size
        self.latent_size = latent + hidden
        self.spread = nnx.Param(jnp.ones(()))
        self.vae = StaticVAE(scale, options.vae(scale), rngs)
        self.gates = nnx.Linear(latent + scale.action_size + hidden, 4 * hidden, rngs=rngs)
        self.density = nnx.Linear(hidden, 3 * options.components * latent, rngs=rngs)

    # One step; actions are scaled

    def remember(self, state: WorldModelsState, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The LSTM's next c and h, each `[B, H]` (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al.
        2000, which begins open)."""
        told = jnp.concatenate([state.latent, action, state.hidden], axis=-1)
        write, forget, read, candidate = jnp.split(self.gates(told), 4, axis=-1)
        cell = jax.nn.sigmoid(forget + 1) * state.cell + jax.nn.sigmoid(write) * jnp.tanh(candidate)
        return cell, jax.nn.sigmoid(read) * jnp.tanh(cell)

    def prior(self, hidden: jax.Array, spread: jax.Array | float = 1.0) -> distrax.Independent:
        """p(z_t | z_0..z_{t-1}, u_0..u_{t-1}) for h_t `[..., H]`; event `[Z]`."""
        raw = self.density(hidden).reshape(*hidden.shape[:-1], 3, -1, self.options.components)
        logits, mean, raw_std = raw[..., 0, :, :], raw[..., 1, :, :], raw[..., 2, :, :]
        components = distrax.Normal(mean, spread * positive(raw_std))
        mixture = distrax.MixtureSameFamily(distrax.Categorical(logits / spread**2), components)
        return distrax.Independent(mixture, 1)

    def foresee(self, hidden: jax.Array, key: jax.Array | None, spread: jax.Array | float) -> jax.Array:
        """A latent from the prior, or without a key its mean."""
        if key is None:
            return self.prior(hidden).mean()
        return self.prior(hidden, spread).sample(seed=key)

    def filter_step(
        self, state: WorldModelsState, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> WorldModelsState:
        """As WorldModel.filter_step."""
        cell, hidden = self.remember(state, action / self.scale.action_scale)
        return WorldModelsState(draw(self.vae.posterior(frame), key, self.spread[...]), cell, hidden)

    def imagine_step(
        self, state: WorldModelsState, action: jax.Array, key: jax.Array | None = None
    ) -> WorldModelsState:
        """As WorldModel.imagine_step."""
        cell, hidden = self.remember(state, action / self.scale.action_scale)
        return WorldModelsState(self.foresee(hidden, key, self.spread[...]), cell, hidden)

    def emission(self, state: WorldModelsState) -> distrax.Independent:
        """As WorldModel.emission."""
        return self.vae.emission(state.latent)

    def vector(self, state: WorldModelsState) -> jax.Array:
        """z and h."""
        return jnp.concatenate([state.latent, state.hidden], axis=-1)

    # Whole sequences

    def remembered(
        self,
        drawn: jax.Array,
        actions: jax.Array,
        valid: jax.Array | None,
        key: jax.Array | None,
        spread: jax.Array | float = 1.0,
    ) -> WorldModelsState:
        """The states `[B, T, ...]` along latents `[B, T, Z]` that were drawn from the posteriors; where a frame is not
        `valid` its latent comes from the prior instead. Such a sample passes its gradient on within its component, as
        though which one it is of had been told. Actions are scaled; the key is consumed."""
        keys = None if key is None else jax.random.split(key, drawn.shape[1])
        first = drawn[:, 0]
        if valid is not None:
            other = jnp.zeros_like(first) if keys is None else spread * jax.random.normal(keys[0], first.shape)
            first = jnp.where(valid[:, :1], first, other)
        empty = jnp.zeros((len(drawn), self.options.hidden_size))
        start = WorldModelsState(first, empty, empty)

        def step(state: WorldModelsState, inputs: tuple) -> tuple[WorldModelsState, WorldModelsState]:
            action, latent, seen, key = inputs
            cell, hidden = self.remember(state, action)
            if seen is not None:
                latent = jnp.where(seen[:, None], latent, self.foresee(hidden, key, spread))
            state = WorldModelsState(latent, cell, hidden)
            return state, state

        seen = None if valid is None else valid[:, 1:]
        over_time = jax.tree.map(swap_time, (actions, drawn[:, 1:], seen))
        _, later = jax.lax.scan(step, start, (*over_time, None if keys is None else keys[1:]))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], swap_time(b)], axis=1), start, later)

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> WorldModelsState:
        """As WorldModel.filter; before the first frame nothing is remembered, and a first frame that was not seen is
        drawn from N(0, I)."""
        seen_key, prior_key = (None, None) if key is None else jax.random.split(key)
        spread = self.spread[...]
        drawn = draw(self.vae.posterior(frames), seen_key, spread)
        return self.remembered(drawn, actions / self.scale.action_scale, valid, prior_key, spread)

    def infer(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Inference:
        """What `filter` draws, with its densities; no gradient goes into the VAE. The key is consumed."""
        seen_key, prior_key = jax.random.split(key)
        posterior = jax.lax.stop_gradient(self.vae.posterior(frames))
        drawn = draw(posterior, seen_key)
        states = self.remembered(drawn, actions / self.scale.action_scale, valid, prior_key)
        alone = standard_normal_like(posterior).log_prob(states.latent)
        foreseen = self.prior(states.hidden).log_prob(states.latent)
        return Inference(posterior, states, jnp.concatenate([alone[:, :1], foreseen[:, 1:]], axis=1))

    def bound(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Bound:
        """As Bounded.bound; the KL of a step is the posterior's entropy, negated, less the prior's log density at the
        latent that was drawn."""
        inferred = self.infer(frames, actions, key, valid)
        reconstruction = self.emission(inferred.states).log_prob(frames)
        kl = -inferred.posterior.entropy() - inferred.log_prior
        weight = reconstruction + inferred.log_prior - inferred.posterior.log_prob(inferred.states.latent)
        if valid is not None:
            reconstruction, kl, weight = (jnp.where(valid, each, 0) for each in (reconstruction, kl, weight))
        return Bound(reconstruction, kl, jnp.sum(weight, axis=1))

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """V's negative ELBO of single frames, and after `vae_share` of the training also M's -ln p(z_t | z_<t, u_<t).
        The bound and its KL, which are watched beside it, are V's first, and those of sequences later."""

        def see(batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            return self.vae.loss(batch, key, progress)

        def foresee(batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            frame_key, sequence_key = jax.random.split(key)
            seeing, metrics = self.vae.loss(batch, frame_key, progress)
            inferred = self.infer(batch.frames, batch.actions, sequence_key, batch.valid)
            foreseeing = -mean_of_seen(inferred.log_prior, batch.valid)
            kl = foreseeing - mean_of_seen(inferred.posterior.entropy(), batch.valid)
            loss = foreseeing + (seeing if self.options.vae_goes_on else jax.lax.stop_gradient(seeing))
            return loss, metrics | {"loss": loss, "elbo": metrics["reconstruction"] - kl, "kl": kl}

        return jax.lax.cond(progress < self.options.vae_share, see, foresee, batch, key)
