"""The pendulum as a World: what it scores, against the definitions; and a world of another kind, through everything."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.data.sequences import join
from worldmodel.support.files import UserError
from worldmodel.training.watch import WatchedSequences
from worldmodel.worlds.actions import Kind
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.collecting import collect, compiled_blocks
from worldmodel.worlds.pendulum.options import PendulumOptions
from worldmodel.worlds.pendulum.physics import PAPER, simulate
from worldmodel.worlds.pendulum.world import PendulumWorld
from worldmodel.worlds.simulator import follows
from worldmodel.worlds.world import CompiledWorld, Rewarded, Variable, world_of


def swinging(length: int) -> np.ndarray:
    """Five pendulums without torque and friction, from different heights: states `[5, length, 2]`."""
    first = jnp.stack([jnp.linspace(0.5, 2.5, 5), jnp.zeros(5)], axis=-1)
    return np.asarray(simulate(first, jnp.zeros((5, length - 1)), FREE))


FREE = dataclasses.replace(PAPER, friction=0.0, dt=0.01, substeps=10)


def test_what_shows_the_truth_scores_perfectly():
    states = swinging(20)
    scored = PendulumWorld(FREE).score(states[:, 5:, :1], states, 5)
    assert list(scored) == [measure.name for measure in PendulumWorld.measures]
    np.testing.assert_allclose(scored["angle_error_degrees"], np.zeros((5, 15)), atol=1e-4)
    assert scored["share_within_30_degrees"].all()
    np.testing.assert_allclose(scored["energy_error"], np.zeros((5, 15)), atol=1e-6)


def test_angle_errors_go_the_short_way_round():
    states = swinging(4)
    off = np.deg2rad([10.0, -29.0, 31.0])
    scored = PendulumWorld(FREE).score((states[:, 1:, 0] + off + 2 * np.pi)[..., None], states, 1)
    np.testing.assert_allclose(scored["angle_error_degrees"], np.tile([10, 29, 31], (5, 1)), atol=1e-3)
    np.testing.assert_array_equal(scored["share_within_30_degrees"], np.tile([True, True, False], (5, 1)))


def test_the_energy_error_is_that_of_what_is_shown():
    """A still picture of a swinging pendulum has its potential energy alone: m g l cos(angle)."""
    states = swinging(40)
    still = np.broadcast_to(states[:, 9:10, :1], (5, 30, 1))
    error = PendulumWorld(FREE).score(still, states, 10)["energy_error"]
    total = 9.81 * np.cos(states[:, 0, 0])  # conserved, and all of it potential at the start
    np.testing.assert_allclose(error[:, 1:], np.abs(9.81 * np.cos(still[:, 1:, 0]) - total[:, None]), atol=0.1)


def test_places_are_states_at_rest_and_in_motion():
    places = PendulumWorld().places
    assert places["hanging, at rest"] == (np.pi, 0.0)
    assert places["upright, at 2 rad/s"] == (0.0, 2.0)
    assert len(places) == 6


class Puck(CompiledWorld, Rewarded):
    """A square that slides on a line of eight pixels, pushed by two forces; coloured."""

    variables = (Variable("x", "m"), Variable("speed", "m/s"))
    visible = ("x",)
    measures = ()
    dt = 0.5
    action_size = 2
    largest_action = 3.0
    action_unit = "N"
    action_words = ("right", "left")

    def initial(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (2,))

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        position, speed = state[..., 0], state[..., 1]
        return jnp.stack([position + 0.5 * speed, speed + action[..., 0] - action[..., 1]], axis=-1)

    def frames(self, states: jax.Array, size: int) -> jax.Array:
        columns = jnp.broadcast_to(jnp.linspace(-5, 5, size), (*states.shape[:-1], size))
        red = jnp.exp(-((states[..., :1] - columns) ** 2))
        picture = jnp.broadcast_to(red[..., None, :], (*red.shape[:-1], size, size))
        return jnp.stack([picture, 0 * picture, 1 - picture], axis=-1)

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        return states[..., 0] - actions[..., 1]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_any_world_that_draws_itself_is_collected(noise: float):
    data = join(list(compiled_blocks(Puck(), 0, 9, 7, Camera(8, noise_std=noise))))
    assert data.frames.shape == (9, 7, 8, 8, 3)
    assert (data.state_names, data.dt) == (("x", "speed"), 0.5)
    np.testing.assert_allclose(
        data.states[:, 1:, 1] - data.states[:, :-1, 1], data.actions[..., 0] - data.actions[..., 1], atol=1e-5
    )
    np.testing.assert_allclose(data.rewards, data.states[:, :-1, 0] - data.actions[..., 1], atol=1e-5)
    assert 2.5 < np.abs(data.actions).max() <= 3
    green = data.frames[..., 1] / 255
    assert green.max() == 0 if noise == 0 else green[green > 0].std() > 0.05
    assert follows(data, Puck())
    assert not follows(dataclasses.replace(data, actions=data.actions[..., ::-1]), Puck())


class Boat(CompiledWorld):
    """Steered by one of three rudders, and paid nothing."""

    variables = (Variable("place", "m"),)
    visible = ("place",)
    measures = ()
    dt = 1.0
    action_size = 3
    largest_action = 1.0
    discrete = True
    initial, frames = Puck.initial, Puck.frames

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        return state + action[..., :1] - action[..., 2:]


@pytest.mark.parametrize("kind", ["white", "held", "mixed"])
def test_a_compiled_world_may_have_choices_and_no_rewards(kind: Kind):
    data = join(list(compiled_blocks(Boat(), 0, 9, 40, Camera(8), kind=kind)))
    assert data.rewards is None
    assert (data.actions.sum(axis=-1) == 1).all()
    assert set(np.unique(np.diff(data.states[..., 0]).round(4))) == {-1, 0, 1}


def test_a_record_that_does_not_fit_the_states_is_refused(tmp_path: Path):
    data = collect(PendulumOptions(), 3, 5, 16, out=tmp_path / "data.npz")
    assert isinstance(world_of(data), PendulumWorld)
    other = dataclasses.replace(data, state_names=("angular_velocity", "angle"))
    with pytest.raises(UserError, match=r"the data: the world pendulum has the states \('angle'"):
        world_of(other)
    with pytest.raises(UserError, match=r"^other\.npz: the world pendulum has"):  # before the training, not at its end
        WatchedSequences(other, "other.npz", 2, seed=0)
