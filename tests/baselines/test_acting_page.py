"""The page of the benchmark of acting."""

from pathlib import Path
from typing import Any

from baselines.study.acting import ENTRIES, data_of, together
from baselines.study.acting_page import goals_table
from baselines.study.kept import finished, result
from worldmodel.support.files import write_json

REPOSITORY = Path(__file__).parents[2]


def seed(mean: float, **more: Any) -> dict[str, Any]:
    found = {"mean": mean, "worst": mean - 200, "seconds_per_decision": 0.002, "frames": 24_000}
    return found | {"outcomes": {"upright": 1.0, "rest_degrees": 1.5}, "ceilings": {"optimum": -138.0}} | more


def test_what_misses_its_goal_is_bold():
    page = goals_table({"dvbf": [seed(-150), seed(-160), seed(-149)]})
    assert "| `dvbf`: mean return, median seed | at least -155.0 | -150.0 |" in page
    assert "| `dvbf`: below the optimum | at most 15.0 | 12.0 |" in page
    assert "| `dvbf`: worst episode of all | at least -380 | -360 |" in page
    assert "| `dvbf`: mean return, median seed | at least -155.0 | **-160.0** |" in goals_table({"dvbf": [seed(-160)]})


def test_entries_that_act_with_the_same_training_go_together(tmp_path: Path):
    groups = together(ENTRIES, tmp_path)
    assert sorted(name for group in groups for name in group) == sorted(ENTRIES)
    for group in groups:
        assert len({(data_of(ENTRIES[name], tmp_path), ENTRIES[name].model) for name in group}) == 1


def test_finished_seeds_are_found_under_their_own_entry(tmp_path: Path):
    for name in ("dvbf", "dvbf, policy"):
        for number in (10, 2):
            write_json(result(tmp_path, name, number), seed(-100 - number))
    found = finished(tmp_path, ENTRIES)
    assert {name: [each["mean"] for each in seeds] for name, seeds in found.items()} == {
        "dvbf": [-102, -110],
        "dvbf, policy": [-102, -110],
    }
