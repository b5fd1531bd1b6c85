"""What the interface promises, of every world model that is the project's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, filtered, make_tiny_dvbf, untrained

from worldmodel.imagination.dreamer import last
from worldmodel.models.catalogue import MODELS
from worldmodel.models.protocol import Bounded, Diagnosed, FrameModel, LocallyLinear, WorldModel, imagine

Frames = tuple[np.ndarray, np.ndarray]
WORLD_MODELS = ("dvbf", "dvbf-mlp", "dkf", "paper-dvbf", "kvae", "rssm", "rssm-categorical", "world-models")


def build(name: str) -> Any:
    """An untrained model of 4 x 4 frames and two actions."""
    small: dict[str, Any] = {"vision_size": 8} if name == "kvae" else {"hidden_size": 8}
    prefix = {"initial_frames": 2} if name in ("dvbf", "dvbf-mlp", "dkf") else {}
    options = MODELS.options(name)(**(small | prefix))
    scale = make_tiny_dvbf("fusion").scale
    model = untrained(options, scale, seed=5)
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


def test_a_policy_is_followed(model: Any, tiny_batch: Frames):
    """Under a policy that looks at the state, as under the actions that it chose."""
    state = last(filtered(model, *tiny_batch))

    def policy(state: Any, key: Any) -> jax.Array:
        return jnp.tanh(model.vector(state)[:, :2])

    follow = jax.jit(lambda key: imagine(model, state, policy, key, 5))
    states = follow(None)
    chosen = [policy(state, None)]
    for t in range(4):
        chosen.append(policy(jax.tree.map(lambda leaf, t=t: leaf[:, t], states), None))
    told = dreamt(model, state, jnp.stack(chosen, axis=1))
    np.testing.assert_allclose(model.vector(states), model.vector(told), rtol=1e-5, atol=1e-6)
    noisy = [model.vector(follow(jax.random.key(seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.abs(noisy[0] - noisy[2]).max() > 1e-3
