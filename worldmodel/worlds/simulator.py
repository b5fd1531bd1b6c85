"""The true simulator behind a data set: states by its world's physics, frames by looking up the data's own."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.support.files import UserError
from worldmodel.worlds.circle import wrap
from worldmodel.worlds.reading import shown_points
from worldmodel.worlds.world import Reader, World, world_of

SAME_STATE, LEAST_SPREAD = 2e-3, 0.01
"""largest difference between a recorded step and the same step of the right physics, in the units of the states; of a
variable whose standard deviation is below 1, so much less, down to that of such a spread"""
LARGEST_NOISE = 6
"""standard deviations"""
LARGEST_ALBUM = 20_000
"""true frames that are kept to be shown again, at most"""


def simulate(step: Callable[[jax.Array, Any], jax.Array], initial: jax.Array, actions: Any) -> jax.Array:
    """All states `[N, T, S]` from `initial` `[N, S]` on, where `step(state, action)` takes each to the next; action
    t of `[N, T-1, ...]`, or of a pytree of such arrays, acts between states t and t+1."""

    def both(state: jax.Array, action: Any) -> tuple[jax.Array, jax.Array]:
        state = step(state, action)
        return state, state

    _, later = jax.lax.scan(both, initial, jax.tree.map(lambda each: jnp.swapaxes(each, 0, 1), actions))
    return jnp.concatenate([initial[:, None], jnp.swapaxes(later, 0, 1)], axis=1)


def follows(data: Sequences, world: World) -> bool:
    """Whether the recorded states are the world's, and each step between them is that of its physics, but for the
    noise of the world."""
    if data.states is None or tuple(data.state_names) != tuple(variable.name for variable in world.variables):
        return False
    if data.action_size != world.action_size or (data.dt is not None and not np.isclose(data.dt, world.dt)):
        return False
    after = world.step(jnp.asarray(data.states[:, :-1]), jnp.asarray(data.actions))
    apart = np.asarray(after) - data.states[:, 1:]
    circular = [variable.circular for variable in world.variables]
    apart[..., circular] = wrap(apart[..., circular])
    real = data.acted()
    spread = np.clip(data.states[:, 1:][real].std(axis=0, dtype=np.float64), LEAST_SPREAD, 1)
    noise = np.array(getattr(world, "process_noise", ()) or 0.0)
    return bool(((np.abs(apart[real]) - LARGEST_NOISE * noise) / spread).max() < SAME_STATE)


@dataclasses.dataclass(frozen=True)
class Simulator:
    """What would really have happened in the world of a data set."""

    world: World
    album: np.ndarray
    """uint8 `[M, H, W(, C)]` true frames"""
    album_states: np.ndarray
    """`[M, S]` their states"""
    album_tree: cKDTree
    """of what they show"""

    @staticmethod
    def of(data: Sequences, source: str) -> "Simulator":
        """Raises UserError, beginning with `source`, when no known world made the data or its states do not follow the
        physics of the world that did."""
        world = world_of(data, source)
        if world is None or data.states is None:
            raise UserError(
                f"{source}: the true simulator needs the states of a known world, recorded with the data or recognised"
                " by its physics"
            )
        if not follows(data, world):
            name = "its world" if data.world is None else f"the world {data.world.id}"
            raise UserError(f"{source}: its states do not follow the physics of {name}")
        seen = data.seen()
        shown = np.arange(len(data) * data.length) if seen is None else np.flatnonzero(seen)
        if not len(shown):
            raise UserError(f"{source}: all frames are missing")
        keep = spread_over(shown, LARGEST_ALBUM)
        album = data.frames.reshape(-1, *data.frame_shape)[keep]
        states = data.states.reshape(-1, data.states.shape[-1])[keep]
        return Simulator(world, album, states, cKDTree(shown_points(world, states)))

    def states(self, initial: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """All states `[N, T, S]` from `[N, S]` on, under actions `[N, T-1, A]`."""
        first, acts = (jnp.asarray(array, jnp.float32) for array in (initial, actions))
        return np.asarray(self._simulate(first, acts))

    @functools.cached_property
    def _simulate(self) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Compiled once: traced anew, a single step would take a hundred times as long."""
        return jax.jit(functools.partial(simulate, self.world.step))

    def frames(self, states: np.ndarray) -> np.ndarray:
        """uint8 `[..., H, W(, C)]`: for every state `[..., S]` the true frame that shows the most similar one."""
        return self.album[self.album_tree.query(shown_points(self.world, states))[1]]

    def reader(self) -> Reader:
        """Reads the visible variables off frames, by the true ones."""
        return self.world.reader(as_unit_frames(self.album).reshape(len(self.album), -1), self.album_states)


def find_simulator(data: Sequences) -> Simulator | None:
    """The true simulator of the data, or None where there is none."""
    try:
        return Simulator.of(data, "")
    except UserError:
        return None
