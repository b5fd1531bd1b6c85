import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.models.distributions import (
    MIN_STD,
    diagonal_normal,
    from_noise,
    fuse,
    image_normal,
    positive,
    standard_normal_like,
)


def test_fusion_is_the_normalised_product_of_two_densities():
    mean, std, measured, precision = 0.3, 0.8, -0.5, 4.0
    fused = fuse(jnp.array([mean]), jnp.array([std]), jnp.array([measured]), jnp.array([precision]))
    x = np.linspace(-8, 8, 200_001)
    product = np.exp(-0.5 * ((x - mean) / std) ** 2 - 0.5 * precision * (x - measured) ** 2)
    product /= np.trapezoid(product, x)
    expected_mean = np.trapezoid(x * product, x)
    expected_std = np.sqrt(np.trapezoid((x - expected_mean) ** 2 * product, x))
    assert float(fused.mean()[0]) == pytest.approx(expected_mean, abs=1e-5)
    assert float(fused.stddev()[0]) == pytest.approx(expected_std, abs=1e-5)


def test_fusion_without_a_measurement_changes_nothing():
    mean, std = jnp.array([0.3, -2.0]), jnp.array([0.8, 0.1])
    fused = fuse(mean, std, jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(fused.mean(), mean, rtol=1e-6)
    np.testing.assert_allclose(fused.stddev(), std, rtol=1e-6)


def test_kl_is_the_closed_form():
    q = diagonal_normal(jnp.array([[0.5, -1.0]]), jnp.array([[0.3, 2.0]]))
    p = diagonal_normal(jnp.array([[0.0, 0.4]]), jnp.array([[1.0, 0.7]]))
    m, s, n, t = (np.asarray(x, np.float64)[0] for x in (q.mean(), q.stddev(), p.mean(), p.stddev()))
    expected = np.sum(np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5)
    assert float(q.kl_divergence(p)[0]) == pytest.approx(expected, rel=1e-5)
    standard = standard_normal_like(q)
    assert float(standard.kl_divergence(standard)[0]) == 0


def test_a_sample_from_noise_has_the_distributions_moments():
    q = diagonal_normal(jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]))
    noise = jax.random.normal(jax.random.key(0), (20_000, 2))
    wide = jax.tree.map(lambda x: jnp.broadcast_to(x, (20_000, 2)), q)
    samples = np.asarray(from_noise(wide, noise))
    np.testing.assert_allclose(samples.mean(axis=0), [1, -2], atol=0.06)
    np.testing.assert_allclose(samples.std(axis=0), [0.5, 3], rtol=0.02)
    np.testing.assert_array_equal(from_noise(q, jnp.zeros(2)), q.mean())


def test_an_image_likelihood_sums_over_all_pixels():
    mean = jnp.full((2, 3, 4, 5, 1), 0.2)
    likelihood = image_normal(mean, 0.5, frame_rank=3)
    value = likelihood.log_prob(jnp.full((2, 3, 4, 5, 1), 0.7))
    assert value.shape == (2, 3)
    expected = 20 * (-0.5 - np.log(0.5) - 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(value, np.full((2, 3), expected), rtol=1e-5)


def test_standard_deviations_stay_above_their_floor():
    assert float(positive(jnp.float32(-1e6))) == pytest.approx(MIN_STD)
    assert np.isfinite(jax.grad(positive)(jnp.float32(-1e6)))


def test_the_distributions_cross_jit_scan_and_vmap():
    def step(carry: jax.Array, _: None) -> tuple[jax.Array, distrax.Independent]:
        return carry + 1, diagonal_normal(carry, jnp.ones_like(carry))

    scanned = jax.jit(lambda start: jax.lax.scan(step, start, length=4)[1])(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(scanned.mean()[:, 0, 0], [0, 1, 2, 3])
    mapped = jax.vmap(lambda x: diagonal_normal(x, jnp.ones_like(x)).log_prob(x))(jnp.zeros((5, 2)))
    np.testing.assert_allclose(mapped, np.full(5, -np.log(2 * np.pi)), rtol=1e-6)
