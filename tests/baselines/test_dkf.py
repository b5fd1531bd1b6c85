import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, make_tiny_dvbf
from flax import nnx

from baselines.dkf import DKF, DKF_OPTIONS

Batch = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def dkf() -> DKF:
    return DKF(make_tiny_dvbf("fusion").scale, dataclasses.replace(DKF_OPTIONS, **TINY), nnx.Rngs(params=0))


def filter_all(model: DKF, frames: jax.Array, actions: jax.Array):
    noise = jax.random.normal(jax.random.key(0), (*frames.shape[:2], model.options.latent_size))
    return model.filter(frames, actions, jnp.ones(actions.shape[:2], bool), noise)


def test_no_later_frame_leaks_into_a_filtered_latent(dkf: DKF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    influence = jax.jacobian(lambda x: filter_all(dkf, x, actions).latents.sum(axis=(0, 2)))(frames)
    influence = np.abs(np.asarray(influence)).sum(axis=(1, 3, 4))
    for t in range(7):
        last = max(t, dkf.options.initial_frames - 1)
        assert (influence[t, last + 1 :] == 0).all()
        assert (influence[t, : last + 1] > 0).all()


def test_the_posterior_does_not_pass_through_the_transition(dkf: DKF, tiny_batch: Batch):
    """What sets it apart from a DVBF: the reconstruction gives the transition no gradient at all."""
    frames, actions = map(jnp.asarray, tiny_batch)
    graphdef, params = nnx.split(dkf)

    def reconstruction(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return jnp.mean(model.emission(filter_all(model, frames, actions).latents).log_prob(frames))

    def kl(params: nnx.State) -> jax.Array:
        filtered = filter_all(nnx.merge(graphdef, params), frames, actions)
        return jnp.mean(filtered.posterior.kl_divergence(filtered.prior))

    for leaf in jax.tree.leaves(jax.grad(reconstruction)(params)["transition"]):
        assert (leaf == 0).all()
    gradients = jax.grad(reconstruction)(params)
    for part in ("encoder", "initial_network", "posterior", "update_gate", "candidate", "decoder"):
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients[part])), part
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(jax.grad(kl)(params)["transition"]))
    assert kl(params) > 0


def test_imagining_is_filtering_with_the_measurement_switched_off(dkf: DKF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    noise = jax.random.normal(jax.random.key(0), (3, 7, dkf.options.latent_size))
    switched_off = dkf.filter(frames, actions, jnp.zeros((3, 6), bool), noise).latents
    imagined = dkf.imagine(switched_off[:, 0], actions, noise[:, 1:])
    np.testing.assert_allclose(imagined, switched_off[:, 1:], rtol=1e-5, atol=1e-6)


def test_the_recurrent_network_equals_a_plain_loop(dkf: DKF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    features = np.asarray(dkf.encode(frames))
    state = np.zeros((3, dkf.options.hidden_size), np.float32)
    result = np.asarray(dkf.recognise(frames, actions))
    for t in range(7):
        before = np.zeros((3, 2), np.float32) if t == 0 else np.asarray(actions[:, t - 1])
        both = np.concatenate([features[:, t], before, state], axis=1)
        gate = 1 / (1 + np.exp(-np.asarray(dkf.update_gate(both))))
        state = (1 - gate) * state + gate * np.tanh(np.asarray(dkf.candidate(both)))
        np.testing.assert_allclose(result[:, t], state, rtol=1e-3, atol=1e-5)
