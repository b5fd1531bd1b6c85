"""Exported models against the models themselves, over long dreams."""

from collections.abc import Callable
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_tiny_dvbf
from flax import nnx
from running import Arrays, Loaded, in_browser, in_onnx  # noqa: F401 (a fixture)

from worldmodel.data.windows import Batch
from worldmodel.exporting.models import ModelPrograms
from worldmodel.exporting.program import Program
from worldmodel.imagination.dreamer import Dreamer, last
from worldmodel.models.catalogue import MODELS
from worldmodel.models.networks import initialise
from worldmodel.models.protocol import WorldModel

STEPS = 200
CLOSE = 1e-4
PARTS = {
    "dvbf": ["state"],
    "rssm": ["belief", "stochastic"],
    "world-models": ["latent", "cell", "hidden"],
    "remembers": ["state_frame", "state_next_frame", "t6", "actions_a_b", "state_actions_a_b"],
}
"""names of a state's parts, of some models"""


def untrained(name: str) -> Any:
    """A model with its usual options, of 4 x 4 frames and two actions."""
    options, scale = MODELS.options(name)(), make_tiny_dvbf("fusion").scale
    return nnx.merge(*initialise(lambda rngs: options.build(scale, rngs), jax.random.key(5)))


def own_world_models() -> list[str]:
    return [
        name for name in MODELS.names() if MODELS.options(name).__module__.split(".")[0] in ("worldmodel", "baselines")
    ]


class Carry(NamedTuple):
    """A state whose parts have names that programs have for other things, or that are alike."""

    frame: jax.Array
    next_frame: jax.Array
    t6: jax.Array
    actions: dict[str, jax.Array]


class Remembers(nnx.Module):
    """A toy model of such a state: the last two frames and actions, which it mixes."""

    def __init__(self) -> None:
        self.scale, self.context, self.latent_size = make_tiny_dvbf("fusion").scale, 2, 5

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> Carry:
        return Carry(frames, 0.5 * frames, frames.sum((2, 3)), {"a b": frames[..., 0, :2], "a-b": frames[..., 1, :2]})

    def filter_step(self, state: Carry, action: jax.Array, frame: jax.Array, key: jax.Array | None = None) -> Carry:
        return Carry(frame, state.frame, state.t6 + 1, {"a b": action, "a-b": state.actions["a b"]})

    def imagine_step(self, state: Carry, action: jax.Array, key: jax.Array | None = None) -> Carry:
        return self.filter_step(state, action, 0.5 * (state.frame + state.next_frame))

    def emission(self, state: Carry) -> distrax.Distribution:
        return distrax.Deterministic(state.frame)

    def vector(self, state: Carry) -> jax.Array:
        return jnp.concatenate([state.t6[..., None], state.actions["a b"], state.actions["a-b"]], -1)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        raise NotImplementedError("it is not trained")


def pruned(found: Arrays) -> Arrays:
    """A state by the names that it has as an input."""
    return {name.removeprefix("next_"): values for name, values in found.items()}


@pytest.mark.parametrize("name", [*own_world_models(), "remembers"])
def test_a_dream_of_200_steps_is_the_models_own(
    name: str,
    in_browser: Callable[[Program], Loaded],
):
    """In a browser and in ONNX Runtime: the beginning, some steps of the filter, a long dream, and what it shows; under
    the same actions, along the means. A covariance of the KVAE is 30, and as exact as that allows."""
    model = Remembers() if name == "remembers" else untrained(name)
    if not isinstance(model, WorldModel):
        pytest.skip("a model of single frames")
    programs, dreamer, random = ModelPrograms.of(model), Dreamer(model), np.random.default_rng(0)
    frames = random.random((1, model.context + 3, 4, 4), np.float32)
    actions = random.normal(size=(1, frames.shape[1] + STEPS, 2)).astype(np.float32)
    assert list(programs.state) == PARTS.get(name, list(programs.state))
    begin, looked = model.context, frames.shape[1]
    states = [last(dreamer.filter(frames[:, :begin], actions[:, : begin - 1]))]
    for t in range(begin, looked):
        states.append(dreamer.filter_step(states[-1], actions[:, t - 1], frames[:, t]))
    for t in range(looked, looked + STEPS):
        states.append(dreamer.imagine_step(states[-1], actions[:, t - 1]))
    vectors = [dreamer.vector(state) for state in states]
    # a dream that stood still would agree with any other
    assert np.abs(vectors[-1] - vectors[looked - begin]).max() > 100 * CLOSE
    for load in (in_browser, in_onnx):
        look, imagine = load(programs.filter_step), load(programs.imagine_step)
        found = [pruned(load(programs.begin)({"frames": frames[:, :begin], "actions": actions[:, : begin - 1]}))]
        assert list(found[0]) == list(programs.state)
        for t in range(begin, looked):
            found.append(pruned(look(found[-1] | {"action": actions[:, t - 1], "frame": frames[:, t]})))
        for t in range(looked, looked + STEPS):
            found.append(pruned(imagine(found[-1] | {"action": actions[:, t - 1]})))
        for state, other in zip(states, found, strict=True):
            for leaf, each in zip(jax.tree.leaves(state), other.values(), strict=True):
                np.testing.assert_allclose(each, leaf, atol=CLOSE, rtol=CLOSE)
        np.testing.assert_allclose(load(programs.decode)(found[-1])["frame"], dreamer.decode(states[-1]), atol=CLOSE)
        np.testing.assert_allclose(load(programs.vector)(found[-1])["vector"], vectors[-1], atol=CLOSE)
