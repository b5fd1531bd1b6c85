"""What acts in a person's place: a planner that plans in the dream, from what the model's filter makes of the true
frames, by the reward that the run has learnt."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from worldmodel.imagination.dreamer import Dreamer, last
from worldmodel.models.protocol import State
from worldmodel.planning.catalogue import Planner
from worldmodel.planning.cem import CEM
from worldmodel.planning.controller import Decider
from worldmodel.planning.policy import LearntPolicy
from worldmodel.planning.saved import saved_policy, saved_reward, space_of_world
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Wish
from worldmodel.play.ghosts import STRENGTHS
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
from worldmodel.worlds.world import World

SHOWN = len(STRENGTHS)
"""imagined frames of a plan that are shown, evenly spread over it"""


class Plan(NamedTuple):
    """What is to be done, and what that is meant to bring in H steps."""

    action: np.ndarray
    """float32 `[A]` of the next step"""
    frames: np.ndarray
    """float32 `[SHOWN, H, W(, C)]` in [0, 1], imagined; the last is that of the last step"""
    latents: np.ndarray
    """float32 `[H, Z]`"""
    rewards: np.ndarray
    """float32 `[H]`"""


class Pilot:
    """An autopilot at one world, from its start on."""

    def __init__(self, dreamer: Dreamer, decider: Decider):
        self._dreamer, self._decider = dreamer, decider
        self._shown = np.array(steps_shown(decider.planner.horizon)) - 1

    def start(self, key: jax.Array) -> None:
        """Nothing is planned; the key is consumed."""
        self._decider.reset(key)

    def plan(self, state: State) -> Plan:
        """From the belief `[1, ...]` by the true frames until now; once for every step."""
        decision = self._decider.decide(state)
        states = jax.tree.map(lambda leaf: np.asarray(leaf)[0], decision.future.states)
        frames = self._dreamer.decode(jax.tree.map(lambda leaf: leaf[self._shown], states))
        return Plan(decision.action, frames, self._dreamer.vector(states), np.asarray(decision.future.rewards)[0])


@dataclasses.dataclass(frozen=True)
class Autopilot:
    """What all browsers share of it."""

    dreamer: Dreamer
    planner: Planner
    space: ActionSpace
    wish: Wish
    policy: LearntPolicy | None
    best: float
    """reward of the data"""
    worst: float
    warning: str | None
    """why its plans may be wrong"""

    @staticmethod
    def of_run(run: Run, dreamer: Dreamer, world: World) -> "Autopilot":
        """By the run's reward, which is learnt and kept where there is none yet, with the proposals of its policy where
        there is one; compiled. Raises UserError where the run's data has no rewards or is not there, and where nothing
        can be done."""
        space = space_of_world(world)
        if not space.free:
            raise UserError("nothing can be done in this world")
        reward, quality = saved_reward(run, dreamer)
        policy = saved_policy(run, space)
        autopilot = Autopilot(dreamer, CEM(), space, reward, policy, quality.best, quality.worst, quality.warning())
        scale, context = dreamer.model.scale, dreamer.model.context
        frames = np.zeros((1, context, *scale.frame_shape), np.uint8)
        actions = np.zeros((1, context - 1, scale.action_size), np.float32)
        autopilot.pilot(jax.random.key(0)).plan(last(dreamer.filter(frames, actions)))
        return autopilot

    def pilot(self, key: jax.Array) -> Pilot:
        """For one world; the key is consumed."""
        pilot = Pilot(self.dreamer, Decider(self.dreamer, self.planner, self.space, self.wish, self.policy))
        pilot.start(key)
        return pilot


def steps_shown(horizon: int) -> list[int]:
    """After how many steps of a plan its frames are shown."""
    return np.linspace(horizon / SHOWN, horizon, SHOWN).round().astype(int).tolist()
