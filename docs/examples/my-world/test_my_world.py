"""It swings as the textbook says, and its frames show where it is."""

import math

import numpy as np
from my_world import SpringOptions

import worldmodel as wm


def test_without_friction_it_swings_with_the_period_of_a_spring():
    world = SpringOptions(stiffness=4.0, friction=1e-9).build()
    state, positions = np.array([1.0, 0.0], np.float32), []
    for _ in range(100):
        state = world.step(state, np.zeros(1, np.float32))
        positions.append(float(state[0]))
    expected = np.cos(math.sqrt(4.0) * 0.1 * np.arange(1, 101))  # cos(sqrt(k / m) t)
    np.testing.assert_allclose(positions, expected, atol=0.05)


def test_its_frames_are_brightest_where_it_is():
    data = wm.collect("spring", sequences=20, frames=15, size=24)
    columns = data.frames.max(axis=2).argmax(axis=-1)  # [N, T]
    metres = np.linspace(-3, 3, 24)[columns]
    inside = abs(data.states[..., 0]) < 3
    assert abs(metres - data.states[..., 0])[inside].max() < 0.14  # half a pixel
    assert data.world.id == "spring"
