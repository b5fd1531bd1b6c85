"""What missing frames cost, against the exact answer: a linear-Gaussian world, a model that is that world, and the
textbook's covariances, which no measurement enters. Nothing is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from linear_gaussian import LinearGaussian, LinearGaussianOptions

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.data.windows import Batch
from worldmodel.evaluation.judge import judge, predict
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, roll_out

A, B = np.array([[1.0, 0.3], [-0.3, 0.9]]), np.array([[0.0], [0.3]])
Q = np.array([0.06, 0.3]) ** 2
PIXEL_STD = 0.02
H = np.stack([0.06 * np.random.default_rng(1).standard_normal(16), np.zeros(16)], axis=1)
SEQUENCES, LENGTH, CONTEXT = 6000, 24, 16
ROUNDED = 1 / 255**2 / 12
"""what uint8 adds to a squared error"""


@pytest.fixture(scope="module")
def whole() -> Sequences:
    random = np.random.default_rng(0)
    state = random.standard_normal((SEQUENCES, 2))
    actions = random.standard_normal((SEQUENCES, LENGTH - 1, 1)).astype(np.float32)
    along = [state]
    for t in range(LENGTH - 1):
        state = state @ A.T + actions[:, t] @ B.T + random.standard_normal((SEQUENCES, 2)) * np.sqrt(Q)
        along.append(state)
    states = np.stack(along, axis=1)
    frames = 0.5 + states @ H.T + PIXEL_STD * random.standard_normal((SEQUENCES, LENGTH, 16))
    pixels = np.round(255 * np.clip(frames, 0, 1)).astype(np.uint8).reshape(SEQUENCES, LENGTH, 4, 4)
    return Sequences(pixels, actions, states.astype(np.float32), ("position", "velocity"), 0.1)


@pytest.fixture(scope="module")
def halved(whole: Sequences) -> Sequences:
    """Half of the frames are missing, and are noise."""
    random = np.random.default_rng(2)
    valid = random.random((SEQUENCES, LENGTH)) < 0.5
    noise = random.integers(0, 256, whole.frames.shape, dtype=np.uint8)
    frames = np.where(valid[..., None, None], whole.frames, noise)
    return dataclasses.replace(whole, frames=frames, valid=valid).to_foresee(CONTEXT)


@pytest.fixture(scope="module")
def dreamer(whole: Sequences) -> Dreamer:
    model = LinearGaussian(FrameScale.of(whole, "test data"), LinearGaussianOptions(), nnx.Rngs(params=0))

    def raw(std: np.ndarray | float) -> jax.Array:
        return jnp.asarray(np.log(np.expm1(np.asarray(std) - 1e-3)), jnp.float32)

    model.a[...], model.b[...], model.h[...] = (jnp.asarray(x, jnp.float32) for x in (A, B, H))
    model.c[...], model.raw_q[...], model.raw_r[...] = jnp.full(16, 0.5), raw(np.sqrt(Q)), raw(PIXEL_STD)
    return Dreamer(model)


def covariances(seen: np.ndarray) -> np.ndarray:
    """`[N, T, 2, 2]` of the exact filter that is shown the frames `seen` `[N, T]`."""
    covariance, found = np.broadcast_to(np.eye(2), (len(seen), 2, 2)), []
    for t in range(seen.shape[1]):
        if t > 0:
            covariance = A @ covariance @ A.T + np.diag(Q)
        told = np.linalg.inv(np.linalg.inv(covariance) + H.T @ H / PIXEL_STD**2)
        covariance = np.where(seen[:, t, None, None], told, covariance)
        found.append(covariance)
    return np.stack(found, axis=1)


def shown(data: Sequences) -> np.ndarray:
    seen = data.seen()
    return np.ones((len(data), data.length), bool) if seen is None else seen


def test_a_filter_that_misses_half_of_the_frames_is_as_wrong_as_the_closed_form_says(
    dreamer: Dreamer, whole: Sequences, halved: Sequences
):
    costs = []
    for data in (whole, halved):
        assert data.states is not None
        wrong = (filtered_latents(dreamer, data, None) - data.states) ** 2
        exact = np.einsum("ntii->nti", covariances(shown(data)))
        np.testing.assert_allclose(wrong[:, 2:].mean(axis=(0, 1)), exact[:, 2:].mean(axis=(0, 1)), rtol=0.04)
        costs.append(wrong[:, 2:].mean(axis=(0, 1)))
    assert (costs[1] > 1.3 * costs[0]).all()  # and it is a cost


def test_an_evaluation_says_what_missing_frames_cost(dreamer: Dreamer, whole: Sequences, halved: Sequences):
    """The error of imagined frames at every horizon: noise, and the covariance that the context left."""
    found = []
    for data in (whole, halved):
        rollouts = roll_out(dreamer, data, CONTEXT)
        rows = judge(data, CONTEXT, predict(dreamer, data, CONTEXT, rollouts), None).rows
        seen = shown(data)
        until = seen & (np.arange(LENGTH) < CONTEXT)
        per_pixel = np.einsum("pi,ntij,pj->nt", H, covariances(until), H) / 16 + PIXEL_STD**2 + ROUNDED
        ahead = seen[:, CONTEXT:]
        exact = (per_pixel[:, CONTEXT:] * ahead).sum(axis=0) / ahead.sum(axis=0)
        curve = rows["model"]["mse"]
        np.testing.assert_allclose(curve.value, exact, rtol=0.04)
        assert (np.array(curve.low) < np.array(curve.value)).all()
        assert (np.array(rows["repeat last frame"]["mse"].value) > 1.5 * exact).all()
        found.append((curve.value[0], exact[0]))
    cost, exact_cost = (after - before for before, after in zip(*found, strict=True))
    assert exact_cost > 0.2 * found[0][1]
    assert cost == pytest.approx(exact_cost, rel=0.12)


def test_the_likelihood_of_the_frames_that_were_seen_is_exact(dreamer: Dreamer, halved: Sequences):
    """ln p of all pixels that were seen of one sequence at once, as one Gaussian in float64, per frame."""
    some = halved.take(slice(0, 4))
    assert some.valid is not None
    batch = Batch(*map(jnp.asarray, (as_unit_frames(some.frames), some.actions, some.valid)))
    loss, _ = dreamer.model.loss(batch, jax.random.key(0), jnp.zeros(()))
    total = 0.0
    # z = mean + draws of unit noise: the first state and every w
    for n in range(4):
        mean, spread = np.zeros(2), np.zeros((2, 2 * LENGTH))
        spread[:, :2] = np.eye(2)
        means, rows = [], []
        for t in range(LENGTH):
            if t > 0:
                mean, spread = A @ mean + B @ some.actions[n, t - 1], A @ spread
                spread[:, 2 * t : 2 * t + 2] += np.diag(np.sqrt(Q))
            if some.valid[n, t]:
                means.append(H @ mean + 0.5)
                rows.append(H @ spread)
        map_, pixels = np.concatenate(rows), some.frames[n][some.valid[n]].reshape(-1) / 255
        covariance = map_ @ map_.T + PIXEL_STD**2 * np.eye(len(map_))
        away = pixels - np.concatenate(means)
        total -= (away @ np.linalg.solve(covariance, away) + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2
    assert float(-loss) == pytest.approx(total / some.valid.sum(), rel=1e-3, abs=1e-3)
