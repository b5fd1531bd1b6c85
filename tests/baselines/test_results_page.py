import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SCRIPTS

from baselines.study.page import goals_table, number, read_results, summary, write_results_page
from worldmodel.support.files import UserError

RESULTS = SCRIPTS.parent / "results"


def test_the_worst_seed_is_the_largest_error_and_the_smallest_r2():
    assert summary([0.3, 0.1, 0.2], "worst", smaller_is_better=True) == 0.3
    assert summary([0.3, 0.1, 0.2], "best", smaller_is_better=True) == 0.1
    assert summary([0.3, 0.1, 0.2, 0.4], "median", smaller_is_better=True) == pytest.approx(0.25)
    assert summary([0.3, 0.1, 0.2], "worst") == 0.1
    assert summary([0.3, 0.1, 0.2], "median") == 0.2


def test_a_seed_without_a_number_is_the_worst_and_is_shown_as_failed():
    for smaller_is_better in (True, False):
        values = [0.3, None, 0.2]
        assert number(summary(values, "worst", smaller_is_better), ".2f") == "failed"
        assert number(summary(values, "median", smaller_is_better), ".2f") in ("0.20", "0.30")


def test_goals_are_met_or_bold():
    def run(degrees: float, share: float) -> dict[str, Any]:
        errors = dict.fromkeys(("1", "10", "30", "60", "100"), degrees)
        coverage = {level: dict.fromkeys(("10", "30", "60"), share) for level in ("0.5", "0.9")}
        return {"context_15": {"angle_error_degrees": errors}, "coverage": coverage}

    page = goals_table({"dvbf": {"runs": [run(0.2, 0.5), run(0.24, 0.5), run(0.6, 0.9)]}})
    assert "`dvbf`: degrees, the paper's pendulum | 10 / 30 / 60 / 100 | 0.25 | 0.24 / 0.24 / 0.24 / 0.24 |" in page
    assert "the worst seed | 10 / 30 / 60 / 100 | 0.50 | **0.60** / **0.60** / **0.60** / **0.60** |" in page
    assert "`dvbf`: coverage of 50% intervals | 10 / 30 / 60 | 42% to 58% | 50% / 50% / 50% |" in page
    assert "`dvbf`: coverage of 90% intervals | 10 / 30 / 60 | 85% to 95% | **50%** / **50%** / **50%** |" in page
    frictionless = goals_table({"dvbf-large-frictionless": {"runs": [run(0.7, 0.5)]}})
    assert "| 10 / 30 / 60 / 100 | 0.50 / 1.00 / 2.00 / 4.00 | **0.70** / 0.70 / 0.70 / 0.70 |" in frictionless


def test_the_page_in_the_repository_is_made_of_the_results_in_the_repository(tmp_path: Path):
    (tmp_path / "results").symlink_to(RESULTS)
    write_results_page(tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == (RESULTS.parent / "RESULTS.md").read_text()


def test_every_seed_of_the_repositorys_results_is_there():
    results = read_results(RESULTS.parent)
    assert {"dvbf", "dvbf-w-inference", "paper-dvbf", "dkf", "static-vae"} <= set(results)
    for name, data in results.items():
        assert [run["seed"] for run in data["runs"]] == list(range(len(data["runs"]))), name


def test_a_file_of_another_version_is_told_by_name(tmp_path: Path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "dvbf.json").write_text(json.dumps({"model": "dvbf", "runs": []}))
    with pytest.raises(UserError, match=r"dvbf\.json: written by another version"):
        read_results(tmp_path)
    of_another_recipe = json.loads((RESULTS / "dvbf.json").read_text())
    of_another_recipe["options"]["final_noise_scale"] = 0.5
    (tmp_path / "results" / "dvbf.json").write_text(json.dumps(of_another_recipe))
    with pytest.raises(UserError, match=r"dvbf\.json: its model had other options"):
        read_results(tmp_path)
