"""ACTING.md from results/acting.json."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baselines.markdown import spread, table
from baselines.study.acting import ENTRIES
from worldmodel.support.files import atomic_write, read_json

HEAD = """
# Acting by imagining

Written by `make acting` from results/acting.json: models that were trained on pictures and random pushes, and then act
in the real Gymnasium environment by planning in what they dream, one decision after each frame, from the first frame
on. Every seed is a training of its own; all are tested on the same fresh starts, by which nothing was chosen. *Mean*
and *worst* are returns of an episode: median over the seeds (least to most). *Upright*: the share of episodes whose
last 50 states all lie within 15 degrees; *rest*: the median distance from upright in them. A *decision* is a filter
step and a plan, one at a time, on one core of a machine that did two such things at once. The planner is `cem` unless
it says otherwise.
"""

GOALS: tuple[tuple[str, str, str, Callable[[list[dict[str, Any]]], float], float, bool], ...] = (
    ("dvbf", "mean return, median seed", ".1f", lambda seeds: median(seeds, "mean"), -155, True),
    ("dvbf", "below the optimum", ".1f", lambda seeds: optimum(seeds) - median(seeds, "mean"), 15, False),
    ("dvbf", "upright, worst seed", ".1%", lambda seeds: min(s["outcomes"]["upright"] for s in seeds), 0.99, True),
    ("dvbf", "rest / degrees, median seed", ".2f", lambda seeds: median(seeds, "rest_degrees"), 2, False),
    ("dvbf", "worst episode of all", ".0f", lambda seeds: min(s["worst"] for s in seeds), -380, True),
    ("dvbf, 4000", "mean return, median seed", ".1f", lambda seeds: median(seeds, "mean"), -165, True),
    ("dvbf, goal", "mean return, median seed", ".1f", lambda seeds: median(seeds, "mean"), -175, True),
    ("dvbf, goal", "upright, median seed", ".1%", lambda seeds: median(seeds, "upright"), 0.97, True),
    ("dvbf, hanging", "mean return, median seed", ".1f", lambda seeds: median(seeds, "mean"), -165, True),
    ("dvbf, hanging", "frames in all", ",.0f", lambda seeds: seeds[0]["frames"], 20_000, False),
    ("dvbf, policy", "mean return, median seed", ".1f", lambda seeds: median(seeds, "mean"), -155, True),
    ("dvbf, policy", "seconds to learn it", ".0f", lambda seeds: median(seeds, "policy_seconds"), 30, False),
    ("dvbf", "ms a decision", ".1f", lambda seeds: 1000 * median(seeds, "seconds_per_decision"), 3, False),
)


def value(seed: dict[str, Any], name: str) -> float:
    """A figure of a seed, its own or its world's."""
    return float(seed[name] if name in seed else seed["outcomes"][name])


def median(seeds: list[dict[str, Any]], name: str) -> float:
    return statistics.median(value(seed, name) for seed in seeds)


def optimum(seeds: list[dict[str, Any]]) -> float:
    return float(seeds[0]["ceilings"]["optimum"])


def spread_of(seeds: list[dict[str, Any]], name: str, form: str) -> str:
    """Of a figure; "" where a seed lacks it."""
    if not all(name in seed or name in seed["outcomes"] for seed in seeds):
        return ""
    return spread([value(seed, name) for seed in seeds], form)


def write_acting_page(out: Path) -> None:
    """Write `out`/ACTING.md."""
    found = read_json(out / "results" / "acting.json")
    results: dict[str, list[dict[str, Any]]] = found["entries"]
    parts = [HEAD, f"On {found['machine']}.", "## Goals", goals_table(results)]
    for env in dict.fromkeys(entry.world.env for entry in ENTRIES.values()):
        mine = {name: seeds for name, seeds in results.items() if ENTRIES[name].world.env == env}
        if mine:
            parts += [f"## {env}", acting_table(mine)]
    rounds = {name: seeds for name, seeds in results.items() if "rounds" in seeds[0]}
    if rounds:
        parts += [
            "## The online loop, round by round (tests of ten episodes that start as the data does)",
            rounds_table(rounds),
        ]
    with atomic_write(out / "ACTING.md") as file:
        file.write(("\n\n".join(part.strip() for part in parts) + "\n").encode())


def goals_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """What is missed is bold."""
    rows = []
    for name, what, form, of, aim, at_least in GOALS:
        if name in results:
            found = of(results[name])
            met = found >= aim if at_least else found <= aim
            text = f"{found:{form}}"
            rows.append(
                [
                    f"`{name}`: {what}",
                    f"at {'least' if at_least else 'most'} {aim:{form}}",
                    text if met else f"**{text}**",
                ]
            )
    return table(["", "goal", "here"], rows)


def acting_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Floors, models, ceilings of one environment."""
    first = next(iter(results.values()))[0]
    rows = [[name, "", f"{mean:.1f}", *[""] * 6] for name, mean in first["floors"].items()]
    for name, seeds in results.items():
        check = ", ".join(dict.fromkeys(problem for seed in seeds for problem in seed["problems"])) or "healthy"
        check += "; warned of its reward" if any(seed["warnings"] for seed in seeds) else ""
        rows.append(
            [
                f"**`{name}`** {ENTRIES[name].about}",
                f"{len(seeds)} x {seeds[0]['episodes']}",
                *(spread_of(seeds, figure, ".1f") for figure in ("mean", "worst")),
                spread_of(seeds, "upright", ".1%") or spread_of(seeds, "ended", ".0%"),
                spread_of(seeds, "rest_degrees", ".2f"),
                f"{1000 * median(seeds, 'seconds_per_decision'):.1f}",
                f"{median(seeds, 'training_seconds'):.0f}",
                check,
            ]
        )
    for name, mean in first["ceilings"].items():
        rows.append([name, "", f"{mean:.1f}", f"{first['ceilings_worst'][name]:.1f}", *[""] * 5])
    heads = ["", "seeds x episodes", "mean", "worst", "upright, or ended", "rest / degrees", "ms a decision"]
    return table([*heads, "training / s", "check"], rows)


def rounds_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """What each round came to: medians over the seeds, in tests of a few episodes that start as the data does."""
    rows = []
    for name, seeds in results.items():
        for number, first in enumerate(seeds[0]["rounds"]):
            every = [seed["rounds"][number] for seed in seeds]
            cells = [f"{statistics.median(each[figure] for each in every):{form}}" for figure, form in ROUND_FIGURES]
            rows.append([f"`{name}`" if number == 0 else "", f"{number}", f"{first['frames']:,}", *cells])
    return table(["", "round", "frames", "near the best reward", "R^2 of the reward", "mean return"], rows)


ROUND_FIGURES = (("near_best", ".1%"), ("r2", ".3f"), ("mean", ".1f"))
