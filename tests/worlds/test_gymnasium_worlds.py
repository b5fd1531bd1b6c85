"""The worlds that are Gymnasium's, against its own environments, and what is read off their frames."""

import dataclasses
import re
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.data.sequences import as_unit_frames
from worldmodel.play.live import as_pushed
from worldmodel.support.files import UserError
from worldmodel.worlds.acrobot import AcrobotOptions, AcrobotWorld
from worldmodel.worlds.cartpole import CartPoleOptions
from worldmodel.worlds.circle import wrap
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.episodes import as_vector, from_vector, open_environment
from worldmodel.worlds.mountain_car import MountainCarOptions
from worldmodel.worlds.simulator import Simulator, follows
from worldmodel.worlds.world import Rewarded, world_of

WORLDS = {
    "MountainCarContinuous-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "Acrobot-v1": ([-np.pi, -np.pi, -12.5, -28.2], [np.pi, np.pi, 12.5, 28.2]),
    "CartPole-v1": ([-2.5, -3, -0.25, -3], [2.5, 3, 0.25, 3]),
    "Pendulum-v1": ([-np.pi, -8], [np.pi, 8]),
}
"""the range of their states: every corner of the physics, limits among them"""


@pytest.mark.parametrize("name", WORLDS)
def test_a_positive_action_does_what_its_word_says(name: str):
    """In the picture: what stands goes right; of what hangs the end does, counter-clockwise."""
    env, options = open_environment(name)
    world = options.build()
    middle = []
    for push in (1.0, -1.0):
        env.reset(seed=0)
        options.set_state(env, next(iter(world.places.values())))
        for _ in range(min(6, round(0.2 / world.dt))):
            env.step(from_vector(as_pushed(world, push * world.largest_action, 0), env.action_space))
        options.before_render(env, 500)
        dark = 255.0 - np.asarray(env.render()).mean(axis=2)
        top, bottom = np.flatnonzero(dark.max(axis=1) > 50)[[0, -1]]
        lowest = dark[round(0.1 * top + 0.9 * bottom) : bottom + 1].sum(axis=0)
        middle.append(np.average(np.arange(len(lowest)), weights=lowest))
    assert middle[0] > middle[1] + 0.01
    assert re.search(r"^right|counter-clockwise$", world.action_words[0])
    assert re.search(r"^left|(?<!counter-)clockwise$", world.action_words[1])


@pytest.mark.parametrize("name", WORLDS)
def test_states_rewards_and_ends_are_gymnasiums(name: str):
    """Each step from the same state: chaos multiplies rounding errors. The discrete actions are one-hot vectors."""
    env, options = open_environment(name)
    world = options.build()
    assert isinstance(world, Rewarded)
    random, initial = np.random.default_rng(0), jax.jit(world.initial)
    env.action_space.seed(0)
    low, high = WORLDS[name]
    starts = random.uniform(low, high, (600, len(low)))
    starts[:100] = [np.asarray(initial(jax.random.key(n))) for n in range(100)]
    actions, after, rewards, ends = [], [], [], []
    for state in starts:
        env.reset(seed=0)
        options.set_state(env, state)
        np.testing.assert_allclose(options.state_of(env), state, rtol=1e-6)
        action = env.action_space.sample()
        _, reward, end, _, _ = env.step(action)
        actions.append(as_vector(action, env.action_space))
        after.append(np.array(options.state_of(env)))
        rewards.append(reward)
        ends.append(end)
    states, vectors = jnp.asarray(starts, jnp.float32), jnp.asarray(np.array(actions))
    apart = np.asarray(jax.jit(world.step)(states, vectors)) - np.array(after)
    circular = [variable.circular for variable in world.variables]
    apart[:, circular] = wrap(apart[:, circular])
    np.testing.assert_allclose(apart, np.zeros_like(apart), atol=5e-4 if name == "Acrobot-v1" else 2e-5)
    np.testing.assert_allclose(world.reward(states, vectors), rewards, atol=2e-5)
    np.testing.assert_array_equal(world.terminal(jnp.asarray(np.array(after), jnp.float32)), ends)
    assert name == "Pendulum-v1" or 10 < np.sum(ends) < 590


def test_the_initial_states_are_as_widely_spread_as_gymnasiums():
    for options in (MountainCarOptions(), AcrobotOptions(), CartPoleOptions()):
        env, world = gymnasium.make(options.gymnasium_id), options.build()
        theirs = []
        for seed in range(300):
            env.reset(seed=seed)
            theirs.append(np.array(env.unwrapped.state))
        ours = np.asarray(jax.jit(jax.vmap(world.initial))(jax.random.split(jax.random.key(0), 300)))
        for end in (np.min, np.max):
            np.testing.assert_allclose(end(ours, axis=0), end(np.array(theirs), axis=0), atol=0.01)


def test_the_goal_velocity_of_the_mountain_car_decides_its_end():
    env, options = open_environment("MountainCarContinuous-v0", {"goal_velocity": 0.02})
    for speed in (0.01, 0.04):
        env.reset(seed=0)
        options.set_state(env, np.array([0.449, speed]))
        _, reward, end, _, _ = env.step(np.zeros(1, np.float32))
        world, state = options.build(), jnp.array([0.449, speed])
        assert end == (speed > 0.02)
        assert end == bool(world.terminal(world.step(state, jnp.zeros(1))))
        assert reward == float(world.reward(state, jnp.zeros(1)))


def test_a_cart_pole_may_be_paid_as_in_the_book():
    env, options = open_environment("CartPole-v1", {"sutton_barto_reward": True})
    for angle in (0.1, 0.2):
        env.reset(seed=0)
        options.set_state(env, np.array([0.0, 0.0, angle, 1.0]))
        _, reward, end, _, _ = env.step(0)
        state = jnp.array([0.0, 0.0, angle, 1.0])
        assert end == (angle == 0.2)
        assert reward == float(options.build().reward(state, jnp.array([1.0, 0.0])))


def test_the_angles_of_a_free_acrobot_keep_their_energy():
    """Kinetic and potential energy of two rods with their own inertia, derived from the places of their centres.

    Gymnasium's equations are those of the book: its second link feels -m l l_c sin(angle) speed^2 of the first."""
    world = AcrobotWorld()
    world.dt = 0.01
    states, step = [jnp.array([1.2, -0.7, 0.5, 1.5])], jax.jit(world.step)
    for _ in range(100):
        states.append(step(states[-1], jnp.array([0.0, 1.0, 0.0])))
    one, two, speed_1, speed_2 = np.array(states, np.float64).T
    both, speed = one + two, speed_1 + speed_2
    velocity = np.stack([np.cos(one), np.sin(one)]) * speed_1 + 0.5 * np.stack([np.cos(both), np.sin(both)]) * speed
    kinetic = 0.5 * (1.25 * speed_1**2 + speed**2 + (velocity**2).sum(axis=0))
    potential = 9.8 * (-0.5 * np.cos(one) - np.cos(one) - 0.5 * np.cos(both))
    energy = kinetic + potential
    assert np.ptp(kinetic) > 1
    np.testing.assert_allclose(energy, np.full(101, energy[0]), atol=2e-3)


@pytest.mark.parametrize("name", ["MountainCarContinuous-v0", "Acrobot-v1", "CartPole-v1"])
def test_collected_data_is_of_its_world_and_its_frames_can_be_read(name: str):
    data = collect(name, 40, 40, 32, actions="held", workers=1)
    assert data.world.actions == "held"
    world = world_of(data)
    assert not follows(dataclasses.replace(data, actions=np.roll(data.actions, 1, axis=1)), world)
    simulator = Simulator.of(data, "data")
    reader = simulator.reader()
    fresh = collect(name, 4, 40, 32, actions="held", seed=1, workers=1)
    frames = as_unit_frames(fresh.frames).reshape(4, 40, -1)
    shown, states = reader(frames), fresh.states
    assert shown.shape == (4, 40, len(world.visible))
    scored = world.score(shown[:, 5:], states, 5)
    assert list(scored) == [measure.name for measure in world.measures]
    headline = np.median(scored[world.measures[0].name])
    assert headline < (2 if name == "Acrobot-v1" else 0.01)  # degrees, m
    compiled = jax.jit(lambda reader, frames: reader(frames))(reader, frames)
    np.testing.assert_allclose(compiled, shown, atol=1e-3)
    many = np.tile(frames, (8, 1, 1))  # more than are compared at once
    np.testing.assert_allclose(reader(many), np.tile(shown, (8, 1, 1)), atol=1e-3)


def test_without_box2d_its_worlds_are_refused_in_a_line(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(UserError, match=r"^LunarLander-v3: .*Box2D is not installed.*$") as refused:
        open_environment("LunarLander-v3")
    assert "\n" not in str(refused.value)


def test_a_box2d_world_is_collected_in_colour():
    pytest.importorskip("Box2D", reason="the extra box2d is not installed")
    data = collect("LunarLander-v3", 2, 8, 24, grey=False, workers=1)
    assert data.frame_shape == (24, 24, 3)
    assert data.action_size == 4
    assert data.states is None
    assert (data.frames[:, 0] != data.frames[:, -1]).any()
