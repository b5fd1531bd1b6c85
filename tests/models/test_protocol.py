"""What the interface promises, of every world model that is the project's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_tiny_dvbf
from flax import nnx

from worldmodel.data.windows import Batch
from worldmodel.imagination.dreamer import Dreamer, last
from worldmodel.models.catalogue import MODELS
from worldmodel.models.networks import initialise
from worldmodel.models.protocol import Bounded, Diagnosed, FrameModel, LocallyLinear, WorldModel, imagine

Frames = tuple[np.ndarray, np.ndarray]
WORLD_MODELS = ("dvbf", "dvbf-mlp", "dkf", "paper-dvbf", "kvae", "rssm", "rssm-categorical", "world-models")


def build(name: str) -> Any:
    """An untrained model of 4 x 4 frames and two actions."""
    small: dict[str, Any] = {"vision_size": 8} if name == "kvae" else {"hidden_size": 8}
    prefix = {"initial_frames": 2} if name in ("dvbf", "dvbf-mlp", "dkf") else {}
    options = MODELS.options(name)(**(small | prefix))
    scale = make_tiny_dvbf("fusion").scale
    model = nnx.merge(*initialise(lambda rngs: options.build(scale, rngs), jax.random.key(5)))
    if name == "dvbf":
        model.posterior.gain[...] = jax.random.normal(jax.random.key(6), model.posterior.gain.shape)
    return model


@pytest.fixture(scope="module", params=WORLD_MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def test_each_model_is_of_its_kind(model: Any):
    assert isinstance(model, WorldModel)
    assert isinstance(model, Bounded)
    name = type(model).__name__
    assert isinstance(model, Diagnosed) == (name not in ("GaussianRSSM", "CategoricalRSSM", "WorldModels"))
    assert isinstance(model, LocallyLinear) == (name in ("DVBF", "PaperDVBF"))
    static = build("vae")
    assert isinstance(static, FrameModel)
    assert not isinstance(static, WorldModel)


def test_a_filter_is_its_steps_one_by_one(model: Any, tiny_batch: Frames):
    frames, actions = tiny_batch
    dreamer, begin = Dreamer(model), 3
    states = dreamer.filter(frames, actions)
    whole = dreamer.vector(states)
    state = jax.tree.map(lambda leaf: leaf[:, begin - 1], states)
    for t in range(begin, frames.shape[1]):
        state = dreamer.filter_step(state, actions[:, t - 1], frames[:, t])
        np.testing.assert_allclose(dreamer.vector(state), whole[:, t], rtol=1e-4, atol=1e-5)


def test_frames_that_were_not_seen_are_imagined(model: Any, tiny_batch: Frames):
    """Whatever stands where a frame was not seen, states, loss and metrics are the same; and a gap is imagination."""
    frames, actions = tiny_batch
    dreamer = Dreamer(model)
    valid = np.ones(frames.shape[:2], bool)
    valid[0, 4] = valid[1, 3:6] = False
    other = np.where(valid[..., None, None], frames, 1 - frames)
    for seed in (2, None):
        one, two = (
            dreamer.vector(dreamer.filter(x, actions, valid, None if seed is None else jax.random.key(seed)))
            for x in (frames, other)
        )
        np.testing.assert_array_equal(one, two)
    seen = dreamer.vector(dreamer.filter(frames, actions))
    assert np.abs(one - seen)[0, 4:].max() > 0
    states = dreamer.filter(frames, actions, valid)
    before = jax.tree.map(lambda leaf: leaf[:, 2], states)
    dreamt = dreamer.vector(dreamer.imagine(before, actions[:, 2:5]))
    np.testing.assert_allclose(dreamer.vector(states)[1, 3:6], dreamt[1], rtol=1e-4, atol=1e-5)

    @jax.jit
    def loss(frames: jax.Array) -> tuple:
        return model.loss(Batch(frames, jnp.asarray(actions), jnp.asarray(valid)), jax.random.key(1), jnp.asarray(0.3))

    (value, metrics), (again, same) = loss(jnp.asarray(frames)), loss(jnp.asarray(other))
    assert float(value) == pytest.approx(float(again), rel=1e-6)
    for name, number in metrics.items():
        assert float(number) == pytest.approx(float(same[name]), rel=1e-5), name


def test_a_policy_is_followed(model: Any, tiny_batch: Frames):
    """Under a policy that looks at the state, as under the actions that it chose."""
    state = last(Dreamer(model).filter(*tiny_batch))

    def policy(state: Any, key: Any) -> jax.Array:
        return jnp.tanh(model.vector(state)[:, :2])

    states = imagine(model, state, policy, steps=5)
    chosen = [policy(state, None)]
    for t in range(4):
        chosen.append(policy(jax.tree.map(lambda leaf, t=t: leaf[:, t], states), None))
    told = imagine(model, state, jnp.stack(chosen, axis=1))
    np.testing.assert_allclose(model.vector(states), model.vector(told), rtol=1e-5, atol=1e-6)
    noisy = [model.vector(imagine(model, state, policy, jax.random.key(seed), 5)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.abs(noisy[0] - noisy[2]).max() > 1e-3
