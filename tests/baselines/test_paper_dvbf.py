import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, infer, infer_all, loss_of, make_tiny_dvbf, untrained
from flax import nnx

from baselines.options import PaperDVBFOptions
from baselines.paper_dvbf import BaseMatrices, PaperDVBF
from worldmodel.data import windows
from worldmodel.models.variational import bound_terms, importance_log_weight

Batch = tuple[np.ndarray, np.ndarray]


def make_model(bayesian: bool) -> PaperDVBF:
    options = PaperDVBFOptions(latent_size=8, base_matrices=3, hidden_size=8, bayesian=bayesian)
    return untrained(options, make_tiny_dvbf("noise").scale)


@pytest.fixture(params=[False, True], ids=["points", "bayesian"])
def model(request: pytest.FixtureRequest) -> PaperDVBF:
    return make_model(request.param)


def test_the_filter_is_the_papers_recursion(model: PaperDVBF, tiny_batch: Batch):
    """z' = A z + B u + C w in NumPy, from the filter's own draws of w."""
    filtered = infer_all(model, tiny_batch)
    matrices = np.asarray(model.base.mean[...], np.float64)
    layer = model.mixture_network.layers[0]
    kernel, bias = np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64)
    actions = tiny_batch[1] / model.scale.action_scale
    for b in range(3):
        z = np.asarray(filtered.latents[b, 0], np.float64)
        for t in range(6):
            logits = np.concatenate([z, actions[b, t]]) @ kernel + bias
            alpha = np.exp(logits) / np.exp(logits).sum()
            mixed = np.tensordot(alpha, matrices, 1)
            z = np.concatenate([z, actions[b, t], np.asarray(filtered.draws[b, t + 1])]) @ mixed
            np.testing.assert_allclose(filtered.latents[b, t + 1], z, rtol=1e-3, atol=1e-4)


def test_imagination_is_the_filter_switched_off(model: PaperDVBF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    # the noise that imagination draws, step by step
    drawn = [jax.random.normal(key, (3, model.latent_size)) for key in jax.random.split(jax.random.key(3), 6)]
    noise = jnp.stack([jnp.zeros_like(drawn[0]), *drawn], axis=1)
    filtered = infer(model, frames, actions, jnp.zeros((3, 6), bool), noise)
    imagined = dreamt(model, filtered.latents[:, 0], actions, jax.random.key(3))
    np.testing.assert_allclose(imagined, filtered.latents[:, 1:], rtol=1e-4, atol=1e-5)


def test_a_step_sees_its_own_next_frame_and_none_after_it(model: PaperDVBF, tiny_batch: Batch):
    """The first latent sees everything, as in the paper; the process noise is inferred from one frame."""
    features = model.encode(jnp.asarray(tiny_batch[0]))
    assert (jax.jit(jax.jacobian(lambda x: model.initial(x).mean().sum()))(features) != 0).any(axis=(0, 2)).all()
    last = model.first_latent.layers[-1]
    last.kernel[...] = jnp.zeros_like(last.kernel[...])  # all sequences begin at one latent: what follows is the steps'
    before = np.asarray(infer_all(model, tiny_batch).latents)
    for k in range(1, 7):
        changed = tiny_batch[0].copy()
        changed[:, k] = 1 - changed[:, k]
        after = np.asarray(infer_all(model, (changed, tiny_batch[1])).latents)
        np.testing.assert_array_equal(after[:, :k], before[:, :k])
        assert (after[:, k] != before[:, k]).any(axis=-1).all()


def test_the_sampled_bound_is_the_closed_one_on_average(model: PaperDVBF, tiny_batch: Batch):
    frames = jnp.asarray(tiny_batch[0])
    observed = jnp.ones((3, 6), bool)

    def both(seed: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.key(seed), (3, 7, model.latent_size))
        filtered = infer_all(model, tiny_batch, noise)
        terms = bound_terms(model, frames, filtered, observed)
        return jnp.stack(
            [jnp.sum(terms.reconstruction - terms.kl, axis=1), importance_log_weight(model, frames, filtered)]
        )

    draws = np.asarray(jax.lax.map(both, jnp.arange(4000)), np.float64)
    difference = draws[:, 0] - draws[:, 1]
    error = difference.std(axis=0) / np.sqrt(len(difference))
    assert (np.abs(difference.mean(axis=0)) < 5 * error + 1e-3).all()


def test_the_kl_of_the_base_matrices_is_the_smallest_under_any_isotropic_prior():
    matrices = BaseMatrices(latent_size=2, action_size=1, count=3, bayesian=True, rngs=nnx.Rngs(params=0))
    assert matrices.raw_std is not None
    matrices.raw_std[...] += jax.random.normal(jax.random.key(1), matrices.raw_std[...].shape)
    mean = np.asarray(matrices.mean[...], np.float64)
    std = np.log1p(np.exp(np.asarray(matrices.raw_std[...], np.float64))) + 1e-3

    def kl(prior: float) -> float:
        return float(np.sum(np.log(prior / std) + (std**2 + mean**2) / (2 * prior**2) - 0.5))

    smallest = min(kl(prior) for prior in np.linspace(0.05, 3, 20_000))
    assert float(matrices.kl()) == pytest.approx(smallest, rel=1e-4)


def test_bayesian_matrices_are_drawn_and_learn_their_width(tiny_batch: Batch):
    model = make_model(bayesian=True)
    draws = jax.vmap(model.base.sample)(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(draws.mean(axis=0), model.base.mean[...], atol=0.002)
    np.testing.assert_allclose(draws.std(axis=0), 0.01 + 1e-3, rtol=0.15)
    graphdef, params = nnx.split(model)

    def loss(params: nnx.State) -> jax.Array:
        batch = windows.Batch(*map(jnp.asarray, tiny_batch))
        return nnx.merge(graphdef, params).loss(batch, jax.random.key(0), jnp.zeros(()))[0]

    gradients = jax.jit(jax.grad(loss))(params)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.abs(gradient).max() > 0, path


def test_the_loss_is_the_annealed_bound_and_the_kl_of_the_matrices_over_all_frames(tiny_batch: Batch):
    """c = 1 at the end of the annealing: the plain bound is left."""
    for bayesian in (False, True):
        model = make_model(bayesian)
        frames = model.scale.frames
        assert frames > 0
        for progress, c in ((0.1, 0.21), (0.6, 1.0)):
            loss, metrics = loss_of(model, tiny_batch, progress)
            kl = float(model.base.kl()) / frames
            assert (kl > 0) == bayesian
            assert float(metrics["kl_matrices"]) == pytest.approx(kl, rel=1e-5)
            plain = -float(metrics["elbo"]) + kl
            assert (float(loss) == pytest.approx(plain, rel=1e-5)) == (c == 1)
