"""The DVBF with a network as its transition: what is its own; the interface's tests have the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import infer_all, make_tiny_dvbf, untrained
from flax import nnx

from baselines.dvbf_mlp import MLPDVBF
from baselines.options import MLPDVBFOptions
from worldmodel.data.windows import Batch
from worldmodel.models.protocol import LocallyLinear

Frames = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def model() -> MLPDVBF:
    options = MLPDVBFOptions(hidden_size=8, feature_size=6, initial_frames=2, transition_hidden_size=5)
    return untrained(options, make_tiny_dvbf("fusion").scale)


def test_the_prior_is_what_the_network_says_added_to_the_latent(model: MLPDVBF):
    latent, action = (np.asarray(jax.random.normal(jax.random.key(i), (3, size))) for i, size in ((0, 8), (1, 2)))
    layers = model.transition.network.layers
    first, second = ([np.asarray(part[...], float) for part in (layer.kernel, layer.bias)] for layer in layers)
    hidden = np.concatenate([latent, action], axis=1) @ first[0] + first[1]
    told = hidden / (1 + np.exp(-hidden)) @ second[0] + second[1]
    prior, mixture = model.prior(jnp.asarray(latent), jnp.asarray(action), 0.5)
    np.testing.assert_allclose(prior.mean(), latent + 0.1 * told[:, :8], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prior.stddev(), 0.5 * (np.log1p(np.exp(told[:, 8:] - 2)) + 1e-3), rtol=1e-4)
    np.testing.assert_array_equal(mixture, np.ones((3, 1)))
    assert not isinstance(model, LocallyLinear)


def test_the_reconstruction_reaches_the_network_and_the_loss_every_parameter(model: MLPDVBF, tiny_batch: Frames):
    """As in every DVBF the error of a frame flows back through the dynamics."""
    frames, actions = map(jnp.asarray, tiny_batch)
    graphdef, params = nnx.split(model)

    def reconstruction(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return jnp.mean(model.emit(infer_all(model, tiny_batch).latents).log_prob(frames))

    def loss(params: nnx.State) -> jax.Array:
        return nnx.merge(graphdef, params).loss(Batch(frames, actions), jax.random.key(0), jnp.asarray(0.1))[0]

    through = jax.jit(jax.grad(reconstruction))(params)["transition"]
    everything = nnx.to_pure_dict(jax.jit(jax.grad(loss))(params))
    del everything["spread"]  # fitted after the training
    for gradients in (nnx.to_pure_dict(through), everything):
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
            assert np.abs(leaf).max() > 0, path


def test_an_action_moves_the_states_after_it_and_none_before(model: MLPDVBF, tiny_batch: Frames):
    frames, actions = map(jnp.asarray, tiny_batch)
    influence = jax.jit(jax.jacobian(lambda u: infer_all(model, (frames, u)).latents.sum(axis=(0, 2))))(actions)
    influence = np.abs(np.asarray(influence)).sum(axis=(1, 3))
    for t in range(7):
        # the first action lies between the two frames of the initial state, whose posterior sees it
        assert (influence[t, max(t, 1) :] == 0).all()
        assert (influence[t, : max(t, 1)] > 0).all()
