"""A model that nothing in the tree knows, in one file and with one entry point, does all that the project's own do.

This folder is on sys.path while tests run, and guests-1.0.dist-info in it is what an installed package leaves there.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_ok, run_script

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences

A, B = np.array([[1.0, 0.3], [-0.3, 0.9]]), np.array([[0.0], [0.3]])
H = np.stack([0.06 * np.random.default_rng(1).standard_normal(16), np.zeros(16)], axis=1)
"""frames show the first state alone"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences of a linear-Gaussian world."""
    random = np.random.default_rng(0)
    state, actions = random.standard_normal((60, 2)), random.standard_normal((60, 19, 1)).astype(np.float32)
    states = [state]
    for t in range(19):
        state = state @ A.T + actions[:, t] @ B.T + random.standard_normal((60, 2)) * np.array([0.02, 0.1])
        states.append(state)
    along = np.stack(states, axis=1)
    frames = 0.5 + along @ H.T + 0.05 * random.standard_normal((60, 20, 16))
    pixels = np.round(255 * np.clip(frames, 0, 1)).astype(np.uint8).reshape(60, 20, 4, 4)
    path = tmp_path_factory.mktemp("data") / "linear.npz"
    save_sequences(path, Sequences(pixels, actions, along.astype(np.float32), ("position", "velocity"), 0.1))
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "guest"
    train = ("train.py", "linear-gaussian", "--data", data, "--out", run, "--learning-rate", 0.02)
    assert_ok(run_script(*train, "--latent-size", 2, "--steps", 400))
    assert_ok(run_script("train.py", "linear-gaussian", "--data", data, "--out", run, "--resume", "--steps", 600))
    return run


def parameters(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "checkpoints" / "step_00000600.npz") as archive:
        return {name.split("/")[1]: archive[name].astype(np.float64) for name in archive if name.startswith("params/")}


def test_it_is_trained_and_resumed(run: Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(0, 601, 100))
    assert lines[-1]["loss"] < lines[1]["loss"]
    assert {"validation_open_loop_mse", "validation_latent_growth"} <= set(lines[-1])
    assert json.loads((run / "config.json").read_text())["options"]["model"] == {"latent_size": 2}
    assert {"curves.png", "learning.gif", "health.json"} <= {path.name for path in run.iterdir()}


def test_what_it_imagines_is_the_closed_form(run: Path, data: Path, tmp_path: Path):
    """A textbook Kalman filter over ten frames, in float64 and P x P, and then powers of A."""
    out = tmp_path / "imagined"
    assert_ok(run_script("imagine.py", "--run", run, "--data", data, "--context", 10, "--sequences", 5, "--out", out))
    p = parameters(run)
    a, b, h, c = p["a"], p["b"], p["h"], p["c"]
    q, r = (np.diag(np.atleast_1d(np.log1p(np.exp(p[name])) + 1e-3) ** 2) for name in ("raw_q", "raw_r"))
    with np.load(data) as known, np.load(out / "imagined.npz") as found:
        frames, actions = known["frames"][:5].reshape(5, 20, 16) / 255, known["actions"][:5].astype(np.float64)
        imagined, latents = found["imagined_frames"].reshape(5, 20, 16), found["imagined_latents"]
    mean, covariance = np.zeros((5, 2)), np.eye(2)
    for t in range(20):
        if t > 0:
            mean, covariance = mean @ a.T + actions[:, t - 1] @ b.T, a @ covariance @ a.T + q
        if t < 10:
            s = h @ covariance @ h.T + r[0, 0] * np.eye(16)
            gain = covariance @ h.T @ np.linalg.inv(s)
            mean, covariance = mean + (frames[:, t] - mean @ h.T - c) @ gain.T, covariance - gain @ h @ covariance
        np.testing.assert_allclose(latents[:, t], mean, rtol=1e-2, atol=2e-3)
        np.testing.assert_allclose(imagined[:, t], np.clip(mean @ h.T + c, 0, 1), atol=1e-3)


def test_it_is_evaluated_and_reported_without_what_it_lacks(run: Path, data: Path):
    assert_ok(run_script("evaluate.py", "--run", run, "--data", data, "--context", 10, "--futures", 40))
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert found["model"] == "linear-gaussian"
    error = {name: row["mse"]["value"] for name, row in found["rows"].items()}
    # it foresees better than the naive predictors, in the world that it is made for
    assert max(error["model"]) < min(max(error[name]) for name in ("repeat last frame", "shuffled actions"))
    assert found["r2_linear"]["position"] > 0.8
    assert not (run / "evaluation" / "base_matrices.png").exists()
    assert_ok(run_script("report.py", "--run", run))
    page = (run / "report.html").read_text()
    assert "A linear-Gaussian model with its exact Kalman filter" in page
    assert "not a locally linear model" in page


def test_nothing_in_the_tree_knows_it():
    root = Path(__file__).parents[2]
    for folder in ("worldmodel", "baselines", "scripts"):
        for path in (root / folder).rglob("*.py"):
            assert "linear_gaussian" not in path.read_text(), path
