"""The model against slow and independent truths, and the mistakes that published DVBF code makes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, filtered, infer, infer_all, loss_of, make_tiny_dvbf, mean_frames, model_loss, untrained
from flax import nnx

from worldmodel.data import windows
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import as_unit_frames
from worldmodel.models.distributions import from_noise
from worldmodel.models.dvbf.model import DVBF, FusionPosterior, ProcessNoisePosterior
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.models.networks import BALL_RADIUS, MLP, into_ball
from worldmodel.models.protocol import imagine
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

Batch = tuple[np.ndarray, np.ndarray]


def standard_noise(model: DVBF, batch: int, length: int) -> jax.Array:
    return jax.random.normal(jax.random.key(9), (batch, length, model.options.latent_size))


def test_the_compiled_scan_equals_a_plain_loop(tiny_dvbf: DVBF, tiny_batch: Batch):
    model, (frames, actions) = tiny_dvbf, tiny_batch
    if isinstance(model.posterior, FusionPosterior):
        gain = model.posterior.gain
        gain[...] = jax.random.normal(jax.random.key(4), gain.shape)  # zero before training
    noise = standard_noise(model, 3, 7)
    observed = np.random.default_rng(1).random((3, 6)) < 0.5
    result = infer(model, frames, actions, observed, noise)

    scaled = actions / model.scale.action_scale
    features = model.encode(frames)
    latent = from_noise(model.initial(features, jnp.asarray(scaled)), noise[:, 0])
    scale = model.options.final_noise_scale
    for t in range(6):
        np.testing.assert_allclose(result.latents[:, t], latent, rtol=2e-4, atol=2e-5)
        rows = []
        for b in range(3):
            z, u = latent[b : b + 1], scaled[b : b + 1, t]
            mixture = model.transition.mixture(z, u)
            mean, std = slow_transition(model, np.asarray(z[0]), u[0], np.asarray(mixture[0]))
            np.testing.assert_allclose(result.prior.mean()[b, t], mean, rtol=2e-4, atol=2e-5)
            np.testing.assert_allclose(result.prior.stddev()[b, t], scale * std, rtol=2e-4)
            q_mean, q_std = slow_posterior(
                model, mean, scale * std, u[0], np.asarray(mixture[0]), np.asarray(features[b, t + 1])
            )
            np.testing.assert_allclose(result.posterior.mean()[b, t], q_mean, rtol=2e-3, atol=2e-5)
            np.testing.assert_allclose(result.posterior.stddev()[b, t], q_std, rtol=2e-3)
            used_mean, used_std = (q_mean, q_std) if observed[b, t] else (mean, scale * std)
            rows.append(used_mean + used_std * np.asarray(noise[b, t + 1]))
        latent = jnp.asarray(np.stack(rows), jnp.float32)
    np.testing.assert_allclose(result.latents[:, 6], latent, rtol=2e-4, atol=2e-5)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(np.asarray(x, np.float64)))


def slow_posterior(
    model: DVBF, mean: np.ndarray, std: np.ndarray, u: np.ndarray, alpha: np.ndarray, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of q(z' | z, u, x') for one sequence, dimension by dimension."""
    posterior, size = model.posterior, len(mean)
    if isinstance(posterior, ProcessNoisePosterior):
        out = np.asarray(posterior.noise(jnp.asarray(np.concatenate([features, mean, u]), jnp.float32)))
        return mean + std * out[:size], std * (softplus(out[size:] + np.log(np.e - 1)) + 1e-3)
    visible = model.options.visible_size
    out = np.asarray(posterior.measurement(jnp.asarray(features)))
    mean, std = mean.copy(), std * (alpha @ (softplus(posterior.raw_widening[...]) + 1e-3))
    before = mean[:visible].copy()
    for i in range(visible):
        measured_variance = (softplus(out[visible + i]) + 1e-3) ** 2
        weight = std[i] ** 2 / (std[i] ** 2 + measured_variance)  # the scalar Kalman gain
        mean[i] += weight * (out[i] - mean[i])
        std[i] = np.sqrt((1 - weight) * std[i] ** 2)
    for i, weight in enumerate(alpha):
        mean[visible:] += weight * ((mean[:visible] - before) @ np.asarray(posterior.gain[i]))
    return mean, std


def slow_transition(model: DVBF, z: np.ndarray, u: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z + sum_i alpha_i (A_i z + B_i u) and sum_i alpha_i C_i, matrix by matrix."""
    transition = model.transition
    mean, std = z.astype(np.float64).copy(), np.zeros_like(z, np.float64)
    for i, weight in enumerate(alpha):
        mean += weight * (z @ np.asarray(transition.state_matrices[i]) + u @ np.asarray(transition.action_matrices[i]))
        std += weight * (softplus(transition.raw_noise_std[i]) + 1e-3)
    return mean, std


def test_imagining_is_filtering_with_the_measurement_switched_off(tiny_dvbf: DVBF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    # the noise that imagination draws, step by step
    drawn = [jax.random.normal(key, (3, tiny_dvbf.latent_size)) for key in jax.random.split(jax.random.key(3), 6)]
    noise = jnp.stack([jnp.zeros_like(drawn[0]), *drawn], axis=1)
    switched_off = infer(tiny_dvbf, frames, actions, jnp.zeros((3, 6), bool), noise).latents
    imagined = dreamt(tiny_dvbf, switched_off[:, 0], actions, jax.random.key(3))
    np.testing.assert_allclose(imagined, switched_off[:, 1:], rtol=1e-5, atol=1e-6)


def test_the_kl_is_never_negative_and_zero_only_when_nothing_is_learnt_from_a_frame(tiny_dvbf: DVBF, tiny_batch: Batch):
    inferred = infer_all(tiny_dvbf, tiny_batch)
    kl = np.asarray(inferred.posterior.kl_divergence(inferred.prior))
    assert kl.shape == (3, 6)
    assert (kl > 0).all()
    np.testing.assert_allclose(inferred.prior.kl_divergence(inferred.prior), np.zeros((3, 6)), atol=1e-6)


def test_a_larger_kl_raises_the_loss(tiny_batch: Batch):
    """The sign: the same model, with its filter's corrections paid ten times, has a larger loss."""
    losses = []
    for weight in (1.0, 10.0):
        loss, metrics = loss_of(make_tiny_dvbf("fusion", transition_kl_weight=weight), tiny_batch)
        losses.append(float(loss))
    assert losses[1] > losses[0]
    assert float(metrics["elbo"]) == pytest.approx(float(metrics["reconstruction"] - metrics["kl"]), rel=1e-5)


def test_gradients_of_the_reconstruction_reach_every_recognition_parameter(tiny_dvbf: DVBF, tiny_batch: Batch):
    graphdef, params = nnx.split(tiny_dvbf)
    frames, _ = tiny_batch

    def reconstruction(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return -jnp.mean(model.emission(infer_all(model, tiny_batch).latents).log_prob(jnp.asarray(frames)))

    gradients = jax.jit(jax.grad(reconstruction))(params)
    for part in ("encoder", "initial_network", "posterior", "transition", "decoder"):
        for path, gradient in jax.tree_util.tree_leaves_with_path(gradients[part]):
            assert np.abs(gradient).max() > 0, f"{part}{jax.tree_util.keystr(path)}"


def test_no_later_frame_leaks_into_a_filtered_latent(tiny_dvbf: DVBF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    prefix = tiny_dvbf.options.initial_frames

    def latents(frames: jax.Array) -> jax.Array:
        return infer_all(tiny_dvbf, (frames, actions)).latents.sum(axis=(0, 2))

    # influence[t, s]: how much latent t depends on frame s
    influence = np.abs(np.asarray(jax.jit(jax.jacobian(latents))(frames))).sum(axis=(1, 3, 4))
    for t in range(7):
        last = max(t, prefix - 1)
        assert (influence[t, last + 1 :] == 0).all()
        assert (influence[t, : last + 1] > 0).all()


def test_the_action_index_of_a_filter(tiny_dvbf: DVBF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    prefix = tiny_dvbf.options.initial_frames

    def latents(actions: jax.Array) -> jax.Array:
        return infer_all(tiny_dvbf, (frames, actions)).latents.sum(axis=(0, 2))

    influence = np.abs(np.asarray(jax.jit(jax.jacobian(latents))(actions))).sum(axis=(1, 3))
    for t in range(7):
        for s in range(6):
            # action s acts on the way to latent s + 1; the initial state also sees those of the prefix
            assert (influence[t, s] > 0) == (s < t or s < prefix - 1), (t, s)


def test_the_action_index_of_imagination(tiny_dvbf: DVBF, tiny_batch: Batch):
    actions = jnp.asarray(tiny_batch[1])
    start = standard_noise(tiny_dvbf, 3, 1)[:, 0]

    def frames(actions: jax.Array) -> jax.Array:
        return tiny_dvbf.emission(imagine(tiny_dvbf, start, actions)).mean().sum(axis=(0, 2, 3))

    # imagined frame i is frame i + 1 of the timeline, if the start is frame 0
    influence = np.abs(np.asarray(jax.jit(jax.jacobian(frames))(actions))).sum(axis=(1, 3))
    for i in range(6):
        assert (influence[i, : i + 1] > 0).all()
        assert (influence[i, i + 1 :] == 0).all()


def test_the_decoder_sees_the_visible_part_only():
    model = make_tiny_dvbf("fusion", latent_size=5, visible_size=2)
    latents = standard_noise(model, 4, 1)[:, 0]
    hidden_changed = latents.at[:, 2:].add(1.0)
    np.testing.assert_array_equal(mean_frames(model, latents), mean_frames(model, hidden_changed))
    visible_changed = latents.at[:, 1].add(1.0)
    assert np.abs(mean_frames(model, latents) - mean_frames(model, visible_changed)).max() > 1e-4


def test_fusion_moves_the_hidden_part_by_a_gain_times_the_innovation(tiny_batch: Batch):
    model = make_tiny_dvbf("fusion", latent_size=5, visible_size=2)
    inferred = infer_all(model, tiny_batch)
    moved = np.asarray(inferred.posterior.mean() - inferred.prior.mean())
    assert (moved[..., 2:] == 0).all()  # before training the gain is zero
    assert (moved[..., :2] != 0).all()

    gain = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    model.posterior.gain[...] = jnp.broadcast_to(gain, model.posterior.gain.shape)  # the same in every mixture
    inferred = infer_all(model, tiny_batch)
    moved = np.asarray(inferred.posterior.mean() - inferred.prior.mean())
    np.testing.assert_allclose(moved[..., 2:], moved[..., :2] @ gain, rtol=1e-3, atol=1e-6)


def test_a_rollout_of_any_model_stays_in_the_ball(tiny_dvbf: DVBF):
    """Even with dynamics that would double the latent at every step, 500 steps stay bounded."""
    size = tiny_dvbf.options.latent_size
    matrices = tiny_dvbf.transition.state_matrices
    matrices[...] = jnp.broadcast_to(jnp.eye(size), matrices.shape)
    start = jnp.ones((2, size))
    latents = dreamt(tiny_dvbf, start, jnp.ones((2, 500, 2)))
    norms = np.linalg.norm(latents, axis=-1)
    assert norms.max() <= BALL_RADIUS * np.sqrt(size) * 1.0001
    assert norms.max() > BALL_RADIUS * np.sqrt(size) * 0.9  # the dynamics did push


def test_the_ball_does_not_touch_latents_inside():
    inside = jax.random.normal(jax.random.key(0), (100, 4))
    np.testing.assert_allclose(into_ball(inside), inside, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda z: into_ball(z).sum())(jnp.zeros((1, 4)))).all()


def test_frames_of_any_rank_and_size_fit(tiny_batch: Batch):
    model = make_tiny_dvbf("fusion")
    scale = dataclasses.replace(model.scale, frame_shape=(6, 5, 3))
    colour = untrained(model.options, scale)
    frames = jnp.zeros((3, 7, 6, 5, 3))
    inferred = infer_all(colour, (frames, tiny_batch[1]))
    emission = colour.emission(inferred.latents)
    assert emission.mean().shape == frames.shape
    assert emission.log_prob(frames).shape == (3, 7)


def test_bfloat16_rounds_what_the_networks_multiply_and_nothing_else(tiny_batch: Batch):
    """Of one layer, against the product of rounded numbers; of the model, by how little the loss moves."""
    x = jax.random.normal(jax.random.key(0), (5, 3, 20))
    layer = MLP((20, 7), nnx.Rngs(params=1), precision="bfloat16")

    def rounded(a: jax.Array) -> np.ndarray:
        return np.asarray(a.astype(jnp.bfloat16).astype(jnp.float32))

    kernel = layer.layers[0].kernel[...]
    assert layer(x).dtype == kernel.dtype == jnp.float32
    np.testing.assert_allclose(layer(x), rounded(x) @ rounded(kernel), rtol=2**-7, atol=2**-8)
    assert np.abs(rounded(x) - x).max() > 1e-3

    losses = []
    for precision in ("float32", "bfloat16"):
        model = make_tiny_dvbf("fusion", precision=precision)
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("float32")}
        losses.append(float(loss_of(model, tiny_batch, 0.05)[0]))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_a_model_of_frames_before_a_landscape_sees_and_draws_them():
    """The frames are those of the pendulum before a landscape; networks see the difference, frames come out whole."""
    random = np.random.default_rng(0)
    moving = collect_pendulum(0, 8, 8, PAPER, 16)
    landscape = random.integers(0, 120, (16, 16)).astype(np.uint8)
    data = dataclasses.replace(moving, frames=landscape + moving.frames // 4)
    scale = FrameScale.of(data, "landscape")
    assert scale.background
    model = untrained(DVBFOptions(base_matrices=2, hidden_size=8, feature_size=6), scale)
    frames, actions = jnp.asarray(as_unit_frames(data.frames)), jnp.asarray(data.actions)
    loss, _ = model_loss(model, windows.Batch(frames, actions), jax.random.key(0), jnp.asarray(0.5))
    assert jnp.isfinite(loss)
    silent = jax.tree.map(jnp.zeros_like, nnx.state(model.decoder, nnx.Param))
    nnx.update(model.decoder, silent)
    drawn = mean_frames(model, filtered(model, frames, actions))
    np.testing.assert_allclose(drawn[3, 5], frames.mean(axis=(0, 1)), atol=0.003)  # a decoder that says nothing
