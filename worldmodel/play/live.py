"""Worlds side by side, a step at a time: the true one, and models that dream it under the same actions."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from worldmodel.data.sequences import Sequences, spread_over
from worldmodel.evaluation.coverage import Coverage
from worldmodel.evaluation.latents import View
from worldmodel.evaluation.seen import of_seen
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, last
from worldmodel.imagination.variables import apart, visible_states, visible_variables
from worldmodel.models.protocol import State
from worldmodel.play.autopilot import Pilot, Plan
from worldmodel.worlds.simulator import Simulator
from worldmodel.worlds.world import Reader, World

CLOUD_SEQUENCES, CLOUD_POINTS = 100, 2000
"""sequences of the data, and frames of them, that the cloud of latents shows, at most"""


@dataclasses.dataclass(frozen=True)
class Dream:
    """A trained model that dreams, and how its latents are drawn."""

    name: str
    """of its run"""
    model: str
    """in the catalogue"""
    dreamer: Dreamer
    view: View
    cloud: np.ndarray
    """`[M, Z]` latents of the data"""
    coverage: Coverage | None
    """of the model's training data, where that is there"""

    @staticmethod
    def of(name: str, model: str, dreamer: Dreamer, data: Sequences, coverage: Coverage | None = None) -> "Dream":
        """The cloud is what the filter finds, along its means, at the frames that were seen of some of the
        sequences."""
        some = data.take(spread_over(np.arange(len(data)), CLOUD_SEQUENCES))
        latents = of_seen(filtered_latents(dreamer, some, None), some.seen())
        return Dream(name, model, dreamer, View.of(latents), spread_over(latents, CLOUD_POINTS), coverage)


class Dreamt(NamedTuple):
    """What one dream shows at one time."""

    frame: np.ndarray
    """float32 `[H, W(, C)]` in [0, 1], the decoded mean"""
    latent: np.ndarray
    """float32 `[Z]`"""
    seen_latent: np.ndarray
    """float32 `[Z]` the filter's, which sees every true frame: where a fresh look would take the dream"""
    apart: float
    """between the true value of the first visible variable and the one that the dream's frame shows, in its unit"""
    outside: float | None
    """how far the dream's latent is from what its training data covered: above 1 is outside; None: not known"""


class Moment(NamedTuple):
    """What all worlds show at one time."""

    state: np.ndarray
    """float32 `[S]` the true state, in the world's units"""
    frame: np.ndarray
    """uint8 `[H, W(, C)]` the true one"""
    dreams: list[Dreamt]
    steps: int
    """since the start"""
    steps_dreamt: int
    """since the models were last shown true frames"""
    action: np.ndarray
    """float32 `[A]` that led here"""
    plan: Plan | None
    """what the autopilot does next, unless a person does"""


class SideBySide:
    """The true world, and the dreams of it under the same actions.

    Every dream is told `context` true frames at the start, what its own filter makes of all true frames in every fresh
    look, and none in between: it follows the means. The first moment comes from `start`. While there is a pilot, it
    plans from what the first dream's filter makes of the true frames, its action is done unless a person pushes, and
    all dreams take a fresh look at every step.
    """

    _seen: list[State]
    """of each dream, what its filter makes of the true frames"""
    _dreamt: list[State]
    _steps_dreamt: int
    _plan: Plan | None = None

    def __init__(self, dreams: Sequence[Dream], simulator: Simulator, reader: Reader, context: int):
        """`reader` reads imagined frames; `context` is at least what every model needs."""
        self.dreams, self.simulator, self.reader, self.context = dreams, simulator, reader, context
        self.variable = visible_variables(simulator.world)[0]
        self._pilot: Pilot | None = None

    def hand_over(self, pilot: Pilot | None) -> None:
        """Let a pilot that has just started, or none, drive from the next moment on."""
        self._pilot, self._plan = pilot, None

    def start(self, state: np.ndarray) -> Moment:
        """From `[S]` on the world moves freely until the models have seen `context` frames."""
        world = self.simulator.world
        actions = np.zeros((1, self.context - 1, world.action_size), np.float32)
        for t in range(self.context - 1):
            actions[0, t] = as_pushed(world, 0.0, t)
        states = self.simulator.states(state[None], actions)
        frames = self.simulator.frames(states)
        self._seen = [last(dream.dreamer.filter(frames, actions)) for dream in self.dreams]
        self._state, self._steps = states[0, -1], 0
        self._action = as_pushed(world, 0.0, self.context - 2)
        self._look_ahead()
        return self.fresh_look()

    def step(self, push: float) -> Moment:
        """All worlds one frame later, under a person's push (`as_pushed`). Where nobody pushes, the pilot's action is
        done, if there is one."""
        if push == 0 and self._plan is not None:
            self._action = self._plan.action
        else:
            self._action = as_pushed(self.simulator.world, push, self.context - 1 + self._steps)
        actions = self._action[None]
        self._state = self.simulator.states(self._state[None], actions[None])[0, 1]
        frames = self.simulator.frames(self._state[None])
        self._seen = [
            dream.dreamer.filter_step(seen, actions, frames)
            for dream, seen in zip(self.dreams, self._seen, strict=True)
        ]
        self._steps += 1
        self._look_ahead()
        if self._pilot is not None:
            return self.fresh_look()
        self._dreamt = [
            last(dream.dreamer.imagine(dreamt, actions[None]))
            for dream, dreamt in zip(self.dreams, self._dreamt, strict=True)
        ]
        self._steps_dreamt += 1
        return self._moment()

    def fresh_look(self) -> Moment:
        """Let the models dream on from what their filters make of the true frames. No time passes."""
        self._dreamt, self._steps_dreamt = self._seen, 0
        return self._moment()

    def _look_ahead(self) -> None:
        self._plan = None if self._pilot is None else self._pilot.plan(self._seen[0])

    def _moment(self) -> Moment:
        return Moment(
            self._state,
            self.simulator.frames(self._state),
            [self._shown(*each) for each in zip(self.dreams, self._dreamt, self._seen, strict=True)],
            self._steps,
            self._steps_dreamt,
            self._action,
            self._plan,
        )

    def _shown(self, dream: Dream, dreamt: State, seen: State) -> Dreamt:
        frame, latent = dream.dreamer.decode(dreamt)[0], dream.dreamer.vector(dreamt)[0]
        true = visible_states(self.simulator.world, self._state)[0]
        return Dreamt(
            frame,
            latent,
            dream.dreamer.vector(seen)[0],
            float(apart(self.variable, self.reader(frame.ravel())[0], true)),
            None if dream.coverage is None else float(dream.coverage.latents(latent)),
        )


def as_pushed(world: World, push: float, step: int) -> np.ndarray:
    """The action `[A]` of a person's push, in a world's unit: clipped to its largest and, where actions have several
    numbers, the first alone. In a world of choices the last for a positive push, the first for a negative one, and the
    middle one where nobody pushes; of an even number of them the two in the middle in turn, by the number of the
    step."""
    action = np.zeros(world.action_size, np.float32)
    if world.discrete:
        last = world.action_size - 1
        middle = (last + (step % 2)) // 2
        action[middle if push == 0 else last if push > 0 else 0] = 1
    else:
        action[0] = np.clip(push, -world.largest_action, world.largest_action)
    return action
