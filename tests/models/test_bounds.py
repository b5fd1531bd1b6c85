"""The bounds against an exact likelihood: a linear-Gaussian DVBF and an independent Kalman filter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, infer, make_tiny_dvbf, mean_frames
from flax import nnx

from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.networks import MLP
from worldmodel.models.variational import bound_terms, importance_log_weight

LENGTH, BATCH = 6, 5


@pytest.fixture(scope="module")
def linear_world() -> tuple[DVBF, np.ndarray, np.ndarray]:
    """A model with one base matrix and a linear decoder, and frames and actions drawn from it."""
    model = make_tiny_dvbf("fusion", base_matrices=1, latent_size=3, visible_size=2, observation_std=1.0)
    random = np.random.default_rng(0)
    model.transition.state_matrices[...] = jnp.asarray(0.2 * random.standard_normal((1, 3, 3)), jnp.float32)
    model.decoder = MLP((2, 16), nnx.Rngs(params=1))
    # A posterior that is wrong, but wide enough for importance sampling to reach the truth from it.
    last = model.initial_network.layers[-1]
    last.kernel[...] = 0.3 * last.kernel[...]
    last.bias[...] = jnp.array([0.2, -0.1, 0.1, 1.0, 1.0, 1.0])
    actions = random.standard_normal((BATCH, LENGTH - 1, 2)).astype(np.float32)
    start = random.standard_normal((BATCH, 3)).astype(np.float32)
    later = dreamt(model, jnp.asarray(start), jnp.asarray(actions), jax.random.key(0))
    latents = np.concatenate([start[:, None], later], axis=1)
    clean = np.asarray(mean_frames(model, jnp.asarray(latents)))
    frames = clean + random.standard_normal(clean.shape)
    return model, frames.astype(np.float32), actions


def kalman_log_likelihood(model: DVBF, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """ln p(x | u) `[B]`, by the textbook's recursion in float64."""
    transition, options = model.transition, model.options
    a = np.eye(3) + np.asarray(transition.state_matrices[0], np.float64).T
    b = np.asarray(transition.action_matrices[0], np.float64).T
    std = np.log1p(np.exp(np.asarray(transition.raw_noise_std[0], np.float64))) + 1e-3
    q = np.diag((options.final_noise_scale * std) ** 2)
    kernel = np.asarray(model.decoder.layers[0].kernel[...], np.float64).T * model.scale.pixel_std
    h = np.concatenate([kernel, np.zeros((16, 1))], axis=1)
    offset = np.asarray(model.decoder.layers[0].bias[...]) * model.scale.pixel_std + model.scale.pixel_mean
    r = np.eye(16)
    result = []
    for x, u in zip(frames.reshape(BATCH, LENGTH, 16).astype(np.float64), actions, strict=True):
        mean, covariance, total = np.zeros(3), np.eye(3), 0.0
        for t in range(LENGTH):
            if t > 0:
                mean = a @ mean + b @ (u[t - 1] / model.scale.action_scale)
                covariance = a @ covariance @ a.T + q
            s = h @ covariance @ h.T + r
            innovation = x[t] - h @ mean - offset
            sign, logdet = np.linalg.slogdet(s)
            assert sign > 0
            total += -0.5 * (innovation @ np.linalg.solve(s, innovation) + logdet + 16 * np.log(2 * np.pi))
            gain = covariance @ h.T @ np.linalg.inv(s)
            mean, covariance = mean + gain @ innovation, covariance - gain @ h @ covariance
        result.append(total)
    return np.array(result)


def test_the_elbo_is_below_the_iwae_bound_and_both_are_below_the_exact_likelihood(linear_world):
    model, frames, actions = linear_world
    exact = kalman_log_likelihood(model, frames, actions)
    observed = jnp.ones((BATCH, LENGTH - 1), bool)

    @jax.jit
    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        noise = jax.random.normal(key, (BATCH, LENGTH, 3))
        inferred = model.infer(jnp.asarray(frames), jnp.asarray(actions), observed, noise)
        terms = bound_terms(model, jnp.asarray(frames), inferred, observed)
        weight = importance_log_weight(model, jnp.asarray(frames), inferred)
        return jnp.sum(terms.reconstruction - terms.kl, axis=1), weight

    elbo, weight = jax.lax.map(draw, jax.random.split(jax.random.key(0), 20_000))
    elbo, weight = np.asarray(elbo, np.float64), np.asarray(weight, np.float64)

    # The closed-form KL and the sampled one agree on average.
    error = weight.std(axis=0) / np.sqrt(len(weight))
    assert (np.abs(elbo.mean(axis=0) - weight.mean(axis=0)) < 5 * error + 1e-3).all()

    def iwae(k: int) -> np.ndarray:
        groups = weight[: len(weight) // k * k].reshape(-1, k, BATCH)
        return (np.logaddexp.reduce(groups, axis=1) - np.log(k)).mean(axis=0)

    ladder = np.stack([iwae(k) for k in (1, 10, 100, 1000)])
    assert (np.diff(ladder, axis=0) > 0).all()  # rising with k
    assert (ladder < exact + 0.1).all()  # never above the truth, but for Monte Carlo error
    # With all samples importance sampling comes to the exact value: a wrong density would miss it.
    gap = np.abs(exact - (np.logaddexp.reduce(weight, axis=0) - np.log(len(weight))))
    assert np.median(gap) < 0.2
    assert (gap < 0.15 * (exact - ladder[0])).all()


def test_a_models_bound_is_that_of_its_terms(linear_world):
    model, frames, actions = linear_world[0], *map(jnp.asarray, linear_world[1:])
    bound = jax.jit(model.bound)(frames, actions, jax.random.key(4))
    observed = jnp.ones((BATCH, LENGTH - 1), bool)
    inferred = infer(model, frames, actions, observed, jax.random.normal(jax.random.key(4), (BATCH, LENGTH, 3)))
    terms = jax.jit(lambda inferred: bound_terms(model, frames, inferred, observed))(inferred)
    weight = jax.jit(lambda inferred: importance_log_weight(model, frames, inferred))(inferred)
    np.testing.assert_allclose(bound.reconstruction, terms.reconstruction, rtol=1e-5)
    np.testing.assert_allclose(bound.kl, terms.kl, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bound.log_weight, weight, rtol=1e-5)
