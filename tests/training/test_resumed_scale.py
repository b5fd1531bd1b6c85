"""A run goes on with the scale that it began with, however the data would be measured today."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import worldmodel as wm
from worldmodel.data import scale
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum


def test_a_run_of_before_backgrounds_goes_on_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moving = collect_pendulum(0, 12, 8, PAPER, 16)
    landscape = np.random.default_rng(0).integers(0, 120, (16, 16)).astype(np.uint8)
    data = dataclasses.replace(moving, frames=landscape + moving.frames // 4)
    wm.write(tmp_path / "data.npz", data)
    tiny: dict[str, Any] = {"base_matrices": 2, "hidden_size": 8, "feature_size": 6, "batch_size": 2}

    def trained(name: str, steps: int, **more: Any) -> wm.Trained:
        given = more or tiny
        run = wm.train("dvbf", tmp_path / "data.npz", tmp_path / name, steps=steps, **given)
        assert not isinstance(run, list)
        return run

    with monkeypatch.context() as before:
        before.setattr(scale, "STANDING", np.inf)
        assert not trained("then", 2).run.card.scale.background
        shutil.copytree(tmp_path / "then", tmp_path / "now")
        then = trained("then", 4, resume=True)
    now = trained("now", 4, resume=True)
    assert scale.FrameScale.of(data, "data").background
    assert now.model.scale == then.model.scale
    jax.tree.map(np.testing.assert_array_equal, nnx.state(now.model, nnx.Param), nnx.state(then.model, nnx.Param))
