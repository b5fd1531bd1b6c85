import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.envs.rendering import render_pendulum
from worldmodel.evaluation import (
    AngleReader,
    affordable_degree,
    polynomial_features,
    probe_r2,
    r_squared,
    wrap,
)
from worldmodel.rollouts import angle_errors, frame_errors, shuffle_actions, summary_table
from worldmodel.sequences import Sequences

NAMES = ("angle", "angular_velocity")


def states(n: int = 60, t: int = 15) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([random.uniform(-9, 9, (n, t)), random.standard_normal((n, t)) * 3], axis=-1).astype(np.float32)


def test_a_linear_probe_finds_what_is_linear_in_the_latents():
    s = states()
    latents = np.stack([np.sin(s[..., 0]), np.cos(s[..., 0]), s[..., 1]], axis=-1)
    mixed = latents @ np.array([[1, 2, 0], [0, 1, 3], [1, 0, 1]]) + 5
    r2 = probe_r2(mixed, s, NAMES, degree=1)
    assert list(r2) == ["sin angle", "cos angle", "angular_velocity"]
    assert min(r2.values()) > 0.99999


def test_noise_lowers_r2_by_its_share_of_the_variance():
    s = states(400)
    velocity = s[..., 1:] + np.random.default_rng(1).standard_normal(s[..., 1:].shape) * 3
    assert probe_r2(velocity, s, NAMES, degree=1)["angular_velocity"] == pytest.approx(0.5, abs=0.03)


def test_only_the_polynomial_probe_finds_what_is_bent():
    s = states(400)
    sine, cosine = np.sin(s[..., 0]), np.cos(s[..., 0])
    tangent = np.stack([sine, cosine, s[..., 1] * cosine, -s[..., 1] * sine], axis=-1)
    assert probe_r2(tangent, s, NAMES, degree=1)["angular_velocity"] < 0.1
    assert probe_r2(tangent, s, NAMES, degree=4)["angular_velocity"] > 0.999


def test_a_probe_is_scored_on_sequences_it_was_not_fitted_on():
    random = np.random.default_rng(0)
    features = random.standard_normal((60, 50))
    target = random.standard_normal(60)
    assert r_squared(features, target, np.arange(60)) < 0


def test_polynomial_features_are_all_monomials():
    assert polynomial_features(np.random.default_rng(0).random((10, 3)), 4).shape == (10, 35)  # C(3 + 4, 4)


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


def test_shuffling_leaves_the_context_as_it_is(pendulum_data: Sequences):
    shuffled = shuffle_actions(pendulum_data, context=6)
    np.testing.assert_array_equal(shuffled.actions[:, :5], pendulum_data.actions[:, :5])
    np.testing.assert_array_equal(shuffled.actions[1:, 5:], pendulum_data.actions[:-1, 5:])


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


def test_angle_errors_of_frames_turned_by_a_known_angle():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (40, 30))
    truth = np.asarray(render_pendulum(jnp.asarray(angles, jnp.float32), 16))
    turned = np.asarray(render_pendulum(jnp.asarray(angles[:, 10:] + np.deg2rad(7), jnp.float32), 16))
    errors = angle_errors(truth, angles, 10, {"model": turned})
    assert errors["model"].shape == (40, 20)
    assert np.median(errors["model"]) == pytest.approx(7, abs=0.3)
    assert np.median(errors["reading"]) < 0.3


def test_frame_errors_are_means_over_sequences_and_pixels():
    truth = np.zeros((2, 3, 4, 4, 3))
    frames = truth + np.array([0.1, 0.2, 0.3])[None, :, None, None, None]
    np.testing.assert_allclose(frame_errors(truth, frames), [0.01, 0.04, 0.09])


def test_the_table_shows_every_row_at_its_horizons():
    metrics = {"sequences": 3, "context": 5, "horizon": 12, "mse": {"model": [0.1] * 11 + [0.5]}}
    table = summary_table(metrics).splitlines()
    assert table[0] == "3 sequences, 5 frames observed, 12 imagined"
    assert table[1].split()[-3:] == ["@1", "@10", "@12"]
    assert table[2].split() == ["model", "0.1000", "0.1000", "0.5000"]
