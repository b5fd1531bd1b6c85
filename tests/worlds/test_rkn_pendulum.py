"""The Recurrent Kalman Networks' pendulum, against its equation in SciPy and its noise against its statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from worldmodel.data.sequences import as_unit_frames
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.options import RKNPendulumOptions
from worldmodel.worlds.pendulum.rkn import RKNPendulumWorld
from worldmodel.worlds.simulator import Simulator, follows
from worldmodel.worlds.world import world_of


def test_a_step_is_that_of_the_published_equation():
    """phi'' = (m g l sin(phi)) / (m l^2 / 3) - 0.1 phi', m = l = 1."""
    world = RKNPendulumWorld()
    for start in ([0.3, 0.0], [2.0, -4.0], [-3.0, 6.0]):
        exact = solve_ivp(lambda _, y: [y[1], 3 * 9.81 * np.sin(y[0]) - 0.1 * y[1]], (0, 0.05), start, rtol=1e-9)
        np.testing.assert_allclose(world.step(jnp.array(start), jnp.zeros(1)), exact.y[:, -1], atol=0.02)


def test_its_data_is_released_at_rest_shaken_and_never_pushed():
    data = collect(RKNPendulumOptions(), 200, 75)
    assert data.frame_shape == (24, 24)
    assert data.dt == 0.05
    assert not data.actions.any()
    angle, velocity = np.moveaxis(data.states, -1, 0)
    assert not velocity[:, 0].any()
    assert np.histogram(angle[:, 0], 4, (-np.pi, np.pi))[0].min() > 30
    world = world_of(data)
    expected = np.asarray(jax.jit(world.step)(jnp.asarray(data.states[:, :-1]), jnp.asarray(data.actions)))
    noise = velocity[:, 1:] - expected[..., 1]
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.1], atol=0.003)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.03
    np.testing.assert_allclose(angle[:, 1:], expected[..., 0], atol=1e-4)
    assert follows(data, world)
    jumps = data.states.copy()
    jumps[3, 40:, 1] += 1.0
    assert not follows(dataclasses.replace(data, states=jumps), world)
    again = collect(RKNPendulumOptions(), 3, 75)
    np.testing.assert_allclose(again.states, data.states[:3], atol=1e-4)


def test_its_angles_are_read_off_its_thin_rod():
    data, fresh = (collect(RKNPendulumOptions(), 60, 75, seed=seed) for seed in (0, 1))
    reader = Simulator.of(data, "data").reader()
    shown = reader(as_unit_frames(fresh.frames).reshape(60, 75, -1))
    assert np.quantile(degrees_apart(shown[..., 0], fresh.states[..., 0]), 0.99) < 2
    brightness = as_unit_frames(fresh.frames).sum(axis=(2, 3))
    area = (55 / 64 * 8 / 64 + np.pi * (4 / 64) ** 2) * 12**2  # of a rod with round ends, in pixels
    np.testing.assert_allclose(brightness.mean(), area, rtol=0.05)
