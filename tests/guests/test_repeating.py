"""A second guest, whose dreams are known exactly: those of the naive predictor that stands beside every model."""

import json
from pathlib import Path

import numpy as np
from conftest import assert_ok, run_script


def test_its_row_is_that_of_repeating_the_last_frame(data_file: Path, tmp_path: Path):
    run, out = tmp_path / "run", tmp_path / "imagined"
    train = run_script("train.py", "repeating", "--data", data_file, "--out", run, "--steps", 100)
    assert_ok(train)
    assert "DYNAMICS NOT LEARNT" in train.stdout or "POSITIONS ONLY" in train.stdout
    assert_ok(run_script("imagine.py", "--run", run, "--data", data_file, "--sequences", 20, "--out", out))
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    for measure, curve in rows["repeat last frame"].items():
        np.testing.assert_allclose(rows["model"][measure]["value"], curve["value"], rtol=1e-5, err_msg=measure)
