"""The true pendulum behind a data set: its physics, found by asking which preset explains the states; its frames."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import PENDULUM_STATES, Sequences, as_unit_frames, spread_over
from worldmodel.evaluation.measures import AngleReader, wrap
from worldmodel.support.files import UserError
from worldmodel.worlds.pendulum.physics import PRESETS, PendulumParams, pendulum_step, simulate

SAME_STATE = 2e-3
"""largest difference, in rad and rad/s, between a recorded step and the same step of the right physics"""
LARGEST_ALBUM = 20_000
"""true frames that are kept to be shown again, at most"""


@dataclasses.dataclass(frozen=True)
class PendulumSimulator:
    """What would really have happened: states by the true physics, frames by looking up the data's own."""

    params: PendulumParams
    album_angles: np.ndarray
    """`[M]` rad in (-pi, pi], in order"""
    album: np.ndarray
    """uint8 `[M, H, W(, C)]` the true frames at these angles"""

    @staticmethod
    def of(data: Sequences, path: str) -> "PendulumSimulator":
        """Find the physics that made the data. Raises UserError when they are no preset pendulum's."""
        angles, velocities = map(data.state, PENDULUM_STATES)
        if angles is None or velocities is None or data.action_size != 1:
            raise UserError(
                f"{path}: the true simulator needs a pendulum's states (angle, angular_velocity) and torques"
            )
        states = np.stack([angles, velocities], axis=-1)
        for params in PRESETS.values():
            if data.dt is not None and not np.isclose(data.dt, params.dt):
                continue
            after = np.asarray(pendulum_step(jnp.asarray(states[:, :-1]), jnp.asarray(data.actions[..., 0]), params))
            apart = np.stack([wrap(after[..., 0] - states[:, 1:, 0]), after[..., 1] - states[:, 1:, 1]])
            if np.abs(apart).max() < SAME_STATE:
                keep = spread_over(np.arange(angles.size), LARGEST_ALBUM)
                shown = wrap(angles.ravel()[keep])
                order = np.argsort(shown)
                album = data.frames.reshape(-1, *data.frame_shape)[keep][order]
                return PendulumSimulator(params, shown[order], album)
        raise UserError(f"{path}: its states do not follow the physics of a known pendulum ({', '.join(PRESETS)})")

    def states(self, initial: np.ndarray, torques: np.ndarray) -> np.ndarray:
        """All states `[N, T, 2]` (rad, rad/s) from `[N, 2]` under torques `[N, T-1]` in N m."""
        return np.asarray(simulate(jnp.asarray(initial, jnp.float32), jnp.asarray(torques, jnp.float32), self.params))

    def reader(self) -> AngleReader:
        """Reads the angle off a frame, by the true ones."""
        return AngleReader.of(as_unit_frames(self.album)[None], self.album_angles[None])

    def frames(self, angles: np.ndarray) -> np.ndarray:
        """uint8 `[..., H, W(, C)]`: for every angle `[...]` in rad the true frame whose angle is nearest."""
        angles = wrap(angles)
        above = np.searchsorted(self.album_angles, angles) % len(self.album)
        below = above - 1
        nearer = np.abs(wrap(self.album_angles[below] - angles)) < np.abs(wrap(self.album_angles[above] - angles))
        return self.album[np.where(nearer, below, above)]


def find_simulator(data: Sequences) -> PendulumSimulator | None:
    """The true simulator of the data, or None where it is not a known pendulum's."""
    try:
        return PendulumSimulator.of(data, "")
    except UserError:
        return None
