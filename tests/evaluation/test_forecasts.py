"""Predictions scored side by side, and sampled futures asked whether they are as sure as they should be."""

import copy
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worldmodel.imagination.rollouts import Rollouts, roll_out, shuffle_actions, zero_actions

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.evaluation.judge import (
    READING,
    energy,
    judge,
    judge_samples,
    predict,
    probe_latents,
    read_angles,
    sample_angles,
    shown_horizons,
    summary_table,
)
from worldmodel.evaluation.measures import degrees_apart
from worldmodel.models.dvbf.model import DVBF
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER, simulate
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.pendulum.world import collect_pendulum


def test_other_actions_leave_the_context_as_it_is(pendulum_data: Sequences):
    shuffled, zero = shuffle_actions(pendulum_data, context=6), zero_actions(pendulum_data, context=6)
    np.testing.assert_array_equal(shuffled.actions[:, :5], pendulum_data.actions[:, :5])
    np.testing.assert_array_equal(shuffled.actions[1:, 5:], pendulum_data.actions[:-1, 5:])
    np.testing.assert_array_equal(zero.actions[:, :5], pendulum_data.actions[:, :5])
    assert not zero.actions[:, 5:].any()


def test_the_angle_of_frames_turned_by_a_known_angle():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (40, 30))
    truth = np.asarray(render_pendulum(jnp.asarray(angles, jnp.float32), 16))
    turned = np.asarray(render_pendulum(jnp.asarray(angles[:, 10:] + np.deg2rad(7), jnp.float32), 16))
    shown = read_angles(truth, angles, 10, {"model": turned})
    assert np.median(degrees_apart(shown["model"], angles[:, 10:])) == pytest.approx(7, abs=0.3)
    assert np.median(degrees_apart(shown[READING], angles[:, 10:])) < 0.3


@pytest.mark.parametrize("params", [PAPER, GYMNASIUM])
def test_the_energy_that_angles_show_is_the_pendulum_s(params):
    free = dataclasses.replace(params, friction=0.0, dt=0.01, substeps=1, max_speed=np.inf)
    start = jnp.array([[2.0, 1.0], [0.3, -4.0]])
    states = np.asarray(simulate(start, jnp.zeros((2, 200)), free), np.float64)
    potential = free.mass * free.gravity * free.centre_of_mass * np.cos(states[:, 0, 0])
    true = 0.5 * free.inertia * states[:, 0, 1] ** 2 + potential
    shown = energy(states[:, 1:, 0], states[:, :1, 0], free)
    np.testing.assert_allclose(shown, np.repeat(true[:, None], 200, axis=1), atol=0.15)


@pytest.fixture(scope="module")
def judged(trained: DVBF, unseen: Sequences) -> dict:
    def imagine(data: Sequences) -> Rollouts:
        return roll_out(trained, data, 10, jax.random.key(0))

    predictions = predict(unseen, 10, imagine(unseen), imagine)
    return judge(unseen, 10, predictions, PAPER) | probe_latents(imagine(unseen).posterior_latents, unseen)


def test_rows_are_what_they_are_called(judged: dict, unseen: Sequences):
    truth = as_unit_frames(unseen.frames)
    ahead = truth[:, 10:]
    rows = judged["rows"]
    repeated = ((ahead - truth[:, 9:10]) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(rows["repeat last frame"]["mse"]["value"], repeated, rtol=1e-4)
    mean = ((ahead - truth.mean(axis=(0, 1))) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(rows["mean frame"]["mse"]["value"], mean, rtol=1e-4)
    for measure in ("mse", "angle_error_degrees", "energy_error"):
        at_ten = {name: row[measure]["value"][9] for name, row in rows.items() if measure in row}
        model = at_ten.pop("model")
        floor = at_ten.pop(READING, 0)
        assert floor < model < min(at_ten.values())
    model = rows["model"]["mse"]
    assert all(
        low <= value <= high for low, value, high in zip(*(model[k] for k in ("low", "value", "high")), strict=True)
    )
    json.dumps(judged, allow_nan=False)


def test_the_table_shows_every_row_at_its_horizons(judged: dict):
    assert shown_horizons(30) == [1, 10, 30]
    assert shown_horizons(45) == [1, 10, 30, 45]
    table = summary_table(judged).splitlines()
    assert table[0] == "100 sequences, 10 frames observed, 30 imagined"
    assert table[1].split()[-3:] == ["@1", "@10", "@30"]
    errors = judged["rows"]["model"]["angle_error_degrees"]["value"]
    assert table[2].split() == ["model", *(f"{errors[h - 1]:.3g}" for h in (1, 10, 30))]
    pixels = judged["rows"]["model"]["mse"]["value"]
    assert f"{1000 * pixels[9]:.2f}" in next(table[i + 1] for i, line in enumerate(table) if line.startswith("pixel"))


def test_without_states_and_with_one_sequence_there_is_less_to_say(trained: DVBF, unseen: Sequences):
    alone = dataclasses.replace(unseen, states=None, state_names=()).take(slice(0, 1))

    def imagine(data: Sequences) -> Rollouts:
        return roll_out(trained, data, 10, jax.random.key(0))

    predictions = predict(alone, 10, imagine(alone), imagine)
    assert set(predictions) == {"model", "repeat last frame", "mean frame", "zero actions"}
    row = judge(alone, 10, predictions)["rows"]["model"]
    assert set(row) == {"mse", "psnr", "ssim"}
    assert row["mse"]["low"] == row["mse"]["value"] == row["mse"]["high"]
    assert probe_latents(np.zeros((1, 40, 8)), alone) == {}


def test_samples_scatter_around_the_mean_rollout_more_and_more(trained: DVBF, unseen: Sequences):
    which = np.arange(20)
    shown = sample_angles(trained, unseen, which, 10, 40, jax.random.key(0))
    assert shown.shape == (40, 20, 30)
    frames = roll_out(trained, unseen.take(which), 10, jax.random.key(1)).frames
    truth, angles = as_unit_frames(unseen.frames), unseen.state("angle")
    mean = read_angles(truth, angles, 10, {"model": np.repeat(frames[:, 10:], 5, axis=0)})["model"][::5]
    centre = np.angle(np.exp(1j * shown).mean(axis=0))
    spread = np.median(degrees_apart(shown, centre), axis=(0, 1))
    assert np.median(degrees_apart(centre, mean), axis=0)[:5].max() < 3
    assert 0 < spread[0] < spread[10:].mean()
    again = sample_angles(trained, unseen, which, 10, 40, jax.random.key(0))
    np.testing.assert_array_equal(again, shown)
    assert sample_angles(trained, unseen, which[:3], 10, 600, jax.random.key(0)).shape == (600, 3, 30)  # in two batches


def test_a_model_that_is_too_sure_is_told_so(trained: DVBF):
    """The same model with a thousandth of its noise covers less, and one with much more noise covers too much."""
    data = collect_pendulum(seed=3, sequences=60, length=25, params=PAPER, size=16)

    def covered(scale: float) -> np.ndarray:
        model = copy.copy(trained)
        model.options = dataclasses.replace(trained.options, final_noise_scale=scale)
        found = judge_samples(model, data, 10, 20, jax.random.key(0))
        assert found["reliability"]["nominal"][4] == 0.5
        assert found["coverage"]["0.5"][9] == found["reliability"]["observed"]["10"][4]
        return np.array(found["coverage"]["0.9"])

    narrow, wide = covered(1e-4), covered(3.0)
    assert narrow[5:].mean() < 0.7
    assert wide[5:].mean() > 0.9
    assert np.all(np.array(judge_samples(trained, data, 10, 20, jax.random.key(0))["crps"]) > 0)


def test_pixels_are_scored_where_there_is_no_angle(trained: DVBF, unseen: Sequences):
    found = judge_samples(
        trained, dataclasses.replace(unseen, states=None, state_names=()).take(slice(0, 8)), 10, 12, jax.random.key(0)
    )
    assert found["unit"] == "brightness"
    assert len(found["crps"]) == 30
    assert 0 < found["crps"][0] < 0.2
    assert np.all(np.array(found["coverage"]["0.9"]) > 0.8)  # sigma is larger than what is left of the frames
