"""Figures of README and of the site's pages, made of results/*.json: marked blocks, and whole pages.

A block stands in a page between `<!-- result: NAME -->` and `<!-- /result -->`; its words come from BLOCKS, so a
figure in it cannot be another than the one that was measured.
"""

import re
import shutil
import statistics
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baselines.markdown import table
from baselines.speed.page import write_speed_page
from baselines.study.acting_page import spread_of, write_acting_page
from baselines.study.gaps_page import write_gaps_page
from baselines.study.page import PAPER_PROBES, summary, write_results_page
from baselines.study.rivals_page import by_setting, readme_table, write_rivals_page
from baselines.study.worlds_page import HORIZONS, ratios, write_worlds_page
from worldmodel.evaluation.record import read_evaluation
from worldmodel.planning.record import read_acted
from worldmodel.support.files import UserError, atomic_write, read_json

BLOCK = re.compile(r"(<!-- result: ([a-z-]+) -->\n)(.*?\n)(<!-- /result -->)", re.DOTALL)

PAGES: dict[str, Callable[[Path], None]] = {
    "RESULTS.md": write_results_page,
    "ACTING.md": write_acting_page,
    "WORLDS.md": write_worlds_page,
    "GAPS.md": write_gaps_page,
    "RIVALS.md": write_rivals_page,
    "SPEED.md": write_speed_page,
}
"""pages that are results from top to bottom, and what writes each below a folder that holds results/"""

DEMO_ROWS = (
    ("**median angle error / degrees**", "model", "angle_error_degrees", 1, "**{:.2f}**"),
    ("the same with shuffled actions", "shuffled actions", "angle_error_degrees", 1, "{:.2g}"),
    ("repeating the last frame", "repeat last frame", "angle_error_degrees", 1, "{:.2g}"),
    ("sequences within 30 degrees", "model", "share_within_30_degrees", 1, "{:.0%}"),
    ("**pixel MSE x 1000**", "model", "mse", 1000, "**{:.2g}**"),
    ("mean frame", "mean frame", "mse", 1000, "{:.2g}"),
)


def demo_figures(place: Path) -> dict[str, Any]:
    """What a finished demo gave, for results/demo.json. Raises UserError where it is not finished, or did not run in
    one go, which leaves no time to tell."""
    timed = read_json(place / "seconds.json")
    acted = read_acted(place / "dvbf" / "acting" / "cem")
    judged = read_evaluation(place / "dvbf" / "evaluation" / "evaluation.json")
    return {
        **timed,
        "seconds_per_decision": acted.seconds_per_decision,
        "returns": {"model": acted.returns, **acted.floors, **acted.ceilings},
        "sequences": judged.sequences,
        "context": judged.context,
        "rows": {
            row: {
                measure: {str(h): judged.rows[row][measure].at(h).value for h in judged.shown_horizons}
                for _, each, measure, *_ in DEMO_ROWS
                if each == row
            }
            for row in dict.fromkeys(row for _, row, *_ in DEMO_ROWS)
        },
    }


def demo(results: Path) -> str:
    """How the demo acted and dreamt."""
    found = read_json(results / "demo.json")
    mean = {row: statistics.mean(returns) for row, returns in found["returns"].items()}
    words = (
        f"In {found['seconds']:.0f} s on {found['machine']} (another machine rounds otherwise). Acting,"
        f" {len(found['returns']['model'])} fresh starts: mean return {mean['model']:.1f}; random actions"
        f" {mean['random actions']:.0f}, the same planner on the true physics"
        f" {mean['the same planner on the true physics']:.1f}, the optimum {mean['optimum']:.1f};"
        f" {1000 * found['seconds_per_decision']:.1f} ms a decision on one core. Dreaming, on"
        f" {found['sequences']} test sequences with random pushes, half of them held (no friction, speed"
        " clipped at 8 rad/s):"
    )
    rows = [
        [title, *(form.format(factor * value) for value in found["rows"][row][measure].values())]
        for title, row, measure, factor, form in DEMO_ROWS
    ]
    heads = list(next(iter(found["rows"]["model"].values())))
    return textwrap.fill(words, 120) + "\n\n" + table(["after this many imagined frames", *heads], rows)


def pendulum(results: Path) -> str:
    """The default model on the paper's pendulum, beside the paper and the true physics."""
    runs = read_json(results / "dvbf.json")["runs"]
    floors = read_json(results / "floors-and-ceilings.json")["rows"]
    horizons = ("10", "30", "60", "100", "500")

    def of_seeds(which: str) -> list[str]:
        probes = zip(*(run["r2_linear"].values() for run in runs), strict=True)
        of_probes = ", ".join(f"{summary(list(seeds), which):.3f}" for seeds in probes)
        errors = [[run["context_15"]["angle_error_degrees"][h] for run in runs] for h in horizons]
        of_errors = " / ".join(f"{summary(seeds, which, smaller_is_better=True):.2f}" for seeds in errors)
        return [f"**{of_probes}**", f"**{of_errors}**"]

    def of_floor(name: str, form: str) -> list[str]:
        return ["", " / ".join(f"{floors[name]['angle_error_degrees'][h]:{form}}" for h in horizons)]

    rows = [
        ["**DVBF, median of the seeds**", *of_seeds("median")],
        ["**worst seed, column by column**", *of_seeds("worst")],
        ["the paper's single run, on its data", ", ".join(cell.strip("*") for cell in PAPER_PROBES[0][3:6]), ""],
        [
            "true physics, state from a parabola through five frames",
            *of_floor("oracle: quadratic fit of 5 frames", ".1f"),
        ],
        [
            "true physics, state from the trajectory that fits five frames",
            *of_floor("oracle: shooting on 5 frames", ".1f"),
        ],
        ["always hanging down", *of_floor("always hanging down", ".2g")],
    ]
    heads = [
        "",
        "R^2 linear: sin, cos, velocity",
        f"median angle error in degrees, {' / '.join(horizons)} frames after 15",
    ]
    return table(heads, rows)


def rivals(results: Path) -> str:
    return readme_table(by_setting(read_json(results / "rivals.json")["entries"]))


def worlds(results: Path) -> str:
    """The error of imagined frames as a share of that of the better naive predictor, in every world: its worst seed."""

    def worst(seeds: list[dict[str, Any]], row: str, horizon: int, form: str) -> str:
        if row not in seeds[0]["rows"]:
            return "no actions"
        shares = [ratios(seed, row) for seed in seeds]
        most_telling = max if row == "model" else min
        return f"{most_telling(each[str(horizon)] for each in shares):{form}}" if str(horizon) in shares[0] else ""

    rows = [
        [
            name if " " in name else f"`{name}`",
            str(len(seeds)),
            *(worst(seeds, "model", horizon, ".3f") for horizon in HORIZONS),
            worst(seeds, "shuffled actions", 30, ".1f"),
        ]
        for name, seeds in read_json(results / "worlds.json")["entries"].items()
    ]
    return table(["frames imagined", "seeds", *map(str, HORIZONS), "30, with shuffled actions"], rows)


def acting(results: Path) -> str:
    """The mean returns of planning in dreams: median of the trainings (least to most)."""
    entries = read_json(results / "acting.json")["entries"]
    pendulum, car, hanging = (entries[name][0] for name in ("dvbf", "dvbf, car", "dvbf, hanging"))

    def of(name: str) -> list[str]:
        return [spread_of(entries[name], "mean", ".1f"), spread_of(entries[name], "upright", ".0%")]

    planner = "the same planner on the true physics"
    of_car = spread_of(entries["dvbf, car"], "mean", ".1f")
    starts = entries["dvbf, goal"][0]["episodes"]
    goal = f"the same, towards a picture of the upright pendulum, without a reward ({starts} starts)"
    rows = [
        ["random actions", f"{pendulum['floors']['random actions']:.0f}", "", f"{car['floors']['random actions']:.0f}"],
        [f"**{pendulum['frames']:,} frames of random pushes, `cem`**", *of("dvbf"), of_car],
        ["the same, by the policy learnt in the dream", *of("dvbf, policy"), ""],
        [goal, *of("dvbf, goal"), ""],
        [f"data that starts hanging, rounds of `improve.py`, {hanging['frames']:,} frames", *of("dvbf, hanging"), ""],
        [planner, f"{pendulum['ceilings'][planner]:.1f}", "", f"{car['ceilings'][planner]:.1f}"],
        ["the optimum, by dynamic programming", f"{pendulum['ceilings']['optimum']:.1f}", "", ""],
    ]
    heads = [
        "mean return: median of the trainings (least to most)",
        "Pendulum-v1",
        "upright at the end",
        "MountainCarContinuous-v0",
    ]
    return table(heads, rows)


BLOCKS: dict[str, Callable[[Path], str]] = {
    "acting": acting,
    "demo": demo,
    "pendulum": pendulum,
    "rivals": rivals,
    "worlds": worlds,
}


def check_page(path: Path, results: Path, write: bool = False) -> list[str]:
    """Which marked blocks of a page are not what the results say, in words; with `write` they are made so. Raises
    UserError where a mark has no block, or is not closed."""
    text, wrong = path.read_text(), []

    def made(found: re.Match[str]) -> str:
        start, name, words, end = found.groups()
        if name not in BLOCKS:
            raise UserError(f"{path}: <!-- result: {name} --> is none of {', '.join(BLOCKS)}")
        fresh = BLOCKS[name](results) + "\n"
        if fresh != words:
            line = text[: found.start()].count("\n") + 1
            wrong.append(f"{path}:{line}: {name} is not what {results} says")
        return start + fresh + end

    new = BLOCK.sub(made, text)
    if {text.count("<!-- result: "), text.count("<!-- /result -->")} != {len(BLOCK.findall(text))}:
        raise UserError(f"{path}: each <!-- result: NAME --> needs its <!-- /result -->, on lines of their own")
    if write and new != text:
        with atomic_write(path) as file:
            file.write(new.encode())
    return wrong


def check_made(name: str, repository: Path) -> list[str]:
    """Whether a page of PAGES is what its script would write now, in words."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(repository / "results", Path(place) / "results")
        (Path(place) / "docs").mkdir()
        PAGES[name](Path(place))
        same = (Path(place) / name).read_text() == (repository / name).read_text()
    return [] if same else [f"{repository / name}: is not what {repository / 'results'} says"]
