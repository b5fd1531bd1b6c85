"""SPEED.md and docs/speed.png from results/speed.json."""

import math
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from baselines.speed.figure import draw_costs
from baselines.speed.measures import HIDDEN_SIZE, IMAGINED, VAE_BATCH, Setting
from worldmodel.support.files import UserError, atomic_write, read_json

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
    one, collected, limits = found["one_core"], found["all_cores"]["collecting"], found["one_core"]["limits"]
    rates = {name: median(rate) for name, rate in limits["rates"].items()}
    update, products, traffic = rates["update"], limits["products"], limits["traffic_bytes"]
    flops, floor = total(products, "flops"), total(products, "seconds")
    share, rollouts = matmul_share(limits), median(one["imagining"]["matmuls"])
    ceiling = median(one["training"]["dvbf"]) / share
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items())
    peaks = []
    for unit, moved, peak, what in (
        ("GFLOP/s", flops, "peak", "product of 1024 x 1024 matrices"),
        ("GB/s, at least", traffic, "memory", "triad in memory"),
        ("the same", traffic, "cache", "triad in the cache"),
    ):
        ours, most = moved * update / GIGA, rates[peak] / GIGA
        peaks.append([unit, number(ours), f"{number(most)} ({what})", f"{ours / most:.0%}"])

    def against(ceiling: float, measured: dict[str, list[float]]) -> str:
        times = over_twin(ceiling, measured)
        return f", {number(times)} times those of PyTorch" if times else ""

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

## Goals

{goals(found)}

## Rates

{rates_table(found)}

Frames 16 x 16 are collected at {spread(collected["frames"], 1e-3)} thousand a second, in NumPy, two million in a call;
{median(collected["once"]):.1f} s of it are what the smallest call costs, too.

## One frame at a time

Microseconds from a uint8 frame to the state, batch 1, one thread.

{latency_table(one["latency"])}

## The machine's limits

The {sum(product["count"] for product in products):,} matrix products of an update (forward and both backward, counted
in what JAX traces) need {flops / GIGA:.2f} GFLOP. By themselves, each shape as fast as the machine does it, they take
{1e3 * floor:.2f} ms of the update's {1e3 / update:.2f} ms, or **{share:.0%}**. A training that did nothing
else would make {number(ceiling)} updates a second{against(ceiling, one["training"])}. Rollouts that did nothing but
their matrix products would make {number(rollouts / 1e3)} thousand frames a second{against(rollouts, one["imagining"])}.

{table(["one thread", "the update", "the machine", "share"], peaks)}

(The share of a large product's rate is smaller than that of the products' own time: small products are slower.)
GB/s are XLA's own count of what the operations of the update read and write, {traffic / MEGA:.0f} MB, wherever it lies;
of the filter's loop it counts one step. The most lies in the caches.

{shapes_table(products)}

Where an update's time goes, in percent of it (one thread). Of the matrix products it is their time alone, by the part
of the loss that they are in. All forward is the time of the loss alone; backward, what its gradient takes beyond that;
drawing the batch and the optimiser are what is left of the update.

{parts_table(limits)}

## What it costs to grow

Milliseconds of an update when one thing is changed and all else stays as above; lower is better.

![Milliseconds of an update](docs/speed.png)

## Seconds until something happens, and memory

All cores.

{first_use_table(found)}
"""


def goals(found: dict[str, Any]) -> str:
    """What was aimed at and what came of it; of a ratio to PyTorch that was missed, how much was possible."""
    one, (first, *_, most) = found["one_core"], found["all_cores"]["growth"]["seeds"]
    training, imagining = one["training"], one["imagining"]
    share = matmul_share(one["limits"])
    each_over_one = [alone / each for alone, each in zip(first["dvbf"], most["dvbf"], strict=True)]
    most_training, most_imagining = (
        over_twin(median(training["dvbf"]) / share, training),
        over_twin(median(imagining["matmuls"]), imagining),
    )
    to_imagine = "imagined rollouts of 64, decoded, one thread: frames/s over those of PyTorch"
    rows = [
        goal("training, one thread: steps/s over those of PyTorch", ratios(training), least=6, possible=most_training),
        goal("the matrix products of a training step alone, over the step, %", [100 * share], least=35),
        goal(to_imagine, ratios(imagining), least=5, possible=most_imagining),
        goal("a filter step, one thread: median, microseconds", [1e6 * one["latency"]["dvbf step"][0]], most=150),
        goal(f"{most['value']} seeds at once on all cores: time for each, over that of one", each_over_one, most=1),
        goal("scripts/imagine.py as a whole, warm compilation cache, s", found["start"]["warm"], most=8),
    ]
    return table(["", "goal", "here", ""], rows)


def goal(
    what: str, values: list[float], least: float = 0, most: float = math.inf, possible: float | None = None
) -> list[str]:
    """A line of the goals: whether the median of the values is at least, or at most, what was aimed at."""
    aim = f"at least {least:g}" if most == math.inf else f"at most {most:g}"
    if not values:
        return [what, aim, MISSING, MISSING]
    if least <= median(values) <= most:
        return [what, aim, spread(values), "met"]
    limit = f": {number(possible)} with nothing but the matrix products" if possible else ""
    return [what, aim, spread(values), f"**missed**{limit}"]


def rates_table(found: dict[str, Any]) -> str:
    """On one thread, on all cores, and on the GPU where there is one."""
    places = {"one thread": found["one_core"], found["machine"].split(" of ")[0]: found["all_cores"]}
    if "gpu" in found:
        places[found["gpu"]["name"]] = found["gpu"]
    rows = []
    for kind, name, what, factor in ROWS:
        row = [what]
        for rates in (place[kind] for place in places.values()):
            twin = rates if name == "dvbf" and "twin" in rates else {"dvbf": [], "twin": []}
            row += [spread(rates[name], factor), spread(twin["twin"], factor), spread(ratios(twin))]
        rows.append(row)
    for column, place in enumerate(places.values()):
        for point in place["growth"].get("seeds", [])[1:]:
            cells = [MISSING] * 3 * len(places)
            cells[3 * column] = spread(point["dvbf"])
            rows.append([f"DVBF, {point['value']} seeds at once, steps/s of all", *cells])
    return table(["", *(head for place in places for head in (place, "PyTorch", "ratio"))], rows)


def latency_table(latency: dict[str, list[float]]) -> str:
    who = [(kind, name) for kind, name in (("dvbf", "ours"), ("twin", "PyTorch")) if f"{kind} step" in latency]
    rows = [
        [what, *(f"{1e6 * seconds:.0f}" for kind, _ in who for seconds in latency[f"{kind} {call}"])]
        for call, what in (("step", "a filter step with one frame"), ("look", "a fresh look at five frames"))
    ]
    return table(["", *(f"{name}, {rank}" for _, name in who for rank in ("median", "99th percentile"))], rows)


def total(products: list[dict[str, Any]], what: str) -> float:
    """Flops, or seconds, of matrix products, as often as an update needs them."""
    return sum(product["count"] * product[what] for product in products)


def matmul_share(limits: dict[str, Any]) -> float:
    """The time of an update's matrix products alone over that of the update."""
    return total(limits["products"], "seconds") * median(limits["rates"]["update"])


def shapes_table(products: list[dict[str, Any]]) -> str:
    """The shapes that take longest, together, and the rest."""
    shapes: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in products:
        batch = f"{each['batch']} of " if each["batch"] > 1 else ""
        shapes[f"{batch}[{each['m']}, {each['k']}] @ [{each['k']}, {each['n']}]"].append(each)
    ordered = sorted(shapes, key=lambda shape: -total(shapes[shape], "seconds"))
    if rest := ordered[SHOWN_SHAPES:]:
        shapes[f"{len(rest)} other shapes"] = [each for shape in rest for each in shapes[shape]]
        ordered[SHOWN_SHAPES:] = [f"{len(rest)} other shapes"]
    rows = []
    for shape, same in ((shape, shapes[shape]) for shape in ordered):
        count, seconds = sum(each["count"] for each in same), total(same, "seconds")
        rows.append([shape, str(count), f"{1e3 * seconds:.3f}", f"{total(same, 'flops') / seconds / GIGA:.0f}"])
    return table(["product", "times", "ms in all", "GFLOP/s"], rows)


def parts_table(limits: dict[str, Any]) -> str:
    """Shares of an update in percent: of the matrix products by part, and of all else."""
    rates, update = limits["rates"], median(limits["rates"]["update"])
    forward, both = (
        median(100 * whole / part for whole, part in zip(rates["update"], rates[name], strict=True))
        for name in ("forward", "both")
    )
    parts: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for each in limits["products"]:
        name = each["part"].replace("_", " ") or "elsewhere"
        parts[f"{name}, matrix products"][each["backward"]] += 100 * update * total([each], "seconds")
    lines = sorted(parts.items(), key=lambda part: -sum(part[1]))
    known = [sum(shares) for shares in zip(*parts.values(), strict=True)]
    lines.append(("all else of the loss", [forward - known[0], both - forward - known[1]]))
    rows = [[name, *(f"{share:.1f}" for share in (*shares, sum(shares)))] for name, shares in lines]
    rows.append(["batch and optimiser", MISSING, MISSING, f"{100 - both:.1f}"])
    rows.append(["all", f"{forward:.1f}", f"{both - forward:.1f}", "100.0"])
    return table(["", "forward", "backward", "all"], rows)


def first_use_table(found: dict[str, Any]) -> str:
    rows = []
    for what, kinds in found["first_use"].items():
        both = kinds["cold"], kinds["warm"]
        seconds, memory = (
            [f"{each['seconds']:.1f}" for each in both],
            [f"{each['peak_bytes'] / MEGA:.0f}" for each in both],
        )
        rows.append([FIRST_USES[what], *seconds, *memory])
    start = [spread(found["start"][kind]) for kind in ("cold", "warm")]
    rows.append(["scripts/imagine.py as a whole, 60 sequences of 60 frames", *start, MISSING, MISSING])
    heads = ["s, empty compilation cache", "s, warm cache", "peak memory in MB, empty cache", "warm cache"]
    return table(["", *heads], rows)


def ratios(rates: dict[str, list[float]]) -> list[float]:
    """Ours over the twin's, turn by turn; empty without the twin."""
    return [ours / others for ours, others in zip(rates["dvbf"], rates.get("twin", []), strict=False)]


def over_twin(rate: float, rates: dict[str, list[float]]) -> float | None:
    """A rate over the median of the twin's."""
    return rate / median(rates["twin"]) if "twin" in rates else None


def spread(values: list[float], factor: float = 1) -> str:
    """The median (smallest to largest), with three digits."""
    if not values:
        return MISSING
    middle, least, most = (number(factor * each(values)) for each in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits, no exponent: 0.123, 12.3, 1,230."""
    return f"{float(f'{value:.3g}'):,.10g}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows))
