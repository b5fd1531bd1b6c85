"""The Deep Variational Bayes Filter, locally linear (Karl, Soelch, Bayer, van der Smagt, ICLR 2017).

The generative model, with T frames x_t, T-1 actions u_t and latents z_t (timeline: models/protocol.py):

    z_0     ~ N(0, I)                                                             initial
    z_{t+1} = z_t + A_t z_t + B_t u_t + C_t w_t,   w_t ~ N(0, I)                  transition
    (A, B, C)_t = sum_i alpha_i(z_t, u_t) (A, B, C)^(i),   alpha = softmax(MLP)
    x_t     ~ N(decoder(visible part of z_t), sigma^2 I)                          emission

and its inference, one filter step at a time, each step through the transition, so that the error of a
reconstruction flows back through the dynamics:

    q(z_0 | first few frames and actions, or those of them that were seen)        initial posterior
    q(z_{t+1} | z_t, u_t, x_{t+1})                                                posterior

`ProcessNoisePosterior` is the paper's q(w_t | z_t, u_t, x_{t+1}); `FusionPosterior` multiplies the
transition's Gaussian with a Gaussian measurement of the frame (Becker-Ehmck et al., ICML 2019).

Departures from the paper:
- C_t is diagonal and positive. z_{t+1} given z_t is then a diagonal Gaussian, w_t and z_{t+1} are two names
  for one thing, and both inferences share one transition, one filter and one KL.
- A_t is added to the identity: a new model stands still rather than falling to zero.
- The transition's mean is kept within a ball far outside the latents seen in training: a rollout of any length
  stays bounded, by construction.
- The decoder and the measurement see only the first `visible_size` latents. The others can carry only what
  the dynamics need (velocity), since no picture can be written into them.
- z_0 comes straight from the first `initial_frames` frames, without w_1 and a bidirectional network over all.
- The base matrices are point estimates, their weights come from a network of z and u, and the decoder has two hidden
  layers: one of the paper's size leaves a third of the frames' variance, even when it is told the true angle.
- In `FusionPosterior` the hidden latents are corrected by a learned gain times what the measurement moved.
- The transition's noise is scaled down as training goes on (objective.noise_scale).
- Samples are as wide as held-out errors say (evaluation/calibration.py); the bound and the training know nothing of it.
- Training adds to the bound: objective.py has the help of the beginning (open-loop tails, a dear KL) and the penalty.
"""

from typing import Protocol

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch
from worldmodel.models.distributions import diagonal_normal, draw, from_noise, fuse, image_normal, positive, where
from worldmodel.models.dvbf import objective
from worldmodel.models.dvbf.advice import explain
from worldmodel.models.dvbf.options import DVBFOptions, FilterOptions
from worldmodel.models.networks import BALL_RADIUS, MLP, into_ball, mix, split_in_two
from worldmodel.models.protocol import Problem, swap_time
from worldmodel.models.variational import Inference, VariationalFilter, observed_steps, standard_noise
from worldmodel.models.vision.networks import make_decoder, make_encoder

INITIAL_RAW_STD = -2.0
"""softplus(-2) = 0.13: the transition's standard deviations before training."""
UNIT_RAW_STD = 0.5413
"""softplus(0.5413) = 1: the inferred process noise starts at its prior's standard deviation."""


class LocallyLinearTransition(nnx.Module):
    """p(z' | z, u): a mixture of M linear systems, mixed anew at every point (Karl et al. 2017, section 4.1)."""

    def __init__(self, latent_size: int, action_size: int, options: DVBFOptions, rngs: nnx.Rngs):
        m, key = options.base_matrices, rngs.params
        self.components = m
        self.weights = MLP((latent_size + action_size, options.mixture_hidden_size, m), rngs)
        self.state_matrices = nnx.Param(0.03 * jax.random.normal(key(), (m, latent_size, latent_size)))
        self.action_matrices = nnx.Param(0.1 * jax.random.normal(key(), (m, action_size, latent_size)))
        self.raw_noise_std = nnx.Param(jnp.full((m, latent_size), INITIAL_RAW_STD, jnp.float32))

    def mixture(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        """alpha `[B, M]`, the weights of the base matrices."""
        return jax.nn.softmax(self.weights(jnp.concatenate([latent, action], axis=-1)), axis=-1)

    def distribution(
        self, latent: jax.Array, action: jax.Array, mixture: jax.Array, noise_scale: jax.Array | float
    ) -> distrax.Independent:
        """p(z' | z, u) for latents `[B, Z]`, actions `[B, A]` and their mixture `[B, M]`."""
        stacked = jnp.concatenate([latent, action], axis=-1)
        matrices = jnp.concatenate([self.state_matrices[...], self.action_matrices[...]], axis=1)
        mean = into_ball(latent + mix(mixture, matrices, stacked))
        return diagonal_normal(mean, noise_scale * (mixture @ positive(self.raw_noise_std[...])))


class Transition(Protocol):
    """What a DVBF asks of its dynamics."""

    components: int
    """M: how many sets of its correction's parameters the posterior mixes"""

    def mixture(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        """`[B, M]`: their weights."""
        ...

    def distribution(
        self, latent: jax.Array, action: jax.Array, mixture: jax.Array, noise_scale: jax.Array | float
    ) -> distrax.Independent:
        """p(z' | z, u) for latents `[B, Z]`, actions `[B, A]` and their mixture."""
        ...


class FusionPosterior(nnx.Module):
    """q(z' | z, u, x'): N(transition mean, s_q^2) fused with a measurement of x' on the visible part.

    The hidden part follows by a gain, as in a Kalman filter: it moves in proportion to how far the measurement
    moved the visible part. So a filter that has lost the velocity finds it again from the positions it sees.
    """

    def __init__(self, action_size: int, m: int, options: FilterOptions, rngs: nnx.Rngs):
        visible, hidden = options.visible_size, options.latent_size - options.visible_size
        self.measurement = MLP((options.feature_size, 2 * visible), rngs)
        self.raw_widening = nnx.Param(jnp.full((m, options.latent_size), UNIT_RAW_STD, jnp.float32))
        self.gain = nnx.Param(jnp.zeros((m, visible, hidden), jnp.float32))

    def __call__(
        self, prior: distrax.Independent, mixture: jax.Array, action: jax.Array, features: jax.Array
    ) -> distrax.Independent:
        measured_mean, raw_std = split_in_two(self.measurement(features))
        visible = measured_mean.shape[-1]
        mean, std = prior.mean(), prior.stddev() * (mixture @ positive(self.raw_widening[...]))
        fused = fuse(mean[:, :visible], std[:, :visible], measured_mean, positive(raw_std) ** -2)
        innovation = fused.mean() - mean[:, :visible]
        hidden = mean[:, visible:] + mix(mixture, self.gain[...], innovation)
        return diagonal_normal(
            jnp.concatenate([fused.mean(), hidden], axis=-1),
            jnp.concatenate([fused.stddev(), std[:, visible:]], axis=-1),
        )


class ProcessNoisePosterior(nnx.Module):
    """The paper's inference: q(w | z, u, x') for the process noise w in z' = transition mean + C w."""

    def __init__(self, action_size: int, m: int, options: FilterOptions, rngs: nnx.Rngs):
        latent = options.latent_size
        sizes = (options.feature_size + latent + action_size, options.hidden_size, 2 * latent)
        self.noise = MLP(sizes, rngs)

    def __call__(
        self, prior: distrax.Independent, mixture: jax.Array, action: jax.Array, features: jax.Array
    ) -> distrax.Independent:
        mean, raw_std = split_in_two(self.noise(jnp.concatenate([features, prior.mean(), action], axis=-1)))
        std = positive(raw_std + UNIT_RAW_STD)
        return diagonal_normal(prior.mean() + prior.stddev() * mean, prior.stddev() * std)


class FilterThroughTransition(VariationalFilter):
    """A Deep Variational Bayes Filter with whatever transition `make_transition` gives, a WorldModel. Its state is the
    latent z, `[..., Z]`."""

    def __init__(self, scale: FrameScale, options: FilterOptions, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        self.latent_size, self.context = options.latent_size, options.initial_frames
        features, hidden = options.feature_size, options.hidden_size
        latent, prefix = options.latent_size, options.initial_frames
        posterior = FusionPosterior if options.inference == "fusion" else ProcessNoisePosterior
        precision = options.precision
        self.spread = nnx.Param(jnp.ones(()))
        self.encoder = make_encoder(scale, options, (hidden, features), rngs, precision)
        prefix_size = prefix * features + (prefix - 1) * scale.action_size
        self.initial_network = MLP((prefix_size, hidden, 2 * latent), rngs, precision=precision)
        self.transition = self.make_transition(rngs)
        self.posterior = posterior(scale.action_size, self.transition.components, options, rngs)
        self.decoder = make_decoder(scale, options, (options.visible_size, hidden, hidden), rngs, precision)
        if options.glimpse_weight > 0:
            self.glimpse_network = MLP((prefix_size + prefix, hidden, 2 * latent), rngs, precision=precision)

    def make_transition(self, rngs: nnx.Rngs) -> Transition:
        """The dynamics of `latent_size` latents under the scale's actions, as the options say."""
        raise NotImplementedError

    # One step

    @jax.named_scope("encoder")
    def encode(self, frames: jax.Array) -> jax.Array:
        """What each frame says by itself: `[..., H, W(, C)]` to features `[..., F]`."""
        return jax.nn.silu(self.encoder(self.scale.standardise(frames)))

    @jax.named_scope("initial_state")
    def initial(self, features: jax.Array, actions: jax.Array) -> distrax.Independent:
        """q(z_0) from the features `[B, T, F]` of the first `initial_frames` and the scaled actions between."""
        mean, raw_std = split_in_two(self.initial_network(self._first(features, actions)))
        return diagonal_normal(mean, positive(raw_std))

    @jax.named_scope("initial_state")
    def glimpse(self, features: jax.Array, actions: jax.Array, seen: jax.Array) -> distrax.Independent:
        """q(z_0) where of the first `initial_frames` only those were seen that `seen` `[B, T]` says: as wide as what
        the others would tell (objective.glimpse_loss). Else as `initial`."""
        seen = seen[:, : self.options.initial_frames]
        features = jnp.where(seen[..., None], features[:, : self.options.initial_frames], 0)
        if self.options.glimpse_weight == 0:  # it was not learnt
            return self.initial(features, actions)
        flat = jnp.concatenate([self._first(features, actions), seen.astype(jnp.float32)], axis=-1)
        mean, raw_std = split_in_two(self.glimpse_network(flat))
        return diagonal_normal(mean, positive(raw_std))

    def _first(self, features: jax.Array, actions: jax.Array) -> jax.Array:
        """`[B, N]`: the features of the first `initial_frames` and the actions between them."""
        batch, prefix = len(features), self.options.initial_frames
        flat = [features[:, :prefix].reshape(batch, -1), actions[:, : prefix - 1].reshape(batch, -1)]
        return jnp.concatenate(flat, axis=-1)

    def prior(
        self, latent: jax.Array, action: jax.Array, noise_scale: jax.Array | float
    ) -> tuple[distrax.Independent, jax.Array]:
        """p(z' | z, u) of latents `[B, Z]` and scaled actions `[B, A]`, and the mixture `[B, M]` that it came of."""
        mixture = self.transition.mixture(latent, action)
        return self.transition.distribution(latent, action, mixture, noise_scale), mixture

    @jax.named_scope("decoder")
    def emission(self, state: jax.Array) -> distrax.Independent:
        """p(x | z): `[..., Z]` to a distribution over frames `[..., H, W(, C)]`."""
        frames = self.scale.restore(self.decoder(state[..., : self.options.visible_size]))
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))

    def vector(self, state: jax.Array) -> jax.Array:
        """The latent itself."""
        return state

    def filter_step(
        self, state: jax.Array, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """As WorldModel.filter_step."""
        action = action / self.scale.action_scale
        prior, mixture = self.prior(state, action, self.options.final_noise_scale)
        return draw(self.posterior(prior, mixture, action, self.encode(frame)), key, self.spread[...])

    def imagine_step(self, state: jax.Array, action: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """As WorldModel.imagine_step."""
        prior, _ = self.prior(state, action / self.scale.action_scale, self.options.final_noise_scale)
        return draw(prior, key, self.spread[...])

    # Whole sequences

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """As WorldModel.filter."""
        noise = self.spread[...] * standard_noise(key, (*frames.shape[:2], self.latent_size))
        return self.infer(frames, actions, observed_steps(actions, valid), noise, valid).latents

    def infer(
        self,
        frames: jax.Array,
        actions: jax.Array,
        observed: jax.Array,
        noise: jax.Array,
        valid: jax.Array | None = None,
        noise_scale: jax.Array | float | None = None,
    ) -> Inference:
        """As VariationalFilter.infer, T >= initial_frames; `noise_scale` is that of a trained model by default."""
        if noise_scale is None:
            noise_scale = self.options.final_noise_scale
        actions = actions / self.scale.action_scale
        features = self.encode(frames)
        initial = self.initial(features, actions)
        if valid is not None:
            whole = jnp.all(valid[:, : self.options.initial_frames], axis=1)[:, None]
            initial = where(whole, initial, self.glimpse(features, actions, valid))
        first = from_noise(initial, noise[:, 0])

        @jax.checkpoint  # its parts are cheaper computed again than kept for the gradient
        def step(latent: jax.Array, inputs: tuple) -> tuple[jax.Array, tuple]:
            action, features, observed, noise = inputs
            prior, mixture = self.prior(latent, action, noise_scale)
            posterior = self.posterior(prior, mixture, action, features)
            latent = jnp.where(observed[:, None], from_noise(posterior, noise), from_noise(prior, noise))
            return latent, (latent, posterior, prior)

        over_time = jax.tree.map(swap_time, (actions, features[:, 1:], observed, noise[:, 1:]))
        with jax.named_scope("filter"):
            _, outputs = jax.lax.scan(step, first, over_time)
        latents, posterior, prior = jax.tree.map(swap_time, outputs)
        latents = jnp.concatenate([first[:, None], latents], axis=1)
        return Inference(features, latents, latents, initial, posterior, prior)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """objective.py."""
        return objective.dvbf_loss(self, batch, key, progress)

    def explain(self, figures: dict[str, float], problems: list[Problem]) -> list[Problem]:
        """advice.py."""
        return explain(figures, problems, BALL_RADIUS)


class DVBF(FilterThroughTransition):
    """The locally linear Deep Variational Bayes Filter."""

    transition: LocallyLinearTransition

    def make_transition(self, rngs: nnx.Rngs) -> LocallyLinearTransition:
        """As FilterThroughTransition.make_transition."""
        return LocallyLinearTransition(self.latent_size, self.scale.action_size, self.options, rngs)

    def mixture(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """As LocallyLinear.mixture."""
        return self.transition.mixture(state, action / self.scale.action_scale)

    def matrices(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """As LocallyLinear.matrices: I + A_t."""
        # the transition multiplies its matrices from the right: z' = z + z A
        mixed = jnp.einsum("...m,mxy->...yx", self.mixture(state, action), self.transition.state_matrices[...])
        return jnp.eye(self.latent_size) + mixed
