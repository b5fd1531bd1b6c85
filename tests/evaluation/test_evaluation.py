import math

import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.evaluation.measures import (
    BEST_PSNR,
    VALID_ERROR,
    affordable_degree,
    coverage,
    crps,
    interval,
    polynomial_features,
    principal,
    probe_r2,
    psnr,
    r_squared,
    squared_error,
    ssim,
    valid_frames,
)
from worldmodel.worlds.circle import degrees_apart, wrap
from worldmodel.worlds.pendulum.reading import AngleReader
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.world import Variable

VARIABLES = (Variable("angle", "rad", circular=True), Variable("angular_velocity", "rad/s"))


def states(n: int = 60, t: int = 15) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([random.uniform(-9, 9, (n, t)), random.standard_normal((n, t)) * 3], axis=-1).astype(np.float32)


def truth(states: np.ndarray) -> list[tuple[Variable, np.ndarray]]:
    return list(zip(VARIABLES, np.moveaxis(states, -1, 0), strict=True))


def test_a_linear_probe_finds_what_is_linear_in_the_latents():
    s = states()
    latents = np.stack([np.sin(s[..., 0]), np.cos(s[..., 0]), s[..., 1]], axis=-1)
    mixed = latents @ np.array([[1, 2, 0], [0, 1, 3], [1, 0, 1]]) + 5
    r2 = probe_r2(mixed, truth(s), degree=1)
    assert list(r2) == ["sin angle", "cos angle", "angular_velocity"]
    assert min(r2.values()) > 0.99999


def test_noise_lowers_r2_by_its_share_of_the_variance():
    s = states(400)
    velocity = s[..., 1:] + np.random.default_rng(1).standard_normal(s[..., 1:].shape) * 3
    assert probe_r2(velocity, truth(s), degree=1)["angular_velocity"] == pytest.approx(0.5, abs=0.03)


def test_only_the_polynomial_probe_finds_what_is_bent():
    s = states(400)
    sine, cosine = np.sin(s[..., 0]), np.cos(s[..., 0])
    tangent = np.stack([sine, cosine, s[..., 1] * cosine, -s[..., 1] * sine], axis=-1)
    assert probe_r2(tangent, truth(s), degree=1)["angular_velocity"] < 0.1
    assert probe_r2(tangent, truth(s), degree=4)["angular_velocity"] > 0.999


def test_a_probe_is_scored_on_sequences_it_was_not_fitted_on():
    random = np.random.default_rng(0)
    features = random.standard_normal((60, 50))
    targets = random.standard_normal((60, 2))
    assert (r_squared(features, targets, np.arange(60)) < 0).all()


def test_polynomial_features_are_all_monomials():
    assert polynomial_features(np.random.default_rng(0).random((10, 3)), 4).shape == (10, 35)  # C(3 + 4, 4)


def test_principal_components_are_those_of_the_singular_values():
    """Of the means: the samples, here of other numbers, are only laid along them."""
    means = np.random.default_rng(0).standard_normal((5, 7, 12)) * np.arange(1, 13)
    latents = np.random.default_rng(1).standard_normal((5, 7, 12))
    flat = means.reshape(-1, 12) - means.reshape(-1, 12).mean(axis=0)
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    found = principal(latents, means, 8)[..., ::-1]
    np.testing.assert_allclose(np.abs(found), np.abs(latents @ directions[:8].T), rtol=1e-8, atol=1e-8)
    short = latents[..., :8]
    assert principal(short, short, 8) is short


def test_the_degree_of_a_probe_is_what_the_data_can_pay():
    assert affordable_degree(500, 15, 4) == 4  # 70 monomials, 3750 frames to fit them on
    assert affordable_degree(100, 30, 8) == 2  # 45 monomials and 1500 frames; degree 3 has 165
    assert affordable_degree(3, 5, 8) == 1


def test_an_angle_is_never_read_where_none_was_seen():
    random = np.random.default_rng(0)
    angles = random.uniform(np.pi - 0.5, np.pi + 0.5, 600)
    frames = np.asarray(render_pendulum(jnp.asarray(angles, jnp.float32), 16)).reshape(600, -1)
    read = AngleReader(frames[:300], wrap(angles[:300]))(frames[300:])
    assert np.rad2deg(np.abs(wrap(read - angles[300:]))).max() < 4


def test_angles_are_wrapped():
    np.testing.assert_allclose(
        wrap(np.array([0, np.pi, -np.pi, 3 * np.pi / 2, 9.0])), [0, np.pi, np.pi, -np.pi / 2, 9 - 2 * np.pi]
    )


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_an_angle_is_read_off_a_frame(noise: float):
    random = np.random.default_rng(0)

    def frames(angles: np.ndarray) -> np.ndarray:
        clean = np.asarray(render_pendulum(jnp.asarray(angles, jnp.float32), 16))
        return (clean + noise * random.standard_normal(clean.shape)).reshape(len(angles), -1)

    known, asked = random.uniform(-np.pi, np.pi, 3000), random.uniform(-np.pi, np.pi, 500)
    error = np.rad2deg(np.abs(wrap(AngleReader(frames(known), known)(frames(asked)) - asked)))
    assert np.median(error) < (0.2 if noise == 0 else 1.0)
    assert error.max() < (1 if noise == 0 else 5)


def test_squared_errors_are_means_over_pixels():
    truth = np.zeros((2, 3, 4, 4, 3))
    frames = truth + np.array([0.1, 0.2, 0.3])[None, :, None, None, None]
    np.testing.assert_allclose(squared_error(truth, frames), [[0.01, 0.04, 0.09]] * 2)


def test_a_prediction_is_valid_until_its_error_exceeds_its_share_of_the_true_squares():
    truth = np.full((3, 6, 4, 4), 0.7)  # a bright background with one dark pixel that does not move
    truth[:, :, 0, 0] = 0.2
    frames = truth.copy()
    frames[1, 3:, 0, 0] += 0.5 * np.sqrt(VALID_ERROR) * 1.01
    frames[2, :, 0, 0] += 0.5 * np.sqrt(VALID_ERROR) * 0.99
    assert valid_frames(truth, frames).tolist() == [6, 3, 6]
    assert valid_frames(truth[:, :4], frames[:, :4]).tolist() == [4, 3, 4]


def test_frames_that_never_change_have_no_angle_but_do_no_harm():
    read = AngleReader(np.full((20, 16), 0.3), np.linspace(-1, 1, 20))
    assert np.isfinite(read(np.full((5, 16), 0.3))).all()


def test_psnr_and_ssim_have_their_closed_forms():
    a, b = np.full((1, 2, 12, 12), 0.5, np.float32), np.full((1, 2, 12, 12), 0.6, np.float32)
    np.testing.assert_allclose(psnr(a, b), -10 * np.log10(0.1**2), rtol=1e-4)
    constant = (2 * 0.5 * 0.6 + 0.01**2) / (0.5**2 + 0.6**2 + 0.01**2)  # of two flat images only the means differ
    np.testing.assert_allclose(ssim(a, b), constant, rtol=1e-4)
    assert psnr(a, a).tolist() == [[BEST_PSNR] * 2]
    small = np.random.default_rng(0).random((2, 1, 5, 8, 3)).astype(np.float32)  # smaller than the usual window
    np.testing.assert_allclose(ssim(small, small), 1, rtol=1e-5)
    assert ssim(small, 1 - small).max() < 0


def test_an_interval_is_as_wide_as_the_central_limit_says():
    values = np.random.default_rng(0).normal(3, 2, (400, 5))
    low, high = interval(values, np.mean)
    np.testing.assert_allclose((high - low) / 2, 1.96 * 2 / np.sqrt(400), rtol=0.25)
    assert (low < values.mean(axis=0)).all()
    assert (values.mean(axis=0) < high).all()
    low, high = interval(values[:1], np.mean)
    np.testing.assert_array_equal(low, values[0])


def test_crps_has_the_gaussian_s_closed_form_and_equals_the_slow_sum():
    random = np.random.default_rng(0)
    truth = np.array([0.0, 0.5, -2.0])
    samples = random.standard_normal((4000, 1)) * np.ones(3)
    density = np.exp(-(truth**2) / 2) / np.sqrt(2 * np.pi)
    cumulative = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in truth])
    closed = truth * (2 * cumulative - 1) + 2 * density - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps(samples, truth), closed, atol=0.02)
    for count in (2, 5, 6):
        few = random.uniform(-np.pi, np.pi, count)
        pairs = [degrees_apart(a, b) for i, a in enumerate(few) for j, b in enumerate(few) if i != j]
        slow = np.mean([degrees_apart(a, 3.0) for a in few]) - np.mean(pairs) / 2
        assert crps(few[:, None], np.array([3.0]), degrees_apart)[0] == pytest.approx(slow)
    assert crps(np.array([[2.0]]), np.array([5.0]))[0] == 3


@pytest.mark.parametrize(("width", "covered"), [(1.0, (0.5, 0.9)), (0.5, (0.264, 0.589)), (2.0, (0.823, 0.999))])
def test_intervals_cover_what_they_say(width: float, covered: tuple[float, float]):
    """Samples of the right width cover as often as they say, for a small number of samples too; narrow ones less."""
    random = np.random.default_rng(0)
    truth = random.standard_normal(20_000)
    samples = width * random.standard_normal((50, 20_000))
    share = coverage(samples, truth, np.array([0.5, 0.9])).mean(axis=1)
    np.testing.assert_allclose(share, covered, atol=0.01 if width == 1 else 0.03)  # 50 samples blur the ends


def test_as_many_samples_as_the_widest_interval_needs():
    random = np.random.default_rng(0)
    share = coverage(random.standard_normal((39, 20_000)), random.standard_normal(20_000), np.array([0.95])).mean()
    assert share == pytest.approx(0.95, abs=0.006)
