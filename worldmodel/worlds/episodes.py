"""Episodes of Gymnasium environments, recorded as data sets have them, whoever chooses the actions."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from worldmodel.support.files import UserError
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.world import WORLDS, GymnasiumOptions


class Episode(NamedTuple):
    """One sequence of a data set (data/sequences.py)."""

    frames: np.ndarray
    """uint8 `[T, H, W(, C)]`"""
    actions: np.ndarray
    """float32 `[T-1, A]`"""
    rewards: np.ndarray
    """float32 `[T-1]`"""
    ended: np.ndarray
    """bool `[T-1]`; whatever comes after the end is padding: the last frame and state again, and zeros"""
    states: np.ndarray | None
    """float32 `[T, S]`, where they are known"""


def open_environment(
    env_id: str, arguments: Mapping[str, Any] | None = None
) -> tuple[gymnasium.Env, GymnasiumOptions | None]:
    """The environment of a WorldRecord's id and arguments, which are those of gymnasium.make, without a time limit; and
    its options in the catalogue of worlds, where it is one of them.

    Raises UserError when it is not known, does not render, or has actions of another kind than data sets have.
    """
    # Pictures are drawn into memory: no screen, no sound, no greeting.
    os.environ |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    names, known = WORLDS.names(), {"max_episode_steps": -1} | dict(arguments or {})
    listed = WORLDS.options(env_id) if env_id in names else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(getattr(listed, "gymnasium_id", env_id), render_mode="rgb_array", **known)
            name = env.spec.id if env.spec else ""
            options = WORLDS.options(name)(**dict(arguments or {})) if name in names else None
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(f"{env_id}: cannot be made with rgb_array rendering: {' '.join(str(error).split())}") from None
    try:
        require_vectors(env.action_space, env_id)
    except UserError:
        env.close()
        raise
    return env, options if isinstance(options, GymnasiumOptions) else None


def play_episode(
    env: gymnasium.Env,
    options: GymnasiumOptions | None,
    camera: Camera,
    act: Callable[[np.ndarray, int], Any],
    length: int,
    seed: int,
    random: np.random.Generator,
    start: np.ndarray | tuple[float, ...] | None = None,
) -> Episode:
    """Play one episode and record `length` frames of it, as collected data has them.

    Args:
        env, options: of `open_environment`.
        act: `act(frame, t)` gives the action as the environment takes it (`from_vector`), after frame t, uint8
            `[H, W(, C)]`; it is asked for t from 0 to at most length - 2.
        seed: of the environment's reset; the start depends on it alone.
        random: of the pixel noise.
        start: a state `[S]` in place of the random start; needs the options.

    Raises UserError when the environment breaks an episode off that has not ended.
    """
    env.reset(seed=seed)
    if start is not None and options is not None:
        options.set_state(env, np.asarray(start))
    frames, states, actions, rewards, end = [], [], [], [], False
    for t in range(length):
        if options is not None:
            options.before_render(env, round(camera.size / camera.crop))
        frames.append(camera.noisy(camera.frame(env.render()), random))
        if options is not None:
            states.append(np.array(options.state_of(env), np.float32))
        if end or t == length - 1:
            break
        action = act(frames[-1], t)
        _, reward, end, cut, _ = env.step(action)
        if cut and not end and t < length - 2:
            raise UserError(f"{_name(env)}: an episode was broken off after {t + 1} steps; ask for fewer frames")
        actions.append(as_vector(action, env.action_space))
        rewards.append(reward)
    ended = np.zeros(length - 1, bool)
    ended[len(actions) - 1] = end
    missing = length - len(frames)
    return Episode(
        np.stack(frames + frames[-1:] * missing),
        np.stack(actions + [np.zeros_like(actions[-1])] * missing),
        np.array(rewards + [0.0] * missing, np.float32),
        ended,
        None if options is None else np.stack(states + states[-1:] * missing),
    )


def _name(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec else str(env)


def require_vectors(space: gymnasium.Space, place: object) -> None:
    """Raise UserError, beginning with `place`, unless `as_vector` takes the actions of a space."""
    vector = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
    if not (vector or isinstance(space, gymnasium.spaces.Discrete)):
        raise UserError(f"{place}: actions must be vectors (a one-dimensional Box) or Discrete, not {space}")


def as_vector(action: Any, space: gymnasium.Space) -> np.ndarray:
    """An action as the data set keeps it: a vector as it is, one of n choices as a one-hot vector `[n]`."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[int(action - space.start)]
    return np.array(action, np.float32)


def from_vector(vector: np.ndarray, space: gymnasium.Space) -> Any:
    """What `as_vector` makes a vector `[A]` of, or comes nearest to it: clipped to the box, or the largest choice."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(np.argmax(vector)) + int(space.start)
    return np.clip(vector, space.low, space.high).astype(space.dtype)
