"""DVBF-LL with the networks and the objective of Karl et al. 2017, to see what the paper's own recipe gives here.

    w_0 ~ N(0, I),   z_0 = MLP(w_0)                                               initial
    z_{t+1} = A_t z_t + B_t u_t + C_t w_t,   w_t ~ N(0, I)                        transition
    x_t ~ N(decoder(z_t), sigma^2 I), one learned sigma                           emission
    q(w_0 | all frames),   q(w_t | z_t, u_t, x_{t+1})                             posteriors

Everything is visible to the decoder, every network has one layer of 128 ReLU units, the weights of the base matrices
are a softmax of a linear map of (z, u), and the bound is annealed (variational.temperature). With `bayesian` the base
matrices have a Gaussian posterior (Blundell et al. 2015) under an isotropic prior whose variance is fitted to them.

What the paper leaves open, or what had to give: the base matrices A begin near the identity; the network over all
frames is a plain bidirectional recurrent one (tanh), without the paper's fast dropout; the transition is kept within a
ball (networks.into_ball), in training too, so that a rollout that explodes can still be drawn and scored; Adam and
short annealing instead of Adadelta and 1e5 updates of 500 sequences.
"""

from typing import ClassVar

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.options import PaperDVBFOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, per_seen_frame
from worldmodel.models import variational
from worldmodel.models.distributions import diagonal_normal, draw, from_noise, image_normal, positive
from worldmodel.models.networks import MLP, into_ball, mix, split_in_two
from worldmodel.models.protocol import swap_time
from worldmodel.models.variational import Inference, VariationalFilter, observed_steps, standard_noise

INITIAL_MATRIX_STD = 0.01


class BaseMatrices(nnx.Module):
    """M matrices (A, B, C)^(i), stacked `[M, Z + A + Z, Z]`, with or without a Gaussian posterior."""

    def __init__(self, latent_size: int, action_size: int, count: int, bayesian: bool, rngs: nnx.Rngs):
        shape = (count, 2 * latent_size + action_size, latent_size)
        identity = jnp.eye(shape[1], latent_size)[None]
        self.mean = nnx.Param(identity + 0.1 * jax.random.normal(rngs.params(), shape))
        self.raw_std = nnx.Param(jnp.full(shape, jnp.log(jnp.expm1(INITIAL_MATRIX_STD)))) if bayesian else None

    def sample(self, key: jax.Array) -> jax.Array:
        """One draw of all matrices; their mean when there is no posterior. The key is consumed."""
        if self.raw_std is None:
            return self.mean[...]
        return self.mean[...] + positive(self.raw_std[...]) * jax.random.normal(key, self.mean[...].shape)

    def kl(self) -> jax.Array:
        """KL(q(v) || N(0, s^2 I)) in nats, with the s that makes it smallest (empirical Bayes); 0 for points."""
        if self.raw_std is None:
            return jnp.zeros(())
        std = positive(self.raw_std[...])
        prior_std = jnp.sqrt(jnp.mean(self.mean[...] ** 2 + std**2))
        return jnp.sum(jnp.log(prior_std) - jnp.log(std))


class PaperDVBF(VariationalFilter):
    """DVBF-LL, a WorldModel whose state is the latent z `[..., Z]`. Its posteriors are over w; q(w_0) sees all frames
    that the filter is given, so that its first latents know later frames."""

    context = 1
    remedies: ClassVar[dict[str, str]] = dict.fromkeys(("KL collapse", "zero variance"), "Its sigma is learned.")

    def __init__(self, scale: FrameScale, options: PaperDVBFOptions, rngs: nnx.Rngs):
        self.scale, self.options, self.latent_size = scale, options, options.latent_size
        pixels, actions, hidden, latent = scale.pixels, scale.action_size, options.hidden_size, options.latent_size
        relu = jax.nn.relu
        self.forwards = MLP((pixels + hidden, hidden), rngs)
        self.backwards = MLP((pixels + hidden, hidden), rngs)
        self.initial_network = MLP((2 * hidden, hidden, 2 * latent), rngs, relu)
        self.first_latent = MLP((latent, hidden, latent), rngs, relu)
        self.mixture_network = MLP((latent + actions, options.base_matrices), rngs)
        self.base = BaseMatrices(latent, actions, options.base_matrices, options.bayesian, rngs)
        self.recognition = MLP((pixels + latent + actions, hidden, 2 * latent), rngs, relu)
        self.decoder = MLP((latent, hidden, pixels), rngs, relu)
        self.raw_observation_std = nnx.Param(jnp.log(jnp.expm1(jnp.asarray(scale.unit))))

    @property
    def observation_std(self) -> jax.Array:
        """sigma of a pixel, learned."""
        return positive(self.raw_observation_std[...])

    # One step; actions are scaled

    def encode(self, frames: jax.Array) -> jax.Array:
        """`[..., H, W(, C)]` to scaled pixels `[..., P]`."""
        return self.scale.standardise(frames)

    def initial(self, pixels: jax.Array) -> distrax.Independent:
        """q(w_0) from all pixels `[B, T, P]`, read forwards and backwards by a recurrent network."""
        start = jnp.zeros((len(pixels), self.options.hidden_size))

        def last(cell: MLP, frames: jax.Array) -> jax.Array:
            def step(state: jax.Array, frame: jax.Array) -> tuple[jax.Array, None]:
                return jnp.tanh(cell(jnp.concatenate([frame, state], axis=-1))), None

            return jax.lax.scan(step, start, swap_time(frames))[0]

        summary = jnp.concatenate([last(self.forwards, pixels), last(self.backwards, pixels[:, ::-1])], axis=-1)
        mean, raw_std = split_in_two(self.initial_network(summary))
        return diagonal_normal(mean, positive(raw_std))

    def posterior(self, latent: jax.Array, action: jax.Array, pixels: jax.Array) -> distrax.Independent:
        """q(w | z, u, x') of `[B, Z]`, `[B, A]` and `[B, P]`."""
        mean, raw_std = split_in_two(self.recognition(jnp.concatenate([pixels, latent, action], axis=-1)))
        return diagonal_normal(mean, positive(raw_std))

    def next_latent(
        self, latent: jax.Array, action: jax.Array, noise: jax.Array, matrices: jax.Array | None = None
    ) -> jax.Array:
        """z' of z `[B, Z]`, u `[B, A]` and w `[B, Z]` (Karl et al. 2017, section 4.1), by the mean base matrices or by
        a draw of them."""
        weights = self._weights(latent, action)
        stacked = jnp.concatenate([latent, action, noise], axis=-1)
        return into_ball(mix(weights, self.base.mean[...] if matrices is None else matrices, stacked))

    def _weights(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        """alpha `[..., M]`."""
        return jax.nn.softmax(self.mixture_network(jnp.concatenate([latent, action], axis=-1)), axis=-1)

    def emission(self, state: jax.Array) -> distrax.Independent:
        """p(x | z): `[..., Z]` to a distribution over frames `[..., H, W(, C)]`."""
        frames = self.scale.restore(self.decoder(state))
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))

    def vector(self, state: jax.Array) -> jax.Array:
        """The latent itself."""
        return state

    def filter_step(
        self, state: jax.Array, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """As WorldModel.filter_step."""
        action = action / self.scale.action_scale
        return self.next_latent(state, action, draw(self.posterior(state, action, self.encode(frame)), key))

    def imagine_step(self, state: jax.Array, action: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """As WorldModel.imagine_step."""
        return self.next_latent(state, action / self.scale.action_scale, standard_noise(key, state.shape))

    # Whole sequences

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """As WorldModel.filter."""
        return self.infer_all(frames, actions, valid, key).latents

    def infer(
        self,
        frames: jax.Array,
        actions: jax.Array,
        observed: jax.Array,
        noise: jax.Array,
        valid: jax.Array | None = None,
        matrices: jax.Array | None = None,
    ) -> Inference:
        """As VariationalFilter.infer; the distributions are over w, and the prior's scale is always 1."""
        actions = actions / self.scale.action_scale
        pixels = self.encode(frames)
        if valid is not None:
            pixels = jnp.where(valid[..., None], pixels, 0)
        initial = self.initial(pixels)
        first_noise = from_noise(initial, noise[:, 0])
        first = self.first_latent(first_noise)

        def step(latent: jax.Array, inputs: tuple) -> tuple[jax.Array, tuple]:
            action, pixels, observed, noise = inputs
            posterior = self.posterior(latent, action, pixels)
            drawn = jnp.where(observed[:, None], from_noise(posterior, noise), noise)
            latent = self.next_latent(latent, action, drawn, matrices)
            return latent, (latent, drawn, posterior)

        over_time = jax.tree.map(swap_time, (actions, pixels[:, 1:], observed, noise[:, 1:]))
        _, outputs = jax.lax.scan(step, first, over_time)
        latents, drawn, posterior = jax.tree.map(swap_time, outputs)
        prior = diagonal_normal(jnp.zeros_like(drawn), jnp.ones_like(drawn))
        latents = jnp.concatenate([first[:, None], latents], axis=1)
        draws = jnp.concatenate([first_noise[:, None], drawn], axis=1)
        return Inference(pixels, latents, draws, initial, posterior, prior)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The annealed bound with one draw of the base matrices, and their KL spread over the data's frames. The
        reported ELBO leaves that KL out."""
        frames, actions = batch.frames, batch.actions
        matrices_key, loss_key = jax.random.split(key)
        _, noise_key = jax.random.split(loss_key)
        observed = observed_steps(actions, batch.valid)
        noise = standard_noise(noise_key, (*frames.shape[:2], self.latent_size))
        inferred = self.infer(frames, actions, observed, noise, batch.valid, self.base.sample(matrices_key))
        terms = variational.bound_terms(self, frames, inferred, observed, batch.valid)
        c = variational.temperature(progress, self.options.annealing_share)
        matrices_kl = self.base.kl() / self.scale.frames
        nats = per_seen_frame(-c * terms.reconstruction + variational.annealed(terms, c), batch.valid)
        loss = nats + matrices_kl
        metrics = variational.watched(self, batch, inferred, terms, observed)
        return loss, {"loss": loss, "kl_matrices": matrices_kl} | metrics

    # What it can do beside

    def mixture(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """As LocallyLinear.mixture."""
        return self._weights(state, action / self.scale.action_scale)

    def matrices(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """As LocallyLinear.matrices."""
        base = self.base.mean[...][:, : self.latent_size]  # multiplies from the right
        return jnp.einsum("...m,mxy->...yx", self.mixture(state, action), base)
