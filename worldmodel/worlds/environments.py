"""Frames of any Gymnasium environment, drawn in processes of their own: they start with what is imported here, which is
nothing heavy."""

import dataclasses
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import gymnasium
import numpy as np

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.support.files import UserError
from worldmodel.support.progress import progress_bar
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.world import WORLDS, GymnasiumOptions


def gymnasium_blocks(
    env_id: str,
    seed: int,
    sequences: int,
    length: int,
    camera: Camera,
    workers: int = 1,
    arguments: Mapping[str, Any] | None = None,
) -> Iterator[Sequences]:
    """Random actions in any Gymnasium environment that renders: every sequence is one reset and length - 1 steps.

    Frames are cropped, resized by area and made grey; discrete actions become one-hot vectors. Of environments in the
    catalogue of worlds the true states are recorded, and the frames do not show the action. Sequence n depends on
    (seed, n) alone, not on the number of workers. `arguments` are those of gymnasium.make. Raises UserError when the
    environment is not known, does not render, has actions of another kind, or ends too early.
    """
    # Pictures are drawn into memory: no screen, no sound, no greeting.
    os.environ |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    arguments = dict(arguments or {})
    about = _check_environment(env_id, arguments, camera)
    shares = deque(
        share for share in np.array_split(np.arange(sequences), max(workers, -(-sequences // 10))) if len(share)
    )
    jobs: deque[Future] = deque()
    with (
        progress_bar(f"collect {env_id}", sequences, "sequence") as bar,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        try:
            while shares or jobs:
                while shares and len(jobs) < 2 * workers:  # what is finished waits in memory
                    jobs.append(pool.submit(_collect_some, env_id, arguments, seed, shares.popleft(), length, camera))
                arrays = jobs.popleft().result()
                yield Sequences(**arrays, **about)
                bar.update(len(arrays["frames"]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make(env_id: str, arguments: dict[str, Any]) -> tuple[gymnasium.Env, GymnasiumOptions | None]:
    """An environment and its options in the catalogue of worlds, where it is one of them."""
    names = WORLDS.names()
    listed = WORLDS.options(env_id) if env_id in names else None
    env = gymnasium.make(getattr(listed, "gymnasium_id", env_id), render_mode="rgb_array", **arguments)
    options = WORLDS.options(env.spec.id)(**arguments) if env.spec and env.spec.id in names else None
    return env, options if isinstance(options, GymnasiumOptions) else None


def _check_environment(env_id: str, arguments: dict[str, Any], camera: Camera) -> dict[str, Any]:
    """What the sequences have beside their arrays: the names of the states, where they are known, the seconds between
    two frames, where the environment says so, and the record of the world."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env, options = _make(env_id, arguments)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(f"{env_id}: cannot be made with rgb_array rendering: {' '.join(str(error).split())}") from None
    space, inner = env.action_space, env.unwrapped
    fps = env.metadata.get("render_fps")
    dt = getattr(inner, "dt", None) or (1 / fps if fps else None)
    env.close()
    vector = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
    if not (vector or isinstance(space, gymnasium.spaces.Discrete)):
        raise UserError(f"{env_id}: actions must be vectors (a one-dimensional Box) or Discrete, not {space}")
    name = env_id if options is None else env.spec.id
    return {
        "state_names": () if options is None else tuple(variable.name for variable in options.build().variables),
        "dt": None if dt is None else float(dt),
        "world": WorldRecord(name, arguments, dataclasses.asdict(camera)),
    }


def _collect_some(
    env_id: str, arguments: dict[str, Any], seed: int, which: np.ndarray, length: int, camera: Camera
) -> dict[str, np.ndarray]:
    """The arrays of some of the sequences, in a process of their own."""
    env, options = _make(env_id, arguments)
    records = []
    for n in which:
        random = np.random.default_rng([seed, int(n)])
        env.reset(seed=int(random.integers(2**31)))
        env.action_space.seed(int(random.integers(2**31)))
        actions, rewards, pictures, states = [], [], [], []
        for t in range(length):
            if t > 0:
                action = env.action_space.sample()
                _, reward, terminated, truncated, _ = env.step(action)
                if (terminated or truncated) and t < length - 1:
                    raise UserError(f"{env_id}: an episode ended after {t} steps; ask for fewer --frames")
                actions.append(_as_vector(action, env.action_space))
                rewards.append(reward)
            if options is not None:
                options.before_render(env, round(camera.size / camera.crop))
            pictures.append(camera.frame(env.render()))
            if options is not None:
                states.append(np.array(options.state_of(env)))
        clean = np.stack(pictures) / 255
        noisy = clean + camera.noise_std * random.standard_normal(clean.shape)
        frames = np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
        records.append({"frames": frames, "actions": actions, "rewards": rewards, "states": states})
    env.close()
    kinds = {"frames": np.uint8, "actions": np.float32, "rewards": np.float32, "states": np.float32}
    if options is None:
        del kinds["states"]
    return {name: np.array([record[name] for record in records], kind) for name, kind in kinds.items()}


def _as_vector(action: Any, space: gymnasium.Space) -> np.ndarray:
    """An action as the data set keeps it: a vector as it is, one of n choices as a one-hot vector `[n]`."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[int(action - space.start)]
    return np.asarray(action, np.float32)
