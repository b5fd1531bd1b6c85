"""The marked figures of README, of the site's pages and of the pages of results, against results/*.json."""

import json
from pathlib import Path

import pytest

from baselines.study import figures
from baselines.study.figures import BLOCKS, DEMO_ROWS, PAGES, check_made, check_page, demo, demo_figures
from worldmodel.support.files import UserError

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "results"


def test_every_marked_figure_is_right():
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    assert [line for page in pages for line in check_page(page, RESULTS)] == []
    used = [name for page in pages for _, name, *_ in figures.BLOCK.findall(page.read_text())]
    assert sorted(used) == sorted(BLOCKS)  # each is said in one place


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_of_results_are_made_of_the_results(name: str):
    assert check_made(name, REPOSITORY) == []


def test_a_figure_of_one_s_own_is_found_and_written_anew(tmp_path: Path):
    right = f"before\n\n<!-- result: worlds -->\n{BLOCKS['worlds'](RESULTS)}\n<!-- /result -->\n\nafter 0.001\n"
    page = tmp_path / "page.md"
    page.write_text(right.replace("0.026", "0.025", 1))
    assert check_page(page, RESULTS) == [f"{page}:3: worlds is not what {RESULTS} says"]
    assert "0.025" in page.read_text()
    assert len(check_page(page, RESULTS, write=True)) == 1
    assert page.read_text() == right
    assert check_page(page, RESULTS) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- result: world -->\n1\n<!-- /result -->\n", "<!-- result: world --> is none of acting, demo, "),
        ("<!-- result: worlds -->\n1\n", "each .* needs its"),
        ("<!-- result: worlds -->\n1\n<!-- result: rivals -->\n<!-- /result -->\n", "each .* needs its"),
    ],
)
def test_a_mark_that_means_nothing_is_no_silence(tmp_path: Path, text: str, words: str):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match=words):
        check_page(page, RESULTS)
    assert page.read_text() == text


def test_a_page_of_other_results_is_found(tmp_path: Path):
    (tmp_path / "results").mkdir()
    found = json.loads((RESULTS / "gaps.json").read_text())
    (tmp_path / "results" / "gaps.json").write_text(json.dumps(found | {"machine": "an abacus"}))
    (tmp_path / "GAPS.md").write_text((REPOSITORY / "GAPS.md").read_text())
    assert check_made("GAPS.md", tmp_path) == [f"{tmp_path / 'GAPS.md'}: is not what {tmp_path / 'results'} says"]


def test_a_demo_that_was_stopped_is_not_published(tmp_path: Path):
    with pytest.raises(UserError, match=r"seconds\.json"):
        demo_figures(tmp_path)


def test_the_demo_s_words_by_hand(tmp_path: Path):
    rows: dict = {}
    for _, row, measure, factor, _ in DEMO_ROWS:
        rows.setdefault(row, {})[measure] = {"1": 0.5 / factor, "90": 0.25 / factor}
    returns = {"model": [-100, -200], "random actions": [-1000], "zero actions": [0]}
    returns |= {"the same planner on the true physics": [-140], "optimum": [-130.26]}
    found = {
        "seconds": 99.6,
        "seconds_per_decision": 0.0025,
        "machine": "1 core",
        "returns": returns,
        "sequences": 7,
        "context": 10,
        "rows": rows,
    }
    (tmp_path / "demo.json").write_text(json.dumps(found))
    words = demo(tmp_path)
    said = " ".join(words.split())
    assert said.startswith(
        "In 100 s on 1 core (another machine rounds otherwise). Acting, 2 fresh starts: mean return -150.0;"
    )
    assert (
        "random actions -1000, the same planner on the true physics -140.0, the optimum -130.3; 2.5 ms a decision"
        in said
    )
    assert "on 7 test sequences" in said
    assert "| **median angle error / degrees** | **0.50** | **0.25** |" in words
    assert "| sequences within 30 degrees | 50% | 25% |" in words
    assert "| mean frame | 0.5 | 0.25 |" in words
