"""Collect sequences: of a world that draws itself, compiled, or of any Gymnasium environment's frames.

They come in blocks, so that a data set can be larger than memory.
"""

import dataclasses
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, WorldRecord, join
from worldmodel.data.storage import load_sequences, save_blocks
from worldmodel.support.files import UserError, require_writable
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_at_least, require_share
from worldmodel.worlds.simulator import simulate
from worldmodel.worlds.world import WORLDS, CompiledWorld, GymnasiumOptions, Options, name_of

CHUNK_PIXELS = 4_000_000
"""pixels that a compiled world draws at once: what bounds its memory"""
SMALLEST_CROP = 0.05


@dataclasses.dataclass(frozen=True)
class Camera:
    """How an environment's picture becomes a frame."""

    size: int
    """side of the square frame, pixels"""
    crop: float = 1.0
    """share of the picture's width and height that is kept, around its centre"""
    noise_std: float = 0.0
    """standard deviation of Gaussian noise on every pixel, in units of full brightness"""
    grey: bool = True
    """whether the frame is `[size, size]`, or has the colours red, green and blue, `[size, size, 3]`"""


def collect(
    world: Options | str,
    sequences: int = 500,
    frames: int = 15,
    size: int = 16,
    *,
    seed: int = 0,
    noise: float = 0.0,
    crop: float = 1.0,
    grey: bool = True,
    workers: int = 2,
    out: Path | None = None,
) -> Sequences:
    """Random actions in a world: sequences of `frames` square frames of side `size`, with a progress bar on stderr.

    Args:
        world: options of the catalogue of worlds, such as PendulumOptions(), or a Gymnasium id.
        seed: of the initial states, the actions and the pixel noise.
        noise, crop, grey: see Camera; a compiled world has no crop and its own colours.
        workers: processes that render a Gymnasium environment.
        out: data set to write, where it must not lie in memory: an .npz or, by a name without, a folder that is written
            piece by piece.

    Raises UserError when one of these is out of its range, or `out` exists or cannot be written.
    """
    require_at_least("--sequences", sequences, 1)
    require_at_least("--frames", frames, 2)
    require_at_least("--size", size, 4)
    require_at_least("--seed", seed, 0)
    require_at_least("--noise", noise, 0)
    require_share("--crop", crop)
    require_at_least("--crop", crop, SMALLEST_CROP)
    require_at_least("--workers", workers, 1)
    if out is not None:
        if out.exists():
            raise UserError(f"{out}: exists already; it is not overwritten")
        require_writable(out)  # say it now, not after the work
    camera = Camera(size, crop, noise, grey)
    if isinstance(world, str):
        blocks = gymnasium_blocks(world, seed, sequences, frames, camera, workers)
    elif isinstance(world, GymnasiumOptions):
        arguments = dataclasses.asdict(world)  # type: ignore[call-overload]
        blocks = gymnasium_blocks(name_of(world) or "", seed, sequences, frames, camera, workers, arguments)
    else:
        built = world.build()
        if not isinstance(built, CompiledWorld):
            raise UserError(f"{name_of(world)}: does not draw itself, and is no Gymnasium environment")
        if crop != 1 or not grey:
            raise UserError("--crop and --no-grey belong to --env")
        blocks = compiled_blocks(built, seed, sequences, frames, camera, world)
    if out is None:
        return join(list(blocks))
    save_blocks(out, blocks, sequences)
    return load_sequences(out)


def compiled_blocks(
    world: CompiledWorld, seed: int, sequences: int, length: int, camera: Camera, options: Options | None = None
) -> Iterator[Sequences]:
    """Random actions in a world that draws itself: `sequences` x `length` frames.

    Actions are uniform and independent from frame to frame; initial states are the world's. Sequence n depends on
    (seed, n) alone. `options` are what the world was built of, for the record.
    """

    def draw(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Initial state, actions in units of the largest, and key of the pixel noise of one sequence."""
        key = jax.random.fold_in(jax.random.key(seed), number)
        state_key, action_key, noise_key = jax.random.split(key, 3)
        actions = jax.random.uniform(action_key, (length - 1, world.action_size), minval=-1.0)
        return world.initial(state_key), actions, noise_key

    @jax.jit
    def make(numbers: jax.Array) -> dict[str, jax.Array]:
        initial, actions, noise_keys = jax.vmap(draw)(numbers)
        actions = world.largest_action * actions
        states = simulate(world.step, initial, actions)
        frames = world.frames(states, camera.size)
        if camera.noise_std > 0:
            frames += camera.noise_std * jax.vmap(lambda key: jax.random.normal(key, frames.shape[1:]))(noise_keys)
        rewards = world.reward(states[:, :-1], actions)
        return {"frames": to_uint8(frames), "actions": actions, "states": states, "rewards": rewards}

    names = tuple(variable.name for variable in world.variables)
    record = None
    if options is not None and (name := name_of(options)) is not None:
        arguments = dataclasses.asdict(options)  # type: ignore[call-overload]
        record = WorldRecord(name, arguments, dataclasses.asdict(camera))
    chunk = max(1, min(sequences, CHUNK_PIXELS // (length * camera.size**2)))
    with progress_bar("collect", sequences, "sequence") as bar:
        for start in range(0, sequences, chunk):
            # The last chunk is as long as the others, for one compilation, and what is too much is cut off.
            count = min(chunk, sequences - start)
            arrays = {name: np.asarray(array)[:count] for name, array in make(jnp.arange(start, start + chunk)).items()}
            yield Sequences(**arrays, state_names=names, dt=world.dt, world=record)
            bar.update(count)


def to_uint8(frames: jax.Array) -> jax.Array:
    """Brightness in [0, 1] to 0..255; what noise pushed outside is clipped."""
    return jnp.round(jnp.clip(frames, 0, 1) * 255).astype(jnp.uint8)


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
                options.before_render(env)
            pictures.append(_as_frame(env.render(), camera))
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


def _as_frame(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """`[H, W, 3]` to `[size, size(, 3)]` uint8; resized before it is grey, which is several times faster than after."""
    height, width = picture.shape[:2]
    top, left = round(height * (1 - camera.crop) / 2), round(width * (1 - camera.crop) / 2)
    picture = picture[top : height - top, left : width - left]
    small = cv2.resize(picture, (camera.size, camera.size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if camera.grey else small
