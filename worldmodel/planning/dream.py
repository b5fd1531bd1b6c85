"""A run's dream as Gymnasium environments, in which any agent can be trained.

import gymnasium
import worldmodel  # registers them

gymnasium.make("worldmodel/Dream-v0", run="runs/dvbf")
gymnasium.make_vec("worldmodel/Dream-v0", num_envs=16, run="runs/dvbf")

An episode begins in a state that the filter finds in data, and is dreamt from there. Keyword arguments of both:

run          folder of a model that was trained on sequences with rewards
observation  "frames": uint8 `[H, W(, C)]`, the mean of what the model would see; "latents": float32 `[Z]`
horizon      steps after which an episode is cut off (truncated)
sampled      every step's noise is drawn, and whether the episode ends with it; else both follow what is likeliest
data         data set whose states episodes begin in, by default the one that the run was trained on
render_mode  "rgb_array": what the model would see, enlarged

Rewards and ends are those that the run has learnt (reward.py). Actions are the world's, in the unit of the data; beyond
its bounds they are clipped. A seed and actions decide an episode.
"""

import math
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.data.storage import load_sequences
from worldmodel.imagination.compiled import Split, compiled
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.protocol import State, WorldModel
from worldmodel.planning.policy import beginnings
from worldmodel.planning.saved import require_world_model, saved_reward, space_of
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Wish
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import run_folder, shown_data
from worldmodel.support.files import UserError
from worldmodel.support.settings import require_at_least
from worldmodel.worlds import registered  # noqa: F401 (by name, too)

HORIZON = 200
METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
"""where the data does not say how many frames are a second"""
SHOWN_SIZE = 256
"""side of a rendered picture, pixels, at least"""

Bound = tuple[WorldModel, Wish, State]
"""a model, what is wanted, and the states `[N, ...]` that episodes begin in: flat in the programs"""


def _frames(model: WorldModel, states: State) -> jax.Array:
    """uint8."""
    return jnp.round(jnp.clip(model.emission(states).mean(), 0, 1) * 255).astype(jnp.uint8)


def _observe(model: WorldModel, states: State, observation: str) -> jax.Array:
    return _frames(model, states) if observation == "frames" else model.vector(states)


def _as_data(space: ActionSpace, action: jax.Array) -> jax.Array:
    """An action of the Gymnasium space as a data set has it, `[A]`."""
    if space.discrete:
        return jax.nn.one_hot(action, space.size)
    return jnp.clip(action, jnp.asarray(space.low), jnp.asarray(space.high))


def _begin(bound: Bound, observation: str, states: State, which: jax.Array, rows: jax.Array) -> tuple[State, jax.Array]:
    """The states `[B, ...]`, of which those of `which` are now the rows `[B]` of the beginnings; and all
    observations."""
    model, _, starts = bound

    def begun(old: jax.Array, start: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(-1, *(1,) * (old.ndim - 1)), start[rows], old)

    states = jax.tree.map(begun, states, starts)
    return states, _observe(model, states, observation)


def _step(
    bound: Bound,
    space: ActionSpace,
    observation: str,
    sampled: bool,
    states: State,
    actions: jax.Array,
    seeds: jax.Array,
    times: jax.Array,
) -> tuple[State, jax.Array, jax.Array, jax.Array]:
    """The states `[B, ...]` after actions of the Gymnasium space, `[B, ...]`; observations, rewards and ends. The noise
    of each is decided by its seed and its time `[B]` alone."""
    model, wish, _ = bound
    wanted = wish.of(model)

    def step(state: State, action: jax.Array, seed: jax.Array, time: jax.Array) -> tuple:
        key = end_key = None
        if sampled:
            key, end_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), time))
        before, action = jax.tree.map(lambda leaf: leaf[None], (state, _as_data(space, action)))
        after = model.imagine_step(before, action, key)
        reward, end = wanted(before, action, after)
        ended = end > 0.5 if end_key is None else jax.random.bernoulli(end_key, end)
        seen = _observe(model, after, observation)
        return jax.tree.map(lambda leaf: leaf[0], (after, seen, reward, ended))

    return jax.vmap(step)(states, actions, seeds, times)


_begins, _steps = compiled(_begin, static_argnums=(1,)), compiled(_step, static_argnums=(1, 2, 3))
_shows = compiled(lambda bound, states: _frames(bound[0], states))


class Dreams:
    """B dreams of one run, dreamt together: what both environments are made of."""

    _states: State

    def __init__(self, count: int, run: Any, observation: str, horizon: int, sampled: bool, data: Any):
        """Arguments as above. Raises UserError when they do not fit."""
        if observation not in ("frames", "latents"):
            raise UserError(f"observation must be frames or latents, not {observation}")
        require_at_least("horizon", horizon, 1)
        opened = Run.open(run_folder(Path(run)))
        dreamer = Dreamer(opened.load())
        model = dreamer.model
        require_world_model(opened, dreamer)
        source, begin = shown_data(opened) if data is None else (Path(data), load_sequences(Path(data)))
        opened.check_fits(begin, source)
        reward, _ = saved_reward(opened, dreamer)
        starts = beginnings(dreamer, begin)
        space = space_of(begin, str(source))
        bound = Split((model, reward, starts))
        self._begins, self._steps, self._shows = (program.bind(bound) for program in (_begins, _steps, _shows))
        self._observation, self._how = observation, (space, observation, bool(sampled))
        self._states = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), starts)
        self._starts, self._horizon = len(jax.tree.leaves(starts)[0]), horizon
        self._rows, self._times = np.zeros(count, np.int32), np.zeros(count, np.int32)
        self._seeds = np.zeros(count, np.uint32)
        self.action_space = space.gymnasium()
        self.observation_space: gymnasium.Space = (
            gymnasium.spaces.Box(0, 255, model.scale.frame_shape, np.uint8)
            if observation == "frames"
            else gymnasium.spaces.Box(-math.inf, math.inf, (model.latent_size,), np.float32)
        )
        self.render_fps = round(1 / begin.dt) if begin.dt else METADATA["render_fps"]

    def begin(self, which: np.ndarray, random: list[np.random.Generator]) -> np.ndarray:
        """Begin those of `which`, bool `[B]`, anew, each by its generator; the observations of all."""
        for number in np.flatnonzero(which):
            self._rows[number] = random[number].integers(self._starts)
            self._seeds[number] = random[number].integers(2**32, dtype=np.uint32)
        self._times[which] = 0
        self._states, seen = self._begins(self._observation, self._states, which, self._rows)
        return np.array(seen)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Observations, rewards, which ended, and which are cut off, each `[B, ...]`."""
        self._states, *found = self._steps(*self._how, self._states, actions, self._seeds, self._times)
        seen, rewards, ended = map(np.array, found)
        self._times += 1
        return seen, rewards, ended, self._times >= self._horizon

    def pictures(self) -> np.ndarray:
        """uint8 `[B, H, W, 3]` of the present states."""
        frames = np.asarray(self._shows(self._states))
        colours = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
        factor = -(-SHOWN_SIZE // max(colours.shape[1:3]))
        return colours.repeat(factor, axis=1).repeat(factor, axis=2)


class DreamEnv(gymnasium.Env):
    """One dream. Gymnasium's checker (check_env) finds nothing but what is meant: actions have the unit of the data,
    which the wrapper RescaleAction makes -1 to 1, and latents have no bounds."""

    metadata = METADATA

    def __init__(
        self,
        run: Any,
        observation: str = "frames",
        horizon: int = HORIZON,
        sampled: bool = False,
        data: Any = None,
        render_mode: str | None = None,
    ):
        self._dreams = Dreams(1, run, observation, horizon, sampled, data)
        self.observation_space, self.action_space = self._dreams.observation_space, self._dreams.action_space
        self.metadata = self.metadata | {"render_fps": self._dreams.render_fps}
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self._dreams.begin(np.ones(1, bool), [self.np_random])[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        seen, rewards, ended, cut = self._dreams.step(np.asarray(action)[None])
        return seen[0], float(rewards[0]), bool(ended[0]), bool(cut[0]), {}

    def render(self) -> np.ndarray | None:
        """uint8 `[H, W, 3]`."""
        return self._dreams.pictures()[0] if self.render_mode == "rgb_array" else None


class DreamVectorEnv(VectorEnv):
    """Many dreams in one compiled program, else as Gymnasium's own vectors: with seed s number n is what one dream with
    seed s + n is, and one that is over begins anew in the next step, whose action it does not heed."""

    metadata = METADATA | {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int,
        run: Any,
        observation: str = "frames",
        horizon: int = HORIZON,
        sampled: bool = False,
        data: Any = None,
        render_mode: str | None = None,
    ):
        require_at_least("num_envs", num_envs, 1)
        self._dreams = Dreams(num_envs, run, observation, horizon, sampled, data)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self._dreams.observation_space
        self.single_action_space = self._dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = self.metadata | {"render_fps": self._dreams.render_fps}
        self._random = [seeding.np_random()[0] for _ in range(num_envs)]
        self._over = np.zeros(num_envs, bool)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict | None = None) -> tuple:
        seeds = [seed + n for n in range(self.num_envs)] if isinstance(seed, int) else seed or [None] * self.num_envs
        for number, each in enumerate(seeds):
            if each is not None:
                self._random[number] = seeding.np_random(each)[0]
        self._over = np.zeros(self.num_envs, bool)
        return self._dreams.begin(~self._over, self._random), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        seen, rewards, ended, cut = self._dreams.step(np.asarray(actions))
        if self._over.any():
            seen = self._dreams.begin(self._over, self._random)
            for found in (rewards, ended, cut):
                found[self._over] = 0
        self._over = ended | cut
        return seen, rewards, ended, cut, {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """uint8 `[H, W, 3]` of each."""
        return tuple(self._dreams.pictures()) if self.render_mode == "rgb_array" else None
