"""Frames of any Gymnasium environment, drawn in processes of their own: they start with what is imported here, which is
nothing heavy."""

import contextlib
import dataclasses
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.support.progress import progress_bar
from worldmodel.worlds.actions import Kind, sampled_actions
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.episodes import Episode, open_environment, play_episode
from worldmodel.worlds.world import GymnasiumOptions, place_of


def gymnasium_blocks(
    env_id: str,
    seed: int,
    sequences: int,
    length: int,
    camera: Camera,
    workers: int = 1,
    arguments: Mapping[str, Any] | None = None,
    kind: Kind = "white",
    start: str | None = None,
    first: int = 0,
) -> Iterator[Sequences]:
    """Random actions of a kind in any Gymnasium environment that renders: every sequence is one episode, from sequence
    `first` on.

    Frames are cropped, resized by area and made grey; discrete actions become one-hot vectors. Of environments in the
    catalogue of worlds the true states are recorded, the frames do not show the action, and sequences can all begin at
    the place `start`. Each block says which episodes `ended`, and where. Sequence n depends on (seed, n) alone, not on
    the number of workers. `arguments` are those of gymnasium.make. Raises UserError when the environment is not known,
    does not render, has actions of another kind or no such place, or breaks an episode off.
    """
    arguments = dict(arguments or {})
    env, options = open_environment(env_id, arguments)
    about = describe(env, options, WorldRecord(env_id, arguments, camera.record(), kind, start))
    env.close()
    place = None
    if start is not None:
        place = place_of(None if options is None else options.build(), start, env_id)
    task = (env_id, arguments, seed, length, camera, kind, place)
    parts = max(workers, -(-(sequences - first) // 10))
    shares = deque(share for share in np.array_split(np.arange(first, sequences), parts) if len(share))
    jobs: deque[Future] = deque()
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with (
        progress_bar(f"collect {env_id}", sequences, "sequence", first) as bar,
        ProcessPoolExecutor(workers, context, _leave_with, (theirs,)) as pool,
    ):
        try:
            while shares or jobs:
                while shares and len(jobs) < 2 * workers:  # what is finished waits in memory
                    jobs.append(pool.submit(_collect_some, shares.popleft(), *task))
                arrays = stacked(jobs.popleft().result())
                yield Sequences(**arrays, **about)
                bar.update(len(arrays["frames"]))
        except BaseException:
            ours.close()
            raise


def describe(env: gymnasium.Env, options: GymnasiumOptions | None, record: WorldRecord) -> dict[str, Any]:
    """What sequences of an environment have beside their arrays: the names of the states, where they are known, the
    seconds between two frames, where the environment says so, and the record, in which a world of the catalogue has its
    name."""
    fps = env.metadata.get("render_fps")
    dt = getattr(env.unwrapped, "dt", None) or (1 / fps if fps else None)
    return {
        "state_names": () if options is None else tuple(variable.name for variable in options.build().variables),
        "dt": None if dt is None else float(dt),
        "world": record if options is None else dataclasses.replace(record, id=env.spec.id),
    }


def stacked(episodes: list[Episode]) -> dict[str, Any]:
    """The arrays of a data set, by name, of episodes of one length."""
    columns = zip(Episode._fields, zip(*episodes, strict=True), strict=True)
    return {name: np.stack(column) for name, column in columns if column[0] is not None}


def _leave_with(pipe: Connection) -> None:
    """In a process of a pool: end at once when the other end of the pipe is closed, or its process was killed."""

    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _collect_some(
    which: np.ndarray,
    env_id: str,
    arguments: dict[str, Any],
    seed: int,
    length: int,
    camera: Camera,
    kind: Kind,
    place: tuple[float, ...] | None,
) -> list[Episode]:
    """Some of the sequences, in a process of their own."""
    env, options = open_environment(env_id, arguments)
    episodes = []
    for n in map(int, which):
        random = np.random.default_rng([seed, n])
        reset_seed, action_seed = (int(random.integers(2**31)) for _ in range(2))
        env.action_space.seed(action_seed)
        actions = sampled_actions(kind, env.action_space, random, n, length - 1)
        episodes.append(play_episode(env, options, camera, _planned(actions), length, reset_seed, random, place))
    env.close()
    return episodes


def _planned(actions: list[Any]) -> Callable[[np.ndarray, int], Any]:
    """Whatever the frames show."""
    return lambda frame, t: actions[t]
