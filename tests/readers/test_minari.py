"""Minari data sets, written by minari as its users write them."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from made import RANDOM, noise, smooth

import worldmodel as wm
from worldmodel.support.files import UserError

pytest.importorskip("h5py", reason="the extra minari is not installed")
minari = pytest.importorskip("minari", reason="the extra minari is not installed")

SMALL = Box(0, 255, (16, 16, 3), np.uint8)
LARGE = Box(0, 255, (32, 32, 3), np.uint8)
PUSHES = Box(-1, 1, (2,), np.float32)


def write(monkeypatch: pytest.MonkeyPatch, root: Path, observations: list[Any], actions: list, **spaces: Any) -> Path:
    """A data set of these episodes; its folder. The last episode is the only one that ends by itself."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
    buffers = []
    for number, (seen, done) in enumerate(zip(observations, actions, strict=True)):
        ends = np.zeros(len(done), bool)
        ends[-1] = number == len(actions) - 1
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                observations=seen,
                actions=done,
                rewards=np.arange(len(done)) / 8,
                terminations=ends,
                truncations=~ends & (np.arange(len(done)) == len(done) - 1),
            )
        )
    minari.create_dataset_from_buffers("made/by-us-v0", buffers, **spaces)
    return root / "minari" / "made" / "by-us-v0"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what a data set says of its author
def test_observations_that_are_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Small ones, which minari keeps as they are; the last episode is as long as the longest, and ended."""
    pictures = [noise(6), noise(4), noise(6)]
    actions = [RANDOM.uniform(-1, 1, (len(each) - 1, 2)).astype(np.float32) for each in pictures]
    folder = write(monkeypatch, tmp_path, pictures, actions, observation_space=SMALL, action_space=PUSHES)
    data = wm.read(folder, size=16, grey=False)
    for n, made in enumerate(pictures):
        np.testing.assert_array_equal(data.frames[n, : len(made)], made)
        np.testing.assert_array_equal(data.actions[n, : len(made) - 1], actions[n])
        np.testing.assert_array_equal(data.rewards[n, : len(made) - 1], np.arange(len(made) - 1) / 8)
    np.testing.assert_array_equal(data.ended.sum(axis=1), [0, 1, 1])
    np.testing.assert_array_equal(data.lengths(), [6, 4, 6])
    assert (data.states, data.dt) == (None, None)
    assert wm.read(folder / "data", format="minari", size=16, grey=False).fingerprint() == data.fingerprint()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dictionary_of_observations_and_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pictures of 32 pixels are JPEGs in the file."""
    pictures, states = smooth(5), RANDOM.standard_normal((5, 3))
    space = Dict({"pixels": LARGE, "inner": Dict({"state": Box(-9, 9, (3,), np.float64)}), "goal": Discrete(3)})
    seen = {"pixels": pictures, "inner": {"state": states}, "goal": np.zeros(5, int)}
    choices = np.array([0, 2, 1, 2]) + 5
    folder = write(monkeypatch, tmp_path, [seen], [choices], observation_space=space, action_space=Discrete(3, start=5))
    data = wm.read(folder, grey=False, state="inner/state")
    assert abs(data.frames[0].astype(float) - pictures).mean() < 4
    np.testing.assert_array_equal(data.actions[0], np.eye(3, dtype=np.float32)[choices - 5])
    np.testing.assert_array_equal(data.states[0], states.astype(np.float32))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_environment_that_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By minari's collector, from a wrapped environment as Gymnasium renders it."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array", max_episode_steps=4)
    env = gymnasium.wrappers.AddRenderObservation(env, render_only=False)
    env = gymnasium.wrappers.TransformObservation(
        env,
        lambda seen: seen | {"pixels": np.ascontiguousarray(seen["pixels"][::10, ::10])},
        Dict({"pixels": Box(0, 255, (50, 50, 3), np.uint8), "state": env.observation_space["state"]}),
    )
    collector, states = minari.DataCollector(env), []
    for seed in range(2):
        seen, _ = collector.reset(seed=seed)
        states.append([seen["state"]])
        for _ in range(4):
            seen, *_ = collector.step(np.array([1.5], np.float32))
            states[-1].append(seen["state"])
    collector.create_dataset("pendulum/pixels-v0")
    collector.close()
    data = wm.read(tmp_path / "pendulum" / "pixels-v0", size=25)
    assert data.frames.shape == (2, 5, 25, 25)
    np.testing.assert_allclose(data.states, np.array(states), atol=1e-6)
    assert (data.actions == 1.5).all()
    assert data.ended is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_picture_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    numbers = Box(-9, 9, (3,), np.float64)
    pushes = [np.zeros((3, 2), np.float32)]
    folder = write(
        monkeypatch, tmp_path / "a", [np.zeros((4, 3))], pushes, observation_space=numbers, action_space=PUSHES
    )
    with pytest.raises(UserError, match=r"by-us-v0: has no observations that are pictures$"):
        wm.read(folder)
    two = {"left": noise(4), "right": noise(4)}
    space = Dict({"left": SMALL, "right": SMALL})
    folder = write(monkeypatch, tmp_path / "b", [two], pushes, observation_space=space, action_space=PUSHES)
    with pytest.raises(UserError, match=r"has observations that are pictures left, right; choose one by --camera"):
        wm.read(folder)
    np.testing.assert_array_equal(wm.read(folder, size=16, grey=False, camera="right").frames[0], two["right"])
    metadata = folder / "data" / "metadata.json"
    for change, message in (
        ({"minari_version": "0.1.0"}, r"cannot be read as a Minari data set: .*does not support"),
        ({"action_space": None}, r"metadata.json has no observation_space and no action_space"),
    ):
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | change))
        with pytest.raises(UserError, match=message):
            wm.read(folder, camera="right")
