"""Seconds to quality, and what was aimed at: the first two tables of SPEED.md."""

import dataclasses
import math
from collections.abc import Callable
from statistics import median
from typing import Any

from baselines.markdown import table
from baselines.speed.rates import MISSING, divided, matmul_share, number, over_twin, ratios, spread

PAPER_R2 = (0.961, 0.982, 0.916)
"""Karl et al. 2017, Table 1"""
GOOD_R2, GOOD_DEGREES = 0.99, 0.5


@dataclasses.dataclass(frozen=True)
class Goal:
    """What was aimed at, and what came of it: whether the median of the values is at least, or at most, so much."""

    what: str
    values: list[float] | None
    """None: not measured; empty: never reached"""
    least: float = 0
    most: float = math.inf
    possible: str = ""
    """the ratio to PyTorch of a program that does nothing but its matrix products"""

    def row(self, before: float | None) -> list[str]:
        """A line of the table."""
        aim = (
            f"at most {self.most:g}" if self.most < math.inf else f"at least {self.least:g}" if self.least else MISSING
        )
        earlier = MISSING if before is None else number(before)
        limit = self.possible and f": {self.possible} with nothing but the matrix products"
        met = self.values and self.least <= median(self.values) <= self.most
        verdict = MISSING if aim == MISSING or self.values is None else "met" if met else f"**missed**{limit}"
        return [self.what, aim, spread(self.values or []), verdict, earlier]


def goals(found: dict[str, Any]) -> list[Goal]:
    """All of them."""
    one, (alone, *_, most) = found["one_core"], found["all_cores"]["growth"]["seeds"]
    share = matmul_share(one["limits"])
    more = {
        "training": over_twin(median(one["training"]["dvbf"]) / share, one["training"]),
        "imagining": over_twin(median(one["imagining"]["matmuls"]), one["imagining"]),
    }
    step = 1 / median(one["default_training"]["dvbf"])
    first, scripts = found["first_use"]["dvbf"], found["scripts"]

    def over(what: str, kind: str, unit: str, least: float) -> Goal:
        what = f"{what}, one thread: {unit}/s over those of PyTorch"
        return Goal(what, ratios(one[kind]) or None, least=least, possible=more[kind])

    def seconds_to(reached: Callable[[dict[str, Any]], bool]) -> list[float]:
        """Of the first of the measured numbers of steps that does."""
        return [point["steps"] * step for point in found["quality"] if reached(point)][:1]

    return [
        Goal(f"the paper's linear R^2 {PAPER_R2} in every seed, s", seconds_to(as_good_as_the_paper), most=2),
        Goal(
            f"polynomial R^2 of {GOOD_R2:g} and {GOOD_DEGREES:g} degrees at all horizons, median seed, s",
            seconds_to(lambda point: good(point, median, median)),
            most=10,
        ),
        Goal(
            "the same in every seed, s (no aim)",
            seconds_to(lambda point: good(point, min, max)),
        ),
        Goal("from a start to the DVBF's first update, empty cache, s", [first["cold"]["from_start"]], most=5),
        Goal("the same, warm cache, s", [first["warm"]["from_start"]], most=1.5),
        Goal(
            "scripts/evaluate.py, 60 sequences of 100 frames, all pictures, empty cache, s",
            scripts["evaluate.py"]["cold"],
            most=20,
        ),
        Goal("make demo once installed, empty cache, s", found["demo"] or None, most=120),
        over("training", "training", "steps", 6),
        Goal("the matrix products of a training step alone, over the step, %", [100 * share], least=35),
        over("imagined rollouts of 64, decoded", "imagining", "frames", 5),
        Goal("a filter step, one thread: median, microseconds", [1e6 * one["latency"]["dvbf step"][0]], most=150),
        Goal(
            f"{most['value']} seeds at once on all cores: time for each, over that of one",
            divided(alone["dvbf"], most["dvbf"]),
            most=1,
        ),
        Goal("scripts/imagine.py as a whole, warm cache, s", scripts["imagine.py"]["warm"], most=8),
    ]


def as_good_as_the_paper(point: dict[str, Any]) -> bool:
    """Whether every seed reaches the paper's R^2."""
    return all(r2 >= paper for run in point["runs"] for r2, paper in zip(run["r2_linear"], PAPER_R2, strict=True))


def good(point: dict[str, Any], of_r2: Callable, of_degrees: Callable) -> bool:
    """Whether the median, or the worst, of the seeds has every R^2 and every angle error good."""
    r2 = [of_r2(values) for values in zip(*(run["r2_polynomial"] for run in point["runs"]), strict=True)]
    degrees = [of_degrees(values) for values in zip(*(run["degrees"] for run in point["runs"]), strict=True)]
    return min(r2) >= GOOD_R2 and max(degrees) <= GOOD_DEGREES


def medians_of_goals(found: dict[str, Any]) -> dict[str, float]:
    """Of each goal that was measured, by what it says; nothing of results of another version."""
    try:
        return {goal.what: median(goal.values) for goal in goals(found) if goal.values}
    except (KeyError, TypeError, ValueError):
        return {}


def goals_table(found: dict[str, Any]) -> str:
    before = found.get("before", {"goals": {}})["goals"]
    return table(["", "goal", "here", "", "committed"], [goal.row(before.get(goal.what)) for goal in goals(found)])


def before_where(found: dict[str, Any]) -> str:
    """On which machine the committed figures were measured."""
    if "before" not in found or not found["before"]["goals"]:
        return "by another version of this page, and is left out"
    machine = found["before"]["machine"]
    return "on the same kind of machine" if machine == found["machine"] else f"on {machine}: compare the ratios alone"


def quality_table(found: dict[str, Any]) -> str:
    """For each number of steps what it takes and what it gives."""
    rates, rows = found["one_core"]["default_training"], []

    def seeds(runs: list[dict[str, Any]], key: str, worst: Callable, form: str) -> str:
        columns = list(zip(*(run[key] for run in runs), strict=True))
        middle, least = (" / ".join(f"{each(values):{form}}" for values in columns) for each in (median, worst))
        return f"{middle} ({least})"

    for point in found["quality"]:
        runs, steps = point["runs"], point["steps"]
        ours, twin = (number(steps / median(rates[who])) if who in rates else MISSING for who in ("dvbf", "twin"))
        linear, polynomial = (seeds(runs, key, min, ".3f") for key in ("r2_linear", "r2_polynomial"))
        rows.append([f"{steps:,}", ours, twin, linear, polynomial, seeds(runs, "degrees", max, ".2f")])
    return table(["steps", "s", "PyTorch, s", "R^2 linear: sin / cos / velocity", "R^2 polynomial", "degrees"], rows)
