"""The benchmark of gaps: its data against their description, its scores against SciPy, its page against its results."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.special import entr, rel_entr
from scipy.stats import bernoulli, norm

from baselines.study.gaps import imputations, nats, positions, probed
from baselines.study.rkn import (
    clearness,
    drawn,
    fitted_contrast,
    informed,
    last_shown,
    likelihoods,
    log_likelihood,
    probabilities,
    with_gaps,
    with_noise,
)
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.options import RKNPendulumOptions

REPOSITORY = Path(__file__).parents[2]
ANGLES = np.linspace(-3, 3, 25)


@pytest.fixture(scope="module")
def data() -> Sequences:
    some = collect(RKNPendulumOptions(), 40, 20)
    return dataclasses.replace(some, frames=drawn(some.states[..., 0]), world=None)


def test_the_rod_is_drawn_at_its_angle_and_in_its_size():
    frames = drawn(ANGLES) / 255
    rows, columns = (each - 11.5 for each in np.mgrid[:24, :24])
    x, y = ((frames * each).sum(axis=(1, 2)) / frames.sum(axis=(1, 2)) for each in (columns, -rows))
    assert degrees_apart(np.arctan2(-x, y), ANGLES).max() < 6  # the line of 128 pixels has corners of whole ones
    np.testing.assert_allclose(np.hypot(x, y), 55 / 2 * 24 / 128, rtol=0.1)
    np.testing.assert_allclose(frames.sum(axis=(1, 2)), 55 * 8 * (24 / 128) ** 2, rtol=0.15)


def test_the_truth_of_this_projects_own_drawing_is_less_likely():
    own = collect(RKNPendulumOptions(), 40, 20)
    nats = [likelihoods(frames, frames / 255, 1.0).mean() for frames in (own.frames, drawn(own.states[..., 0]))]
    assert nats[0] - nats[1] == pytest.approx(-0.8, abs=0.15)


def test_the_first_five_frames_and_half_of_the_rest_are_shown(data: Sequences):
    many = dataclasses.replace(data, frames=np.repeat(data.frames, 20, axis=0))
    some = with_gaps(many, np.random.default_rng(0))
    assert some.valid is not None
    assert some.valid[:, :5].all()
    np.testing.assert_allclose(some.valid[:, 5:].mean(axis=0), 0.5, atol=0.09)
    assert abs(np.corrcoef(some.valid[:, 5:-1].ravel(), some.valid[:, 6:].ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(some.frames[some.valid], many.frames[some.valid])
    assert not some.frames[~some.valid].any()
    np.testing.assert_array_equal(last_shown(np.array([[True, False, False, True, False]])), [[0, 0, 0, 3, 3]])


def test_noise_wanders_and_is_uniform(data: Sequences):
    clear = clearness(3000, 75, np.random.default_rng(0))
    assert (clear[:, :5] == 1).all()
    assert np.abs(np.diff(clear[:, 5:], axis=1)).max() <= 0.2 / 0.5  # a step over the least distance of thresholds
    assert ((clear >= 0) & (clear <= 1)).all()
    # of a walk that is uniform in [0, 1], an eighth lies below the lower and above the upper threshold, on average
    assert (clear[:, 5:] == 0).mean() > 1 / 8
    np.testing.assert_allclose((clear[:, 5:] == 0).mean(), (clear[:, 40:] == 1).mean(), atol=0.02)
    noisy = with_noise(data, np.random.default_rng(1))
    clear = clearness(len(data), data.length, np.random.default_rng(1))
    np.testing.assert_array_equal(noisy.frames[clear == 1], data.frames[clear == 1])
    lost = noisy.frames[clear == 0] / 255
    np.testing.assert_allclose([lost.mean(), lost.std()], [0.5, 12**-0.5], atol=0.01)


def test_the_likelihood_is_scipys(data: Sequences):
    rng = np.random.default_rng(0)
    said = rng.uniform(0.01, 0.99, (6, 24, 24))
    black_and_white = 255 * rng.integers(0, 2, said.shape).astype(np.uint8)
    expected = bernoulli.logpmf(black_and_white // 255, said).sum(axis=(1, 2))
    np.testing.assert_allclose(log_likelihood(black_and_white, said), expected)
    grey, x = data.frames[0, :6], data.frames[0, :6] / 255
    expected = -(rel_entr(x, said) + rel_entr(1 - x, 1 - said) + entr(x) + entr(1 - x)).sum(axis=(1, 2))
    np.testing.assert_allclose(log_likelihood(grey, said), expected)


def test_nothing_is_likelier_than_the_truth(data: Sequences):
    truth = data.frames[:2]
    most = likelihoods(truth, truth / 255, 1.0)
    entropy = -(entr(truth / 255) + entr(1 - truth / 255)).sum(axis=(2, 3))
    np.testing.assert_allclose(most, entropy, atol=0.01)
    rng = np.random.default_rng(0)
    for said in (
        drawn(data.states[:2, :, 0] + 0.1) / 255,
        np.clip(truth / 255 + 0.01 * rng.normal(size=truth.shape), 0, 1),
    ):
        for contrast in (0.98, 1.0, 1.01):
            assert (likelihoods(truth, said, contrast) < most).all()
    assert fitted_contrast(truth, truth / 255) == pytest.approx(1)


def test_a_contrast_takes_a_veil_off(data: Sequences):
    truth = data.frames[:4]
    veiled = 0.5 + (truth / 255 - 0.5) / 1.02
    assert fitted_contrast(truth, veiled) == pytest.approx(1.02, abs=0.002)
    np.testing.assert_allclose(probabilities(veiled, 1.02), truth / 255, atol=1e-4)


def test_true_physics_know_the_next_frame_and_guess_the_later_ones(data: Sequences):
    shown = np.zeros(data.frames.shape[:2], bool)
    shown[:, ::4] = True
    said = informed(data.states, shown, jax.random.key(0))
    apart = np.abs(said - data.frames / 255).mean(axis=(0, 2, 3))  # [T]
    # a push is felt one frame later: the next angle is certain, up to the grid of pictures
    assert apart.reshape(-1, 4)[:, :2].max() < 0.003
    assert (np.diff(apart.reshape(-1, 4)[:, 1:], axis=1) > 0).all()
    assert apart.max() < 0.03
    worse = dataclasses.replace(data, states=np.roll(data.states, 1, axis=0))
    assert np.abs(informed(worse.states, shown, jax.random.key(0)) - data.frames / 255).mean() > 0.04


def test_no_filter_sees_what_is_missing_or_comes_later(data: Sequences):
    scale = FrameScale.of(data, "data")
    run = Dreamer(DVBFOptions(hidden_size=16, feature_size=8).build(scale, nnx.Rngs(0)))
    gaps = with_gaps(data.take(slice(4)), np.random.default_rng(0))
    assert gaps.valid is not None
    said = imputations(run, gaps)
    filled = dataclasses.replace(gaps, frames=np.where(gaps.valid[..., None, None], gaps.frames, 200).astype(np.uint8))
    later = dataclasses.replace(gaps, frames=gaps.frames.copy())
    later.frames[:, 12:] = 255 - later.frames[:, 12:]
    for name, frames in said.items():
        assert frames.shape == gaps.frames.shape
        np.testing.assert_array_equal(imputations(run, filled)[name], frames)
        np.testing.assert_allclose(imputations(run, later)[name][:, :12], frames[:, :12], atol=1e-6)
    assert np.abs(imputations(run, later)["the mean belief"][:, 12:] - said["the mean belief"][:, 12:]).max() > 1e-4


def test_a_probe_finds_a_polynomial_and_its_likelihood_is_scipys():
    rng = np.random.default_rng(0)
    angles = [rng.uniform(-1, 1, (30, 20)) for _ in range(2)]
    latents = [np.stack([angle, angle**2, rng.normal(size=angle.shape)], axis=-1) for angle in angles]
    targets = [np.stack([angle**3, 1 - angle**2], axis=-1) for angle in angles]
    np.testing.assert_allclose(probed(latents[0], targets[0], latents[1]), targets[1], atol=1e-6)
    mean, variance = targets[1] + 0.1, rng.uniform(0.1, 1, targets[1].shape)
    expected = norm.logpdf(targets[1], mean, np.sqrt(2 * variance + 0.3)).sum(axis=-1)
    np.testing.assert_allclose(nats(targets[1], mean, variance, 2, 0.3), expected)


def test_positions_are_sine_and_cosine(data: Sequences):
    assert data.states is not None
    sine, cosine = np.moveaxis(positions(data), -1, 0)
    assert degrees_apart(np.arctan2(sine, cosine), data.states[..., 0]).max() < 1e-3
