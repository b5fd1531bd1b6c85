"""SPEED.md and docs/speed.png from results/speed.json."""

import itertools
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from baselines.speed.figure import draw_costs
from baselines.speed.measures import HIDDEN_SIZE, IMAGINED, VAE_BATCH, Setting
from worldmodel.support.files import UserError, atomic_write, read_json

PAGE = """
# Speed

Written by `make bench` from results/speed.json.{quick} {machine}, with a load of {load:g} from other work
when it began; {versions}; {minutes:g} minutes.

The DVBF has {parameters:,} parameters (hidden size {hidden} rather than 128, all else the defaults), float32, and is
trained on windows of {length} frames 16 x 16, {batch} at a time, by what `train.py` uses. *PyTorch* is its twin,
`baselines/speed/torch_dvbf.py`: the same model, objective, optimiser and schedules, held to the same losses and
gradients by a test; networks are batched over time, a Python loop runs over the steps of the filter.

What is compared takes turns in one process, about {seconds} of each, {turns} times. Figures are medians over the turns
(smallest to largest); a ratio is taken turn by turn. *One thread*: one core, and one thread on it. On several cores
PyTorch's threads wait for one another: other work on the machine slows them most.

## Goals

{goals}

## Rates

{rates}

{gpu}Frames 16 x 16 are collected at {collected} thousand a second, in NumPy, two million in a call;
{collect_once:.1f} s of it are what the smallest call costs, too.

## One frame at a time

Microseconds from a uint8 frame to the state, batch 1, one thread.

{latency}

## The machine's limits

The {products:,} matrix products of an update (forward and both backward, counted in what JAX traces) need {gflop:.2f}
GFLOP. By themselves, each shape as fast as the machine does it, they take {floor:.2f} ms of the update's {step:.2f} ms,
or **{share:.0%}**. A training that did nothing else would make {ceiling:.0f} updates a second{against}.
Rollouts that did nothing but their matrix products would make {rollouts} thousand frames a second{rollouts_against}.

| one thread | the update | the machine | share |
|---|---|---|---|
| GFLOP/s | {flops:.0f} | {peak:.0f} (product of 1024 x 1024 matrices) | {flops_share:.0%} |
| GB/s, at least | {bytes:.1f} | {memory:.1f} (triad in memory) | {memory_share:.0%} |
| the same | {bytes:.1f} | {cache:.0f} (triad in the cache) | {cache_share:.0%} |

(The share of a large product's rate is smaller than that of the products' own time: small products are slower.)
GB/s are XLA's own count of what the operations of the update read and write, {traffic:.0f} MB, wherever it lies; it
counts one step of the filter's loop, not all. The most lies in the caches.

{shapes}

Where an update's time goes, in percent of it (one thread). Matrix products: their time alone, by the part of the loss
that they are in. All of it forward is the time of the loss alone; backward, what its gradient takes beyond that; the
batch and the optimiser are what is left of the update.

{parts}

## What it costs to grow

Milliseconds of an update when one thing is changed and all else stays as above; lower is better.

![Milliseconds of an update](docs/speed.png)

## Seconds until something happens, and memory

All cores.

{first_use}
"""
GPU = """
## On the GPU ({device})

{table}

"""
SHOWN_SHAPES = 12
MISSING = "-"
GIGA, MEGA = 1e9, 1e6


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
    one, every, setting = found["one_core"], found["all_cores"], Setting()
    training, products = one["training"], one["training"]["products"]
    rates, rollouts = ({name: median(rate) for name, rate in one[kind]["rates"].items()} for kind in KINDS)
    flops, floor = total(products, "flops"), total(products, "seconds")
    flop_rate, byte_rate = flops * rates["dvbf"], training["traffic_bytes"] * rates["dvbf"]

    def against(ceiling: float, rates: dict[str, float]) -> str:
        return f", {ceiling / rates['twin']:.1f} times those of PyTorch" if "twin" in rates else ""

    return PAGE.lstrip().format(
        **{name: found[name] for name in ("machine", "load", "minutes")},
        quick=" A quick try (`--quick`): the figures are rough." if found["quick"] else "",
        versions=", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items()),
        parameters=training["parameters"],
        hidden=HIDDEN_SIZE,
        length=setting.length,
        batch=setting.batch,
        seconds="a second" if not found["quick"] else "a fifth of a second",
        turns=len(training["rates"]["dvbf"]),
        goals=goals(found),
        rates=rates_table(found),
        gpu=gpu_section(found["gpu"]) if "gpu" in found else "",
        collected=spread(every["collecting"]["rates"]["collect"], 1e-3),
        collect_once=every["collecting"]["seconds_of_a_call"],
        latency=latency_table(one["latency"]),
        products=sum(product["count"] for product in products),
        gflop=flops / GIGA,
        floor=1e3 * floor,
        step=1e3 / rates["dvbf"],
        share=floor * rates["dvbf"],
        ceiling=1 / floor,
        against=against(1 / floor, rates),
        rollouts=number(1e-3 * rollouts["matmuls"]),
        rollouts_against=against(rollouts["matmuls"], rollouts),
        flops=flop_rate / GIGA,
        flops_share=flop_rate / rates["peak"],
        bytes=byte_rate / GIGA,
        memory_share=byte_rate / rates["memory"],
        cache_share=byte_rate / rates["cache"],
        **{name: rates[name] / GIGA for name in ("peak", "memory", "cache")},
        traffic=training["traffic_bytes"] / MEGA,
        shapes=shapes_table(products),
        parts=parts_table(training),
        first_use=first_use_table(found),
    )


KINDS = ("training", "imagining")


def goals(found: dict[str, Any]) -> str:
    """What was aimed at and what came of it; of a ratio to PyTorch that was missed, how much was possible."""
    one, seeds = found["one_core"], found["all_cores"]["seeds"]["rates"]
    most, floor = max(seeds, key=int), total(one["training"]["products"], "seconds")
    rows = [
        goal("training, one thread: steps/s over those of PyTorch", ratios(one["training"]), least=6),
        goal(
            "the matrix products of a training step alone, over the step, %",
            [100 * floor * median(one["training"]["rates"]["dvbf"])],
            least=35,
        ),
        goal(
            "imagined rollouts of 64, decoded, one thread: frames/s over those of PyTorch", ratios(one["imagining"]), 5
        ),
        goal(
            "one filter step, one thread: median in microseconds", [1e6 * one["latency"]["dvbf"]["step"][0]], most=150
        ),
        goal(
            f"{most} seeds at once on all cores: time for each, over that of one alone",
            [single / each for single, each in zip(seeds["1"], seeds[most], strict=True)],
            most=1,
        ),
        goal("scripts/imagine.py as a whole, warm compilation cache, s", found["start"]["warm"], most=8),
    ]
    parts = [table(["", "goal", "here", ""], rows)]
    for kind, least, ceiling in zip(
        KINDS, (6, 5), (1 / floor, median(one["imagining"]["rates"]["matmuls"])), strict=True
    ):
        reached = ratios(one[kind])
        if reached and median(reached) < least:
            most_possible = ceiling / median(one[kind]["rates"]["twin"])
            reach = (
                "out of reach of any program that multiplies them in float32"
                if most_possible < least
                else "within reach"
            )
            parts.append(
                f"{kind.capitalize()} that did nothing but its matrix products, at the machine's best, would have"
                f" {most_possible:.1f}\ntimes the rate of PyTorch: {least} times it are {reach}, on this machine."
            )
    return "\n\n".join(parts)


def goal(what: str, values: list[float], least: float | None = None, most: float | None = None) -> list[str]:
    """A line of the goals: whether the median of the values is at least, or at most, what was aimed at."""
    aim = f"at least {least:g}" if least is not None else f"at most {most:g}"
    if not values:
        return [what, aim, MISSING, MISSING]
    met = median(values) >= least if least is not None else median(values) <= most
    return [what, aim, spread(values), "met" if met else "**missed**"]


def rates_table(found: dict[str, Any]) -> str:
    setting = Setting()
    rows = []
    for name, kind, what, factor in (
        ("dvbf", "training", "DVBF, training, steps/s", 1.0),
        ("dvbf", "training", "the same, frames/s", setting.batch * setting.length),
        ("vae", "training", f"static VAE, training, {VAE_BATCH} frames a step, steps/s", 1.0),
        ("vae", "training", "the same, frames/s", VAE_BATCH),
        ("dvbf", "imagining", f"DVBF, {setting.batch} rollouts of {IMAGINED} frames, decoded, frames/s", 1.0),
        ("roll_out", "imagining", "DVBF, what scripts/imagine.py draws of them, frames/s", 1.0),
    ):
        row = [what]
        for cores in ("one_core", "all_cores"):
            measured = found[cores][kind]
            twin = measured["rates"].get("twin", []) if name == "dvbf" else []
            row += [spread(measured["rates"][name], factor), spread(twin, factor)]
            row.append(spread(ratios(measured) if twin else []))
        rows.append(row)
    return table(["", "one thread", "PyTorch", "ratio", found["machine"].split(" of ")[0], "PyTorch", "ratio"], rows)


def gpu_section(gpu: dict[str, Any]) -> str:
    training, imagining = gpu["training"], gpu["imagining"]
    rows = [
        ["DVBF, training, steps/s", spread(training["rates"]["dvbf"]), spread(ratios(training))],
        ["static VAE, training, steps/s", spread(training["rates"]["vae"]), MISSING],
        ["DVBF, rollouts, decoded, frames/s", spread(imagining["rates"]["dvbf"]), spread(ratios(imagining))],
    ]
    for count, rate in gpu["seeds"]["rates"].items():
        rows.append([f"DVBF, {count} seeds at once, steps/s of all", spread(rate), MISSING])
    return GPU.lstrip().format(device=gpu["device"], table=table(["", "here", "over PyTorch"], rows))


def latency_table(latency: dict[str, Any]) -> str:
    rows = [
        [what, *(f"{1e6 * seconds:.0f}" for kinds in latency.values() for seconds in kinds[kind])]
        for kind, what in (("step", "a filter step with one frame"), ("look", "a fresh look at five frames"))
    ]
    who = ("ours", "PyTorch")[: len(latency)]
    return table(["", *(f"{name}, {rank}" for name in who for rank in ("median", "99th percentile"))], rows)


def total(products: list[dict[str, Any]], what: str) -> float:
    """Flops, or seconds, of matrix products, as often as an update needs them."""
    return sum(product["count"] * product[what] for product in products)


def shapes_table(products: list[dict[str, Any]]) -> str:
    """The shapes that take longest, together, and the rest."""
    shapes: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in products:
        batch = f"{each['batch']} of " if each["batch"] > 1 else ""
        shapes[f"{batch}[{each['m']}, {each['k']}] @ [{each['k']}, {each['n']}]"].append(each)
    ordered = sorted(shapes.items(), key=lambda shape: -total(shape[1], "seconds"))
    lines = ordered[:SHOWN_SHAPES]
    if rest := ordered[SHOWN_SHAPES:]:
        lines.append((f"{len(rest)} other shapes", list(itertools.chain(*(same for _, same in rest)))))
    rows = []
    for name, same in lines:
        count, seconds = sum(each["count"] for each in same), total(same, "seconds")
        rows.append([name, str(count), f"{1e3 * seconds:.3f}", f"{total(same, 'flops') / seconds / GIGA:.0f}"])
    return table(["product", "times", "ms in all", "GFLOP/s"], rows)


def parts_table(training: dict[str, Any]) -> str:
    """Shares of an update in percent: of the matrix products by part, and of all else."""
    rates, products = training["rates"], training["products"]
    update = median(rates["dvbf"])
    alone: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for each in products:
        alone[each["part"].replace("_", " ")][each["backward"]] += 100 * update * each["count"] * each["seconds"]
    forward, both = (
        median(100 * ours / other for ours, other in zip(rates["dvbf"], rates[name], strict=True))
        for name in ("forward", "both")
    )
    ordered = sorted(alone.items(), key=lambda part: -sum(part[1]))
    lines = [(f"{part or 'elsewhere'}, matrix products", shares) for part, shares in ordered]
    known = [sum(shares) for shares in zip(*alone.values(), strict=True)]
    lines.append(("all else of the loss", [forward - known[0], both - forward - known[1]]))
    rows = [[name, *(f"{share:.1f}" for share in (*shares, sum(shares)))] for name, shares in lines]
    rows.append(["batch and optimiser", MISSING, MISSING, f"{100 - both:.1f}"])
    rows.append(["all", f"{forward:.1f}", f"{both - forward:.1f}", "100.0"])
    return table(["", "forward", "backward", "all"], rows)


def first_use_table(found: dict[str, Any]) -> str:
    names = {
        "imports": "importing it all",
        "dvbf": "from the imports to the DVBF's first update",
        "vae": "from the imports to the static VAE's first update",
        "roll_out": "from the imports to the DVBF's first 64 rollouts",
        "twin": "from the imports to the first update of PyTorch's DVBF",
    }
    rows = []
    for what, kinds in found["first_use"].items():
        key, each = "imports" if what == "imports" else "seconds", [kinds.get(kind) for kind in ("cold", "warm")]
        row = [f"{one[key]:.1f}" if one else MISSING for one in each]
        rows.append([names[what], *row, *(f"{one['peak_bytes'] / MEGA:.0f}" if one else MISSING for one in each)])
    start = [spread(found["start"][kind]) for kind in ("cold", "warm")]
    rows.append(["scripts/imagine.py as a whole, 60 sequences of 60 frames", *start, MISSING, MISSING])
    heads = ["s, empty compilation cache", "s, warm cache", "peak memory in MB, empty cache", "warm cache"]
    return table(["", *heads], rows)


def ratios(measured: dict[str, Any]) -> list[float]:
    """Ours over the twin's, turn by turn; empty without the twin."""
    rates = measured["rates"]
    return [ours / others for ours, others in zip(rates["dvbf"], rates.get("twin", []), strict=False)]


def spread(values: list[float], factor: float = 1) -> str:
    """The median (smallest to largest), with three digits."""
    if not values:
        return MISSING
    middle, least, most = (number(factor * each(values)) for each in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits, no exponent: 0.123, 12.3, 1,230."""
    if value >= 100:
        return f"{round(value, 3 - len(str(int(value)))):,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows))
