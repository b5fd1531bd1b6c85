"""Collecting: what the frames show, what the actions mean, and that a seed is a seed."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SCRIPTS, assert_ok, run_script

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.data.storage import load_sequences
from worldmodel.support.files import UserError
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.pendulum.options import PendulumOptions, PendulumV1Options
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER, simulate
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.pendulum.world import PendulumWorld, collect_pendulum
from worldmodel.worlds.simulator import follows
from worldmodel.worlds.world import world_of


@pytest.fixture(scope="module")
def pendulum_v1() -> Sequences:
    return collect("Pendulum-v1", 4, 12, 48, seed=3, workers=1)


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
    data = collect(env_id, 1, 12, 500, seed=3, workers=1)
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    differ = 0
    for state, frame in zip(data.states[0], data.frames[0], strict=True):
        env.unwrapped.state, env.unwrapped.last_u = state.astype(np.float64), None
        drawn = env.render().astype(np.float64) @ [0.299, 0.587, 0.114]
        differ += (np.abs(drawn - frame) > 40).sum()  # an arrow is hundreds of dark pixels in every frame
    assert differ < 200


def test_small_frames_of_pendulum_v1_are_those_of_its_own_picture(pendulum_v1: Sequences):
    """They are drawn from a picture half as large."""
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    differ = []
    assert pendulum_v1.states is not None
    for state, frame in zip(pendulum_v1.states[0], pendulum_v1.frames[0], strict=True):
        env.unwrapped.state, env.unwrapped.last_u = state.astype(np.float64), None
        differ.append(Camera(48).frame(env.render()).astype(float) - frame)
    one_pixel_off = np.roll(pendulum_v1.frames[0], 1, axis=1) - pendulum_v1.frames[0].astype(float)
    assert np.linalg.norm(differ) < 0.25 * np.linalg.norm(one_pixel_off)


def test_a_gymnasium_data_set_does_not_depend_on_the_number_of_workers(pendulum_v1: Sequences):
    again = collect("Pendulum-v1", 4, 12, 48, seed=3, workers=2)
    assert again.fingerprint() == pendulum_v1.fingerprint()
    other = collect("Pendulum-v1", 4, 12, 48, seed=4, workers=1)
    assert other.fingerprint() != pendulum_v1.fingerprint()


def test_cropping_enlarges_the_centre(pendulum_v1: Sequences):
    cropped = collect("Pendulum-v1", 4, 12, 48, seed=3, crop=0.5, workers=1)
    dark = (255 - cropped.frames.astype(float)).sum(), (255 - pendulum_v1.frames.astype(float)).sum()
    assert dark[0] == pytest.approx(4 * dark[1], rel=0.1)  # the rod fills four times the area


def test_discrete_actions_become_one_hot_vectors():
    data = collect("MountainCar-v0", 3, 6, 16, workers=1)
    assert data.actions.shape == (3, 5, 3)
    assert set(map(tuple, data.actions.reshape(-1, 3).tolist())) == set(map(tuple, np.eye(3).tolist()))
    assert data.states is None
    assert (data.rewards == -1).all()
    assert data.world == WorldRecord("MountainCar-v0", {}, Camera(16).record())
    assert world_of(data) is None


def test_the_rewards_are_the_environments(pendulum_v1: Sequences):
    """Pendulum-v1's, spelt out (its docs): before the step, with the clipped torque."""
    angle, speed = np.moveaxis(pendulum_v1.states[:, :-1], -1, 0)
    wrapped = np.arctan2(np.sin(angle), np.cos(angle))
    expected = -(wrapped**2 + 0.1 * speed**2 + 0.001 * pendulum_v1.actions[..., 0] ** 2)
    np.testing.assert_allclose(pendulum_v1.rewards, expected, atol=1e-4)
    own = collect(PendulumOptions("gymnasium"), 5, 12)
    angle, speed = np.moveaxis(own.states[:, :-1], -1, 0)
    wrapped = np.arctan2(np.sin(angle), np.cos(angle))
    np.testing.assert_allclose(
        own.rewards, -(wrapped**2 + 0.1 * speed**2 + 0.001 * own.actions[..., 0] ** 2), atol=1e-4
    )


def test_the_world_is_recorded_and_rebuilt(pendulum_v1: Sequences, tmp_path: Path):
    assert pendulum_v1.world == WorldRecord("Pendulum-v1", {}, Camera(48).record())
    assert world_of(pendulum_v1).params == GYMNASIUM
    made = collect(PendulumOptions(max_torque=5.0, initial_speed=1.0), 6, 8, noise=0.1, out=tmp_path / "data")
    assert made.world.id == "pendulum"
    assert made.world.camera == {"size": 16, "crop": 1.0, "noise_std": 0.1, "grey": True, "centre": [0.5, 0.5]}
    assert world_of(made).params == dataclasses.replace(PAPER, max_torque=5.0, initial_speed=1.0)
    heavy = collect(PendulumV1Options(g=20.0), 3, 8, workers=1)
    assert heavy.world.arguments == {"g": 20.0}
    assert follows(heavy, world_of(heavy))
    assert not follows(heavy, PendulumWorld(GYMNASIUM))


@pytest.mark.parametrize(
    "arguments",
    [{"g": 1.0}, {"preset": "moon"}, {"preset": ["paper"]}, {"max_torque": -1.0}, {"max_torque": "x"}, {"preset": {}}],
)
def test_a_record_of_wrong_arguments_is_refused(arguments: dict, pendulum_data: Sequences):
    record = WorldRecord("pendulum", arguments, {})
    with pytest.raises(UserError, match="the world pendulum cannot have been made like this") as raised:
        world_of(dataclasses.replace(pendulum_data, world=record))
    assert "\n" not in str(raised.value)


def test_colours_are_kept_where_they_are_asked_for(pendulum_v1: Sequences):
    data = collect("Pendulum-v1", 2, 12, 48, seed=3, grey=False, workers=1)
    assert data.frames.shape == (2, 12, 48, 48, 3)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(data.frames @ weights, pendulum_v1.frames[:2], atol=1)
    red, _, blue = np.moveaxis(data.frames.astype(float), -1, 0)
    assert (red - blue).max() > 80  # the rod is red


def test_the_projects_environment_is_collected_with_its_states():
    data = collect("worldmodel/Pendulum-v0", 2, 6, 24, workers=1)
    drawn = np.asarray(jax.jit(render_pendulum, static_argnums=1)(data.states[..., 0], 64)) * 255
    small = drawn.reshape(2, 6, 8, 8, 8, 8).mean(axis=(3, 5))
    np.testing.assert_allclose(data.frames.reshape(2, 6, 8, 3, 8, 3).mean(axis=(3, 5)), small, atol=4)
    assert follows(data, PendulumWorld(PAPER))


def test_the_compiled_pendulum_is_what_physics_and_renderer_say():
    data = collect_pendulum(seed=0, sequences=7, length=10, params=PAPER, size=12)
    assert data.states is not None
    states = simulate(jnp.asarray(data.states[:, 0]), jnp.asarray(data.actions[..., 0]), PAPER)
    np.testing.assert_allclose(states, data.states, atol=1e-3)
    drawn = np.asarray(jax.jit(render_pendulum, static_argnums=1)(data.states[..., 0], 12)) * 255
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


def test_the_script_takes_the_options_of_its_world(tmp_path: Path):
    chosen = ("--world", "Pendulum-v1", "--g", 5, "--sequences", 2, "--frames", 5, "--no-grey")
    assert_ok(run_script("collect.py", *chosen, "--out", tmp_path / "data.npz"))
    data = load_sequences(tmp_path / "data.npz")
    assert data.frames.shape == (2, 5, 16, 16, 3)
    assert world_of(data).params.gravity == 5
    refusals = {
        (
            "--world",
            "moon",
        ): "'moon' is no world; there are Acrobot-v1, CartPole-v1, MountainCarContinuous-v0, Pendulum-v1, ",
        ("--world", "Pendulum-v1", "--env", "CartPole-v1"): "give --world or --env, not both",
        ("--crop", 0.5): "--crop and --no-grey belong to --env",
        ("--max-torque", 0): "--max-torque must be above 0",
        ("--initial-speed", -1): "--initial-speed must be at least 0",
    }
    for arguments, message in refusals.items():
        result = run_script("collect.py", *arguments, "--out", tmp_path / "none.npz")
        assert result.returncode != 0
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_help_lists_the_worlds_and_loads_nothing_heavy():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['collect.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPTS / 'collect.py')!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'numpy', 'jax', 'gymnasium', 'cv2', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in result.stdout
    for name in ("pendulum  ", "Pendulum-v1  ", "worldmodel/Pendulum-v0  ", "--initial-speed"):
        assert name in result.stdout
