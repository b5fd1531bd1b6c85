"""Collect sequences from the project's own pendulum, compiled, or from any Gymnasium environment's frames.

They come in blocks, so that a data set can be larger than memory.
"""

import dataclasses
import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cv2
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import PENDULUM_STATES, Sequences, join
from worldmodel.support.files import UserError
from worldmodel.support.progress import progress_bar
from worldmodel.worlds.pendulum.physics import PendulumParams, simulate
from worldmodel.worlds.pendulum.rendering import render_pendulum


@dataclasses.dataclass(frozen=True)
class Camera:
    """How an environment's picture becomes a frame."""

    size: int
    """side of the square frame, pixels"""
    crop: float = 1.0
    """share of the picture's width and height that is kept, around its centre"""
    noise_std: float = 0.0
    """standard deviation of Gaussian noise on every pixel, in units of full brightness"""


ARROW_SHOWS_TORQUE = ("Pendulum-v1",)
"""environments whose picture would show the action"""
PENDULUMS = (*ARROW_SHOWS_TORQUE, "worldmodel/Pendulum-v0")
"""environments whose attribute `state` is (angle, angular velocity)"""
CHUNK_PIXELS = 4_000_000
"""pixels that the compiled pendulum draws at once: what bounds its memory"""


def collect_pendulum(
    seed: int, sequences: int, length: int, params: PendulumParams, size: int, noise_std: float = 0.0
) -> Sequences:
    """The sequences of `pendulum_blocks` in one."""
    return join(list(pendulum_blocks(seed, sequences, length, params, size, noise_std)))


def pendulum_blocks(
    seed: int, sequences: int, length: int, params: PendulumParams, size: int, noise_std: float = 0.0
) -> Iterator[Sequences]:
    """Random torques on the project's own pendulum: `sequences` x `length` frames of side `size`, grey.

    Torques are uniform and independent from frame to frame; initial states are uniform. Sequence n depends on
    (seed, n) alone. `noise_std` is the standard deviation of Gaussian noise on every pixel, in units of full
    brightness.
    """

    def draw(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Initial state, torques and pixel noise of one sequence, each in units of its largest or its std."""
        key = jax.random.fold_in(jax.random.key(seed), number)
        state_key, torque_key, noise_key = jax.random.split(key, 3)
        first = jax.random.uniform(state_key, (2,), minval=-1.0)
        torques = jax.random.uniform(torque_key, (length - 1,), minval=-1.0)
        noise = jax.random.normal(noise_key, (length, size, size)) if noise_std > 0 else jnp.zeros(())
        return first, torques, noise

    @jax.jit
    def collect(numbers: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        first, torques, noise = jax.vmap(draw)(numbers)
        states = simulate(high * first, params.max_torque * torques, params)
        frames = render_pendulum(states[..., 0], size)
        if noise_std > 0:
            frames += noise_std * noise
        return to_uint8(frames), params.max_torque * torques[..., None], states

    high = jnp.array([[params.initial_angle, params.initial_speed]])
    chunk = max(1, min(sequences, CHUNK_PIXELS // (length * size**2)))
    with progress_bar("collect", sequences, "sequence") as bar:
        for start in range(0, sequences, chunk):
            # The last chunk is as long as the others, for one compilation, and what is too much is cut off.
            count = min(chunk, sequences - start)
            arrays = collect(jnp.arange(start, start + chunk))
            frames, actions, states = (np.asarray(array)[:count] for array in arrays)
            yield Sequences(frames, actions, states.astype(np.float32), PENDULUM_STATES, params.dt)
            bar.update(count)


def to_uint8(frames: jax.Array) -> jax.Array:
    """Brightness in [0, 1] to 0..255; what noise pushed outside is clipped."""
    return jnp.round(jnp.clip(frames, 0, 1) * 255).astype(jnp.uint8)


def collect_gymnasium(
    env_id: str, seed: int, sequences: int, length: int, camera: Camera, workers: int = 1
) -> Sequences:
    """The sequences of `gymnasium_blocks` in one."""
    return join(list(gymnasium_blocks(env_id, seed, sequences, length, camera, workers)))


def gymnasium_blocks(
    env_id: str, seed: int, sequences: int, length: int, camera: Camera, workers: int = 1
) -> Iterator[Sequences]:
    """Random actions in any Gymnasium environment that renders: every sequence is one reset and length - 1 steps.

    Frames are cropped, resized by area and made grey; discrete actions become one-hot vectors. For pendulums the
    true states are recorded, and Pendulum-v1 is drawn without the arrow that shows the torque. Sequence n depends
    on (seed, n) alone, not on the number of workers. Raises UserError when the environment is not known, does not
    render, has actions of another kind, or ends too early.
    """
    # Pictures are drawn into memory: no screen, no sound, no greeting.
    os.environ |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    dt = _check_environment(env_id)
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
                    jobs.append(pool.submit(_collect_some, env_id, seed, shares.popleft(), length, camera))
                frames, actions, states = jobs.popleft().result()
                yield Sequences(frames, actions, states, PENDULUM_STATES if states is not None else (), dt)
                bar.update(len(frames))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _check_environment(env_id: str) -> float | None:
    """The seconds between two frames, where the environment says so."""
    import worldmodel.worlds  # noqa: F401  (registers the project's own)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(env_id, render_mode="rgb_array")
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(f"{env_id}: cannot be made with rgb_array rendering: {' '.join(str(error).split())}") from None
    space, inner = env.action_space, env.unwrapped
    fps = env.metadata.get("render_fps")
    dt = getattr(inner, "dt", None) or (1 / fps if fps else None)
    env.close()
    vector = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
    if not (vector or isinstance(space, gymnasium.spaces.Discrete)):
        raise UserError(f"{env_id}: actions must be vectors (a one-dimensional Box) or Discrete, not {space}")
    return None if dt is None else float(dt)


def _collect_some(
    env_id: str, seed: int, which: np.ndarray, length: int, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Frames, actions and states (of pendulums) of some of the sequences, in a process of their own."""
    import worldmodel.worlds  # noqa: F401

    env = gymnasium.make(env_id, render_mode="rgb_array")
    inner, name = env.unwrapped, env.spec.id if env.spec else env_id
    records = []
    for n in which:
        random = np.random.default_rng([seed, int(n)])
        env.reset(seed=int(random.integers(2**31)))
        env.action_space.seed(int(random.integers(2**31)))
        actions, pictures, states = [], [], []
        for t in range(length):
            if t > 0:
                action = env.action_space.sample()
                actions.append(_as_vector(action, env.action_space))
                _, _, terminated, truncated, _ = env.step(action)
                if (terminated or truncated) and t < length - 1:
                    raise UserError(f"{env_id}: an episode ended after {t} steps; ask for fewer --frames")
            if name in ARROW_SHOWS_TORQUE:
                inner.last_u = None
            pictures.append(_small_and_grey(env.render(), camera))
            if name in PENDULUMS:
                states.append(np.array(inner.state, np.float32))
        clean = np.stack(pictures) / 255
        noisy = clean + camera.noise_std * random.standard_normal(clean.shape)
        frames = np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
        records.append((frames, np.array(actions, np.float32), np.array(states, np.float32)))
    env.close()
    stacked = [np.stack(arrays) for arrays in zip(*records, strict=True)]
    return stacked[0], stacked[1], stacked[2] if stacked[2].size else None


def _as_vector(action: Any, space: gymnasium.Space) -> np.ndarray:
    """An action as the data set keeps it: a vector as it is, one of n choices as a one-hot vector `[n]`."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[int(action - space.start)]
    return np.asarray(action, np.float32)


def _small_and_grey(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """`[H, W, 3]` to `[size, size]` uint8; resized first, which is several times faster than last."""
    height, width = picture.shape[:2]
    top, left = round(height * (1 - camera.crop) / 2), round(width * (1 - camera.crop) / 2)
    picture = picture[top : height - top, left : width - left]
    small = cv2.resize(picture, (camera.size, camera.size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
