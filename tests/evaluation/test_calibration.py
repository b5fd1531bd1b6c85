"""The factor on sampled noise, found for a model whose errors are known."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import filtered
from flax import nnx

from worldmodel.data.sequences import Sequences, hold_out
from worldmodel.data.storage import load_sequences
from worldmodel.evaluation.calibration import calibrated, fitted_factor
from worldmodel.imagination.compiled import compiled
from worldmodel.models.distributions import image_normal
from worldmodel.runs.folder import Run

CLOCK = 0.05
"""brightness that a ramp gains in a step"""


class Ramp(nnx.Module):
    """Believes that brightness of all pixels is a random walk of steps N(CLOCK, (spread * noise)^2) from a frame that
    it knows exactly."""

    context = 1

    def __init__(self, noise: float):
        self.noise = nnx.Param(jnp.asarray(noise))
        self.spread = nnx.Param(jnp.ones(()))

    def filter(self, frames, actions, valid=None, key=None):
        return jnp.mean(frames, axis=(2, 3))[..., None]

    def imagine_step(self, state, action, key=None):
        drawn = 0.0 if key is None else self.spread[...] * self.noise[...] * jax.random.normal(key, state.shape)
        return state + CLOCK + drawn

    def emission(self, state):
        return image_normal(jnp.broadcast_to(state[..., None], (*state.shape[:-1], 4, 4)), 0.1, 2)


def walks(std: float, pixel_noise: float) -> Sequences:
    """Frames of such walks with steps of this standard deviation."""
    random = np.random.default_rng(0)
    steps = CLOCK + std * random.standard_normal((400, 9))
    level = 0.2 + np.cumsum(np.concatenate([np.zeros((400, 1)), steps], axis=1), axis=1)
    frames = level[..., None, None] + pixel_noise * random.standard_normal((400, 10, 4, 4))
    return Sequences(np.round(255 * np.clip(frames, 0, 1)).astype(np.uint8), np.zeros((400, 9, 1), np.float32))


@pytest.mark.parametrize("pixel_noise", [0.0, 0.02])
def test_noise_that_is_three_times_too_wide_is_narrowed_by_three(pixel_noise: float):
    """Also where pixels are noisy: that is no reason for wider dreams."""
    model = Ramp(noise=0.06)
    fitted = calibrated(model, walks(0.02, pixel_noise))
    assert float(fitted.spread[...]) == pytest.approx(1 / 3, rel=0.15)
    assert float(model.spread[...]) == 1  # the one that was given stays as it was


def test_a_factor_above_one_is_found_too():
    assert float(calibrated(Ramp(noise=0.01), walks(0.02, 0.0)).spread[...]) == pytest.approx(2, rel=0.15)


def test_what_does_not_vary_is_left_alone():
    assert fitted_factor(np.ones((3, 4)), np.zeros((3, 4)), 0.0) == 1


step = compiled(lambda model, *arguments: model.imagine_step(*arguments))
bound = compiled(lambda model, *arguments: model.bound(*arguments))


def test_the_factor_scales_samples_and_no_means(tiny_dvbf, tiny_batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    wide = nnx.clone(tiny_dvbf)
    wide.spread[...] = jnp.asarray(2.0)
    state = filtered(tiny_dvbf, frames, actions)[:, -1]
    np.testing.assert_array_equal(filtered(wide, frames, actions)[:, -1], state)
    mean = step(tiny_dvbf, state, actions[:, 0])
    np.testing.assert_array_equal(step(wide, state, actions[:, 0]), mean)
    once, twice = (step(model, state, actions[:, 0], jax.random.key(0)) - mean for model in (tiny_dvbf, wide))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-6)
    assert float(jnp.max(jnp.abs(once))) > 1e-3
    bounds = [bound(model, frames, actions, jax.random.key(1)).kl for model in (tiny_dvbf, wide)]
    np.testing.assert_array_equal(*bounds)


def test_a_finished_run_keeps_the_factor_that_its_validation_data_ask_for(dvbf_run: Path, data_file: Path):
    model = Run.open(dvbf_run).load()
    _, validation = hold_out(load_sequences(data_file), 0.1, "data")
    assert float(model.spread[...]) != 1
    assert float(calibrated(model, validation).spread[...]) == pytest.approx(float(model.spread[...]), rel=0.05)


def test_a_checkpoint_from_before_the_factor_has_a_factor_of_one(dvbf_run: Path, tmp_path: Path):
    run = Run.open(dvbf_run)
    step = run.checkpoint_steps()[-1]
    older = Run(tmp_path)
    (tmp_path / "config.json").write_text((dvbf_run / "config.json").read_text())
    with np.load(dvbf_run / "checkpoints" / f"step_{step:08d}.npz") as saved:
        arrays = {name: saved[name] for name in saved.files if "spread" not in name}
    (tmp_path / "checkpoints").mkdir()
    np.savez(tmp_path / "checkpoints" / f"step_{step:08d}.npz", **arrays)
    assert float(older.load().spread[...]) == 1
