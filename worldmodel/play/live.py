"""Two worlds side by side, a step at a time: the true one, and a model that dreams it under the same actions."""

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


class Moment(NamedTuple):
    """What both worlds show at one time."""

    state: np.ndarray
    """float32 `[S]` the true state, in the world's units"""
    true_frame: np.ndarray
    """uint8 `[H, W(, C)]`"""
    latent: np.ndarray
    """float32 `[Z]` the dream's"""
    dream_frame: np.ndarray
    """float32 `[H, W(, C)]` in [0, 1], the decoded mean"""
    seen_latent: np.ndarray
    """float32 `[Z]` the filter's, which sees every true frame: where a fresh look would take the dream"""
    apart: float
    """between the true value of the first visible variable and the one that the dream's frame shows, in its unit"""
    outside: float | None
    """how far the dream's latent is from what the training data covered: above 1 is outside; None: not known"""
    steps: int
    """since the start"""
    steps_dreamt: int
    """since the model was last shown true frames"""
    action: np.ndarray
    """float32 `[A]` that led here"""
    plan: Plan | None
    """what the autopilot does next, unless a person does"""


class SideBySide:
    """The true world, and a model's dream of it under the same actions.

    The dream is told `context` true frames at the start, what the filter makes of all true frames in every fresh look,
    and none in between: it follows the means. The first moment comes from `start`. While there is a pilot, it plans
    from what the filter makes of the true frames, its action is done unless a person pushes, and the dream takes a
    fresh look at every step.
    """

    _dream: State
    _steps_dreamt: int
    _plan: Plan | None = None

    def __init__(
        self,
        dreamer: Dreamer,
        simulator: Simulator,
        reader: Reader,
        context: int,
        coverage: Coverage | None = None,
    ):
        """`reader` reads imagined frames; `context` is at least what the model needs; `coverage` is that of the
        training data."""
        self.dreamer, self.simulator, self.reader, self.context = dreamer, simulator, reader, context
        self.coverage = coverage
        self.variable = visible_variables(simulator.world)[0]
        self._pilot: Pilot | None = None

    def hand_over(self, pilot: Pilot | None) -> None:
        """Let a pilot that has just started, or none, drive from the next moment on."""
        self._pilot, self._plan = pilot, None

    def start(self, state: np.ndarray) -> Moment:
        """From `[S]` on the world moves freely until the model has seen `context` frames."""
        world = self.simulator.world
        actions = np.zeros((1, self.context - 1, world.action_size), np.float32)
        for t in range(self.context - 1):
            actions[0, t] = as_pushed(world, 0.0, t)
        states = self.simulator.states(state[None], actions)
        self._seen = last(self.dreamer.filter(self.simulator.frames(states), actions))
        self._state, self._steps = states[0, -1], 0
        self._action = as_pushed(world, 0.0, self.context - 2)
        self._look_ahead()
        return self.fresh_look()

    def step(self, push: float) -> Moment:
        """Both worlds one frame later, under a person's push (`as_pushed`). Where nobody pushes, the pilot's action is
        done, if there is one."""
        if push == 0 and self._plan is not None:
            self._action = self._plan.action
        else:
            self._action = as_pushed(self.simulator.world, push, self.context - 1 + self._steps)
        actions = self._action[None]
        self._state = self.simulator.states(self._state[None], actions[None])[0, 1]
        self._seen = self.dreamer.filter_step(self._seen, actions, self.simulator.frames(self._state[None]))
        self._steps += 1
        self._look_ahead()
        if self._pilot is not None:
            return self.fresh_look()
        self._dream = last(self.dreamer.imagine(self._dream, actions[None]))
        self._steps_dreamt += 1
        return self._moment()

    def fresh_look(self) -> Moment:
        """Let the model dream on from what its filter makes of the true frames. No time passes."""
        self._dream, self._steps_dreamt = self._seen, 0
        return self._moment()

    def _look_ahead(self) -> None:
        self._plan = None if self._pilot is None else self._pilot.plan(self._seen)

    def _moment(self) -> Moment:
        frame, latent = self.dreamer.decode(self._dream)[0], self.dreamer.vector(self._dream)[0]
        shown, true = self.reader(frame.ravel())[0], visible_states(self.simulator.world, self._state)[0]
        return Moment(
            self._state,
            self.simulator.frames(self._state),
            latent,
            frame,
            self.dreamer.vector(self._seen)[0],
            float(apart(self.variable, shown, true)),
            None if self.coverage is None else float(self.coverage.latents(latent)),
            self._steps,
            self._steps_dreamt,
            self._action,
            self._plan,
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


def latent_cloud(dreamer: Dreamer, data: Sequences) -> tuple[View, np.ndarray]:
    """A view of the latents that the filter finds, along its means, at the frames that were seen of some of the
    sequences, and some of them, `[M, Z]`."""
    some = data.take(spread_over(np.arange(len(data)), CLOUD_SEQUENCES))
    latents = of_seen(filtered_latents(dreamer, some, None), some.seen())
    return View.of(latents), spread_over(latents, CLOUD_POINTS)
