"""Episodes in the real environment, driven by a controller, beside floors and ceilings on the same starts."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import WorldRecord, as_unit_frames
from worldmodel.models.protocol import State
from worldmodel.planning.catalogue import Planner
from worldmodel.planning.controller import Controller, Decision
from worldmodel.planning.planner import expected_rewards, nothing_planned, plan
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Goal, Rewards, Wish
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_at_least
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.episodes import Episode, from_vector, open_environment, play_episode
from worldmodel.worlds.world import GymnasiumOptions, Rewarded, World, environment_of, place_of

USUAL_STEPS = 200
"""of an episode, where the environment has no limit of its own"""
SHOWN = 4
"""imagined frames of a plan that are kept, evenly spread over it"""
TOGETHER = 25
"""episodes on the true physics in one program"""


@dataclasses.dataclass(frozen=True)
class Arena:
    """An environment, seen as a data set records it, and where its episodes begin."""

    id: str
    env: gymnasium.Env
    options: GymnasiumOptions | None
    camera: Camera
    space: ActionSpace
    steps: int
    """of an episode, at most"""
    place: tuple[float, ...] | None
    """state at which every episode starts; None: the environment's own random start"""

    @staticmethod
    def open(record: WorldRecord, steps: int | None = None, start: str | None = None) -> "Arena":
        """`start` is one of the world's places. Raises UserError when there is no such environment or place, or when an
        episode would have no steps."""
        if steps is not None:
            require_at_least("--steps", steps, 1)
        record = environment_of(record)
        env, options = open_environment(record.id, record.arguments)
        space = ActionSpace.of(env.action_space)
        place = None
        if start is not None:
            place = place_of(None if options is None else options.build(), start, record.id)
        steps = steps or _limit(env) or USUAL_STEPS
        return Arena(record.id, env, options, Camera.of(record.camera), space, steps, place)

    def close(self) -> None:
        """Give the environment's memory back."""
        self.env.close()

    @property
    def world(self) -> World | None:
        """The truth, where it is known."""
        return None if self.options is None else self.options.build()

    def play(self, act: Callable[[np.ndarray, int], Any], seed: int, number: int) -> Episode:
        """The episode with this number: its start depends on (seed, number) alone. `act` as that of play_episode."""
        random = np.random.default_rng([seed, number, 1])  # a data set of this seed starts elsewhere
        reset = int(random.integers(2**31))
        return play_episode(self.env, self.options, self.camera, act, self.steps + 1, reset, random, self.place)

    def unseen(self, act: Callable[[], Any], seed: int, number: int) -> tuple[float, np.ndarray | None]:
        """The return of the same episode with actions of `act`, without a picture, and its true start `[S]`."""
        self.env.reset(seed=int(np.random.default_rng([seed, number, 1]).integers(2**31)))
        if self.place is not None and self.options is not None:
            self.options.set_state(self.env, np.asarray(self.place))
        start = None if self.options is None else np.array(self.options.state_of(self.env), np.float32)
        total = 0.0
        for _ in range(self.steps):
            _, reward, ended, _, _ = self.env.step(act())
            total += float(reward)
            if ended:
                break
        return total, start


def _limit(env: gymnasium.Env) -> int | None:
    """Steps after which Gymnasium breaks an episode off."""
    found = gymnasium.registry.get(env.spec.id) if env.spec else None
    return None if found is None else found.max_episode_steps


class Trial(NamedTuple):
    """One episode, and what was thought in it."""

    episode: Episode
    length: int
    """actions"""
    seconds: np.ndarray
    """`[length]` of each decision: filter step and plan"""
    dreamt: np.ndarray
    """`[K]` returns of stretches of `horizon` steps, dreamt from the belief at their beginning with the actions that
    were really done"""
    real: np.ndarray
    """`[K]` what they were really paid, by a goal according to the true frames"""
    closeness: np.ndarray
    """`[length]` of the true frames to the goal, from 0 to 1; empty without a goal"""
    futures: State | None
    """`[length, SHOWN, ...]` states of each step's plan, where they were asked for"""

    @property
    def total(self) -> float:
        """The return."""
        return float(self.episode.rewards[: self.length].sum())


def try_out(arena: Arena, controller: Controller, wish: Wish, seed: int, number: int, keep: bool) -> Trial:
    """Play one episode with a controller; `keep` its plans' futures."""
    horizon = controller.planner.horizon
    shown = np.linspace(horizon / SHOWN, horizon, SHOWN).round().astype(int) - 1
    beliefs: list[State] = []
    futures: list[State] = []
    seconds: list[float] = []

    def act(frame: np.ndarray, t: int) -> Any:
        started = time.perf_counter()
        found: Decision = controller.act(frame)
        seconds.append(time.perf_counter() - started)
        if t % horizon == 0:
            beliefs.append(found.state)
        if keep:
            futures.append(jax.tree.map(lambda leaf: np.asarray(leaf)[0, shown], found.future.states))
        return from_vector(found.action, arena.env.action_space)

    controller.reset(jax.random.fold_in(jax.random.key(seed), number))
    episode = arena.play(act, seed, number)
    length = len(seconds)
    closeness, paid = np.zeros(0), episode.rewards[:length]
    if isinstance(wish, Goal):
        paid = np.asarray(wish.pay(as_unit_frames(episode.frames[1 : length + 1])))
        closeness = 1 + paid
    stretches = length // horizon
    dreamt, real = np.zeros(0), np.zeros(0)
    if stretches:
        states = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *beliefs[:stretches])
        actions = episode.actions[: stretches * horizon].reshape(stretches, horizon, -1)
        dreamt = np.asarray(expected_rewards(controller.dreamer, wish, states, actions)).sum(axis=1)
        real = paid[: stretches * horizon].reshape(stretches, horizon).sum(axis=1)
    kept = jax.tree.map(lambda *leaves: np.stack(leaves), *futures) if keep else None
    return Trial(episode, length, np.array(seconds), dreamt, real, closeness, kept)


def floors(arena: Arena, seed: int, episodes: int) -> dict[str, list[float]]:
    """Returns on the same starts without a thought: of actions that are zero (or always the same choice, the best one
    of them), and of random ones."""
    env, space = arena.env, arena.space
    if space.discrete:
        choices = [from_vector(choice, env.action_space) for choice in np.eye(space.size)]
        by_choice = [[arena.unseen(partial(int, choice), seed, n)[0] for n in range(episodes)] for choice in choices]
        found = {"best constant action": max(by_choice, key=lambda returns: float(np.mean(returns)))}
    else:
        nothing = from_vector(np.zeros(space.size), env.action_space)
        found = {"zero actions": [arena.unseen(lambda: nothing, seed, n)[0] for n in range(episodes)]}
    env.action_space.seed(seed)
    return found | {"random actions": [arena.unseen(env.action_space.sample, seed, n)[0] for n in range(episodes)]}


def starts(arena: Arena, seed: int, episodes: int) -> np.ndarray:
    """The true states `[N, S]` that the episodes begin at, of a world of the catalogue."""
    nowhere = dataclasses.replace(arena, steps=0)
    found = [nowhere.unseen(lambda: None, seed, n)[1] for n in range(episodes)]
    return np.stack([start for start in found if start is not None])


@dataclasses.dataclass(frozen=True)
class TrueReward:
    """A world's own reward, and its own ends, of its true states."""

    world: Rewarded

    def __call__(self, before: jax.Array, actions: jax.Array, after: jax.Array) -> Rewards:
        return self.world.reward(before, actions), self.world.terminal(after).astype(jnp.float32)


def plan_with_truth(
    world: Rewarded, planner: Planner, space: ActionSpace, start: np.ndarray, steps: int, key: jax.Array
) -> list[float]:
    """Returns of the same planner where nothing had to be learnt or seen: it plans on the true physics, from the true
    states `[N, S]`. The key is consumed."""
    wanted = TrueReward(world)
    none = jnp.zeros((0, planner.horizon, space.size))

    @jax.jit
    @jax.vmap
    def episode(state: jax.Array, key: jax.Array) -> jax.Array:
        def act(carry: tuple, time: jax.Array) -> tuple[tuple, jax.Array]:
            state, raw, alive = carry
            now = jax.random.fold_in(key, time)
            raw, _ = plan(planner, lambda s, u: world.step(s, u), wanted, space, state[None], raw, none, now)
            action = space.action(raw[0])
            after = world.step(state, action)
            reward, ends = wanted(state, action, after)
            return (after, raw, alive * (1 - ends)), alive * reward

        begin = (state, nothing_planned(planner, space), jnp.ones(()))
        return jnp.sum(jax.lax.scan(act, begin, jnp.arange(steps))[1])

    keys = jax.random.split(key, len(start))
    together = min(TOGETHER, len(start))
    returns: list[float] = []
    with progress_bar("planning with the true physics", len(start), "episode") as bar:
        for first in range(0, len(start), together):
            which = np.arange(first, first + together) % len(start)  # one shape, one compilation
            returns += np.asarray(episode(jnp.asarray(start[which]), keys[which])).tolist()
            bar.update(together)
    return returns[: len(start)]
