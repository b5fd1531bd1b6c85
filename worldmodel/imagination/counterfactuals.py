"""What happens if I do this? The same observed frames continued under other actions, beside the truth."""

import dataclasses

import numpy as np

from worldmodel.data.sequences import Sequences, are_choices, as_unit_frames
from worldmodel.imagination.dreamer import Dreamer, roll_out
from worldmodel.imagination.variables import visible_states
from worldmodel.worlds.simulator import Simulator

BANG_SECONDS = 0.5
"""between two reversals of the bang-bang actions, of which there is one at least"""
BANG_FRAMES = 5
"""the same where a frame's duration is not known"""


def shuffle_actions(data: Sequences, context: int) -> Sequences:
    """Every sequence with the actions of the one before, from the first imagined frame on: what a model that ignores
    actions would not notice. What the filter sees stays as it is. Where those end too soon, they begin again."""
    later = data.actions[:, context - 1 :]
    if data.ended is not None:
        own = np.maximum(1, data.lengths() - context)[:, None]
        later = np.take_along_axis(later, (np.arange(later.shape[1]) % own)[..., None], axis=1)
    return with_actions(data, context, np.roll(later, 1, axis=0))


def zero_actions(data: Sequences, context: int) -> Sequences:
    """Every sequence without any action from the first imagined frame on."""
    return with_actions(data, context, np.zeros_like(data.actions[:, context - 1 :]))


def with_actions(data: Sequences, context: int, later: np.ndarray) -> Sequences:
    """Every sequence with other actions `[N, T-context, A]` from the first imagined frame on."""
    actions = np.concatenate([data.actions[:, : context - 1], later.astype(np.float32)], axis=1)
    return dataclasses.replace(data, actions=actions)


@dataclasses.dataclass(frozen=True)
class Counterfactuals:
    """M futures of one sequence, named by what is done in them."""

    names: list[str]
    context: int
    """frames that were observed before the actions part ways"""
    actions: np.ndarray
    """float32 `[M, T-1, A]`, equal before the last observed frame"""
    imagined: np.ndarray
    """float32 `[M, T, H, W(, C)]` in [0, 1]"""
    true: np.ndarray | None
    """the same by the true simulator, or None where it is not known"""
    imagined_shown: np.ndarray | None
    """`[M, T, D]`, the world's visible variables, read off the imagined frames"""
    true_shown: np.ndarray | None
    """`[M, T, D]`"""


def pushes(data: Sequences, context: int, largest: np.ndarray, choices: bool = False) -> dict[str, np.ndarray]:
    """Three continuations `[S, A]` of any sequence's actions that push as hard as `largest` `[A]`, or always make the
    first or the last of A choices; none where nothing is ever done."""
    if not largest.any():
        return {}
    steps, size = data.length - context, len(largest)
    period = min(round(BANG_SECONDS / data.dt) if data.dt else BANG_FRAMES, -(-steps // 2))
    names, one, other = ("constant push, plus", "constant push, minus", "bang-bang"), largest, -largest
    if choices:
        names = ("always choice 1", f"always choice {size}", f"choices 1 and {size} in turn")
        one, other = np.eye(size)[[0, -1]]
    in_turn = np.where(np.arange(steps)[:, None] // max(1, period) % 2 == 0, one, other)
    ways = (np.broadcast_to(one, in_turn.shape), np.broadcast_to(other, in_turn.shape), in_turn)
    return dict(zip(names, ways, strict=True))


def largest_actions(data: Sequences) -> np.ndarray:
    """`[A]` the largest size of each number of the actions that were done."""
    return np.abs(data.actions[data.acted()]).max(axis=0)


def plans(data: Sequences, context: int, largest: np.ndarray, choices: bool = False) -> dict[str, np.ndarray]:
    """Up to five continuations of a single sequence's actions, `[S, A]` each; `largest` `[A]` is the size of pushes. Of
    choices one is always made."""
    own = data.actions[0, context - 1 :]
    none = {} if choices else {"none": np.zeros_like(own)}
    return {"the data's": own} | none | pushes(data, context, largest, choices)


def push_latents(dreamer: Dreamer, data: Sequences, context: int) -> np.ndarray | None:
    """float32 `[P N, S, Z]`: what is imagined of every sequence under each of the pushes, along the means; None where
    nothing is ever done."""
    parts = []
    for push in pushes(data, context, largest_actions(data), are_choices(data.actions)).values():
        pushed = with_actions(data, context, np.broadcast_to(push, (len(data), *push.shape)))
        parts.append(roll_out(dreamer, pushed, context).latents[:, context:])
    return np.concatenate(parts) if parts else None


def imagine_counterfactuals(
    dreamer: Dreamer, data: Sequences, sequence: int, context: int, simulator: Simulator | None
) -> Counterfactuals:
    """Filter the first `context` frames of one sequence, then imagine each plan to its end, following the means."""
    own, largest = data.take(slice(sequence, sequence + 1)), largest_actions(data)
    own = own.first_frames(int(own.lengths()[0]))
    futures = plans(own, context, largest, are_choices(data.actions))
    data = with_actions(own.take(np.zeros(len(futures), int)), context, np.stack(list(futures.values())))
    imagined = roll_out(dreamer, data, context).frames
    if simulator is None or data.states is None:
        return Counterfactuals(list(futures), context, data.actions, imagined, None, None, None)
    states = simulator.states(data.states[:, 0], data.actions)
    return Counterfactuals(
        list(futures),
        context,
        data.actions,
        imagined,
        true=as_unit_frames(simulator.frames(states)),
        imagined_shown=simulator.reader()(imagined.reshape(*imagined.shape[:2], -1)),
        true_shown=visible_states(simulator.world, states),
    )
