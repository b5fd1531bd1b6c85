"""The online loop from the command line: collect, train, plan, and again."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_ok, run_interrupted, run_script, width

from worldmodel.data.storage import load_sequences
from worldmodel.planning import reward
from worldmodel.worlds.pendulum import optimum

SMALL = ("--rounds", 1, "--first", 6, "--sequences", 2, "--frames", 12, "--size", 8, "--steps", 120, "--episodes", 1)
PLAN = ("--test-steps", 6, "--horizon", 4, "--samples", 8)


def test_rounds_collect_by_planning_and_go_on_where_they_were_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    coarse = partial(optimum.optimal_returns, grid=optimum.Grid(80, 65, 5, 21))
    monkeypatch.setattr(optimum, "optimal_returns", coarse)
    monkeypatch.setattr(reward, "STEPS", 50)
    out = tmp_path / "loop"
    command = ("improve.py", "--out", out, "--start", "hanging, at rest", *SMALL, *PLAN)
    wrong = run_script("improve.py", "--out", out, "--start", "moon", *SMALL, *PLAN)
    assert wrong.returncode == 2  # and does not stand in the way of the right one
    assert run_interrupted(100, *command).returncode == 130
    assert not (out / "round_0" / "run" / "health.json").exists()
    assert_ok(run_script(*command))

    first, planned = (load_sequences(out / f"round_{number}" / "data.npz") for number in (0, 1))
    assert (len(first), len(planned)) == (6, 2)
    assert first.world.actions == "held"
    assert planned.world.actions == "planned"
    for data in (first, planned):
        np.testing.assert_allclose(data.states[:, 0], np.tile([np.pi, 0], (len(data), 1)), atol=1e-6)
        assert (np.abs(data.actions) <= 2).all()
    union = load_sequences(out / "round_1" / "train.npz")
    assert len(union) == 8
    for data in (first, planned):  # all of it, in whatever order
        assert all(any(np.array_equal(mine, theirs) for theirs in union.frames) for mine in data.frames)

    rounds = json.loads((out / "rounds.json").read_text())
    assert [each["frames"] for each in rounds] == [72, 96]
    assert all(each["mean"] == each["worst"] < 0 for each in rounds)
    assert "upright" in rounds[0]["outcomes"]
    assert width(out / "rounds.png") > 500

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    assert_ok(run_script(*command))  # nothing is done again
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    other = run_script(*command, "--noise", 0.1)
    assert other.returncode == 2
    assert "is of other options; give another --out" in other.stderr


def test_a_model_that_cannot_act_is_refused_before_anything_is_collected(tmp_path: Path):
    refused = run_script("improve.py", "--out", tmp_path / "loop", "--model", "vae", *SMALL, *PLAN)
    assert refused.returncode == 2
    assert refused.stderr == "error: --model: vae is a model of single frames, and cannot act\n"
    assert not (tmp_path / "loop").exists()
