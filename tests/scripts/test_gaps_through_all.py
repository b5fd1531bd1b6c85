"""Data with missing frames and sequences of unequal lengths, from training to evaluation: every number is there, and
none owes anything to what stands where there is no frame."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, SMALL_DVBF, assert_ok, run_script, width

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

COUNT, LENGTH = 48, 24


def with_gaps(black: bool) -> Sequences:
    """A tenth of the frames are missing, and most sequences end early. What is not there is black, or noise."""
    data, random = collect_pendulum(3, COUNT, LENGTH, PAPER, 16), np.random.default_rng(0)
    lengths = random.integers(8, LENGTH + 1, COUNT)
    lengths[::6] = LENGTH
    lengths[-3:] = (LENGTH, 18, 20)  # are held out
    valid = random.random((COUNT, LENGTH)) < 0.9
    ended = np.zeros((COUNT, LENGTH - 1), bool)
    ended[np.arange(COUNT), lengths - 2] = lengths < LENGTH
    seen = valid & (np.arange(LENGTH) < lengths[:, None])
    acted = np.arange(LENGTH - 1) < lengths[:, None] - 1
    noise = np.random.default_rng(1).integers(0, 256, data.frames.shape, dtype=np.uint8)
    return dataclasses.replace(
        data,
        frames=np.where(seen[..., None, None], data.frames, 0 if black else noise).astype(np.uint8),
        actions=np.where(acted[..., None], data.actions, 0 if black else 99).astype(np.float32),
        valid=valid,
        ended=ended,
    )


def numbers(found: Any) -> list[Any]:
    """All leaves of JSON."""
    if isinstance(found, dict):
        return [leaf for value in found.values() for leaf in numbers(value)]
    return [leaf for value in found for leaf in numbers(value)] if isinstance(found, list) else [found]


def train_and_evaluate(data: Path, run: Path, vae: Path) -> dict[str, Any]:
    """A DVBF, by the scripts (a warning is an error in tests), and what was written."""
    trained = run_script("train.py", "dvbf", "--data", data, "--out", run, *SMALL_DVBF, "--window", 8)
    assert_ok(trained)
    assert "of the frames are missing; sequences have" in trained.stdout
    about = ("--run", run, "--data", data, "--context", 6)
    assert_ok(run_script("evaluate.py", *about, "--vae", vae, "--futures", 40))
    read = {name: json.loads((run / name).read_text()) for name in ("health.json", "evaluation/evaluation.json")}
    del read["evaluation/evaluation.json"]["data"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    read["metrics"] = [{name: value for name, value in line.items() if name != "steps_per_second"} for line in lines]
    with np.load(run / "checkpoints" / "step_00000120.npz") as archive:
        read["parameters"] = {name: archive[name].tolist() for name in archive if name.startswith("params")}
    return read


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and a VAE that was trained on it."""
    folder = tmp_path_factory.mktemp("black")
    save_sequences(folder / "data.npz", with_gaps(black=True))
    assert_ok(run_script("train.py", "vae", "--data", folder / "data.npz", "--out", folder / "vae", *SMALL))
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return train_and_evaluate(folder / "data.npz", folder / "run", folder / "vae")


def test_every_number_is_there(found: dict[str, Any], folder: Path):
    evaluation = found["evaluation/evaluation.json"]
    assert evaluation["outside"] is not None
    assert evaluation["samples"] is not None
    for name, read in found.items():
        for leaf in numbers(read):
            assert leaf is not None, name
            assert not isinstance(leaf, float) or math.isfinite(leaf), name
    assert evaluation["sequences"] > 40  # nearly all have something to foresee
    assert evaluation["horizon"] == LENGTH - 6
    assert any("missing or padding" in line for line in evaluation["left_out"])
    rows = evaluation["rows"]
    reading = next(name for name in rows if name.endswith("read off true frames"))
    assert max(rows[reading]["angle_error_degrees"]["value"]) < 10  # by true frames, of true frames
    for picture in ("film_strip.png", "futures.png", "latent_cloud.png", "latent_paths.png", "base_matrices.png"):
        assert width(folder / "run" / "evaluation" / picture) > 300


def test_what_stands_where_there_is_no_frame_changes_no_number(found: dict[str, Any], folder: Path, tmp_path: Path):
    save_sequences(tmp_path / "data.npz", with_gaps(black=False))
    for name, read in train_and_evaluate(tmp_path / "data.npz", tmp_path / "run", folder / "vae").items():
        assert read == found[name], name


def test_moments_are_of_what_was_seen_and_done():
    data, other = with_gaps(black=True), with_gaps(black=False)
    scale, seen = FrameScale.of(data, "data"), data.seen()
    assert scale == FrameScale.of(other, "data")
    assert seen is not None
    pixels = data.frames[seen] / 255
    assert scale.frames == seen.sum()
    assert scale.pixel_mean == pytest.approx(pixels.mean())
    assert scale.frame_variance == pytest.approx(pixels.var(axis=0).sum())
    assert scale.action_scale == pytest.approx(np.sqrt((data.actions[data.acted()].astype(float) ** 2).mean()))


OTHERS = ("dkf", "kvae", "paper-dvbf", "rssm-categorical", "world-models")


# of each by itself, that no gap reaches a state, a loss or a gradient is tested among the guests
@pytest.mark.parametrize("model", ["rssm", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_other_models_go_through_it_too(folder: Path, model: str, tmp_path: Path):
    data, run = folder / "data.npz", tmp_path / "run"
    small = [{"--hidden-size": "--vision-size"}.get(word, word) if model == "kvae" else word for word in SMALL]
    assert_ok(run_script("train.py", model, "--data", data, "--out", run, *small, "--window", 8))
    assert_ok(run_script("imagine.py", "--run", run, "--data", data, "--context", 6, "--out", tmp_path / "imagined"))
    rows = json.loads((tmp_path / "imagined" / "metrics.json").read_text())["rows"]
    assert all(isinstance(leaf, float) and math.isfinite(leaf) for leaf in numbers(rows))
