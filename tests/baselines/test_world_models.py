"""World Models against SciPy, NumPy loops and moments in closed form."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, filtered, make_tiny_dvbf, untrained
from flax import nnx
from scipy.special import logsumexp
from scipy.stats import norm

from baselines.rival_options import PUBLISHED_WORLD_MODELS, RivalVAEOptions, WorldModelsOptions
from baselines.world_models import WorldModels
from worldmodel.data.windows import Batch
from worldmodel.models.protocol import Sampled
from worldmodel.support.files import UserError

Frames = tuple[np.ndarray, np.ndarray]
SIZE, HIDDEN = 3, 6
FIRST, SECOND = jnp.asarray(0.1), jnp.asarray(0.9)
"""progress in either stage"""


@pytest.fixture(scope="module")
def model() -> WorldModels:
    """Of 4 x 4 frames and two actions, with mixtures whose components lie apart."""
    options = WorldModelsOptions(latent_size=SIZE, hidden_size=HIDDEN)
    made = untrained(options, make_tiny_dvbf("fusion").scale)
    made.density.bias[...] = jax.random.normal(jax.random.key(4), made.density.bias.shape)
    return made


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mixture(model: WorldModels, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log weights, means and standard deviations `[B, Z, K]` for h `[B, H]`, in float64."""
    kernel, bias = (np.asarray(x[...], np.float64) for x in (model.density.kernel, model.density.bias))
    logits, mean, raw_std = np.moveaxis((hidden @ kernel + bias).reshape(len(hidden), 3, SIZE, -1), 1, 0)
    return logits - logsumexp(logits, axis=-1, keepdims=True), mean, np.log1p(np.exp(raw_std)) + 1e-3


def lstm(model: WorldModels, latents: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c and h `[B, T, H]` along latents `[B, T, Z]` and actions `[B, T-1, A]`, in float64."""
    kernel, bias = (np.asarray(x[...], np.float64) for x in (model.memory.gates.kernel, model.memory.gates.bias))
    cell = hidden = np.zeros((len(latents), HIDDEN))
    cells, hiddens = [cell], [hidden]
    for t in range(latents.shape[1] - 1):
        told = np.concatenate([latents[:, t], actions[:, t] / model.scale.action_scale, hidden], axis=1)
        write, forget, read, candidate = np.split(told @ kernel + bias, 4, axis=1)
        cell = sigmoid(forget + 1) * cell + sigmoid(write) * np.tanh(candidate)
        hidden = sigmoid(read) * np.tanh(cell)
        cells.append(cell)
        hiddens.append(hidden)
    return np.stack(cells, axis=1), np.stack(hiddens, axis=1)


def test_the_mixtures_density_is_that_of_scipy(model: WorldModels):
    random = np.random.default_rng(0)
    hidden, latent = random.uniform(-1, 1, (50, HIDDEN)), random.standard_normal((50, SIZE))
    log_weight, mean, std = mixture(model, hidden)
    expected = logsumexp(log_weight + norm.logpdf(latent[..., None], mean, std), axis=-1).sum(axis=-1)
    prior = model.prior(jnp.asarray(hidden, jnp.float32))
    np.testing.assert_allclose(prior.log_prob(jnp.asarray(latent, jnp.float32)), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(prior.mean(), np.sum(np.exp(log_weight) * mean, axis=-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5])
def test_samples_have_the_moments_of_the_mixture_at_their_temperature(model: WorldModels, spread: float):
    """tau = spread^2 divides the logits and multiplies the variances."""
    hidden = np.random.default_rng(0).uniform(-1, 1, (1, HIDDEN))
    log_weight, mean, std = mixture(model, hidden)
    weight = np.exp(log_weight / spread**2)
    weight /= weight.sum(axis=-1, keepdims=True)
    expected = np.sum(weight * mean, axis=-1)[0]
    variance = np.sum(weight * (spread**2 * std**2 + mean**2), axis=-1)[0] - expected**2
    warm = nnx.clone(model)
    warm.spread[...] = jnp.asarray(spread)
    count = 40_000
    many = jnp.asarray(np.repeat(hidden, count, axis=0), jnp.float32)
    drawn = np.asarray(warm.foresee(many, jax.random.key(0), warm.spread[...]))
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=5 * np.sqrt(variance.max() / count))
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.05)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(SIZE)).max() < 0.03  # each dimension draws a component of its own
    assert isinstance(model, Sampled)


def test_the_memory_equals_a_plain_loop(model: WorldModels, tiny_batch: Frames):
    frames, actions = tiny_batch
    states = filtered(model, jnp.asarray(frames), jnp.asarray(actions))
    latents = np.asarray(model.vae.posterior(jnp.asarray(frames)).mean())
    cells, hiddens = lstm(model, latents.astype(np.float64), actions)
    np.testing.assert_allclose(states.latent, latents, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(states.cell, cells, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(states.hidden, hiddens, rtol=1e-4, atol=1e-5)
    vector = np.concatenate([states.latent, states.hidden], axis=-1)
    np.testing.assert_array_equal(model.vector(states), vector)
    assert vector.shape[-1] == model.latent_size == SIZE + HIDDEN


def test_what_each_state_knows_of(model: WorldModels, tiny_batch: Frames):
    """z_t of frame t alone; h_t of the frames and of the actions before it, u_0..u_{t-1}."""
    frames, actions = map(jnp.asarray, tiny_batch)

    @jax.jit
    def influence(frames: jax.Array, actions: jax.Array) -> tuple[Any, Any]:
        def sums(frames: jax.Array, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
            states = model.filter(frames, actions)
            return states.latent.sum(axis=(0, 2)), states.hidden.sum(axis=(0, 2))

        return jax.jacobian(sums, argnums=(0, 1))(frames, actions)

    (z_by_frame, z_by_action), (h_by_frame, h_by_action) = influence(frames, actions)
    by = [np.abs(np.asarray(x)).sum(axis=(1, *range(3, x.ndim))) > 0 for x in (z_by_frame, h_by_frame, h_by_action)]
    np.testing.assert_array_equal(by[0], np.eye(7, dtype=bool))
    np.testing.assert_array_equal(by[1], np.tri(7, 7, -1, dtype=bool))
    np.testing.assert_array_equal(by[2], np.tri(7, 6, -1, dtype=bool))
    np.testing.assert_array_equal(z_by_action, 0)


def gradient(model: WorldModels, batch: Frames, progress: jax.Array) -> nnx.State:
    """Of the loss, by part of the model."""
    graphdef, params = nnx.split(model)

    def loss(params: nnx.State) -> jax.Array:
        whole = Batch(*map(jnp.asarray, batch))
        return nnx.merge(graphdef, params).loss(whole, jax.random.key(0), progress)[0]

    return jax.jit(jax.grad(loss))(params)


def still(model: WorldModels) -> WorldModels:
    """The same, whose VAE stops to learn when the memory begins to."""
    other = nnx.clone(model)
    other.options = dataclasses.replace(model.options, vae_goes_on=False)
    return other


@pytest.mark.parametrize("goes_on", [True, False])
def test_each_stage_teaches_its_own_parts_and_all_of_them(model: WorldModels, tiny_batch: Frames, goes_on: bool):
    trained, memory = model if goes_on else still(model), ("memory", "density")
    for progress, taught in ((FIRST, ("vae",)), (SECOND, (*memory, "vae") if goes_on else memory)):
        for name, part in gradient(trained, tiny_batch, progress).items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(part):
                assert (np.abs(leaf).max() > 0) == (name in taught), (name, jax.tree_util.keystr(path))


def test_what_the_memory_learns_from_moves_no_vae(model: WorldModels, tiny_batch: Frames):
    """A VAE that goes on learns from its own loss alone; the latents and the posterior pass on no gradient."""
    frames, actions = map(jnp.asarray, tiny_batch)
    graphdef, params = nnx.split(model)

    def surprise(params: nnx.State) -> jax.Array:
        inferred = nnx.merge(graphdef, params).infer(frames, actions, jax.random.key(0))
        return jnp.mean(inferred.log_prior) + jnp.mean(inferred.posterior.entropy())

    found = jax.jit(jax.grad(surprise))(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(found["vae"]))
    assert all((leaf != 0).any() for name in ("memory", "density") for leaf in jax.tree.leaves(found[name]))


def test_the_memory_costs_nothing_before_it_learns(model: WorldModels, tiny_batch: Frames):
    batch = Batch(*map(jnp.asarray, tiny_batch))
    program = jax.make_jaxpr(lambda progress: model.loss(batch, jax.random.key(0), progress))(FIRST)
    [branch] = [line for line in program.eqns if line.primitive.name == "cond"]
    scans = ["scan[" in str(each) for each in branch.params["branches"]]  # the LSTM's
    assert scans == [True, False]  # where `progress < vae_share` is false and true
    assert not any(line.primitive.name in ("scan", "dot_general") for line in program.eqns)


def test_the_first_loss_is_the_vaes_and_the_switch_is_where_the_option_says(model: WorldModels, tiny_batch: Frames):
    batch = Batch(*map(jnp.asarray, tiny_batch))
    loss = jax.jit(lambda progress: model.loss(batch, jax.random.key(0), progress))
    alone, metrics = jax.jit(lambda: model.vae.loss(batch, jax.random.key(0), FIRST))()
    share = model.options.vae_share
    for progress in (0.0, share - 0.01):
        found, others = loss(jnp.asarray(progress))
        assert float(found) == pytest.approx(float(alone), rel=1e-6)
        assert float(others["kl"]) == pytest.approx(float(metrics["kl"]), rel=1e-5)
    assert float(loss(jnp.asarray(share + 0.01))[0]) != pytest.approx(float(alone), rel=1e-3)


def test_the_second_loss_and_the_bound_are_those_of_a_plain_loop(model: WorldModels, tiny_batch: Frames):
    """With the latents that they drew: reconstruction, entropy and log density of each, in float64."""
    frames, actions = map(jnp.asarray, tiny_batch)
    frame_key, key = jax.random.split(jax.random.key(7))
    inferred = jax.jit(model.infer)(frames, actions, key)
    z = np.asarray(inferred.states.latent, np.float64)
    mean, std = (np.asarray(x, np.float64) for x in (inferred.posterior.mean(), inferred.posterior.stddev()))
    assert np.abs(z - mean).max() > 0
    _, hiddens = lstm(model, z, tiny_batch[1])
    log_prior = [norm.logpdf(z[:, 0]).sum(axis=-1)]
    for t in range(1, 7):
        log_weight, means, stds = mixture(model, hiddens[:, t])
        log_prior.append(logsumexp(log_weight + norm.logpdf(z[:, t, :, None], means, stds), axis=-1).sum(axis=-1))
    kl = -norm.entropy(mean, std).sum(axis=-1) - np.stack(log_prior, axis=1)
    drawn = np.asarray(model.vae.emission(jnp.asarray(z, jnp.float32)).mean(), np.float64)
    likelihood = norm.logpdf(tiny_batch[0], drawn, model.vae.observation_std).sum(axis=(2, 3))
    batch = Batch(frames, actions)
    seeing, of_frames = jax.jit(model.vae.loss)(batch, frame_key, SECOND)
    for each in (model, still(model)):
        value, metrics = jax.jit(each.loss)(batch, jax.random.key(7), SECOND)
        assert float(value) == pytest.approx(float(seeing) - np.stack(log_prior).mean(), rel=1e-4)
        assert float(metrics["kl"]) == pytest.approx(kl.mean(), rel=1e-4)
        assert float(metrics["elbo"]) == pytest.approx(float(of_frames["reconstruction"]) - kl.mean(), rel=1e-4)
        assert float(metrics["frame_mse"]) == pytest.approx(float(of_frames["frame_mse"]), rel=1e-5)
    bound = jax.jit(model.bound)(frames, actions, jax.random.split(jax.random.key(7))[1])
    np.testing.assert_allclose(bound.reconstruction, likelihood, rtol=1e-4)
    np.testing.assert_allclose(bound.kl, kl, rtol=1e-3, atol=1e-3)
    weight = likelihood + np.stack(log_prior, axis=1) - norm.logpdf(z, mean, std).sum(axis=-1)
    np.testing.assert_allclose(bound.log_weight, weight.sum(axis=1), rtol=1e-4)


def test_a_step_costs_nats_on_average(model: WorldModels, tiny_batch: Frames):
    """The KL is taken at one draw; its mean over draws is none below zero."""
    frames, actions = map(jnp.asarray, tiny_batch)
    keys = jax.random.split(jax.random.key(0), 200)
    draws = jax.jit(jax.vmap(lambda key: model.bound(frames, actions, key).kl))(keys)
    assert (np.asarray(draws).mean(axis=0) > 0).all()


def test_imagining_is_filtering_with_the_frames_missing(model: WorldModels, tiny_batch: Frames):
    """Along the means; and every frame that was not seen changes nothing, of samples too."""
    frames, actions = map(jnp.asarray, tiny_batch)
    valid = jnp.zeros(frames.shape[:2], bool).at[:, :2].set(True)
    states = filtered(model, frames, actions, valid)
    before = jax.tree.map(lambda leaf: leaf[:, 1], states)
    imagined = dreamt(model, before, actions[:, 1:])
    for one, other in zip(imagined, states, strict=True):
        np.testing.assert_allclose(one, other[:, 2:], rtol=1e-5, atol=1e-6)
    other = jnp.where(valid[..., None, None], frames, jnp.nan)
    for seed in (None, 1):
        one, two = (
            filtered(model, x, actions, valid, None if seed is None else jax.random.key(seed)) for x in (frames, other)
        )
        jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_first_frame_that_was_not_seen_is_drawn_from_the_prior(model: WorldModels):
    frames, actions = jnp.ones((5000, 2, 4, 4)), jnp.zeros((5000, 1, 2))
    valid = jnp.zeros((5000, 2), bool)
    np.testing.assert_array_equal(filtered(model, frames, actions, valid).latent[:, 0], 0)
    drawn = np.asarray(filtered(model, frames, actions, valid, jax.random.key(0)).latent[:, 0])
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(drawn.std(axis=0), 1, atol=0.05)


def test_the_spread_scales_what_a_filter_draws_and_neither_means_nor_bound(model: WorldModels, tiny_batch: Frames):
    frames, actions = map(jnp.asarray, tiny_batch)
    wide = nnx.clone(model)
    wide.spread[...] = jnp.asarray(3.0)
    valid = jnp.ones((3, 7), bool).at[:, 3:5].set(False)
    mean, same = (filtered(each, frames, actions, valid) for each in (model, wide))
    jax.tree.map(np.testing.assert_array_equal, mean, same)
    bounds = [jax.jit(each.bound)(frames, actions, jax.random.key(2), valid) for each in (model, wide)]
    jax.tree.map(np.testing.assert_array_equal, *bounds)
    mean = filtered(model, frames, actions).latent
    narrow, far = (filtered(each, frames, actions, None, jax.random.key(2)).latent - mean for each in (model, wide))
    assert np.abs(narrow).max() > 0
    np.testing.assert_allclose(far, 3 * narrow, rtol=1e-3, atol=1e-4)


def test_options_are_checked_and_handed_to_the_vae():
    scale = make_tiny_dvbf("fusion").scale
    options = WorldModelsOptions(latent_size=5, vision_size=7, observation_std=0.2, channels=3, networks="dense")
    expected = RivalVAEOptions(networks="dense", channels=3, latent_size=5, hidden_size=7, observation_std=0.2)
    assert options.vae(scale) == expected
    assert WorldModelsOptions().vae(scale).observation_std == pytest.approx(scale.default_observation_std / 2)
    for wrong in ({"components": 0}, {"vae_share": 1.5}, {"latent_size": 0}, {"observation_std": 0.0}):
        with pytest.raises(UserError, match="--" + next(iter(wrong)).replace("_", "-")):
            WorldModelsOptions(**wrong).check()
    assert (PUBLISHED_WORLD_MODELS.latent_size, PUBLISHED_WORLD_MODELS.components) == (32, 5)
