"""Collecting: what the frames show, what the actions mean, and that a seed is a seed."""

from pathlib import Path

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import run_script

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import load_sequences
from worldmodel.worlds.collecting import Camera, collect_gymnasium, collect_pendulum
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER, simulate
from worldmodel.worlds.pendulum.rendering import render_pendulum


@pytest.fixture(scope="module")
def pendulum_v1() -> Sequences:
    return collect_gymnasium("Pendulum-v1", seed=3, sequences=4, length=12, camera=Camera(48))


def test_the_actions_of_pendulum_v1_take_each_state_to_the_next(pendulum_v1: Sequences):
    states = pendulum_v1.states
    for t in range(11):
        after = simulate(jnp.asarray(states[:, t]), jnp.asarray(pendulum_v1.actions[:, t]), GYMNASIUM)[:, 1]
        np.testing.assert_allclose(after, states[:, t + 1], atol=1e-4)
    assert np.abs(pendulum_v1.actions).max() <= 2
    assert pendulum_v1.dt == pytest.approx(0.05)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "gymnasium:Pendulum-v1"])
def test_the_frames_of_pendulum_v1_do_not_show_the_action(env_id: str):
    """The same states drawn by an environment that has never been pushed give the same frames."""
    data = collect_gymnasium(env_id, seed=3, sequences=1, length=12, camera=Camera(500))
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    differ = 0
    for state, frame in zip(data.states[0], data.frames[0], strict=True):
        env.unwrapped.state, env.unwrapped.last_u = state.astype(np.float64), None
        drawn = env.render().astype(np.float64) @ [0.299, 0.587, 0.114]
        differ += (np.abs(drawn - frame) > 40).sum()  # an arrow is hundreds of dark pixels in every frame
    assert differ < 200


def test_a_gymnasium_data_set_does_not_depend_on_the_number_of_workers(pendulum_v1: Sequences):
    again = collect_gymnasium("Pendulum-v1", seed=3, sequences=4, length=12, camera=Camera(48), workers=2)
    assert again.fingerprint() == pendulum_v1.fingerprint()
    other = collect_gymnasium("Pendulum-v1", seed=4, sequences=4, length=12, camera=Camera(48))
    assert other.fingerprint() != pendulum_v1.fingerprint()


def test_cropping_enlarges_the_centre(pendulum_v1: Sequences):
    cropped = collect_gymnasium("Pendulum-v1", seed=3, sequences=4, length=12, camera=Camera(48, crop=0.5))
    dark = (255 - cropped.frames.astype(float)).sum(), (255 - pendulum_v1.frames.astype(float)).sum()
    assert dark[0] == pytest.approx(4 * dark[1], rel=0.1)  # the rod fills four times the area


def test_discrete_actions_become_one_hot_vectors():
    data = collect_gymnasium("CartPole-v1", seed=0, sequences=3, length=6, camera=Camera(16))
    assert data.actions.shape == (3, 5, 2)
    assert set(map(tuple, data.actions.reshape(-1, 2).tolist())) == {(0.0, 1.0), (1.0, 0.0)}
    assert data.states is None


def test_the_compiled_pendulum_is_what_physics_and_renderer_say():
    data = collect_pendulum(seed=0, sequences=7, length=10, params=PAPER, size=12)
    assert data.states is not None
    states = simulate(jnp.asarray(data.states[:, 0]), jnp.asarray(data.actions[..., 0]), PAPER)
    np.testing.assert_allclose(states, data.states, atol=1e-3)
    drawn = np.asarray(render_pendulum(jnp.asarray(data.states[..., 0]), 12)) * 255
    np.testing.assert_allclose(data.frames, drawn, atol=1)
    assert (data.actions.min(), data.actions.max()) == (pytest.approx(-2, abs=0.2), pytest.approx(2, abs=0.2))


def test_a_sequence_of_the_compiled_pendulum_depends_on_its_seed_and_number_alone():
    few = collect_pendulum(seed=0, sequences=3, length=10, params=PAPER, size=12)
    many = collect_pendulum(seed=0, sequences=9, length=10, params=PAPER, size=12)
    np.testing.assert_array_equal(few.frames, many.frames[:3])
    np.testing.assert_array_equal(few.actions, many.actions[:3])
    assert (collect_pendulum(seed=1, sequences=3, length=10, params=PAPER, size=12).frames != few.frames).any()


def test_pixel_noise_has_the_given_strength():
    clean = collect_pendulum(seed=0, sequences=50, length=10, params=PAPER, size=16)
    noisy = collect_pendulum(seed=0, sequences=50, length=10, params=PAPER, size=16, noise_std=0.05)
    grey = (clean.frames > 60) & (clean.frames < 195)  # where nothing is clipped
    difference = (noisy.frames.astype(float) - clean.frames)[grey] / 255
    assert difference.std() == pytest.approx(0.05, rel=0.05)
    assert difference.mean() == pytest.approx(0, abs=0.005)


def test_the_script_collects_from_gymnasium(tmp_path: Path):
    out = tmp_path / "data.npz"
    result = run_script(
        "collect.py", "--env", "Pendulum-v1", "--sequences", 2, "--frames", 5, "--crop", 0.55, "--out", out
    )
    assert result.returncode == 0, result.stderr
    data = load_sequences(out)
    assert data.frames.shape == (2, 5, 16, 16)
    assert data.state_names == ("angle", "angular_velocity")
