"""The true pendulum behind a data set: recognised by its physics, shown by its own frames."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from worldmodel.worlds.pendulum.truth import PendulumSimulator

from worldmodel.data.sequences import Sequences
from worldmodel.evaluation.measures import degrees_apart
from worldmodel.support.files import UserError
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum


@pytest.mark.parametrize("params", [PAPER, GYMNASIUM])
def test_finds_the_physics_that_made_the_data(params):
    data = collect_pendulum(0, 8, 30, dataclasses.replace(params, initial_speed=8.0), 16)
    for dt in (data.dt, None):
        found = PendulumSimulator.of(dataclasses.replace(data, dt=dt), "data").params
        assert found == params
    simulator = PendulumSimulator.of(data, "data")
    states = simulator.states(data.states[:, 0], data.actions[..., 0])
    np.testing.assert_allclose(np.cos(states[..., 0]), np.cos(data.states[..., 0]), atol=2e-2)


def test_finds_gymnasium_s_own_physics():
    """What Pendulum-v1 itself did is reproduced by the simulator that its recording leads to."""
    environment = gym.make("Pendulum-v1")
    random = np.random.default_rng(0)
    states, actions = [], random.uniform(-2, 2, (4, 19, 1)).astype(np.float32)
    for index in range(4):
        environment.reset(seed=index)
        row = [np.array(environment.unwrapped.state)]
        for action in actions[index]:
            environment.step(action)
            row.append(np.array(environment.unwrapped.state))
        states.append(row)
    recorded = Sequences(
        np.zeros((4, 20, 8, 8), np.uint8), actions, np.array(states, np.float32), ("angle", "angular_velocity"), 0.05
    )
    simulator = PendulumSimulator.of(recorded, "data")
    assert simulator.params == GYMNASIUM
    again = simulator.states(recorded.states[:, 0], actions[..., 0])
    np.testing.assert_allclose(again, recorded.states, atol=5e-3)


def test_other_physics_and_other_data_are_refused():
    data = collect_pendulum(0, 8, 10, dataclasses.replace(PAPER, gravity=9.0), 16)
    with pytest.raises(UserError, match="data: its states do not follow the physics of a known pendulum"):
        PendulumSimulator.of(data, "data")
    with pytest.raises(UserError, match="needs a pendulum's states"):
        PendulumSimulator.of(dataclasses.replace(data, states=None, state_names=()), "data")


def test_shows_the_true_frame_of_the_nearest_angle(pendulum_data):
    simulator = PendulumSimulator.of(pendulum_data, "data")
    angles = np.array([[-3.14, -1.0, 0.0], [1.5, 3.14, 7.0]])
    shown = simulator.frames(angles)
    assert shown.shape == (2, 3, 16, 16)
    all_frames, all_angles = pendulum_data.frames.reshape(-1, 16, 16), pendulum_data.states[..., 0].ravel()
    for angle, frame in zip(angles.ravel(), shown.reshape(-1, 16, 16), strict=True):
        np.testing.assert_array_equal(frame, all_frames[np.argmin(degrees_apart(all_angles, angle))])
