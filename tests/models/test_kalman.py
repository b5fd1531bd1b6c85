"""A trained filter against the optimal one: a linear-Gaussian world of known parameters. A minute of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import train_dvbf

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.imagination.dreamer import Dreamer, bounds
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import PLAIN_BOUND

A = np.array([[1.0, 0.3], [-0.3, 0.9]])
B = np.array([[0.0], [0.3]])
Q = np.diag([0.02, 0.1]) ** 2
PIXEL_STD = 0.05
H = np.stack([0.06 * np.random.default_rng(1).standard_normal(16), np.zeros(16)], axis=1)
"""Frames show the first state alone; the second is a velocity."""


def draw(seed: int, sequences: int, length: int) -> Sequences:
    random = np.random.default_rng(seed)
    state = random.standard_normal((sequences, 2))
    actions = random.standard_normal((sequences, length - 1, 1))
    states, frames = [], []
    for t in range(length):
        if t > 0:
            noise = random.standard_normal((sequences, 2)) * np.sqrt(np.diag(Q))
            state = state @ A.T + actions[:, t - 1] @ B.T + noise
        states.append(state)
        frames.append(0.5 + state @ H.T + PIXEL_STD * random.standard_normal((sequences, 16)))
    pixels = np.round(255 * np.clip(np.stack(frames, axis=1), 0, 1)).astype(np.uint8)
    return Sequences(
        pixels.reshape(sequences, length, 4, 4),
        actions.astype(np.float32),
        np.stack(states, axis=1).astype(np.float32),
        ("position", "velocity"),
    )


def kalman_filter(data: Sequences) -> tuple[np.ndarray, np.ndarray, float]:
    """Means `[N, T, 2]` and standard deviations `[T, 2]` of the state given the frames so far, and the mean exact
    ln p(x | u) of a sequence."""
    frames = data.frames.reshape(len(data), data.length, 16) / 255 - 0.5
    mean, covariance = np.zeros((len(data), 2)), np.eye(2)
    means, stds, total = [], [], np.zeros(len(data))
    for t in range(data.length):
        if t > 0:
            mean = mean @ A.T + data.actions[:, t - 1] @ B.T
            covariance = A @ covariance @ A.T + Q
        s = H @ covariance @ H.T + PIXEL_STD**2 * np.eye(16)
        innovation = frames[:, t] - mean @ H.T
        total -= 0.5 * np.sum(innovation * np.linalg.solve(s, innovation.T).T, axis=1)
        total -= 0.5 * (np.linalg.slogdet(s)[1] + 16 * np.log(2 * np.pi))
        gain = covariance @ H.T @ np.linalg.inv(s)
        mean = mean + innovation @ gain.T
        covariance = covariance - gain @ H @ covariance
        means.append(mean)
        stds.append(np.sqrt(np.diag(covariance)))
    return np.stack(means, axis=1), np.stack(stds), float(total.mean())


@pytest.fixture(scope="module")
def unseen() -> Sequences:
    return draw(seed=1, sequences=200, length=30)


@pytest.fixture(scope="module", params=["fusion", "noise"])
def trained(request: pytest.FixtureRequest) -> DVBF:
    options = dataclasses.replace(
        PLAIN_BOUND, latent_size=4, visible_size=2, observation_std=PIXEL_STD, inference=request.param
    )
    return train_dvbf(draw(seed=0, sequences=1000, length=30), options, steps=3000)


@pytest.mark.slow
def test_the_trained_filters_mean_is_close_to_the_kalman_mean(trained: DVBF, unseen: Sequences):
    """Half a standard deviation of the Kalman filter's own uncertainty, in a linear map of the latents."""
    means, stds, _ = kalman_filter(unseen)
    filtered = trained.filter(jnp.asarray(as_unit_frames(unseen.frames)), jnp.asarray(unseen.actions))
    # The first latents have seen later frames than a filter has: the initial state is inferred from five.
    latents = np.asarray(filtered, np.float64)[:, 5:].reshape(-1, trained.options.latent_size)
    features = np.concatenate([latents, np.ones((len(latents), 1))], axis=1)
    target = means[:, 5:].reshape(-1, 2)
    half = len(target) // 2
    weights, *_ = np.linalg.lstsq(features[:half], target[:half], rcond=None)
    distance = np.sqrt(np.mean((target[half:] - features[half:] @ weights) ** 2, axis=0))
    assert (distance < 0.5 * stds[-1]).all()


@pytest.mark.slow
def test_no_bound_of_the_trained_model_is_above_the_exact_likelihood(trained: DVBF, unseen: Sequences):
    """ELBO <= IWAE(k), rising with k, <= the likelihood of the true world, which no model exceeds on average."""
    *_, exact = kalman_filter(unseen)
    ladder = [bounds(Dreamer(trained), unseen, jax.random.key(0), samples) for samples in (1, 8, 64)]
    values = [ladder[0]["elbo"], *(bound["iwae"] for bound in ladder[1:])]
    assert values[0] < values[1] < values[2] < exact + 0.2
    assert values[2] > exact - 0.02 * abs(exact)  # and it is close
