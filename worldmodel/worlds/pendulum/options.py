"""The pendulums of the catalogue of worlds. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from worldmodel.support.files import UserError
from worldmodel.support.settings import require_at_least, require_positive

if TYPE_CHECKING:
    import numpy as np

    from worldmodel.data.sequences import Sequences
    from worldmodel.worlds.pendulum.world import PendulumWorld

Preset = Literal["paper", "gymnasium"]


@dataclasses.dataclass(frozen=True)
class PendulumOptions:
    """A torque-driven pendulum, drawn as a white rod on black."""

    preset: Preset = "paper"
    """Physical constants: Karl et al. 2017, or Gymnasium's Pendulum-v1."""
    max_torque: float | None = None
    """Actions are uniform up to this torque, N m; default: the preset's."""
    initial_speed: float | None = None
    """Initial angular velocities are uniform up to this, rad/s; default: the preset's."""

    def build(self) -> PendulumWorld:
        """Raises UserError where an option is out of its range."""
        if self.max_torque is not None:
            require_positive("--max-torque", self.max_torque)
        if self.initial_speed is not None:
            require_at_least("--initial-speed", self.initial_speed, 0)
        changed = {"max_torque": self.max_torque, "initial_speed": self.initial_speed}
        return _world(self.preset, **{name: value for name, value in changed.items() if value is not None})

    def environment(self, size: int) -> PendulumV0Options:
        """As Enacted.environment. Raises UserError where there is none with these constants."""
        if self.max_torque is not None or self.initial_speed is not None:
            raise UserError("there is no environment of a pendulum with another --max-torque or --initial-speed")
        return PendulumV0Options(self.preset, size)

    @staticmethod
    def recognise(data: Sequences) -> PendulumWorld | None:
        """The pendulum with the preset whose physics explains the states."""
        from worldmodel.worlds.pendulum.physics import PRESETS
        from worldmodel.worlds.simulator import follows

        return next((world for world in map(_world, PRESETS) if follows(data, world)), None)


@dataclasses.dataclass(frozen=True)
class RKNPendulumOptions:
    """The pendulum of the Recurrent Kalman Networks (Becker et al. 2019), shaken and without actions; they have 2,000
    sequences of 75 frames."""

    def build(self) -> PendulumWorld:
        from worldmodel.worlds.pendulum.rkn import RKNPendulumWorld

        return RKNPendulumWorld()


@dataclasses.dataclass(frozen=True)
class PendulumV0Options:
    """The project's pendulum as a Gymnasium environment."""

    gymnasium_id: ClassVar[str] = "worldmodel.worlds.registered:worldmodel/Pendulum-v0"
    preset: Preset = "paper"
    """Physical constants: Karl et al. 2017, or Gymnasium's Pendulum-v1."""
    picture_size: int = 64
    """Side of the pictures that frames are made of, pixels."""

    def build(self) -> PendulumWorld:
        return _world(self.preset)

    def before_render(self, env: Any, side: int) -> None:
        """Its picture shows no action."""

    def state_of(self, env: Any) -> np.ndarray:
        """`[2]` rad, rad/s."""
        return env.unwrapped.state

    def set_state(self, env: Any, state: np.ndarray) -> None:
        import jax.numpy as jnp

        env.unwrapped.state = jnp.asarray(state, jnp.float32)


@dataclasses.dataclass(frozen=True)
class PendulumV1Options:
    """Gymnasium's Pendulum-v1."""

    gymnasium_id: ClassVar[str] = "Pendulum-v1"
    g: float = 10.0
    """Gravity, m/s^2."""

    def build(self) -> PendulumWorld:
        return _world("gymnasium", gravity=self.g)

    def before_render(self, env: Any, side: int) -> None:
        """Without its last torque it is drawn without the arrow that shows it. For small frames it is drawn half as
        large as usual, in half the time."""
        env.unwrapped.last_u = None
        if 5 * side < env.unwrapped.screen_dim:
            env.unwrapped.screen_dim = 250

    def state_of(self, env: Any) -> np.ndarray:
        """`[2]` rad, rad/s."""
        return env.unwrapped.state

    def set_state(self, env: Any, state: np.ndarray) -> None:
        import numpy as np

        env.unwrapped.state, env.unwrapped.last_u = np.array(state, np.float64), None


def _world(preset: str, **changes: Any) -> PendulumWorld:
    """Constants of a preset, with some of them changed. Raises UserError when there is no such preset."""
    from worldmodel.worlds.pendulum.physics import PRESETS
    from worldmodel.worlds.pendulum.world import PendulumWorld

    if preset not in tuple(PRESETS):
        raise UserError(f"--preset must be one of {', '.join(PRESETS)}, not {preset}")
    return PendulumWorld(dataclasses.replace(PRESETS[preset], **changes))
