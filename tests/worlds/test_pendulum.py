import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from worldmodel.worlds.pendulum.environment import PendulumFunctional
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER, pendulum_step, simulate
from worldmodel.worlds.pendulum.rendering import render_pendulum

OWN = "worldmodel.worlds.registered:worldmodel/Pendulum-v0"


def test_gymnasium_preset_follows_pendulum_v1_step_for_step():
    env = gymnasium.make("Pendulum-v1")
    env.reset(seed=4)
    random = np.random.default_rng(0)
    torques = random.uniform(-2.5, 2.5, 150).astype(np.float32)  # some of them beyond the limit of 2
    state = jnp.asarray(env.unwrapped.state, jnp.float32)
    for torque in torques:
        # Chaos multiplies rounding errors: each step is compared from the same state.
        env.unwrapped.state = np.asarray(state, np.float64)
        env.step(np.array([torque]))
        state = pendulum_step(state, jnp.float32(torque), GYMNASIUM)
        np.testing.assert_allclose(state, env.unwrapped.state, atol=2e-5)


def test_gymnasium_preset_clips_the_speed_as_pendulum_v1_does():
    fast = jnp.array([np.pi / 2, 7.9], jnp.float32)
    assert float(pendulum_step(fast, jnp.float32(2.0), GYMNASIUM)[1]) == 8.0


@pytest.mark.filterwarnings("ignore::UserWarning")  # check_env advises on things that are as Pendulum-v1 has them
def test_the_environment_passes_gymnasiums_own_check():
    check_env(gymnasium.make(OWN, render_mode="rgb_array").unwrapped)


def test_the_environment_steps_as_the_compiled_batch_does():
    env = gymnasium.make(OWN, preset="paper")
    starts, torques = [], np.random.default_rng(0).uniform(-2, 2, (3, 20)).astype(np.float32)
    walked = []
    for seed, row in enumerate(torques):
        env.reset(seed=seed)
        starts.append(np.asarray(env.unwrapped.state))
        walked.append([starts[-1]])
        for torque in row:
            observation, *_ = env.step(np.array([torque]))
            walked[-1].append(np.asarray(env.unwrapped.state))
        angle, velocity = walked[-1][-1]
        np.testing.assert_allclose(observation, [np.cos(angle), np.sin(angle), velocity], atol=1e-6)
    together = jax.jit(simulate, static_argnums=2)(jnp.stack(starts), jnp.asarray(torques), PAPER)
    np.testing.assert_allclose(together, np.array(walked), atol=1e-4)


def test_the_functional_environment_maps_over_a_batch():
    env = PendulumFunctional(PAPER)
    env.transform(jax.vmap)
    env.transform(jax.jit)
    keys = jax.random.split(jax.random.key(0), 5)
    states = env.initial(keys)
    after = env.transition(states, jnp.full((5, 1), 0.7), keys)
    np.testing.assert_allclose(after, pendulum_step(states, jnp.full(5, 0.7), PAPER), rtol=1e-6)


def test_without_friction_and_torque_the_energy_is_conserved():
    params = dataclasses.replace(PAPER, friction=0.0, substeps=200)
    first = jnp.array([[0.5, 0.0], [2.0, 3.0]], jnp.float32)
    states = np.asarray(simulate(first, jnp.zeros((2, 50)), params), np.float64)
    energy = 0.5 * states[..., 1] ** 2 + 9.81 * np.cos(states[..., 0])
    np.testing.assert_allclose(energy, np.broadcast_to(energy[:, :1], energy.shape), atol=0.03)  # of 9.81 J


def test_small_swings_have_the_period_and_the_damping_of_the_closed_form():
    params = dataclasses.replace(PAPER, substeps=200)
    hanging = jnp.array([[np.pi + 0.01, 0.0]], jnp.float32)
    angle = np.asarray(simulate(hanging, jnp.zeros((1, 60)), params))[0, :, 0] - np.pi
    t = np.arange(61) * params.dt
    decay, omega = params.friction / 2, np.sqrt(9.81 - (params.friction / 2) ** 2)
    expected = 0.01 * np.exp(-decay * t) * (np.cos(omega * t) + decay / omega * np.sin(omega * t))
    np.testing.assert_allclose(angle, expected, atol=3e-4)


def test_paper_preset_has_the_velocity_spread_of_the_papers_table():
    first_key, torque_key = jax.random.split(jax.random.key(0))
    high = jnp.array([[PAPER.initial_angle, PAPER.initial_speed]])
    first = high * jax.random.uniform(first_key, (5000, 2), minval=-1.0, maxval=1.0)
    torques = jax.random.uniform(torque_key, (5000, 14), minval=-2.0, maxval=2.0)
    velocity = np.asarray(simulate(first, torques, PAPER))[..., 1]
    assert velocity.std() == pytest.approx(3.69, abs=0.05)


@pytest.mark.parametrize("size", [8, 16, 33, 64])
def test_the_renderer_covers_the_same_area_at_every_angle(size):
    frames = np.asarray(jax.jit(render_pendulum, static_argnums=1)(jnp.linspace(-3, 3, 50), size))
    assert frames.shape == (50, size, size)
    assert frames.min() >= 0
    assert frames.max() <= 1
    area = frames.sum(axis=(1, 2)) / size**2
    np.testing.assert_allclose(area, np.full(50, area.mean()), rtol=0.08)


def test_the_renderer_points_up_at_zero_and_turns_counter_clockwise():
    up, left, down = np.asarray(jax.jit(render_pendulum, static_argnums=1)(jnp.array([0.0, np.pi / 2, np.pi]), 32))
    assert up[:16].sum() > 5 * up[16:].sum()
    assert left[:, :16].sum() > 5 * left[:, 16:].sum()
    assert down[16:].sum() > 5 * down[:16].sum()


def test_the_renderer_is_differentiable_everywhere():
    slope = jax.jit(jax.jacobian(lambda angle: render_pendulum(angle, 16)))(jnp.float32(0.0))
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0.1


def test_the_renderer_turns_as_gymnasium_draws():
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    for angle in (0.4, 1.9, -2.5):
        env.unwrapped.state, env.unwrapped.last_u = np.array([angle, 0.0]), None
        dark = 255 - env.render().astype(np.float64).mean(axis=-1)
        ours = np.asarray(jax.jit(render_pendulum, static_argnums=1)(jnp.float32(angle), dark.shape[0]))
        for picture in (dark, ours):
            rows, columns = np.indices(picture.shape) - picture.shape[0] / 2
            direction = np.arctan2(-(picture * columns).sum(), -(picture * rows).sum())
            assert direction == pytest.approx(angle, abs=0.05)
