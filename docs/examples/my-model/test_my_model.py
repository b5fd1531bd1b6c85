"""Its filter is a chain of its own steps, and from a thousand updates its dreams beat the naive predictors."""

from pathlib import Path

import numpy as np

import worldmodel as wm


def test_it_filters_step_by_step_and_foresees(tmp_path: Path):
    data = wm.collect("pendulum", sequences=500, frames=15)
    run = wm.train("recurrent", data, out=tmp_path / "run", steps=1000)

    frames, actions = data.frames[:3], data.actions[:3]
    valid = np.ones((3, 15), bool)
    valid[:, 7] = False
    states = run.filter(frames, actions, valid)
    seen = run.filter_step(states[:, 5], actions[:, 5], frames[:, 6])
    np.testing.assert_allclose(states[:, 6], seen, atol=1e-5)
    np.testing.assert_allclose(states[:, 7], run.imagine_step(seen, actions[:, 6]), atol=1e-5)

    test = wm.collect("pendulum", sequences=60, frames=30, seed=1)
    rows = run.roll_out(test, tmp_path / "imagined", context=10).rows
    error = {name: rows[name]["mse"].at(10).value for name in ("model", "repeat last frame", "mean frame")}
    assert error["model"] < 0.5 * min(error["repeat last frame"], error["mean frame"])
