"""Predictions scored side by side, and sampled futures asked whether they are as sure as they should be."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.evaluation.judge import (
    READING,
    judge,
    judge_samples,
    predict,
    probe_latents,
    read_frames,
    reader_of,
    shown_horizons,
)
from worldmodel.evaluation.measures import affordable_degree, probe_r2
from worldmodel.evaluation.record import Evaluation, read_evaluation
from worldmodel.evaluation.tables import error_table, probe_table, summary
from worldmodel.imagination.counterfactuals import shuffle_actions, zero_actions
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, roll_out
from worldmodel.imagination.futures import sample_futures
from worldmodel.models.dvbf.model import DVBF
from worldmodel.support.files import write_json
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER
from worldmodel.worlds.pendulum.rendering import render_pendulum
from worldmodel.worlds.pendulum.world import PendulumWorld, collect_pendulum, energy
from worldmodel.worlds.simulator import simulate
from worldmodel.worlds.world import Variable

WORLD = PendulumWorld()
FLOOR = f"angle {READING}"


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
    states = np.stack([angles, np.zeros_like(angles)], axis=-1)
    shown = read_frames(WORLD, truth, states, 10, {"model": turned})
    assert np.median(degrees_apart(shown["model"][..., 0], angles[:, 10:])) == pytest.approx(7, abs=0.3)
    assert np.median(degrees_apart(shown[FLOOR][..., 0], angles[:, 10:])) < 0.3


@pytest.mark.parametrize("params", [PAPER, GYMNASIUM])
def test_the_energy_that_angles_show_is_the_pendulum_s(params):
    free = dataclasses.replace(params, friction=0.0, dt=0.01, substeps=1, max_speed=np.inf)
    start = jnp.array([[2.0, 1.0], [0.3, -4.0]])
    states = np.asarray(simulate(PendulumWorld(free).step, start, jnp.zeros((2, 200, 1))), np.float64)
    potential = free.mass * free.gravity * free.centre_of_mass * np.cos(states[:, 0, 0])
    true = 0.5 * free.inertia * states[:, 0, 1] ** 2 + potential
    shown = energy(states[:, 1:, 0], states[:, :1, 0], free)
    np.testing.assert_allclose(shown, np.repeat(true[:, None], 200, axis=1), atol=0.15)


@pytest.fixture(scope="module")
def judged(trained: DVBF, unseen: Sequences) -> Evaluation:
    dreamer = Dreamer(trained)
    found = judge(unseen, 10, predict(dreamer, unseen, 10, roll_out(dreamer, unseen, 10)), WORLD)
    probes = probe_latents(filtered_latents(dreamer, unseen, jax.random.key(0)), unseen, WORLD)
    return dataclasses.replace(found, **probes)


def test_rows_are_what_they_are_called(judged: Evaluation, unseen: Sequences):
    truth = as_unit_frames(unseen.frames)
    ahead = truth[:, 10:]
    rows = judged.rows
    repeated = ((ahead - truth[:, 9:10]) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(rows["repeat last frame"]["mse"].value, repeated, rtol=1e-4)
    mean = ((ahead - truth.mean(axis=(0, 1))) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(rows["mean frame"]["mse"].value, mean, rtol=1e-4)
    for measure in ("mse", "angle_error_degrees", "energy_error"):
        at_ten = {name: row[measure].value[9] for name, row in rows.items() if measure in row}
        model = at_ten.pop("model")
        floor = at_ten.pop(FLOOR, 0)
        assert floor < model < min(at_ten.values())
    model = rows["model"]["mse"]
    assert all(low <= value <= high for low, value, high in zip(model.low, model.value, model.high, strict=True))
    assert judged.measures[0].name == "angle_error_degrees"
    assert judged.ceilings == [FLOOR]


def test_an_evaluation_is_written_as_it_is_and_read_back(
    judged: Evaluation, trained: DVBF, unseen: Sequences, tmp_path: Path
):
    samples = judge_samples(trained, unseen.take(slice(0, 8)), 10, 40, jax.random.key(0), WORLD)
    whole = dataclasses.replace(judged, samples=samples, model="dvbf", data="test.npz", left_out=["nothing"])
    for found in (judged, whole):
        write_json(tmp_path / "evaluation.json", dataclasses.asdict(found))
        assert read_evaluation(tmp_path / "evaluation.json") == found


PIXELS = ("Pixel MSE ×", "Pixel MSE / naive")


def test_the_table_shows_every_row_at_its_horizons(judged: Evaluation):
    assert shown_horizons(30) == [1, 10, 30]
    assert shown_horizons(45) == [1, 10, 30, 45]
    table = summary(judged).splitlines()
    assert (
        table[0] == "100 sequences, 10 frames observed, 30 imagined; a column headed by a number: after so many of them"
    )
    assert table[1].split()[-3:] == ["1", "10", "30"]
    errors = judged.rows["model"]["angle_error_degrees"].value
    assert table[2].split() == ["model", *(f"{errors[h - 1]:.3g}" for h in (1, 10, 30))]
    pixels = judged.rows["model"]["mse"].value
    first_row_of = {
        name: next(table[i + 1] for i, line in enumerate(table) if line.startswith(name)) for name in PIXELS
    }
    assert f"{1000 * pixels[9]:.2f}" in first_row_of["Pixel MSE ×"]
    naive = [judged.rows[name]["mse"].value for name in ("repeat last frame", "mean frame")]
    shares = [f"{pixels[h - 1] / min(errors[h - 1] for errors in naive):.3f}" for h in (1, 10, 30)]
    assert first_row_of["Pixel MSE / naive"].split() == ["model", *shares]


def test_columns_stand_below_each_other_whatever_a_row_is_called(judged: Evaluation):
    long = "position and angle and whatever else there is read off true frames"
    renamed = dataclasses.replace(judged, rows=judged.rows | {long: judged.rows["model"]})
    lines = [line for line in error_table(renamed).in_text().splitlines() if not line.startswith("Valid")]
    assert any(long in line for line in lines)
    assert len({len(line) for line in lines}) == 1


def test_a_probe_is_called_polynomial_where_it_is_one(judged: Evaluation):
    probed = dataclasses.replace(judged, r2_linear={"x": 0.5}, r2_polynomial={"x": 0.75})
    for degree, names in ((1, ["linear"]), (4, ["linear", "polynomial"])):
        table = probe_table(dataclasses.replace(probed, polynomial_degree=degree))
        assert [row.name for row in table.groups[0].rows] == names


def test_without_states_and_with_one_sequence_there_is_less_to_say(trained: DVBF, unseen: Sequences):
    alone = dataclasses.replace(unseen, states=None, state_names=()).take(slice(0, 1))
    dreamer = Dreamer(trained)
    predictions = predict(dreamer, alone, 10, roll_out(dreamer, alone, 10))
    assert set(predictions) == {"model", "repeat last frame", "mean frame", "zero actions"}
    row = judge(alone, 10, predictions, None).rows["model"]
    assert set(row) == {"mse", "psnr", "ssim"}
    assert row["mse"].low == row["mse"].value == row["mse"].high
    assert probe_latents(np.zeros((1, 40, 8)), alone, None) == {}


def test_without_a_world_states_are_plain_numbers(trained: DVBF, unseen: Sequences):
    latents = filtered_latents(Dreamer(trained), unseen, None)
    found = probe_latents(latents, unseen, None)
    assert list(found["r2_linear"]) == ["angle", "angular_velocity"]
    predictions = {"model": np.zeros_like(unseen.frames[:, 10:], np.float32)}
    assert set(judge(unseen, 10, predictions, None).rows["model"]) == {"mse", "psnr", "ssim"}


def test_a_polynomial_that_goes_astray_between_sequences_is_not_shown(unseen: Sequences):
    """Six long walks, each in a place of its own: what fits half of them says nothing of the others."""
    rng = np.random.default_rng(0)
    latents = np.cumsum(rng.normal(size=(6, 400, 4)) * 0.02, axis=1) + rng.normal(size=(6, 1, 4))
    value = latents.sum(axis=-1) + 0.05 * np.cumsum(rng.normal(size=(6, 400)), axis=1)
    data = dataclasses.replace(
        unseen,
        frames=np.zeros((6, 400, *unseen.frame_shape), np.uint8),
        actions=np.zeros((6, 399, 1), np.float32),
        states=value[..., None].astype(np.float32),
        state_names=("value",),
    )
    assert affordable_degree(1, 2400, 4) == 3
    assert probe_r2(latents, [(Variable("value", ""), value)], 2)["value"] < -1
    found = probe_latents(latents, data, None)
    assert found["polynomial_degree"] == 1
    assert found["r2_polynomial"] == found["r2_linear"]
    assert 0.5 < found["r2_linear"]["value"] < 0.9


class TwoPositions:
    """A world whose frames' first two pixels are its variables, each half of the brightness."""

    variables = (Variable("x", "m"), Variable("speed", "m/s"), Variable("turn", "rad", circular=True))
    visible = ("x", "turn")

    def reader(self, frames: np.ndarray, states: np.ndarray) -> jax.tree_util.Partial:
        return jax.tree_util.Partial(lambda frames: frames[..., :2])


def test_all_visible_variables_are_scored_each_in_its_own_way(trained: DVBF, unseen: Sequences):
    data = dataclasses.replace(
        unseen, states=np.zeros((100, 40, 3), np.float32), state_names=("x", "speed", "turn")
    ).take(slice(0, 6))
    samples = judge_samples(trained, data, 10, 12, jax.random.key(0), TwoPositions())
    read = reader_of(TwoPositions(), as_unit_frames(data.frames), data.states)
    [(_, _, shown)] = sample_futures(trained, data, 10, 12, jax.random.key(0), read)
    assert shown.shape == (12, 6, 30, 2)
    x = shown[..., 0].astype(np.float64)
    pairs = np.mean([np.abs(x[i] - x[j]) for i in range(12) for j in range(12) if i != j], axis=0)
    np.testing.assert_allclose(samples.crps, (np.abs(x).mean(axis=0) - pairs / 2).mean(axis=0), atol=1e-6)
    assert samples.unit == "m"


def test_samples_scatter_around_the_mean_rollout_more_and_more(trained: DVBF, unseen: Sequences):
    which = np.arange(20)
    truth = as_unit_frames(unseen.frames)
    read = reader_of(WORLD, truth, unseen.states)

    def sampled(which: np.ndarray, futures: int) -> np.ndarray:
        parts = sample_futures(trained, unseen.take(which), 10, futures, jax.random.key(0), read)
        return np.concatenate([shown for _, _, shown in parts], axis=1)[..., 0]

    shown = sampled(which, 40)
    assert shown.shape == (40, 20, 30)
    frames = roll_out(Dreamer(trained), unseen.take(which), 10).frames[:, 10:]
    mean = read(frames.reshape(20, 30, -1))[..., 0]
    centre = np.angle(np.exp(1j * shown).mean(axis=0))
    spread = np.median(degrees_apart(shown, centre), axis=(0, 1))
    assert np.median(degrees_apart(centre, mean), axis=0)[:5].max() < 3
    assert 0 < spread[0] < spread[10:].mean()
    again = sampled(which, 40)
    np.testing.assert_array_equal(again, shown)
    assert sampled(which[:3], 600).shape == (600, 3, 30)  # in two batches


def test_a_model_that_is_too_sure_is_told_so(trained: DVBF):
    """The same model with a thousandth of its noise covers less, and one with much more noise covers too much."""
    data = collect_pendulum(seed=3, sequences=60, length=25, params=PAPER, size=16)

    def covered(scale: float) -> np.ndarray:
        model = nnx.clone(trained)
        model.spread[...] = jnp.asarray(scale)
        found = judge_samples(model, data, 10, 20, jax.random.key(0), WORLD)
        assert found.reliability.nominal[4] == 0.5
        assert found.coverage["0.5"][9] == found.reliability.observed["10"][4]
        return np.array(found.coverage["0.9"])

    narrow, wide = covered(1e-3), covered(10.0)
    assert narrow[5:].mean() < 0.7
    assert wide[5:].mean() > 0.9
    assert np.all(np.array(judge_samples(trained, data, 10, 20, jax.random.key(0), WORLD).crps) > 0)


def test_pixels_are_scored_where_there_is_no_angle(trained: DVBF, unseen: Sequences):
    blind = dataclasses.replace(unseen, states=None, state_names=()).take(slice(0, 8))
    found = judge_samples(trained, blind, 10, 12, jax.random.key(0), None)
    assert found.unit == "brightness"
    assert len(found.crps) == 30
    assert 0 < found.crps[0] < 0.2
    assert np.all(np.array(found.coverage["0.9"]) > 0.8)  # sigma is larger than what is left of the frames
