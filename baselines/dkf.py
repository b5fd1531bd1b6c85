"""The Deep Kalman Filter (Krishnan, Shalit, Sontag 2015, arXiv 1511.05121), the rival in Karl et al. 2017, Table 1.

    z_0     ~ N(0, I)                                                            initial
    z_{t+1} ~ N(mean, std^2 I), both from a network of (z_t, u_t)                transition
    x_t     ~ N(decoder(z_t), sigma^2 I)                                         emission
    q(z_t | x_0..x_t, u_0..u_{t-1})                                              posterior, from a recurrent network

The recognition network draws z_t itself, so the error of a reconstruction does not flow through the transition: the
transition only follows, through the KL, a latent that the frames have chosen. What no frame shows, such as a velocity,
has little reason to be in it.

Departures from Krishnan et al.: the recurrent network runs forward only, so that the posterior is a filter and is
compared with one; the first posterior sees the same few frames as the DVBF's; the transition is a plain network added
to the identity and kept within the DVBF's ball, theirs is gated. The bound is the plain one (variational.py).
"""

from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.options import DKFOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch
from worldmodel.models import variational
from worldmodel.models.distributions import diagonal_normal, draw, from_noise, image_normal, positive
from worldmodel.models.networks import MLP, into_ball, split_in_two
from worldmodel.models.protocol import swap_time
from worldmodel.models.variational import Inference, VariationalFilter, observed_steps
from worldmodel.models.vision.networks import make_decoder, make_encoder


class DKFState(NamedTuple):
    """What a DKF believes at one time."""

    latent: jax.Array
    """z `[..., Z]`"""
    memory: jax.Array
    """`[..., H]` of the recurrent network; frames that are not seen leave it as it is"""


class DKF(VariationalFilter):
    """A Deep Kalman Filter, a WorldModel."""

    def __init__(self, scale: FrameScale, options: DKFOptions, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        self.latent_size, self.context = options.latent_size, options.initial_frames
        latent, hidden, action = options.latent_size, options.hidden_size, scale.action_size
        self.encoder = make_encoder(scale, options, (hidden, options.feature_size), rngs)
        self.update_gate = MLP((options.feature_size + action + hidden, hidden), rngs)
        self.candidate = MLP((options.feature_size + action + hidden, hidden), rngs)
        prefix_size = options.initial_frames * hidden + (options.initial_frames - 1) * action
        self.initial_network = MLP((prefix_size, hidden, 2 * latent), rngs)
        self.posterior_network = MLP((hidden, hidden, 2 * latent), rngs)
        self.transition_network = MLP((latent + action, hidden, 2 * latent), rngs)
        self.decoder = make_decoder(scale, options, (latent, hidden, hidden), rngs)

    # One step; actions are scaled

    def encode(self, frames: jax.Array) -> jax.Array:
        """What each frame says by itself: `[..., H, W(, C)]` to features `[..., F]`."""
        return jax.nn.silu(self.encoder(self.scale.standardise(frames)))

    def remember(self, memory: jax.Array, action: jax.Array, features: jax.Array) -> jax.Array:
        """The memory `[B, H]` after an action `[B, A]` and the features `[B, F]` of the frame that came of it."""
        both = jnp.concatenate([features, action, memory], axis=-1)
        gate = jax.nn.sigmoid(self.update_gate(both))
        return (1 - gate) * memory + gate * jnp.tanh(self.candidate(both))

    def initial(self, memories: jax.Array, actions: jax.Array) -> distrax.Independent:
        """q(z_0) from the first memories `[B, T, H]` and the actions `[B, T-1, A]` between."""
        batch, prefix = len(memories), self.context
        flat = [memories[:, :prefix].reshape(batch, -1), actions[:, : prefix - 1].reshape(batch, -1)]
        mean, raw_std = split_in_two(self.initial_network(jnp.concatenate(flat, axis=-1)))
        return diagonal_normal(mean, positive(raw_std))

    def posterior(self, memory: jax.Array) -> distrax.Independent:
        """q(z' | x_0..x', u_0..u): read off the memory alone, without the latent before it."""
        mean, raw_std = split_in_two(self.posterior_network(memory))
        return diagonal_normal(mean, positive(raw_std))

    def prior(self, latent: jax.Array, action: jax.Array) -> distrax.Independent:
        """p(z' | z, u)."""
        change, raw_std = split_in_two(self.transition_network(jnp.concatenate([latent, action], axis=-1)))
        return diagonal_normal(into_ball(latent + change), positive(raw_std))

    def emit(self, latents: jax.Array) -> distrax.Independent:
        """p(x | z): `[..., Z]` to a distribution over frames `[..., H, W(, C)]`."""
        frames = self.scale.restore(self.decoder(latents))
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))

    def emission(self, state: DKFState) -> distrax.Independent:
        """As WorldModel.emission."""
        return self.emit(state.latent)

    def vector(self, state: DKFState) -> jax.Array:
        """The latent."""
        return state.latent

    def filter_step(
        self, state: DKFState, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> DKFState:
        """As WorldModel.filter_step."""
        memory = self.remember(state.memory, action / self.scale.action_scale, self.encode(frame))
        return DKFState(draw(self.posterior(memory), key), memory)

    def imagine_step(self, state: DKFState, action: jax.Array, key: jax.Array | None = None) -> DKFState:
        """As WorldModel.imagine_step."""
        return DKFState(draw(self.prior(state.latent, action / self.scale.action_scale), key), state.memory)

    # Whole sequences

    def memories(self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None) -> jax.Array:
        """The memory after each frame, `[B, T, H]`; it begins empty and is told of no action before the first."""
        features = self.encode(frames)
        before = jnp.concatenate([jnp.zeros_like(actions[:, :1]), actions], axis=1) / self.scale.action_scale
        seen = jnp.ones(frames.shape[:2], bool) if valid is None else valid

        def step(memory: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
            action, features, seen = inputs
            memory = jnp.where(seen[:, None], self.remember(memory, action, features), memory)
            return memory, memory

        start = jnp.zeros((len(frames), self.options.hidden_size))
        over_time = jax.tree.map(swap_time, (before, features, seen))
        return swap_time(jax.lax.scan(step, start, over_time)[1])

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> DKFState:
        """As WorldModel.filter."""
        inferred = self.infer_all(frames, actions, valid, key)
        return DKFState(inferred.latents, inferred.features)

    def infer(
        self,
        frames: jax.Array,
        actions: jax.Array,
        observed: jax.Array,
        noise: jax.Array,
        valid: jax.Array | None = None,
    ) -> Inference:
        """As VariationalFilter.infer, T >= initial_frames; the features are the memories."""
        memories = self.memories(frames, actions, valid)
        actions = actions / self.scale.action_scale
        initial = self.initial(memories, actions)
        first = from_noise(initial, noise[:, 0])
        posterior = self.posterior(memories[:, 1:])

        def step(latent: jax.Array, inputs: tuple) -> tuple[jax.Array, tuple]:
            action, seen, observed, noise = inputs
            prior = self.prior(latent, action)
            latent = jnp.where(observed[:, None], seen, from_noise(prior, noise))
            return latent, (latent, prior)

        drawn = from_noise(posterior, noise[:, 1:])
        over_time = jax.tree.map(swap_time, (actions, drawn, observed, noise[:, 1:]))
        _, outputs = jax.lax.scan(step, first, over_time)
        latents, prior = jax.tree.map(swap_time, outputs)
        latents = jnp.concatenate([first[:, None], latents], axis=1)
        return Inference(memories, latents, latents, initial, posterior, prior)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The negative ELBO."""
        frames, actions = batch.frames, batch.actions
        observed = observed_steps(actions, batch.valid)
        inferred = self.infer_all(frames, actions, batch.valid, key)
        terms = variational.bound_terms(self, frames, inferred, observed, batch.valid)
        metrics = variational.watched(self, batch, inferred, terms, observed)
        return -metrics["elbo"], {"loss": -metrics["elbo"]} | metrics
