"""The benchmark of worlds and its page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worldmodel as wm
from baselines.study.worlds import ENTRIES, Entry, judged, one, prepare, ratios, strip_file
from baselines.study.worlds_page import draw_worlds, goals_table, shares_table
from worldmodel.support.files import read_json

REPOSITORY = Path(__file__).parents[2]


def seed(model: float, shuffled: float = 0.2) -> dict[str, Any]:
    rows = {"model": model, "repeat last frame": 0.2, "mean frame": 0.1, "shuffled actions": shuffled}
    return {
        "measure": {"name": "position_error", "title": "error", "factor": 10, "form": ".3f"},
        "rows": {row: {"mse": {"30": mse, "60": mse}, "position_error": {"30": mse}} for row, mse in rows.items()},
    }


def test_ratios_are_to_the_better_naive_predictor_of_each_horizon():
    found = seed(0.01)
    found["rows"]["repeat last frame"]["mse"] = {"30": 0.05, "60": 0.4}
    assert ratios(found) == pytest.approx({"30": 0.01 / 0.05, "60": 0.01 / 0.1})
    assert ratios(found, "shuffled actions") == pytest.approx({"30": 4, "60": 2})


def test_the_worst_seed_must_meet_a_goal_and_what_misses_it_is_bold():
    page = goals_table({"Acrobot-v1": [seed(0.001), seed(0.02)]})
    assert "share of naive, 30 frames ahead, worst seed | 0.1 | **0.200** |" in page
    assert "share of naive, 60 frames ahead, worst seed | 0.3 | 0.200 |" in page


def test_shuffled_actions_have_a_row_where_there_are_any():
    without = seed(0.01)
    del without["rows"]["shuffled actions"]
    assert "| shuffled |" in shares_table({"Acrobot-v1": [seed(0.01)]})
    assert "shuffled" not in shares_table({"rkn-pendulum": [without]})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed of a tiny entry, trained and judged."""
    folder = tmp_path_factory.mktemp("worlds")
    tiny = Entry("a ball", "ball", 20, 12, 8, 18, 5, training=(("steps", 3), ("hidden_size", 8)))
    prepare("ball", tiny, folder)
    assert one("ball", tiny, 0, folder).startswith("ball, seed 0: 1: ")
    assert one("ball", tiny, 0, folder) == ""  # it is kept
    return folder


def test_figures_of_an_entry_are_those_of_its_run(place: Path):
    found = read_json(place / "results" / "ball_0.json")
    test = wm.read(place / "data" / "ball_test.npz")
    run = wm.load(place / "runs" / "ball_train_0")
    belief = run.filter(test.frames[:, :5], test.actions[:, :4])
    frames = run.decode(run.imagine(run.last(belief), test.actions[:, 4:]))
    errors = ((frames - test.frames[:, 5:] / 255) ** 2).mean(axis=(0, 2, 3))
    assert [found["rows"]["model"]["mse"][h] for h in ("1", "10")] == pytest.approx(errors[[0, 9]], rel=1e-4)
    assert found["sequences"] == {"1": 8, "10": 8}
    assert (found["steps"], found["batch_size"], found["frames"]) == (3, 16, 240)
    physics = found["rows"]["true physics, state from five frames"]["position_error"]
    assert physics["1"] < 0.01 < found["rows"]["repeat last frame"]["position_error"]["1"]
    again, _ = judged(run, test, place / "data" / "ball_test.npz", 5)
    assert again["rows"]["model"]["mse"][10] == found["rows"]["model"]["mse"]["10"]


def test_a_strip_shows_the_sequence_with_the_median_error(place: Path, tmp_path: Path):
    test = wm.read(place / "data" / "ball_test.npz")
    with np.load(strip_file(place, "ball")) as strip:
        times, truth = strip["times"], strip["truth"]
    assert list(times) == [-4, 0, 1, 3, 5, 10]
    run = wm.load(place / "runs" / "ball_train_0")
    belief = run.filter(test.frames[:, :5], test.actions[:, :4])
    frames = run.decode(run.imagine(run.last(belief), test.actions[:, 4:]))
    ranking = np.argsort(((frames[:, :13] - test.frames[:, 5:] / 255) ** 2).sum(axis=(1, 2, 3)))
    np.testing.assert_array_equal(truth, test.frames[ranking[4], 4 + times])
    draw_worlds(tmp_path / "worlds.png", {"ball": strip_file(place, "ball")})
    assert (tmp_path / "worlds.png").stat().st_size > 1000


def test_the_worlds_of_the_results_are_known():
    assert set(ENTRIES) >= set(read_json(REPOSITORY / "results" / "worlds.json")["entries"])
