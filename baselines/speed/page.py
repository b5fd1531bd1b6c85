"""SPEED.md and docs/speed.png from results/speed.json."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from baselines.markdown import table
from baselines.speed.figure import draw_costs
from baselines.speed.measures import CONTEXT, HIDDEN_SIZE, IMAGINED, QUALITY_HORIZONS, VAE_BATCH, Rates, Setting
from baselines.speed.scale import scale_section
from baselines.speed.tried import TRIED
from worldmodel.support.files import UserError, atomic_write, read_json
from worldmodel.training.options import Recipe

SHOWN_SHAPES = 12
MISSING = "-"
GIGA, MEGA = 1e9, 1e6
FIRST_USES = {
    "imports": "importing it all",
    "dvbf": "from the imports to the DVBF's first update",
    "vae": "from the imports to the static VAE's first update",
    "roll_out": "from the imports to the DVBF's first 64 rollouts",
    "twin": "from the imports to the first update of PyTorch's DVBF",
}
SCRIPTS = {
    "train.py": "scripts/train.py as a whole: 100 steps, a look, its pictures",
    "imagine.py": "scripts/imagine.py, 60 sequences of 100 frames",
    "evaluate.py": "scripts/evaluate.py, the same",
    "report.py": "scripts/report.py",
    "play.py": "scripts/play.py, until its page can be opened",
}
PAPER_R2 = (0.961, 0.982, 0.916)
"""Karl et al. 2017, Table 1"""
GOOD_R2, GOOD_DEGREES = 0.99, 0.5
ROWS = (
    ("training", "dvbf", "DVBF, training, steps/s", 1),
    ("training", "dvbf", "the same, frames/s", Setting.batch * Setting.length),
    ("training", "vae", f"static VAE, training, {VAE_BATCH} frames a step, steps/s", 1),
    ("training", "vae", "the same, frames/s", VAE_BATCH),
    ("imagining", "dvbf", f"DVBF, {Setting.batch} rollouts of {IMAGINED} frames, decoded, frames/s", 1),
    ("imagining", "roll_out", "the same after five observed frames, as scripts/imagine.py has it, frames/s", 1),
)
"""of the table of rates: kind of measurement, name of the rate, what the page calls it, factor"""


def write_speed_page(out: Path) -> None:
    """Write SPEED.md and docs/speed.png from `out`/results/speed.json. Raises UserError when that is not there or of
    another version."""
    path = out / "results" / "speed.json"
    found = read_json(path)
    try:
        page = speed_page(found)
        draw_costs(out / "docs" / "speed.png", found)
    except (KeyError, TypeError):
        raise UserError(f"{path}: written by another version of the benchmark; delete it") from None
    with atomic_write(out / "SPEED.md") as file:
        file.write(page.encode())


def speed_page(found: dict[str, Any]) -> str:
    """The page, in Markdown."""
    one, collected = found["one_core"], found["all_cores"]["collecting"]
    limits, products = one["limits"], one["limits"]["products"]
    floor, update = total(products, "seconds"), 1 / median(limits["rates"]["update"])
    updates, frames = median(one["training"]["dvbf"]) * update / floor, median(one["imagining"]["matmuls"])
    more_updates, more_frames = over_twin(updates, one["training"]), over_twin(frames, one["imagining"])
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items())

    return f"""# Speed

Written by `make bench` from results/speed.json.{" A quick try: the figures are rough." * found["quick"]}
{found["machine"]}, with a load of {found["load"]:g} from other work when it began; {versions};
{found["minutes"]:g} minutes.

The DVBF has {limits["parameters"]:,} parameters (hidden size {HIDDEN_SIZE} rather than 128, all else the defaults),
float32, and is trained on windows of {Setting.length} frames 16 x 16, {Setting.batch} at a time, as `train.py` does it.
*PyTorch* is its twin, `baselines/speed/torch_dvbf.py`: the same model, objective, optimiser and schedules, held to the
same losses and gradients by a test; networks are batched over time, a Python loop runs over the steps of the filter.

What is compared takes turns in one process, {found["turn_seconds"]:g} s of each, {found["turns"]} times. Figures are
medians over the turns (smallest to largest); a ratio is taken turn by turn. *One thread*: one core, and one thread on
it. On several cores PyTorch's threads wait for one another: other work on the machine slows them most.

## Seconds to quality

The DVBF with the defaults (batches of {Recipe.batch_size}, hidden size 128) but for the number of steps, over which the
schedules stretch; the paper's pendulum, {len(found["quality"][0]["runs"])} seeds, data that served for no choice.
Seconds are those of the updates, on one thread, after compilation; *PyTorch* is the twin with the same recipe. R^2 is
that of a linear probe, as the paper has it, and of a polynomial one. Degrees are median angle errors after {CONTEXT}
observed and {" / ".join(map(str, QUALITY_HORIZONS))} imagined frames. Median seed (worst seed). Each line is a training
of its own: the goals below take the first line that reaches them. Later ones may fall below it again, for latents bend
while angles get better.

{quality_table(found)}

## Goals

What is committed was measured {before_where(found)}.

{goals_table(found)}

## Rates

{rates_table(found)}

Frames 16 x 16 are collected at {spread(collected["frames"], 1e-3)} thousand a second, in NumPy, two million in a call;
{1 / median(collected["calls"]):.1f} s of it are what the smallest call costs, too.

## One frame at a time

Microseconds from a uint8 frame to the state, batch 1, one thread.

{latency_table(one["latency"])}

## The machine's limits

The {sum(product["count"] for product in products):,} matrix products of an update (forward and both backward, counted
in what JAX traces) need {total(products, "flops") / GIGA:.2f} GFLOP. By themselves, each shape as fast as the machine
does it, they take {1e3 * floor:.2f} ms of the update's {1e3 * update:.2f} ms, or **{floor / update:.0%}**.
With nothing else to do, it would make {number(updates)} updates a
second{more_updates and f", {more_updates} times those of PyTorch"}, and
{number(frames / 1e3)} thousand frames of rollouts{more_frames and f", {more_frames} times those of PyTorch"}.

{peaks_table(limits)}

(Small products are slower than the large one.) GB/s are XLA's own count of what the operations of the update read and
write, {limits["traffic_bytes"] / MEGA:.0f} MB, most of it in the caches; of the filter's loop it counts one step.

{shapes_table(products)}

Where an update's time goes, in percent of it (one thread): the matrix products' time alone, by the part of the loss
that they are in; forward in all is the time of the loss alone, backward what its gradient takes beyond that.

{parts_table(limits)}

## Scale on paper

{scale_section(found)}

## What it costs to grow

Milliseconds of an update when one thing is changed and all else stays as above; lower is better.

![Milliseconds of an update](docs/speed.png)

## Seconds until something happens, and memory

All cores.

{first_use_table(found)}
{TRIED}"""


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


def matmul_share(limits: dict[str, Any]) -> float:
    """Of an update's time, what its matrix products alone would take."""
    return total(limits["products"], "seconds") * median(limits["rates"]["update"])


def rates_table(found: dict[str, Any]) -> str:
    """On one thread, on all cores, and on the GPU where there is one."""
    places = {"one thread": found["one_core"], found["machine"].split(" of ")[0]: found["all_cores"]}
    if "gpu" in found:
        places[found["gpu"]["name"]] = found["gpu"]
    rows = []
    for kind, name, what, factor in ROWS:
        row = [what]
        for rates in (place[kind] for place in places.values()):
            twin = rates if name == "dvbf" else {}
            row += [spread(rates[name], factor), spread(twin.get("twin", []), factor), spread(ratios(twin))]
        rows.append(row)
    for column, place in enumerate(places.values()):
        for point in place["growth"].get("seeds", [])[1:]:
            cells = [MISSING] * 3 * len(places)
            cells[3 * column] = spread(point["dvbf"])
            rows.append([f"DVBF, {point['value']} seeds at once, steps/s of all", *cells])
    return table(["", *(head for place in places for head in (place, "PyTorch", "ratio"))], rows)


def latency_table(latency: Rates) -> str:
    who = [(kind, name) for kind, name in (("dvbf", "ours"), ("twin", "PyTorch")) if f"{kind} step" in latency]
    rows = [
        [what, *(f"{1e6 * seconds:.0f}" for kind, _ in who for seconds in latency[f"{kind} {call}"])]
        for call, what in (("step", "a filter step with one frame"), ("look", "a fresh look at five frames"))
    ]
    return table(["", *(f"{name}, {rank}" for _, name in who for rank in ("median", "99th percentile"))], rows)


def peaks_table(limits: dict[str, Any]) -> str:
    """The rates of the update beside those of the machine."""
    rates = {name: median(rate) for name, rate in limits["rates"].items()}
    flops, traffic = total(limits["products"], "flops"), limits["traffic_bytes"]
    rows = []
    for unit, amount, peak, what in (
        ("GFLOP/s", flops, "peak", "product of 1024 x 1024 matrices"),
        ("GB/s, at least", traffic, "memory", "triad in memory"),
        ("the same", traffic, "cache", "triad in the cache"),
    ):
        ours, most = amount * rates["update"] / GIGA, rates[peak] / GIGA
        rows.append([unit, number(ours), f"{number(most)} ({what})", f"{ours / most:.0%}"])
    return table(["one thread", "the update", "the machine", "share"], rows)


def total(products: list[dict[str, Any]], what: str) -> float:
    """Flops, or seconds, of matrix products, as often as an update needs them."""
    return sum(product["count"] * product[what] for product in products)


def shapes_table(products: list[dict[str, Any]]) -> str:
    """The shapes that take longest, together, and the rest."""
    shapes: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in products:
        batch = f"{each['batch']} of " if each["batch"] > 1 else ""
        shapes[f"{batch}[{each['m']}, {each['k']}] @ [{each['k']}, {each['n']}]"].append(each)
    shown = sorted(shapes.items(), key=lambda item: -total(item[1], "seconds"))
    if rest := shown[SHOWN_SHAPES:]:
        shown[SHOWN_SHAPES:] = [(f"{len(rest)} other shapes", [each for _, same in rest for each in same])]
    rows = []
    for shape, same in shown:
        count, seconds = sum(each["count"] for each in same), total(same, "seconds")
        rows.append([shape, str(count), f"{1e3 * seconds:.3f}", f"{total(same, 'flops') / seconds / GIGA:.0f}"])
    return table(["product", "times", "ms in all", "GFLOP/s"], rows)


def parts_table(limits: dict[str, Any]) -> str:
    """Shares of an update in percent: of the matrix products by part, and of all else."""
    rates = limits["rates"]
    forward, both = (100 * median(divided(rates["update"], rates[name])) for name in ("forward", "both"))
    parts: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for each in limits["products"]:
        name = each["part"].replace("_", " ") or "elsewhere"
        parts[f"{name}, matrix products"][each["backward"]] += 100 * median(rates["update"]) * total([each], "seconds")
    lines = sorted(parts.items(), key=lambda part: -sum(part[1]))
    known = [sum(shares) for shares in zip(*parts.values(), strict=True)]
    lines.append(("all else of the loss", [forward - known[0], both - forward - known[1]]))
    rows = [[name, *(f"{share:.1f}" for share in (*shares, sum(shares)))] for name, shares in lines]
    rows.append(["batch and optimiser", MISSING, MISSING, f"{100 - both:.1f}"])
    rows.append(["all", f"{forward:.1f}", f"{both - forward:.1f}", "100.0"])
    return table(["", "forward", "backward", "all"], rows)


def first_use_table(found: dict[str, Any]) -> str:
    rows = []
    for what, caches in found["first_use"].items():
        each = caches["cold"], caches["warm"]
        memory = (f"{use['peak_bytes'] / MEGA:.0f}" for use in each)
        rows.append([FIRST_USES[what], *(f"{use['seconds']:.1f}" for use in each), *memory])
    for name, seconds in found["scripts"].items():
        rows.append([SCRIPTS[name], *(spread(seconds[cache]) for cache in ("cold", "warm")), MISSING, MISSING])
    heads = ["s, empty compilation cache", "s, warm cache", "peak memory in MB, empty cache", "warm cache"]
    return table(["", *heads], rows)


def divided(some: list[float], others: list[float]) -> list[float]:
    """Turn by turn."""
    return [one / other for one, other in zip(some, others, strict=True)]


def ratios(rates: Rates) -> list[float]:
    """Ours over the twin's; empty without the twin."""
    return divided(rates["dvbf"], rates["twin"]) if "twin" in rates else []


def over_twin(rate: float, rates: Rates) -> str:
    """A rate over the median of the twin's; empty without the twin."""
    return number(rate / median(rates["twin"])) if "twin" in rates else ""


def spread(values: list[float], factor: float = 1) -> str:
    """The median (smallest to largest), with three digits."""
    if not values:
        return MISSING
    middle, least, most = (number(factor * each(values)) for each in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits, no exponent: 0.123, 12.3, 1,230."""
    return f"{float(f'{value:.3g}'):,.10g}"
