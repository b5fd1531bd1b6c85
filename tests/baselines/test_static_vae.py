import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from baselines.options import StaticVAEOptions
from baselines.static_vae import StaticVAE
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch
from worldmodel.evaluation.posterior import Posterior, latent_walk, report_posterior
from worldmodel.imagination.dreamer import reconstruct
from worldmodel.models.distributions import diagonal_normal

SCALE = FrameScale((4, 4), 1, pixel_mean=0.4, pixel_std=0.3, frame_variance=1.2, action_scale=1.0)


def planted(std: list[float], spread: list[float], left: float = 0.01) -> Posterior:
    """The report of a posterior whose means have the given spread over frames."""
    means = np.random.default_rng(0).standard_normal((2000, len(std))) * np.array(spread)
    posterior = diagonal_normal(jnp.asarray(means, jnp.float32), jnp.array(std, jnp.float32)[None, :])
    frames = np.random.default_rng(1).random((50, 4, 4))
    mean = frames.mean(axis=0)
    return report_posterior(posterior, frames, mean + (1 - left**0.5) * (frames - mean))


def test_a_healthy_posterior_is_called_healthy():
    report = planted([0.3, 0.2], [1.0, 1.0])
    assert report.unused == []
    assert not any("near zero" in sentence for sentence in report.in_words)
    assert "Healthy" in report.in_words[0]
    expected = 0.5 * (0.3**2 + 1 - 1) - np.log(0.3)
    assert report.kl[0] == pytest.approx(expected, rel=0.05)
    np.testing.assert_allclose(report.std, [0.3, 0.2], rtol=1e-4)


def test_frames_that_are_not_reconstructed_are_not_healthy():
    report = planted([0.3, 0.2], [1.0, 1.0], left=0.8)
    assert report.reconstruction_share == pytest.approx(0.8)
    assert "Frames not learnt" in report.in_words[0]


def test_collapsed_dimensions_are_named():
    report = planted([0.3, 1.0, 0.99], [1.0, 0.0, 0.05])
    assert report.unused == [1, 2]
    assert any("2 of 3 dimensions collapsed" in sentence for sentence in report.in_words)


def test_a_whole_collapse_is_called_one():
    report = planted([1.0, 1.0], [0.0, 0.0])
    assert any("Posterior collapse" in sentence for sentence in report.in_words)


@pytest.mark.parametrize("std", [0.001, 0.03])
def test_an_autoencoder_in_disguise_is_called_one(std: float):
    report = planted([0.3, std], [1.0, 1.0])
    assert any("autoencoder in disguise: the posterior of dimensions [1]" in sentence for sentence in report.in_words)


def make_vae(**options) -> StaticVAE:
    return StaticVAE(SCALE, StaticVAEOptions(**options), nnx.Rngs(params=0))


def test_the_loss_is_reconstruction_plus_closed_form_kl():
    model = make_vae(latent_size=3, observation_std=0.5)
    frames = jnp.asarray(np.random.default_rng(0).random((6, 1, 4, 4), np.float32))
    loss, metrics = model.loss(Batch(frames, jnp.zeros((6, 0, 1))), jax.random.key(0), jnp.zeros(()))
    posterior = model.posterior(frames)
    mean, std = np.asarray(posterior.mean(), np.float64), np.asarray(posterior.stddev(), np.float64)
    kl = np.sum(0.5 * (mean**2 + std**2 - 1) - np.log(std), axis=-1).mean()
    assert float(metrics["kl"]) == pytest.approx(kl, rel=1e-4)
    assert float(loss) == pytest.approx(kl - float(metrics["reconstruction"]), rel=1e-5)
    constant = -16 * (np.log(0.5) + 0.5 * np.log(2 * np.pi))
    expected = constant - float(metrics["frame_mse"]) * 16 / (2 * 0.5**2)
    assert float(metrics["reconstruction"]) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_reaches_every_parameter():
    graphdef, params = nnx.split(make_vae())
    frames = jnp.asarray(np.random.default_rng(0).random((6, 1, 4, 4), np.float32))
    batch = Batch(frames, jnp.zeros((6, 0, 1)))

    def loss(params: nnx.State) -> jax.Array:
        return nnx.merge(graphdef, params).loss(batch, jax.random.key(0), jnp.zeros(()))[0]

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


def test_reconstructions_keep_the_shape_of_frames():
    frames = np.zeros((2, 5, 4, 4), np.float32)
    assert reconstruct(make_vae(), frames).shape == frames.shape


def test_a_latent_walk_stays_near_the_data():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    walk = latent_walk(circle, stops=24, frames_between=4)
    assert walk.shape == (96, 2)
    assert np.linalg.norm(walk, axis=1).min() > 0.9  # along the circle, not across the hole in it
    assert np.linalg.norm(np.diff(walk, axis=0), axis=1).max() < 0.3


def test_frames_that_are_not_valid_do_not_count():
    model = make_vae(hidden_size=16)
    random = np.random.default_rng(0)
    frames = jnp.asarray(random.random((6, 1, 4, 4), np.float32))
    valid = jnp.asarray([True, False, True, True, False, True])[:, None]

    @jax.jit
    def loss(frames: jax.Array, valid: jax.Array) -> jax.Array:
        return model.loss(Batch(frames, jnp.zeros((6, 0, 1)), valid), jax.random.key(0), jnp.zeros(()))[0]

    hidden = jnp.where(valid[..., None, None], frames, 1 - frames)
    assert float(loss(hidden, valid)) == float(loss(frames, valid))
    assert float(loss(hidden, jnp.ones_like(valid))) != float(loss(frames, jnp.ones_like(valid)))
