"""The initial state of a DVBF from whichever of its first frames were seen."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import make_tiny_dvbf
from flax import nnx

from worldmodel.imagination.compiled import compiled
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import glimpse_loss
from worldmodel.models.variational import Inference

FIRST = 3
"""frames that the initial state is inferred from"""
filtered = compiled(lambda model, *arguments: model.filter(*arguments))
PATTERNS = np.array(list(itertools.product([False, True], repeat=FIRST)))
"""which of the first few were seen: all cases"""


@pytest.fixture(scope="module")
def model() -> DVBF:
    return make_tiny_dvbf("fusion", initial_frames=FIRST)


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames `[8, 6, 4, 4]`, actions `[8, 5, 2]` and whether each was seen `[8, 6]`: of the first in all ways."""
    random = np.random.default_rng(0)
    seen = np.concatenate([PATTERNS, random.random((len(PATTERNS), 3)) < 0.5], axis=1)
    frames = random.random((*seen.shape, 4, 4), np.float32)
    return frames, random.standard_normal((len(seen), 5, 2)).astype(np.float32), seen


def test_with_all_frames_seen_nothing_is_different(model: DVBF, batch: tuple):
    frames, actions, seen = batch
    plain = filtered(model, frames, actions)
    found = filtered(model, frames, actions, np.ones_like(seen))
    np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-7)  # two programs round differently
    later = seen.copy()
    later[:, :FIRST] = True
    np.testing.assert_array_equal(filtered(model, frames, actions, later)[:, 0], found[:, 0])


def test_a_frame_that_was_not_seen_changes_nothing_and_one_that_was_changes_all_that_follows(model: DVBF, batch: tuple):
    frames, actions, seen = batch
    found = np.asarray(filtered(model, frames, actions, seen))
    assert np.isfinite(found).all()
    for t in range(frames.shape[1]):
        others = frames.copy()
        others[:, t] = 1 - others[:, t]
        moved = (np.asarray(filtered(model, others, actions, seen)) != found).any(axis=2)
        assert not moved[~seen[:, t]].any(), t
        first = 0 if t < FIRST else t
        assert moved[seen[:, t], first].all(), t
        assert not moved[:, :first].any(), t


def test_how_many_were_seen_is_known_even_where_they_look_like_nothing(model: DVBF):
    """Features of zero are not the same as none."""
    features, actions = jnp.zeros((len(PATTERNS), FIRST, 6)), jnp.zeros((len(PATTERNS), FIRST - 1, 2))
    means = np.asarray(model.glimpse(features, actions, jnp.asarray(PATTERNS)).mean())
    assert len(np.unique(means, axis=0)) == len(PATTERNS)


def test_its_loss_moves_the_glimpse_alone(model: DVBF, batch: tuple):
    frames, actions, seen = map(jnp.asarray, batch)
    graphdef, params = nnx.split(model)

    @jax.jit
    @jax.grad
    def slope(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        noise = jnp.ones((*seen.shape, model.latent_size))
        inferred = model.infer(frames, actions, seen[:, 1:], noise)
        return jnp.mean(glimpse_loss(model, inferred, actions, jax.random.key(0)))

    touched = {
        name: any((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(part))
        for name, part in slope(params).items()
    }
    assert {name for name, moves in touched.items() if moves} == {"glimpse_network"}
    assert {"encoder", "initial_network", "transition", "posterior", "decoder", "spread"} < set(touched)


def test_the_fewer_frames_were_seen_the_less_is_claimed():
    """z_0 ~ N(0, 1), and each of four frames says z_0 + N(0, 1): with k of them the posterior is N(sum / (k + 1),
    1 / (k + 1)). The glimpse alone is fitted."""
    model = make_tiny_dvbf("fusion", initial_frames=4, latent_size=1, visible_size=1, feature_size=1, hidden_size=32)
    graphdef, glimpse, rest = nnx.split(model, nnx.PathContains("glimpse_network"), ...)
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))

    def drawn(key: jax.Array, size: int) -> Inference:
        z_key, noise_key = jax.random.split(key)
        z = jax.random.normal(z_key, (size, 1, 1))
        nothing: Any = None
        features = z + jax.random.normal(noise_key, (size, 4, 1))
        return Inference(features, z, z, nothing, nothing, nothing)

    def fit(glimpse: nnx.State, key: jax.Array) -> nnx.State:
        def update(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
            glimpse, state = carry
            data_key, key = jax.random.split(key)

            def loss(glimpse: nnx.State) -> jax.Array:
                model = nnx.merge(graphdef, glimpse, rest)
                return jnp.mean(glimpse_loss(model, drawn(data_key, 128), jnp.zeros((128, 3, 2)), key))

            updates, state = adam.update(jax.grad(loss)(glimpse), state)
            return (optax.apply_updates(glimpse, updates), state), None

        return jax.lax.scan(update, (glimpse, adam.init(glimpse)), jax.random.split(key, STEPS))[0][0]

    model = nnx.merge(graphdef, jax.jit(fit)(glimpse, jax.random.key(1)), rest)
    features = drawn(jax.random.key(2), 400).features
    for count in (1, 2, 4):
        seen = jnp.broadcast_to(jnp.arange(4) < count, (400, 4))
        found = model.glimpse(features, jnp.zeros((400, 3, 2)), seen)
        told = np.asarray(features[:, :count]).sum(axis=(1, 2)) / (count + 1)
        assert np.std(found.mean()[:, 0] - told) < 0.15, count
        assert np.mean(found.stddev()) == pytest.approx((count + 1) ** -0.5, rel=0.1), count


STEPS = 300
