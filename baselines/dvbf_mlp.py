"""The DVBF with a plain network as its transition: what does local linearity buy?

    z_{t+1} ~ N(z_t + f(z_t, u_t), s(z_t, u_t)^2),   (f, s) = MLP                 transition

Everything else is the DVBF's (worldmodel/models/dvbf/model.py), its inference, its recipe and its ball. One thing more
changes with the transition: the DVBF mixes the widths and gains of its corrections by the weights that mix its
matrices; here there is nothing to mix by, and one set of them.
"""

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines.options import MLPDVBFOptions
from worldmodel.models.distributions import diagonal_normal, positive
from worldmodel.models.dvbf.model import INITIAL_RAW_STD, FilterThroughTransition
from worldmodel.models.networks import MLP, into_ball, split_in_two

FIRST_CHANGE = 0.1
"""times what a new network says: a new model nearly stands still"""


class NetworkTransition(nnx.Module):
    """p(z' | z, u): a Gaussian whose mean and width one network gives."""

    components = 1

    def __init__(self, latent_size: int, action_size: int, options: MLPDVBFOptions, rngs: nnx.Rngs):
        self.network = MLP((latent_size + action_size, options.transition_hidden_size, 2 * latent_size), rngs)

    def mixture(self, latent: jax.Array, action: jax.Array) -> jax.Array:
        """1: there is one component."""
        return jnp.ones((len(latent), 1))

    def distribution(
        self, latent: jax.Array, action: jax.Array, mixture: jax.Array, noise_scale: jax.Array | float
    ) -> distrax.Independent:
        """As Transition.distribution."""
        change, raw_std = split_in_two(self.network(jnp.concatenate([latent, action], axis=-1)))
        std = positive(INITIAL_RAW_STD + raw_std)
        return diagonal_normal(into_ball(latent + FIRST_CHANGE * change), noise_scale * std)


class MLPDVBF(FilterThroughTransition):
    """A Deep Variational Bayes Filter whose transition is a network."""

    def make_transition(self, rngs: nnx.Rngs) -> NetworkTransition:
        """As FilterThroughTransition.make_transition."""
        return NetworkTransition(self.latent_size, self.scale.action_size, self.options, rngs)
