"""What a trained model is in programs: how it begins, looks, imagines and shows."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from worldmodel.exporting.program import Program
from worldmodel.exporting.tracing import trace
from worldmodel.imagination.dreamer import last
from worldmodel.models.protocol import WorldModel

TAKEN = ("frames", "actions", "action", "frame", "vector")
"""names of what programs take and give beside a state"""


@dataclasses.dataclass(frozen=True)
class ModelPrograms:
    """A WorldModel along its means, one sequence at a time (a batch of 1). The parts of its state have names, in the
    order in which all programs take and give them."""

    state: dict[str, jax.ShapeDtypeStruct]
    """`[1, ...]` each"""
    begin: Program
    """frames `[1, K, H, W(, C)]` in [0, 1] and actions `[1, K-1, A]` to the state at the last of them; K is the fewest
    frames that the model begins with"""
    filter_step: Program
    """state, action `[1, A]` and frame `[1, H, W(, C)]` to the next state"""
    imagine_step: Program
    """state and action to the next state"""
    decode: Program
    """state to the mean frame `[1, H, W(, C)]` in [0, 1]"""
    vector: Program
    """state to `[1, Z]`"""

    @staticmethod
    def of(model: WorldModel) -> "ModelPrograms":
        """Raises UserError where the model needs a primitive that no program has."""
        frame, action = (1, *model.scale.frame_shape), (1, model.scale.action_size)
        frames = _floats(1, model.context, *frame[1:])
        actions = _floats(1, model.context - 1, action[1])

        def begin(frames: jax.Array, actions: jax.Array) -> Any:
            return last(model.filter(frames, actions))

        example = jax.eval_shape(begin, frames, actions)
        leaves, tree = jax.tree.flatten(example)
        state = dict(zip(state_names(example), leaves, strict=True))
        after = [f"next_{name}" for name in state]

        def parts(state: Any) -> tuple[jax.Array, ...]:
            return tuple(jax.tree.leaves(state))

        first = {"frames": frames, "actions": actions}
        acted, looked = {"action": _floats(*action)}, {"frame": _floats(*frame)}

        def imagined(*given: jax.Array) -> tuple[jax.Array, ...]:
            *leaves, action = given
            return parts(model.imagine_step(jax.tree.unflatten(tree, leaves), action))

        def filtered(*given: jax.Array) -> tuple[jax.Array, ...]:
            *leaves, action, frame = given
            return parts(model.filter_step(jax.tree.unflatten(tree, leaves), action, frame))

        def decoded(*leaves: jax.Array) -> tuple[jax.Array]:
            return (jnp.clip(model.emission(jax.tree.unflatten(tree, leaves)).mean(), 0, 1),)

        return ModelPrograms(
            state,
            trace(lambda *given: parts(begin(*given)), first, after),
            trace(filtered, state | acted | looked, after),
            trace(imagined, state | acted, after),
            trace(decoded, state, ["frame"]),
            trace(lambda *leaves: (model.vector(jax.tree.unflatten(tree, leaves)),), state, ["vector"]),
        )


def state_names(state: Any) -> Sequence[str]:
    """Of a state's parts, each once: by their fields, where it has some; else "state". A name that a program has for
    something else, or that another part has, begins with "state_"."""
    names: list[str] = []
    for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = re.sub(r"\W+", "_", jax.tree_util.keystr(path)).strip("_") or "state"
        while name[0].isdigit() or name.startswith("next_") or name in (*TAKEN, *names):
            name = f"state_{name}"
        names.append(name)
    return names


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
