"""The pendulum of the Recurrent Kalman Networks (Becker et al., ICML 2019), from its published description.

A pendulum of 1 kg and 1 m with moment of inertia m l^2 / 3 and its weight at the end, released at rest anywhere on the
circle, without actions; gravity 9.81 m/s^2, friction 0.1 of the velocity a second, 0.05 s a frame, and Gaussian noise
with a standard deviation of 0.1 rad/s on the angular velocity after every frame. The rod is 55/64 of half a frame long
and 1/8 of it wide, in frames of 24 x 24 (their published program says what the paper leaves out: inertia, friction,
rod). They train on 2,000 sequences of 75 frames and test on 1,000.
"""

import jax

from worldmodel.worlds.pendulum.physics import PendulumParams
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.pendulum.world import PendulumWorld

RKN = PendulumParams(
    mass=3.0,  # with this mass at a third of the length its inertia is 1/3 kg m^2, its weight's torque 9.81 N m
    length=1 / 3,
    friction=0.1 / 3,
    dt=0.05,
    substeps=20,
    max_torque=0.0,
    initial_speed=0.0,
)


class RKNPendulumWorld(PendulumWorld):
    """It falls freely, and is shaken."""

    usual_size = 24
    process_noise = (0.0, 0.1)

    def __init__(self) -> None:
        super().__init__(RKN)

    def frames(self, states: jax.Array, size: int) -> jax.Array:
        return render_pendulum(states[..., 0], size, length=55 / 64, radius=4 / 64)
