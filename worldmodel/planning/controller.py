"""Acting on frames: look, filter, plan, act; in one compiled program a step."""

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
) -> tuple[jax.Array, State, jax.Array, Future]:
    """The action `[A]`, the belief, the raw plan `[H, A]` and its future."""
    noise_key, key = jax.random.split(key)
    proposals = propose(model, space, policy, state, planner.horizon)
    raw, future = plan(planner, model.imagine_step, wish.of(model), space, state, before, proposals, key)
    disturbed = space.bound(raw[0] + noise * jax.random.normal(noise_key, raw[0].shape))
    return space.action(disturbed), state, raw, future


def _begin(
    model: WorldModel,
    planner: Planner,
    space: ActionSpace,
    wish: Wish,
    policy: LearntPolicy | None,
    frames: jax.Array,
    actions: jax.Array,
    seen: jax.Array,
    before: jax.Array,
    noise: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, State, jax.Array, Future]:
    """`_decide` by the first `seen` of the frames `[1, C, ...]` that the model's first state is inferred from, and the
    actions `[1, C-1, A]` between them; the rest is to come."""
    valid = jnp.arange(frames.shape[1])[None, :] < seen
    states = model.filter(as_unit_frames(frames), actions, valid)
    state = jax.tree.map(lambda leaf: leaf[:, seen - 1], states)
    return _decide(model, planner, space, wish, policy, state, before, noise, key)


def _go_on(
    model: WorldModel,
    planner: Planner,
    space: ActionSpace,
    wish: Wish,
    policy: LearntPolicy | None,
    state: State,
    action: jax.Array,
    frame: jax.Array,
    before: jax.Array,
    noise: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, State, jax.Array, Future]:
    """`_decide` by the frame `[1, ...]` that came of the last action `[1, A]`."""
    state = model.filter_step(state, action, as_unit_frames(frame))
    return _decide(model, planner, space, wish, policy, state, before, noise, key)


_begins, _goes_on = (compiled(program, static_argnums=(1, 2)) for program in (_begin, _go_on))


class Controller:
    """Acts in a world that it sees frame by frame, with a model, by what is wanted.

    It acts from the first frame on: until the model has seen as many as its first state is inferred from, that state is
    inferred anew from those that there are.
    """

    _state: State
    _last: jax.Array

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
        self._begins, self._goes_on = _begins.bind(dreamer), _goes_on.bind(dreamer)

    def warm_up(self) -> None:
        """Compile what is needed, so that the first decisions take no longer than the others."""
        scale, context = self.dreamer.model.scale, self.dreamer.model.context
        self.reset(jax.random.key(0))
        for _ in range(context + 1):
            self.act(np.zeros(scale.frame_shape, np.uint8))

    def reset(self, key: jax.Array) -> None:
        """A new episode; the key is consumed."""
        scale, context = self.dreamer.model.scale, self.dreamer.model.context
        self._frames = np.zeros((1, context, *scale.frame_shape), np.uint8)
        self._actions = np.zeros((1, max(context - 1, 1), scale.action_size), np.float32)
        self._raw = nothing_planned(self.planner, self.space)
        self._key, self._seen = key, 0

    def act(self, frame: np.ndarray) -> Decision:
        """What to do now that a frame uint8 `[H, W(, C)]` is seen."""
        key = jax.random.fold_in(self._key, self._seen)
        rest = (self._raw, self._noise, key)
        if self._seen < self.dreamer.model.context:
            self._frames[0, self._seen] = frame
            actions = self._actions[:, : self.dreamer.model.context - 1]
            found = self._begins(*self._bound, self._frames, actions, self._seen + 1, *rest)
        else:
            found = self._goes_on(*self._bound, self._state, self._last, frame[None], *rest)
        action, self._state, self._raw, future = found
        self._last = action[None]
        if self._seen < self.dreamer.model.context - 1:
            self._actions[0, self._seen] = action
        self._seen += 1
        return Decision(np.asarray(action), self._state, future)
