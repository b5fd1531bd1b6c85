"""DVBF-LL with the networks and the objective of Karl et al. 2017, to see what the paper's own recipe gives here.

    w_0 ~ N(0, I),   z_0 = MLP(w_0)                                               initial
    z_{t+1} = A_t z_t + B_t u_t + C_t w_t,   w_t ~ N(0, I)                        transition
    x_t ~ N(decoder(z_t), sigma^2 I), one learned sigma                           emission
    q(w_0 | all frames),   q(w_t | z_t, u_t, x_{t+1})                             posteriors

Everything is visible to the decoder, every network has one layer of 128 ReLU units, the weights of the base matrices
are a softmax of a linear map of (z, u), and the bound is annealed (objectives.temperature). With `bayesian` the base
matrices have a Gaussian posterior (Blundell et al. 2015) under an isotropic prior whose variance is fitted to them.

What the paper leaves open, or what had to give: the base matrices A begin near the identity; the network over all
frames is a plain bidirectional recurrent one (tanh), without the paper's fast dropout; the transition is kept within a
ball (dvbf.into_ball), in training too, so that a rollout that explodes can still be drawn and scored; Adam and short
annealing instead of Adadelta and 1e5 updates of 500 sequences.
"""

import dataclasses

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.models.distributions import diagonal_normal, from_noise, positive
from worldmodel.models.dvbf.model import DVBF, Filtered, into_ball, mix, swap
from worldmodel.models.dvbf.objective import dvbf_loss
from worldmodel.models.networks import MLP, flatten_frames, split_in_two
from worldmodel.training.options import PLAIN_BOUND, DVBFOptions

PAPER_OPTIONS = dataclasses.replace(PLAIN_BOUND, inference="noise", latent_size=3, visible_size=3, annealing_steps=4000)
"""The paper's sizes and bound; its annealing, shortened to half of the usual 8,000 steps."""
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


class PaperDVBF(DVBF):
    """DVBF-LL. It filters and imagines as the DVBF does, but its posteriors are over w; q(w_0) sees all frames that the
    filter is given, so that its first latents know later frames."""

    def __init__(self, scale: FrameScale, options: DVBFOptions, bayesian: bool, rngs: nnx.Rngs):
        self.scale, self.options = scale, options
        pixels, actions, hidden, latent = scale.pixels, scale.action_size, options.hidden_size, options.latent_size
        relu = jax.nn.relu
        self.forwards = MLP((pixels + hidden, hidden), rngs)
        self.backwards = MLP((pixels + hidden, hidden), rngs)
        self.initial_network = MLP((2 * hidden, hidden, 2 * latent), rngs, relu)
        self.first_latent = MLP((latent, hidden, latent), rngs, relu)
        self.mixture_network = MLP((latent + actions, options.base_matrices), rngs)
        self.matrices = BaseMatrices(latent, actions, options.base_matrices, bayesian, rngs)
        self.recognition = MLP((pixels + latent + actions, hidden, 2 * latent), rngs, relu)
        self.decoder = MLP((latent, hidden, pixels), rngs, relu)
        self.raw_observation_std = nnx.Param(jnp.log(jnp.expm1(jnp.asarray(scale.pixel_std))))

    @property
    def observation_std(self) -> jax.Array:  # type: ignore[override]
        """sigma of a pixel, learned."""
        return positive(self.raw_observation_std[...])

    def encode(self, frames: jax.Array) -> jax.Array:
        """`[..., H, W(, C)]` to scaled pixels `[..., P]`."""
        return (flatten_frames(frames, self.scale.frame_shape) - self.scale.pixel_mean) / self.scale.pixel_std

    def initial(self, features: jax.Array, actions: jax.Array) -> distrax.Independent:
        """q(w_0) from all pixels `[B, T, P]`, read forwards and backwards by a recurrent network."""
        start = jnp.zeros((len(features), self.options.hidden_size))

        def last(cell: MLP, frames: jax.Array) -> jax.Array:
            def step(state: jax.Array, frame: jax.Array) -> tuple[jax.Array, None]:
                return jnp.tanh(cell(jnp.concatenate([frame, state], axis=-1))), None

            return jax.lax.scan(step, start, swap(frames))[0]

        summary = jnp.concatenate([last(self.forwards, features), last(self.backwards, features[:, ::-1])], axis=-1)
        mean, raw_std = split_in_two(self.initial_network(summary))
        return diagonal_normal(mean, positive(raw_std))

    def next_latent(self, latent: jax.Array, action: jax.Array, noise: jax.Array) -> jax.Array:
        """z' of z `[B, Z]`, u `[B, A]` and w `[B, Z]` (Karl et al. 2017, section 4.1)."""
        mixture = jax.nn.softmax(self.mixture_network(jnp.concatenate([latent, action], axis=-1)), axis=-1)
        stacked = jnp.concatenate([latent, action, noise], axis=-1)
        return into_ball(mix(mixture, self.matrices.mean[...], stacked))

    def filter(
        self,
        frames: jax.Array,
        actions: jax.Array,
        observed: jax.Array,
        noise: jax.Array,
        noise_scale: jax.Array | float | None = None,
    ) -> Filtered:
        """As DVBF.filter; the distributions are over w, and the prior's scale is always 1."""
        actions = actions / self.scale.action_scale
        pixels = self.encode(frames)
        initial = self.initial(pixels, actions)
        first_noise = from_noise(initial, noise[:, 0])
        first = self.first_latent(first_noise)

        def step(latent: jax.Array, inputs: tuple) -> tuple[jax.Array, tuple]:
            action, pixels, observed, noise = inputs
            told = jnp.concatenate([pixels, latent, action], axis=-1)
            mean, raw_std = split_in_two(self.recognition(told))
            posterior = diagonal_normal(mean, positive(raw_std))
            drawn = jnp.where(observed[:, None], from_noise(posterior, noise), noise)
            latent = self.next_latent(latent, action, drawn)
            return latent, (latent, drawn, posterior)

        over_time = jax.tree.map(swap, (actions, pixels[:, 1:], observed, noise[:, 1:]))
        _, outputs = jax.lax.scan(step, first, over_time)
        latents, drawn, posterior = jax.tree.map(swap, outputs)
        prior = diagonal_normal(jnp.zeros_like(drawn), jnp.ones_like(drawn))
        latents = jnp.concatenate([first[:, None], latents], axis=1)
        draws = jnp.concatenate([first_noise[:, None], drawn], axis=1)
        return Filtered(pixels, latents, draws, initial, posterior, prior)

    def imagine(self, latent: jax.Array, actions: jax.Array, noise: jax.Array) -> jax.Array:
        """As DVBF.imagine."""

        def step(latent: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
            latent = self.next_latent(latent, *inputs)
            return latent, latent

        over_time = jax.tree.map(swap, (actions / self.scale.action_scale, noise))
        return swap(jax.lax.scan(step, latent, over_time)[1])


def paper_loss(
    model: PaperDVBF,
    frames: jax.Array,
    actions: jax.Array,
    key: jax.Array,
    step: jax.Array,
    *,
    steps: int,
    sequences: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """dvbf_loss with one draw of the base matrices, plus their KL, spread over the data: nats per frame.

    `sequences` is the size of the whole data set. The reported ELBO leaves the matrices' KL out.
    """
    matrices_key, loss_key = jax.random.split(key)
    drawn = nnx.clone(model)
    drawn.matrices.mean[...] = model.matrices.sample(matrices_key)
    loss, metrics = dvbf_loss(drawn, frames, actions, loss_key, step, steps=steps)
    matrices_kl = model.matrices.kl() / (sequences * frames.shape[1])
    return loss + matrices_kl, metrics | {"loss": loss + matrices_kl, "kl_matrices": matrices_kl}
