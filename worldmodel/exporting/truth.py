"""A true world in programs: how it moves, what it looks like, and how far a dream's frame is from it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import as_unit_frames, spread_over
from worldmodel.exporting.program import Program
from worldmodel.exporting.tracing import trace
from worldmodel.imagination.variables import visible_variables
from worldmodel.worlds.circle import wrap
from worldmodel.worlds.collecting import to_uint8
from worldmodel.worlds.reading import shown_points
from worldmodel.worlds.simulator import Simulator
from worldmodel.worlds.world import CompiledWorld, World

STARTS = 64
"""random states from which a visitor's worlds begin"""
ALBUM = 720
"""true frames that are kept, at most: of a pendulum one for every half degree"""
ALBUM_BYTES = 3_000_000
"""and their pixels, before they are compressed"""
LOOKED_AT = 4000
"""true frames that they are chosen from"""
COMPARED = 100
"""true frames that a world must draw alike, to be drawn anew"""


@dataclasses.dataclass(frozen=True)
class TruthPrograms:
    """The world behind a data set, one state at a time."""

    step: Program
    """state `[1, S]` and action `[1, A]` to next_state"""
    picture: Program
    """state to the true frame `[1, H, W(, C)]` in [0, 1], in steps of 1/255"""
    apart: Program
    """state and frame to how far the first visible variable that the frame shows is from the true one, `[1]`, in
    degrees where it is circular"""
    starts: np.ndarray
    """`[STARTS, S]`"""
    pictures: int
    """recorded ones, of which the most similar is shown; 0 where the world draws its own"""

    @staticmethod
    def of(simulator: Simulator, key: jax.Array) -> "TruthPrograms":
        """The key of the random starts is consumed. Raises UserError where the world needs a primitive that no program
        has."""
        world = simulator.world
        state = jax.ShapeDtypeStruct((1, len(world.variables)), jnp.float32)
        action = jax.ShapeDtypeStruct((1, world.action_size), jnp.float32)
        frame = jax.ShapeDtypeStruct((1, *simulator.album.shape[1:]), jnp.float32)
        kept = album_of(simulator)
        album, states = simulator.album[kept], simulator.album_states[kept]
        drawn = draws(simulator)
        reader = world.reader(as_unit_frames(album).reshape(len(album), -1), states)
        variable = visible_variables(world)[0]
        column = world.variables.index(variable)

        def draw(state: jax.Array) -> tuple[jax.Array]:
            assert isinstance(world, CompiledWorld)
            frame = jnp.clip(world.frames(state, simulator.album.shape[1]), 0, 1)
            return (jnp.round(255 * frame) / 255,)

        def look_up(state: jax.Array) -> tuple[jax.Array]:
            near = jnp.asarray(shown_points(world, states), jnp.float32) - points(world, state)
            at = jnp.argmin(jnp.sum(near**2, axis=1))
            return (jax.lax.dynamic_index_in_dim(jnp.asarray(album), at).astype(jnp.float32) / 255,)

        def apart(state: jax.Array, frame: jax.Array) -> tuple[jax.Array]:
            wrong = reader(frame.reshape(1, -1))[:, 0] - state[:, column]
            return (jnp.rad2deg(jnp.abs(wrap(wrong))) if variable.circular else jnp.abs(wrong),)

        starts = jax.vmap(world.initial)(jax.random.split(key, STARTS))
        return TruthPrograms(
            trace(
                lambda state, action: (world.step(state, action),), {"state": state, "action": action}, ["next_state"]
            ),
            trace(draw if drawn else look_up, {"state": state}, ["frame"]),
            trace(apart, {"state": state, "frame": frame}, ["apart"]),
            np.asarray(starts, np.float32),
            0 if drawn else len(album),
        )


def draws(simulator: Simulator) -> bool:
    """Whether the recorded frames are what their world itself draws, but for a grey level: those of an environment are
    not, and no camera's noise."""
    world, frames = simulator.world, simulator.album[:COMPARED]
    if not isinstance(world, CompiledWorld):
        return False
    drawn = np.asarray(to_uint8(world.frames(jnp.asarray(simulator.album_states[:COMPARED]), frames.shape[1])))
    return drawn.shape == frames.shape and bool((np.abs(drawn.astype(int) - frames) <= 1).all())


def album_of(simulator: Simulator) -> np.ndarray:
    """`[M]` which of the simulator's frames are kept: each is, of those that are left, the one that is least like all
    that are kept already."""
    which = spread_over(np.arange(len(simulator.album)), LOOKED_AT)
    places = shown_points(simulator.world, simulator.album_states[which])
    most = min(len(places), ALBUM, max(1, ALBUM_BYTES // simulator.album[0].size))
    kept, apart = [0], np.full(len(places), np.inf)
    while len(kept) < most:
        apart = np.minimum(apart, ((places - places[kept[-1]]) ** 2).sum(axis=1))
        kept.append(int(apart.argmax()))
    return which[np.sort(kept)]


def points(world: World, states: jax.Array) -> jax.Array:
    """As worlds.reading.shown_points, within a compiled program."""
    columns: list[jax.Array] = []
    for index, variable in enumerate(world.variables):
        if variable.name in world.visible:
            value = states[..., index]
            columns += [jnp.cos(value), jnp.sin(value)] if variable.circular else [value, jnp.zeros_like(value)]
    return jnp.stack(columns, axis=-1)
