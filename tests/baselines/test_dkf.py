import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, infer, infer_all, make_tiny_dvbf, untrained
from flax import nnx

from baselines.dkf import DKF, DKFState
from baselines.options import DKFOptions
from worldmodel.models.protocol import swap_time

Batch = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def dkf() -> DKF:
    options = DKFOptions(latent_size=8, hidden_size=8, feature_size=6, initial_frames=2)
    return untrained(options, make_tiny_dvbf("fusion").scale)


def test_no_later_frame_leaks_into_a_filtered_latent(dkf: DKF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    influence = jax.jit(jax.jacobian(lambda x: infer_all(dkf, (x, actions)).latents.sum(axis=(0, 2))))(frames)
    influence = np.abs(np.asarray(influence)).sum(axis=(1, 3, 4))
    for t in range(7):
        last = max(t, dkf.options.initial_frames - 1)
        assert (influence[t, last + 1 :] == 0).all()
        assert (influence[t, : last + 1] > 0).all()


def test_the_posterior_does_not_pass_through_the_transition(dkf: DKF, tiny_batch: Batch):
    """What sets it apart from a DVBF: the reconstruction gives the transition no gradient at all."""
    frames = jnp.asarray(tiny_batch[0])
    graphdef, params = nnx.split(dkf)

    def reconstruction(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return jnp.mean(model.emit(infer_all(model, tiny_batch).latents).log_prob(frames))

    def kl(params: nnx.State) -> jax.Array:
        filtered = infer_all(nnx.merge(graphdef, params), tiny_batch)
        return jnp.mean(filtered.posterior.kl_divergence(filtered.prior))

    gradients = jax.jit(jax.grad(reconstruction))(params)
    for leaf in jax.tree.leaves(gradients["transition_network"]):
        assert (leaf == 0).all()
    for part in ("encoder", "initial_network", "posterior_network", "update_gate", "candidate", "decoder"):
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients[part])), part
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(jax.jit(jax.grad(kl))(params)["transition_network"]))
    assert jax.jit(kl)(params) > 0


def test_imagining_is_filtering_with_the_measurement_switched_off(dkf: DKF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    # the noise that imagination draws, step by step
    drawn = [jax.random.normal(key, (3, dkf.latent_size)) for key in jax.random.split(jax.random.key(3), 6)]
    noise = jnp.stack([jnp.zeros_like(drawn[0]), *drawn], axis=1)
    switched_off = infer(dkf, frames, actions, jnp.zeros((3, 6), bool), noise)
    start = jax.tree.map(lambda leaf: leaf[:, 0], DKFState(switched_off.latents, switched_off.features))
    imagined = dreamt(dkf, start, actions, jax.random.key(3))
    np.testing.assert_allclose(imagined.latent, switched_off.latents[:, 1:], rtol=1e-5, atol=1e-6)
    # what is imagined is no memory
    np.testing.assert_array_equal(swap_time(imagined.memory), np.broadcast_to(start.memory, (6, 3, 8)))


def test_the_recurrent_network_equals_a_plain_loop(dkf: DKF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    features = np.asarray(dkf.encode(frames))
    state = np.zeros((3, dkf.options.hidden_size), np.float32)
    result = np.asarray(jax.jit(dkf.memories)(frames, actions))
    for t in range(7):
        before = np.zeros((3, 2), np.float32) if t == 0 else np.asarray(actions[:, t - 1]) / dkf.scale.action_scale
        both = np.concatenate([features[:, t], before, state], axis=1)
        gate = 1 / (1 + np.exp(-np.asarray(dkf.update_gate(both))))
        state = (1 - gate) * state + gate * np.tanh(np.asarray(dkf.candidate(both)))
        np.testing.assert_allclose(result[:, t], state, rtol=1e-3, atol=1e-5)
