"""The true pendulum behind a data set: recognised by its physics, shown by its own frames."""

import dataclasses

import gymnasium as gym
import jax
import numpy as np
import pytest

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.support.files import UserError
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.options import PendulumOptions
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.pendulum.world import collect_pendulum
from worldmodel.worlds.simulator import Simulator, find_simulator


@pytest.mark.parametrize("params", [PAPER, GYMNASIUM])
def test_finds_the_physics_that_made_the_data(params):
    data = collect_pendulum(0, 8, 30, dataclasses.replace(params, initial_speed=8.0), 16)
    for dt in (data.dt, None):
        found = Simulator.of(dataclasses.replace(data, dt=dt), "data").world.params
        assert found == params
    simulator = Simulator.of(data, "data")
    states = simulator.states(data.states[:, 0], data.actions)
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
    simulator = Simulator.of(recorded, "data")
    assert simulator.world.params == GYMNASIUM
    again = simulator.states(recorded.states[:, 0], actions)
    np.testing.assert_allclose(again, recorded.states, atol=5e-3)


def test_other_physics_and_other_data_are_refused():
    data = collect_pendulum(0, 8, 10, dataclasses.replace(PAPER, gravity=9.0), 16)
    unknown = [data, dataclasses.replace(data, states=None, state_names=()), dataclasses.replace(data, dt=3.0)]
    unknown.append(dataclasses.replace(unknown[1], world=WorldRecord("pendulum", {}, {})))
    unknown.append(dataclasses.replace(data, world=WorldRecord("MountainCar-v0", {}, {})))
    for other in unknown:
        with pytest.raises(UserError, match="data: the true simulator needs the states of a known world"):
            Simulator.of(other, "data")
        assert find_simulator(other) is None
    recorded = dataclasses.replace(data, world=WorldRecord("pendulum", {}, {}))
    with pytest.raises(UserError, match="data: its states do not follow the physics of the world pendulum"):
        Simulator.of(recorded, "data")
    broken = dataclasses.replace(data, world=WorldRecord("pendulum", {"mass": 1}, {}))
    with pytest.raises(UserError, match="data: the world pendulum cannot have been made like this"):
        Simulator.of(broken, "data")


def test_a_recorded_world_is_found_that_no_preset_explains():
    data = collect(PendulumOptions(max_torque=9.0), 8, 12)
    assert Simulator.of(data, "data").world.largest_action == 9
    assert find_simulator(dataclasses.replace(data, world=None)) is None


def test_padding_and_unseen_frames_are_no_truth(pendulum_data: Sequences):
    """An episode that ends, with nonsense after it, and a frame that was not seen."""
    states, frames = pendulum_data.states.copy(), pendulum_data.frames.copy()
    ended, valid = np.zeros((64, 14), bool), np.ones((64, 15), bool)
    ended[:, 7], valid[:, 3] = True, False
    states[:, 9:], frames[:, 9:], frames[:, 3] = 77.0, 255, 255
    nonsense = dataclasses.replace(pendulum_data, states=states, frames=frames)
    assert find_simulator(nonsense) is None
    simulator = Simulator.of(dataclasses.replace(nonsense, ended=ended, valid=valid), "data")
    assert len(simulator.album) == 64 * 8
    assert simulator.album.mean(axis=(1, 2)).max() < 100


def test_shows_the_true_frame_of_the_nearest_angle(pendulum_data: Sequences):
    simulator = Simulator.of(pendulum_data, "data")
    angles = np.array([[-3.14, -1.0, 0.0], [1.5, 3.14, 7.0]])
    shown = simulator.frames(np.stack([angles, np.full((2, 3), 5.0)], axis=-1))
    assert shown.shape == (2, 3, 16, 16)
    all_frames, all_angles = pendulum_data.frames.reshape(-1, 16, 16), pendulum_data.states[..., 0].ravel()
    for angle, frame in zip(angles.ravel(), shown.reshape(-1, 16, 16), strict=True):
        np.testing.assert_array_equal(frame, all_frames[np.argmin(degrees_apart(all_angles, angle))])


def test_the_reader_reads_the_angle_within_and_without_compiled_programs(pendulum_data: Sequences):
    reader = Simulator.of(pendulum_data, "data").reader()
    angles = np.linspace(-3, 3, 40, dtype=np.float32).reshape(4, 10)
    frames = np.asarray(jax.jit(render_pendulum, static_argnums=1)(angles, 16)).reshape(4, 10, 256)
    read = reader(frames)
    assert isinstance(read, np.ndarray)
    assert read.shape == (4, 10, 1)
    assert np.median(degrees_apart(read[..., 0], angles)) < 1
    compiled = jax.jit(lambda reader, frames: reader(frames))(reader, frames)
    np.testing.assert_allclose(compiled, read, atol=1e-5)
