"""Collect sequences: of a world that draws itself, compiled, or of any Gymnasium environment's frames.

They come in blocks, so that a data set can be larger than memory.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.data.storage import gather_on
from worldmodel.support.files import UserError, require_new
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_at_least
from worldmodel.worlds.actions import Kind, drawn_actions, require_kind
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.environments import gymnasium_blocks
from worldmodel.worlds.simulator import simulate
from worldmodel.worlds.world import CompiledWorld, GymnasiumOptions, Options, Rewarded, name_of, place_of

CHUNK_PIXELS = 4_000_000
"""pixels that a compiled world draws at once: what bounds its memory"""


def collect(
    world: Options | str,
    sequences: int = 500,
    frames: int = 15,
    size: int | None = None,
    *,
    seed: int = 0,
    noise: float = 0.0,
    crop: float = 1.0,
    grey: bool = True,
    centre: tuple[float, float] = (0.5, 0.5),
    workers: int = 2,
    actions: Kind = "white",
    start: str | None = None,
    out: Path | None = None,
) -> Sequences:
    """Random actions in a world: sequences of `frames` square frames of side `size`, with a progress bar on stderr.

    Args:
        world: options of the catalogue of worlds, such as PendulumOptions(), or a Gymnasium id.
        size: default: the world's usual size, 16 where it has none.
        seed: of the initial states, the actions and the pixel noise.
        noise, crop, grey, centre: see Camera; a compiled world has no crop and its own colours.
        workers: processes that render a Gymnasium environment.
        actions: kind of random actions (actions.py).
        start: the world's place at which every sequence begins, such as "hanging, at rest"; default: a random start.
        out: data set to write, where it must not lie in memory: an .npz or, by a name without, a folder that is written
            piece by piece; of one that was stopped the pieces are kept, and the same call goes on from there.

    Raises UserError when one of these is out of its range, or `out` exists or cannot be written.
    """
    require_at_least("--sequences", sequences, 1)
    require_at_least("--frames", frames, 2)
    require_at_least("--seed", seed, 0)
    require_at_least("--workers", workers, 1)
    require_kind(actions)
    built = None if isinstance(world, str | GymnasiumOptions) else world.build()
    if size is None:
        size = built.usual_size if isinstance(built, CompiledWorld) else CompiledWorld.usual_size
    camera = Camera(size, crop, noise, grey, centre)
    camera.check()
    if out is not None:
        require_new(out)  # say it now, not after the work
    name = world if isinstance(world, str) else name_of(world) or type(world).__qualname__
    arguments = {} if isinstance(world, str) else dataclasses.asdict(world)  # type: ignore[call-overload]
    if built is not None and not isinstance(built, CompiledWorld):
        raise UserError(f"{name}: does not draw itself, and is no Gymnasium environment")
    if built is not None and (crop != 1 or not grey):  # without a crop the centre is the middle
        raise UserError("--crop and --no-grey belong to --env")

    def blocks(first: int) -> Iterator[Sequences]:
        if isinstance(world, str | GymnasiumOptions):
            return gymnasium_blocks(name, seed, sequences, frames, camera, workers, arguments, actions, start, first)
        assert isinstance(built, CompiledWorld)
        return compiled_blocks(built, seed, sequences, frames, camera, world, actions, start, first)

    task = {
        "world": name,
        "arguments": arguments,
        "sequences": sequences,
        "frames": frames,
        "seed": seed,
        "actions": actions,
        "start": start,
    }
    return gather_on(blocks, sequences, out, task | camera.record())


def compiled_blocks(
    world: CompiledWorld,
    seed: int,
    sequences: int,
    length: int,
    camera: Camera,
    options: Options | None = None,
    kind: Kind = "white",
    start: str | None = None,
    first: int = 0,
) -> Iterator[Sequences]:
    """Random actions of a kind in a world that draws itself: `sequences` x `length` frames, from sequence `first` on.

    Initial states are the world's, or all the place `start`. Sequence n depends on (seed, n) alone. `options` are what
    the world was built of, for the record.
    """
    place = None if start is None else place_of(world, start, "the world")

    def draw(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Initial state, actions in units of the largest, and key of the pixel noise of one sequence."""
        key = jax.random.fold_in(jax.random.key(seed), number)
        state_key, action_key, noise_key = jax.random.split(key, 3)
        actions = drawn_actions(kind, action_key, number, length - 1, world.action_size, world.discrete)
        return world.initial(state_key) if place is None else jnp.array(place), actions, noise_key

    def disturb(number: jax.Array) -> jax.Array:
        """What nature adds to the states of one sequence, `[length - 1, S]`."""
        shape = (length - 1, len(world.variables))
        if not world.process_noise:
            return jnp.zeros(shape)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), 1)
        return jnp.array(world.process_noise)[None] * jax.random.normal(key, shape)

    def step(state: jax.Array, both: tuple[jax.Array, jax.Array]) -> jax.Array:
        action, disturbance = both
        return world.step(state, action) + disturbance

    @jax.jit
    def make(numbers: jax.Array) -> dict[str, jax.Array]:
        initial, actions, noise_keys = jax.vmap(draw)(numbers)
        actions = world.largest_action * actions
        states = simulate(step, initial, (actions, jax.vmap(disturb)(numbers)))
        frames = world.frames(states, camera.size)
        if camera.noise_std > 0:
            frames += camera.noise_std * jax.vmap(lambda key: jax.random.normal(key, frames.shape[1:]))(noise_keys)
        made = {"frames": to_uint8(frames), "actions": actions, "states": states}
        return made | ({"rewards": world.reward(states[:, :-1], actions)} if isinstance(world, Rewarded) else {})

    names = tuple(variable.name for variable in world.variables)
    record = None
    if options is not None and (name := name_of(options)) is not None:
        arguments = dataclasses.asdict(options)  # type: ignore[call-overload]
        record = WorldRecord(name, arguments, camera.record(), kind, start)
    chunk = max(1, min(sequences, CHUNK_PIXELS // (length * camera.size**2)))
    with progress_bar("collect", sequences, "sequence", first) as bar:
        for begin in range(first, sequences, chunk):
            # The last chunk is as long as the others, for one compilation, and what is too much is cut off.
            count = min(chunk, sequences - begin)
            arrays = {name: np.asarray(array)[:count] for name, array in make(jnp.arange(begin, begin + chunk)).items()}
            yield Sequences(**arrays, state_names=names, dt=world.dt, world=record)
            bar.update(count)


def to_uint8(frames: jax.Array) -> jax.Array:
    """Brightness in [0, 1] to 0..255; what noise pushed outside is clipped."""
    return jnp.round(jnp.clip(frames, 0, 1) * 255).astype(jnp.uint8)
