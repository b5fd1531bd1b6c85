"""The benchmark of rivals and its page."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import worldmodel as wm
from baselines.options import DKFOptions
from baselines.study import rivals, rivals_lineup, rivals_scores
from baselines.study.rivals import best, chosen, data_of, one, one_trial, pair, prepare, trained_alike, trial
from baselines.study.rivals_lineup import CONTENDERS, SETTINGS, Contender, Setting
from baselines.study.rivals_page import (
    by_setting,
    data_table,
    draw_rivals,
    figures_table,
    of_ended,
    pixels_table,
    trials_table,
)
from baselines.study.rivals_scores import expected_frames, strip_file
from baselines.study.worlds import Entry
from worldmodel.models.catalogue import MODELS
from worldmodel.support.files import UserError, read_json, write_json

REPOSITORY = Path(__file__).parents[2]


def test_every_contender_is_a_model_with_as_many_trials_of_options_that_it_has():
    for name, contender in CONTENDERS.items():
        assert MODELS.options(contender.model) is type(contender.options)
        fields = set(vars(contender.options)) | {"learning_rate"}
        assert all(set(trial) <= fields for trial in contender.trials())
        assert type(contender.options)(**contender.changed()) == contender.options
        if contender.like is None:
            assert len({str(trial) for trial in contender.trials()}) == 6, name
        else:
            assert CONTENDERS[contender.like].model == contender.model


def test_the_trial_with_the_least_error_is_taken_and_one_that_broke_never_is():
    trials = [{"options": {"learning_rate": rate}, "score": score} for rate, score in ((1, None), (2, 0.3), (3, 0.2))]
    assert best("rssm", [trials]) == {"learning_rate": 3}
    with pytest.raises(UserError, match=r"^rssm: not one of its trials came to an end$"):
        best("rssm", [trials[:1]])


def test_of_two_settings_the_least_geometric_mean_is_taken():
    options = [{"learning_rate": rate} for rate in (1, 2, 3)]
    here, there = (
        [{"options": each, "score": score} for each, score in zip(options, scores, strict=True)]
        for scores in ((0.01, 0.06, 0.001), (0.5, 0.4, None))
    )
    assert best("rssm", [here]) == options[2]
    assert best("rssm", [there]) == options[1]
    assert best("rssm", [here, there]) == options[0]  # .07 and not .15; the arithmetic means are .26 and .23


def test_the_page_lists_every_trial_and_marks_what_was_best_in_each_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CONTENDERS, "rssm", dataclasses.replace(CONTENDERS["rssm"], rates=(1, 2), tried={"width": 7}))
    options = CONTENDERS["rssm"].trials()
    here, there = (
        [{"options": each, "score": score} for each, score in zip(options, scores, strict=False)]
        for scores in ((0.2, None, 0.1, 0.3), (0.3, 0.4))
    )
    page = trials_table({trial("pendulum", "rssm"): here, trial("ball", "rssm"): there})
    assert "| share of naive | options | pendulum, after 10 and 30 | ball, after 10 |" in page
    assert "| rssm | learning_rate 1 | 0.200 | **0.300** |" in page
    assert "| rssm | learning_rate 2 | not a number | 0.400 |" in page
    assert "| rssm | learning_rate 1, width 7 | **0.100** |  |" in page


def test_expected_frames_are_the_mean_of_many_noisy_ones():
    frames = np.array([[0, 20, 128, 255]], np.uint8)
    noisy = frames / 255 + 0.1 * np.random.default_rng(0).standard_normal((100_000, 1, 4))
    np.testing.assert_allclose(expected_frames(frames, 0.1), 255 * np.clip(noisy, 0, 1).mean(axis=0), atol=0.7)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials and two seeds of a tiny contender, in a setting with noise."""
    folder = tmp_path_factory.mktemp("rivals")
    entry = Entry("a pendulum", "pendulum", 20, 15, 8, 45)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "STEPS", 2)
        patch.setattr(rivals_scores, "SAMPLED_HORIZON", 30)
        patch.setattr(rivals_scores, "FUTURES", 39)
        patch.setattr(rivals, "PROBED", 20)
        patch.setattr(rivals, "SHOWN_SETTING", "pendulum")
        patch.setitem(SETTINGS, "pendulum", Setting(entry, noise=0.1))
        patch.setitem(rivals_lineup.MODELS, DKFOptions, "dkf")
        patch.setitem(CONTENDERS, "dkf", Contender("", DKFOptions(feature_size=8), (1e-4,), {"hidden_size": 8}))
        patch.setenv("XLA_FLAGS", "")
        prepare({"pendulum": SETTINGS["pendulum"]}, folder)
        for number in range(2):
            assert one_trial("pendulum", "dkf", number, folder).startswith("pendulum, dkf, {'learning_rate': ")
            assert one_trial("pendulum", "dkf", number, folder) == ""
        tried = [read_json(folder / "results" / f"trial_pendulum_dkf_{number}.json") for number in range(2)]
        assert chosen("pendulum", "dkf", folder) == min(tried, key=lambda each: each["score"])["options"]
        assert one("pendulum", "dkf", 0, folder).startswith("pendulum, dkf, seed 0: 1: ")
        assert one("pendulum", "dkf", 0, folder) == ""  # it is kept
        with pytest.raises(UserError, match=r"pendulum_train_dkf_0: was trained with another latent_size; delete it$"):
            trained_alike("dkf", Path(), folder / "runs" / "pendulum_train_dkf_0", 0, {"latent_size": 5})
    return folder


def test_figures_of_a_contender_are_those_of_its_run_against_clean_frames(place: Path):
    found = read_json(place / "results" / "pendulum_dkf_0.json")
    seen, clean = (wm.read(data_of("pendulum", part, place)) for part in ("test", "expected"))
    np.testing.assert_array_equal(seen.actions, clean.actions)
    assert np.abs(seen.frames / 255 - clean.frames / 255).mean() > 0.03
    assert clean.frames.min() == 10  # black, with noise of a tenth of which the negative half is cut off
    run = wm.load(place / "runs" / "pendulum_train_dkf_0")
    belief = run.last(run.filter(seen.frames[:, :15], seen.actions[:, :14]))
    errors = (run.decode(run.imagine(belief, seen.actions[:, 14:])) - clean.frames[:, 15:] / 255) ** 2
    assert found["rows"]["model"]["mse"]["10"] == pytest.approx(errors.mean(axis=(0, 2, 3))[9], rel=1e-4)
    drawn = run.imagine(
        run.last(run.filter(seen.frames[:, :15], seen.actions[:, :14], key=jax.random.key(0))),
        seen.actions[:, 14:],
        jax.random.key(1),
    )
    sampled = ((run.decode(drawn) - clean.frames[:, 15:] / 255) ** 2).mean(axis=(0, 2, 3))
    assert found["sample_mse"]["30"] == pytest.approx(sampled[29], rel=0.3)  # other samples of the same
    assert found["steps"] == 2
    assert found["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(run.run.load()))
    assert not found["learnt"]
    assert set(found["coverage"]["0.9"]) == {"1", "10", "30"}


def test_a_strip_shows_the_first_sequence(place: Path, tmp_path: Path):
    with np.load(strip_file("dkf", place)) as strip:
        np.testing.assert_array_equal(
            strip["truth"], wm.read(data_of("pendulum", "test", place)).frames[0, 14 + strip["times"]]
        )
    found = read_json(place / "results" / "pendulum_dkf_0.json")
    (tmp_path / "docs").mkdir()
    write_json(tmp_path / "results" / "rivals.json", {"entries": {pair("pendulum", "dvbf"): [found]}})
    draw_rivals(tmp_path, {"dvbf": strip_file("dkf", place)})
    assert (tmp_path / "docs" / "rivals.png").stat().st_size > 10_000


def seed(mse: float, parameters: int = 10) -> dict[str, Any]:
    rows = {"model": mse, "repeat last frame": 0.2, "mean frame": 0.1}
    return {
        "measure": {"name": "angle_error", "title": "error", "factor": 10, "form": ".1f"},
        "rows": {row: {"mse": {"10": value, "30": value}, "angle_error": {"10": value}} for row, value in rows.items()},
        "sample_mse": {"10": 2 * mse, "30": 3 * mse},
        "learnt": mse < 0.05,
        "valid_frames": 7.0,
        "r2_linear": {"a": 0.5, "b": 0.25},
        "r2_polynomial": {"a": 0.75},
        "coverage": {"0.9": {"30": 0.5}},
        "crps": {"unit": "rad", "10": 0.1, "30": 0.2},
        "parameters": parameters,
        "training_seconds": 3.0,
    }


def test_tables_have_the_median_and_the_range_of_the_seeds():
    contenders = {"rssm": [seed(0.02), seed(0.03), seed(0.09)]}
    pixels = pixels_table(contenders)
    assert "| **rssm**, mean | 0.300 (0.200 to 0.900) | 0.300 (0.200 to 0.900) |" in pixels
    assert "| one sample | 0.600 (0.400 to 1.800) | 0.900 (0.600 to 2.700) |" in pixels
    assert "| **rssm** | 2/3 | 7 | 0.250 | 0.750 | 50% | 0.100 | 0.200 | 10 | 3 |" in figures_table(contenders)


def test_a_seed_that_diverged_counts_as_one_that_has_not_learnt_and_nowhere_else():
    contenders = {"rssm": [seed(0.02), {"diverged": "loss is no longer a number"}]}
    assert "| **rssm** | 1/2 | 7 | 0.250 |" in figures_table(contenders)
    assert of_ended(contenders) == {"rssm": contenders["rssm"][:1]}
    assert of_ended({"rssm": contenders["rssm"][1:]}) == {}


def test_the_table_of_data_is_by_the_number_of_sequences():
    results: Any = {"pendulum, 100": {"rssm": [seed(0.09)]}, "pendulum": {"rssm": [seed(0.02)]}}
    for each in results.values():
        for run in each["rssm"]:
            run["rows"]["model"]["angle_error"]["30"] = 2 * run["rows"]["model"]["angle_error"]["10"]
    page = data_table(results)
    assert "| **rssm** after 10 | 0.9 | 0.2 |" in page
    assert "| after 30 | 1.8 | 0.4 |" in page


def test_the_contenders_of_the_results_are_known():
    found = read_json(REPOSITORY / "results" / "rivals.json")
    assert {name for contenders in by_setting(found["entries"]).values() for name in contenders} <= set(CONTENDERS)
