"""Missing frames, in every world model: a filter with gaps is a chain of filter and imagination steps, and what stands
in the place of a missing frame is looked at by nothing."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_tiny_dvbf, model_loss, untrained
from flax import nnx

from worldmodel.data.windows import Batch
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.catalogue import MODELS

PREFIX = 3
"""frames that the initial states of the DVBF and the DKF are inferred from"""
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dvbf, fusion": ("dvbf", {"hidden_size": 8, "initial_frames": PREFIX}),
    "dvbf, noise": ("dvbf", {"hidden_size": 8, "initial_frames": PREFIX, "inference": "noise"}),
    "dvbf-mlp": ("dvbf-mlp", {"hidden_size": 8, "initial_frames": PREFIX}),
    "dkf": ("dkf", {"hidden_size": 8, "initial_frames": PREFIX}),
    "paper-dvbf": ("paper-dvbf", {"hidden_size": 8}),
    "kvae": ("kvae", {"vision_size": 8}),
    "rssm": ("rssm", {"hidden_size": 8, "belief_size": 6}),
    "rssm-categorical": ("rssm-categorical", {"hidden_size": 8, "belief_size": 8}),
    "linear-gaussian": ("linear-gaussian", {}),
    "world-models, seeing": ("world-models", {"hidden_size": 8}),
    "world-models, foreseeing": ("world-models", {"hidden_size": 8, "vae_share": 0.1}),
    "vae": ("vae", {"hidden_size": 8}),
}
Gaps = tuple[np.ndarray, np.ndarray, np.ndarray]


def without(*names: str) -> list[str]:
    """The cases of the other models."""
    return [each for each, (name, _) in CASES.items() if name not in names]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """An untrained model of 4 x 4 frames and two actions."""
    name, options = CASES[request.param]
    model = untrained(MODELS.options(name)(**options), make_tiny_dvbf("fusion").scale, seed=5)
    if request.param == "dvbf, fusion":
        model.posterior.gain[...] = jax.random.normal(jax.random.key(6), model.posterior.gain.shape)
    return name, model


@pytest.fixture(scope="module")
def gaps() -> Gaps:
    """Frames `[8, 9, 4, 4]`, actions `[8, 8, 2]` and which were seen: of the first three in all ways, then half."""
    random = np.random.default_rng(0)
    first = np.array(list(itertools.product([False, True], repeat=PREFIX)))
    valid = np.concatenate([first, random.random((8, 6)) < 0.5], axis=1)
    return random.random((8, 9, 4, 4), np.float32), random.standard_normal((8, 8, 2)).astype(np.float32), valid


def garbage(frames: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
    """The same frames where they were seen, and black, white or noise elsewhere."""
    noise = np.random.default_rng(1).integers(0, 2, frames.shape)
    return [np.where(valid[..., None, None], frames, other).astype(np.float32) for other in (0, 1, noise)]


@pytest.mark.parametrize("case", without("vae"), indirect=True)
def test_a_filter_with_gaps_is_its_steps_one_by_one(case: tuple[str, Any], gaps: Gaps):
    _, model = case
    (frames, actions, valid), dreamer = gaps, Dreamer(model)
    states = dreamer.filter(frames, actions, valid)
    state = jax.tree.map(lambda leaf: leaf[:, 0], states)
    for t in range(1, frames.shape[1]):
        looked = dreamer.filter_step(state, actions[:, t - 1], frames[:, t])
        blind = dreamer.imagine_step(state, actions[:, t - 1])

        def either(a: jax.Array, b: jax.Array, seen: np.ndarray = valid[:, t]) -> jax.Array:
            return jnp.where(seen.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        state = jax.tree.map(either, looked, blind)
        for leaf, whole in zip(jax.tree.leaves(state), jax.tree.leaves(states), strict=True):
            np.testing.assert_allclose(leaf, whole[:, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", without("vae"), indirect=True)
def test_what_stands_in_the_place_of_a_missing_frame_changes_no_drawn_state(case: tuple[str, Any], gaps: Gaps):
    _, model = case
    (frames, actions, valid), dreamer = gaps, Dreamer(model)
    first, *others = (dreamer.filter(each, actions, valid, jax.random.key(2)) for each in garbage(frames, valid))
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


@pytest.mark.parametrize("case", without("vae", "paper-dvbf"), indirect=True)  # whose first state sees all frames
def test_a_lost_frame_changes_no_earlier_state(case: tuple[str, Any], gaps: Gaps):
    _, model = case
    (frames, actions, valid), dreamer = gaps, Dreamer(model)
    whole = dreamer.vector(dreamer.filter(frames, actions, valid))
    for t in range(model.context, frames.shape[1]):
        lost = valid.copy()
        lost[:, t] = False
        without = dreamer.vector(dreamer.filter(frames, actions, lost))
        np.testing.assert_array_equal(without[:, :t], whole[:, :t])
        changed = (without[:, t:] != whole[:, t:]).any(axis=(1, 2))
        np.testing.assert_array_equal(changed, valid[:, t])


def test_what_stands_in_the_place_of_a_missing_frame_changes_neither_loss_nor_gradient(
    case: tuple[str, Any], gaps: Gaps
):
    _, model = case
    frames, actions, valid = gaps
    graphdef, params = nnx.split(model)

    @jax.jit
    def step(params: nnx.State, frames: jax.Array) -> tuple:
        def loss(params: nnx.State, frames: jax.Array) -> tuple:
            batch = Batch(frames, jnp.asarray(actions), jnp.asarray(valid))
            return nnx.merge(graphdef, params).loss(batch, jax.random.key(1), jnp.asarray(0.2))

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, frames)

    (found, metrics), (slope, by_frame) = step(params, jnp.asarray(frames))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, metrics, slope)))
    np.testing.assert_array_equal(np.asarray(by_frame)[~valid], 0)
    assert (np.asarray(by_frame)[valid] != 0).any()
    for other in garbage(frames, valid):
        again = step(params, jnp.asarray(other))
        jax.tree.map(np.testing.assert_array_equal, again, ((found, metrics), (slope, by_frame)))


@pytest.mark.parametrize("case", without("linear-gaussian"), indirect=True)  # which has no bound
def test_nats_are_of_the_frames_that_were_seen(case: tuple[str, Any], gaps: Gaps):
    """Where a frame is missing there is neither a reconstruction nor a correction; the first state keeps its KL
    where the model infers one from other frames."""
    name, model = case
    frames, actions, valid = map(jnp.asarray, gaps)
    bound = jax.jit(lambda key: model.bound(frames, actions, key, valid))(jax.random.key(2))
    np.testing.assert_array_equal(np.asarray(bound.reconstruction)[~valid], 0)
    free = ~gaps[2]
    if name not in ("vae", "kvae", "rssm", "rssm-categorical", "world-models"):
        free[:, 0] = False
    np.testing.assert_array_equal(np.asarray(bound.kl)[free], 0)
    paid = np.asarray(bound.kl)[~free]
    assert (paid.mean() if name == "world-models" else paid.min()) > 0  # its KL is taken at one draw
    value, metrics = model_loss(model, Batch(frames, actions, valid), jax.random.key(2), jnp.ones(()))
    nats = metrics["reconstruction"] - metrics["kl"]
    assert float(metrics["elbo"]) == pytest.approx(float(nats), rel=1e-5)
    if name == "dkf":  # its loss draws as its bound does
        per_frame = float(jnp.sum(bound.reconstruction - bound.kl) / jnp.sum(valid))
        assert float(-value) == pytest.approx(per_frame, rel=1e-5)
