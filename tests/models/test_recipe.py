"""The recipe at its full length: what the project promises of every seed. Minutes of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_script


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    assert run_script("collect.py", "--out", folder / "train.npz").returncode == 0
    collect_test = ("collect.py", "--out", folder / "test.npz", "--seed", 1, "--frames", 115)
    assert run_script(*collect_test).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_defaults_learn_the_papers_pendulum(folder: Path, seed: int):
    metrics = train_and_imagine(folder, "fusion", seed)
    assert min(metrics["r2_linear"].values()) >= 0.95
    assert min(metrics["r2_polynomial"].values()) >= 0.995
    error = np.array(metrics["rows"]["model"]["angle_error_degrees"]["value"])
    assert (error[[9, 29]] <= 2.5).all()
    assert (error[[59, 99]] <= 4).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_papers_inference_learns_the_velocity_too_though_less_well(folder: Path, seed: int):
    metrics = train_and_imagine(folder, "noise", seed)
    assert min(metrics["r2_polynomial"].values()) >= 0.95
    error = np.array(metrics["rows"]["model"]["angle_error_degrees"]["value"])
    assert (error[[9, 29]] <= 3).all()
    assert (error[[59, 99]] <= 6).all()


def train_and_imagine(folder: Path, inference: str, seed: int) -> dict[str, Any]:
    run, out = folder / f"{inference}-{seed}", folder / f"{inference}-{seed}-imagined"
    train = ("train.py", "dvbf", "--data", folder / "train.npz", "--out", run, "--seed", seed, "--inference", inference)
    result = run_script(*train)
    assert result.returncode == 0, result.stderr
    assert "Dynamics learnt" in result.stdout
    imagine = ("imagine.py", "--run", run, "--data", folder / "test.npz", "--context", 15, "--out", out)
    assert run_script(*imagine).returncode == 0
    metrics = json.loads((out / "metrics.json").read_text())
    mse = {name: np.array(row["mse"]["value"]) for name, row in metrics["rows"].items() if "mse" in row}
    for baseline in ("repeat last frame", "mean frame", "shuffled actions"):
        assert (mse["model"] < mse[baseline]).all()
    return metrics
