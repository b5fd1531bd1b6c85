"""A torque-driven pendulum seen as frames: its constants and its physics in JAX.

    I phi'' = m g r sin(phi) - mu phi' + u

with phi the angle from upright (rad), u the torque (N m), I the moment of inertia about the pivot and r the
distance from the pivot to the centre of mass. A point mass has I = m l^2 and r = l (Karl et al. 2017); a
uniform rod, which Gymnasium's Pendulum-v1 swings, has I = m l^2 / 3 and r = l / 2.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from worldmodel.worlds import simulator


@dataclasses.dataclass(frozen=True)
class PendulumParams:
    """Physical constants, in SI units."""

    mass: float = 1.0
    """kg"""
    length: float = 1.0
    """m"""
    gravity: float = 9.81
    """m/s^2"""
    friction: float = 0.5
    """N m s/rad, viscous, at the pivot"""
    uniform_rod: bool = False
    """False: all the mass at the end of the rod. True: spread evenly along it."""
    dt: float = 0.1
    """s between two frames; the torque is constant in between"""
    substeps: int = 10
    """integration steps between two frames (semi-implicit Euler)"""
    max_torque: float = 2.0
    """N m; larger torques are clipped"""
    max_speed: float = math.inf
    """rad/s; the angular velocity is clipped after every integration step"""
    initial_angle: float = math.pi
    """rad; the initial angle is uniform in [-initial_angle, initial_angle]"""
    initial_speed: float = 8.0
    """rad/s; the initial angular velocity is uniform in [-initial_speed, initial_speed]"""

    @property
    def inertia(self) -> float:
        """kg m^2, about the pivot."""
        return self.mass * self.length**2 / (3 if self.uniform_rod else 1)

    @property
    def centre_of_mass(self) -> float:
        """m from the pivot."""
        return self.length / 2 if self.uniform_rod else self.length


PAPER = PendulumParams()
"""Karl et al. 2017: m = l = 1, mu = 0.5, g = 9.81. The paper states neither dt nor torque nor initial states;
these give angles near uniform on the circle and a standard deviation of the angular velocity of 3.69 rad/s
over sequences of 15 frames, which its Table 1 implies."""

GYMNASIUM = PendulumParams(
    gravity=10.0,
    friction=0.0,
    uniform_rod=True,
    dt=0.05,
    substeps=1,
    max_torque=2.0,
    max_speed=8.0,
    initial_speed=1.0,
)
"""Gymnasium's Pendulum-v1, step for step."""

PRESETS = {"paper": PAPER, "gymnasium": GYMNASIUM}


def pendulum_step(state: jax.Array, torque: jax.Array, params: PendulumParams) -> jax.Array:
    """The state one frame later.

    Args:
        state: `[..., 2]` angle in rad (not wrapped) and angular velocity in rad/s.
        torque: `[...]` N m, clipped to the largest torque.
    """
    torque = jnp.clip(torque, -params.max_torque, params.max_torque)
    angle, velocity = state[..., 0], state[..., 1]
    step = params.dt / params.substeps
    gravity_torque = params.mass * params.gravity * params.centre_of_mass
    for _ in range(params.substeps):
        acceleration = (gravity_torque * jnp.sin(angle) - params.friction * velocity + torque) / params.inertia
        velocity = jnp.clip(velocity + acceleration * step, -params.max_speed, params.max_speed)
        angle = angle + velocity * step
    return jnp.stack([angle, velocity], axis=-1)


def simulate(initial_state: jax.Array, torques: jax.Array, params: PendulumParams) -> jax.Array:
    """All states of a batch of pendulums: `[N, 2]` and `[N, T-1]` N m to `[N, T, 2]`; torque t acts between
    states t and t+1."""

    return simulator.simulate(lambda state, torque: pendulum_step(state, torque, params), initial_state, torques)


def pendulum_reward(state: jax.Array, torque: jax.Array, params: PendulumParams) -> jax.Array:
    """Pendulum-v1's: `[...]` for torques `[...]` N m in states `[..., 2]`; 0 at rest upright, else below."""
    torque = jnp.clip(torque, -params.max_torque, params.max_torque)
    wrapped = (state[..., 0] + jnp.pi) % (2 * jnp.pi) - jnp.pi
    return -(wrapped**2 + 0.1 * state[..., 1] ** 2 + 0.001 * torque**2)
