"""The Deep Kalman Filter (Krishnan, Shalit, Sontag 2015, arXiv 1511.05121), the rival in Karl et al. 2017, Table 1.

    z_0     ~ N(0, I)
    z_{t+1} ~ N(mean, std^2 I), both from a network of (z_t, u_t)                transition
    x_t     ~ N(decoder(z_t), sigma^2 I)                                         emission
    q(z_t | x_0..x_t, u_0..u_{t-1})                                              posterior, from a recurrent network

The recognition network draws z_t itself, so the error of a reconstruction does not flow through the transition: the
transition only follows, through the KL, a latent that the frames have chosen. What no frame shows, such as a velocity,
has little reason to be in it.

Departures from Krishnan et al.: the recurrent network runs forward only, so that the posterior is a filter and is
compared with one; the first posterior sees the same few frames as the DVBF's; the transition is a plain network added
to the identity, theirs is gated. Everything else (filtering, imagining, the bound) is the DVBF's own code.
"""

import dataclasses

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.models.distributions import diagonal_normal, positive
from worldmodel.models.dvbf.model import DVBF, into_ball
from worldmodel.models.networks import MLP, split_in_two
from worldmodel.training.options import PLAIN_BOUND, DVBFOptions

DKF_OPTIONS = dataclasses.replace(PLAIN_BOUND, latent_size=3, visible_size=3)
"""The paper's latent size, everything visible, and the plain bound."""


class NetworkTransition(nnx.Module):
    """p(z' | z, u): a Gaussian whose mean and standard deviation a network gives."""

    def __init__(self, action_size: int, options: DVBFOptions, rngs: nnx.Rngs):
        latent = options.latent_size
        self.network = MLP((latent + action_size, options.hidden_size, 2 * latent), rngs)

    def mixture(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        """`[B, 0]`: nothing is mixed here."""
        return jnp.zeros((len(latent), 0))

    def distribution(
        self, latent: jax.Array, action: jax.Array, mixture: jax.Array, noise_scale: jax.Array | float
    ) -> distrax.Independent:
        """p(z' | z, u) for latents `[B, Z]` and actions `[B, A]`."""
        change, raw_std = split_in_two(self.network(jnp.concatenate([latent, action], axis=-1)))
        return diagonal_normal(into_ball(latent + change), noise_scale * positive(raw_std))


class RecurrentPosterior(nnx.Module):
    """q(z' | x_0..x', u_0..u): read off the recurrent features alone, without the latent before it."""

    def __init__(self, options: DVBFOptions, rngs: nnx.Rngs):
        self.network = MLP((options.hidden_size, options.hidden_size, 2 * options.latent_size), rngs)

    def __call__(
        self, prior: distrax.Independent, mixture: jax.Array, action: jax.Array, features: jax.Array
    ) -> distrax.Independent:
        mean, raw_std = split_in_two(self.network(features))
        return diagonal_normal(mean, positive(raw_std))


class DKF(DVBF):
    """A Deep Kalman Filter: the DVBF with another recognition and another transition."""

    def __init__(self, scale: FrameScale, options: DVBFOptions, rngs: nnx.Rngs):
        super().__init__(scale, options, rngs)
        hidden, action = options.hidden_size, scale.action_size
        prefix_size = options.initial_frames * hidden + (options.initial_frames - 1) * action
        self.initial_network = MLP((prefix_size, hidden, 2 * options.latent_size), rngs)
        self.transition = NetworkTransition(action, options, rngs)
        self.posterior = RecurrentPosterior(options, rngs)
        self.update_gate = MLP((options.feature_size + action + hidden, hidden), rngs)
        self.candidate = MLP((options.feature_size + action + hidden, hidden), rngs)

    def recognise(self, frames: jax.Array, actions: jax.Array) -> jax.Array:
        """The state of a gated recurrent network after each frame, `[B, T, H]`, fed with each frame's features and
        the action before it."""
        features = self.encode(frames)
        before = jnp.concatenate([jnp.zeros_like(actions[:, :1]), actions], axis=1)
        inputs = jnp.swapaxes(jnp.concatenate([features, before], axis=-1), 0, 1)

        def step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            both = jnp.concatenate([x, state], axis=-1)
            gate = jax.nn.sigmoid(self.update_gate(both))
            state = (1 - gate) * state + gate * jnp.tanh(self.candidate(both))
            return state, state

        start = jnp.zeros((len(frames), self.options.hidden_size))
        return jnp.swapaxes(jax.lax.scan(step, start, inputs)[1], 0, 1)
