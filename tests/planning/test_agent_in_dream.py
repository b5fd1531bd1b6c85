"""Another library's agent, trained in a dream alone, swings the real pendulum up."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_ok, run_script

import worldmodel as wm


@pytest.mark.slow
def test_an_agent_that_only_ever_dreamt_acts_in_the_real_environment(tmp_path: Path):
    """Random torques get about -1250 in 200 steps, the optimum about -140."""
    pytest.importorskip("stable_baselines3", reason="needs the optional group: pip install -e '.[agents]'")
    data = tmp_path / "data.npz"
    wm.collect("Pendulum-v1", sequences=400, frames=40, size=24, crop=0.55, out=data)
    wm.train("dvbf", data, tmp_path / "run", steps=2000)
    how = ("--run", tmp_path / "run", "--out", tmp_path / "agent", "--episodes", 10)
    result = run_script("agent.py", *how, "--steps", 15_000)
    assert_ok(result)
    returns = json.loads((tmp_path / "agent" / "returns.json").read_text())["returns"]
    assert np.mean(returns["real"]) > -450
    assert np.mean(returns["real, random actions"]) < -900
    assert np.median(returns["dream"]) > -450  # some may go astray
    assert np.mean(returns["dream, random actions"]) < -900
    assert (tmp_path / "agent" / "agent.zip").is_file()
    again = run_script("agent.py", *how)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    result = run_script("agent.py", "--run", tmp_path / "run", "--out", tmp_path / "agent")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "pip install -e '.[agents]'" in result.stderr
    assert not (tmp_path / "agent").exists()
