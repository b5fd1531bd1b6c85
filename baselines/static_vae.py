"""The static VAE (Kingma and Welling, 2014): each frame by itself, the stage before the DVBF.

    z ~ N(0, I),   x ~ N(decoder(z), sigma^2 I),   q(z | x) = N(mean(x), std(x)^2)

It cannot know a velocity: one frame does not hold it. What it is for: to see that the frames can be encoded,
and to see the balance between reconstruction and KL before any dynamics enter.
"""

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.options import StaticVAEOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen
from worldmodel.models.distributions import diagonal_normal, draw, image_normal, positive, standard_normal_like
from worldmodel.models.networks import split_in_two
from worldmodel.models.protocol import Bound
from worldmodel.models.vision.networks import make_decoder, make_encoder


class StaticVAE(nnx.Module):
    """A variational autoencoder of single frames, a FrameModel. Its state is the latent z, `[..., Z]`."""

    def __init__(self, scale: FrameScale, options: StaticVAEOptions, rngs: nnx.Rngs):
        self.scale, self.options, self.latent_size = scale, options, options.latent_size
        hidden, latent = options.hidden_size, options.latent_size
        self.encoder = make_encoder(scale, options, (hidden, hidden, 2 * latent), rngs)
        self.decoder = make_decoder(scale, options, (latent, hidden, hidden), rngs)

    @property
    def observation_std(self) -> float:
        """sigma of a pixel, in units of full brightness."""
        return self.scale.observation_std(self.options.observation_std)

    def posterior(self, frames: jax.Array) -> distrax.Independent:
        """q(z | x), event `[Z]`, for every frame."""
        mean, raw_std = split_in_two(self.encoder(self.scale.standardise(frames)))
        return diagonal_normal(mean, positive(raw_std))

    def encode(self, frames: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """As FrameModel.encode."""
        return draw(self.posterior(frames), key)

    def vector(self, state: jax.Array) -> jax.Array:
        """The latent itself."""
        return state

    def emission(self, state: jax.Array) -> distrax.Independent:
        """p(x | z): `[..., Z]` to a distribution over frames `[..., H, W(, C)]`."""
        frames = self.scale.restore(self.decoder(state))
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))

    def bound(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Bound:
        """As Bounded.bound."""
        posterior = self.posterior(frames)
        latents, prior = draw(posterior, key), standard_normal_like(posterior)
        reconstruction = self.emission(latents).log_prob(frames)
        log_weight = reconstruction + prior.log_prob(latents) - posterior.log_prob(latents)
        kl = posterior.kl_divergence(prior)
        if valid is not None:
            reconstruction, kl, log_weight = (jnp.where(valid, each, 0) for each in (reconstruction, kl, log_weight))
        return Bound(reconstruction, kl, jnp.sum(log_weight, axis=1))

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The negative ELBO; frames that are not valid do not count, actions play no part."""
        frames = batch.frames
        posterior = self.posterior(frames)
        latents = draw(posterior, key)
        emission = self.emission(latents)
        reconstruction = emission.log_prob(frames)
        kl = posterior.kl_divergence(standard_normal_like(posterior))
        loss = mean_of_seen(kl - reconstruction, batch.valid)
        return loss, {
            "loss": loss,
            "elbo": -loss,
            "reconstruction": mean_of_seen(reconstruction, batch.valid),
            "kl": mean_of_seen(kl, batch.valid),
            "frame_mse": mean_of_seen((emission.mean() - frames) ** 2, batch.valid),
        }
