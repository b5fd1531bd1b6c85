"""A world that draws itself can be acted in: its Gymnasium environment shows the same frames."""

import dataclasses

import numpy as np
import pytest

from worldmodel.data.sequences import WorldRecord
from worldmodel.planning.trials import Arena
from worldmodel.support.files import UserError
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.options import PendulumOptions
from worldmodel.worlds.world import environment_of


@pytest.mark.parametrize("preset", ["paper", "gymnasium"])
def test_the_environment_of_a_data_set_gives_its_frames_states_and_rewards(preset: str):
    data = collect(PendulumOptions(preset), 2, 6, 12, seed=3)
    arena = Arena.open(data.world, steps=5)
    assert arena.id == "worldmodel/Pendulum-v0"
    for n in range(2):
        there = dataclasses.replace(arena, place=tuple(data.states[n, 0].tolist()))
        episode = there.play(lambda frame, t, n=n: data.actions[n, t], 0, 0)
        np.testing.assert_allclose(episode.states, data.states[n], atol=1e-5)
        np.testing.assert_allclose(episode.rewards, data.rewards[n], atol=1e-4)
        assert np.abs(episode.frames.astype(int) - data.frames[n]).max() <= 1


@pytest.mark.parametrize("name", ["ball", "rkn-pendulum"])
def test_worlds_that_are_no_environment_say_so(name: str):
    with pytest.raises(UserError, match=f"^{name}: is no Gymnasium environment, and nothing else can be acted in$"):
        Arena.open(WorldRecord(name, {}, {"size": 16}))


def test_other_constants_have_none():
    data = collect(PendulumOptions(max_torque=1.0), 1, 6, 12)
    with pytest.raises(UserError, match="no environment of a pendulum with another --max-torque"):
        environment_of(data.world)
