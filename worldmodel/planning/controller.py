"""Acting on frames: look, filter, plan, act; in two compiled programs a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import as_unit_frames
from worldmodel.imagination.compiled import compiled
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.protocol import State, WorldModel
from worldmodel.planning.catalogue import Planner
from worldmodel.planning.planner import Future, nothing_planned, plan
from worldmodel.planning.policy import LearntPolicy, propose
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Wish


class Decision(NamedTuple):
    """What is done now, and why."""

    action: np.ndarray
    """float32 `[A]`, as data sets keep it"""
    state: State
    """the belief `[1, ...]` that it came of"""
    future: Future
    """`[1, H]`: what the plan is meant to bring"""


def _decide(
    model: WorldModel,
    planner: Planner,
    space: ActionSpace,
    wish: Wish,
    policy: LearntPolicy | None,
    state: State,
    before: jax.Array,
    noise: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array, Future]:
    """The action `[A]`, the raw plan `[H, A]` and its future."""
    noise_key, key = jax.random.split(key)
    proposals = propose(model, space, policy, state, planner.horizon)
    raw, future = plan(planner, model.imagine_step, wish.of(model), space, state, before, proposals, key)
    disturbed = space.bound(raw[0] + noise * jax.random.normal(noise_key, raw[0].shape))
    return space.action(disturbed), raw, future


def _infer(model: WorldModel, frames: jax.Array, actions: jax.Array, seen: jax.Array) -> State:
    """The belief by the first `seen` of the frames `[1, C, ...]` that the model's first state is inferred from, and the
    actions `[1, C-1, A]` between them; the rest is to come."""
    valid = jnp.arange(frames.shape[1])[None, :] < seen
    states = model.filter(as_unit_frames(frames), actions, valid)
    return jax.tree.map(lambda leaf: leaf[:, seen - 1], states)


_decides, _infers = compiled(_decide, static_argnums=(1, 2)), compiled(_infer)


class Belief:
    """What a model believes of an episode that it watches frame by frame.

    There is one from the first frame on: until the model has seen as many as its first state is inferred from, that
    state is inferred anew from those that there are.
    """

    _state: State

    def __init__(self, dreamer: Dreamer):
        self._dreamer, self._infers = dreamer, _infers.bind(dreamer)
        self.reset()

    def reset(self) -> None:
        """A new episode."""
        model = self._dreamer.model
        self._frames = np.zeros((1, model.context, *model.scale.frame_shape), np.uint8)
        self._actions = np.zeros((1, model.context - 1, model.scale.action_size), np.float32)
        self.seen = 0

    def see(self, frame: np.ndarray, action: np.ndarray | None) -> State:
        """The belief `[1, ...]` now that a frame uint8 `[H, W(, C)]` is seen, which came of the action `[A]`; the first
        of an episode came of none."""
        if self.seen < self._dreamer.model.context:
            self._frames[0, self.seen] = frame
            if action is not None:
                self._actions[0, self.seen - 1] = action
            # copies, here and below, since a program may read them later than it is called
            self._state = self._infers(self._frames.copy(), self._actions.copy(), self.seen + 1)
        else:
            assert action is not None
            self._state = self._dreamer.filter_step(self._state, action[None].copy(), frame[None].copy())
        self.seen += 1
        return self._state


class Decider:
    """Decides from beliefs that somebody else keeps, one of every step; each plan begins with the one before."""

    def __init__(
        self,
        dreamer: Dreamer,
        planner: Planner,
        space: ActionSpace,
        wish: Wish,
        policy: LearntPolicy | None = None,
        noise: float = 0.0,
    ):
        """`noise` is added to every raw action (spaces.py): its standard deviation, for collecting."""
        planner.check()
        self.dreamer, self.planner, self.space, self.policy = dreamer, planner, space, policy
        self._bound = (planner, space, wish, policy)
        self._noise = jnp.asarray(noise, jnp.float32)
        self._decides = _decides.bind(dreamer)

    def reset(self, key: jax.Array) -> None:
        """A new episode; the key is consumed."""
        self._raw = nothing_planned(self.planner, self.space)
        self._key, self._steps = key, 0

    def decide(self, state: State) -> Decision:
        """What to do now that `state` `[1, ...]` is believed."""
        key = jax.random.fold_in(self._key, self._steps)
        action, self._raw, future = self._decides(*self._bound, state, self._raw, self._noise, key)
        self._steps += 1
        return Decision(np.asarray(action), state, future)


class Controller(Decider):
    """Acts in a world that it sees frame by frame, with a model, by what is wanted; from the first frame on."""

    _belief: Belief
    _last: np.ndarray | None

    def warm_up(self) -> None:
        """Compile what is needed, so that the first decisions take no longer than the others."""
        scale, context = self.dreamer.model.scale, self.dreamer.model.context
        self.reset(jax.random.key(0))
        for _ in range(context + 1):
            self.act(np.zeros(scale.frame_shape, np.uint8))

    def reset(self, key: jax.Array) -> None:
        """A new episode; the key is consumed."""
        super().reset(key)
        self._belief, self._last = Belief(self.dreamer), None

    def act(self, frame: np.ndarray) -> Decision:
        """What to do now that a frame uint8 `[H, W(, C)]` is seen."""
        decision = self.decide(self._belief.see(frame, self._last))
        self._last = decision.action
        return decision
