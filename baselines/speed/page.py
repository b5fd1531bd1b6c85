"""SPEED.md and docs/speed.png from results/speed.json."""

import statistics
from pathlib import Path
from typing import Any

from baselines.speed.figure import draw_costs
from baselines.speed.measures import HIDDEN_SIZE, IMAGINED, VAE_BATCH, Setting
from worldmodel.support.files import UserError, atomic_write, read_json

HEAD = """
# Speed

Written by `make bench` from results/speed.json.{quick} {machine}, with a load of {load:g} from other work
when it began; {versions}; {minutes:g} minutes.

The DVBF has {parameters:,} parameters (hidden size {hidden} rather than 128, all else the defaults), float32, and is
trained on windows of {length} frames 16 x 16, {batch} at a time, by what `train_dvbf.py` uses. *PyTorch* is its twin,
`baselines/torch_dvbf.py`: the same model, objective, optimiser and schedules, held to the same losses and gradients by
a test; networks are batched over time, a Python loop runs over the steps of the filter.

What is compared takes turns in one process, about {seconds} of each, {turns} times. Figures are medians over the turns
(smallest to largest); a ratio is taken turn by turn. *One thread*: one core, and one thread on it. On several cores
PyTorch's threads wait for one another: other work on the machine slows them most.
"""

LIMITS = """
The {products:,} matrix products of an update need {gflop:.2f} GFLOP. By themselves (read from the compiled program:
forward and both backward products; each shape as fast as the machine does it) they take {floor:.2f} ms of the update's
{step:.2f} ms, or **{share:.0%}**. A training that did nothing else would make {ceiling:.0f} updates a second{against}.
Rollouts that did nothing but their matrix products would make {rollouts} thousand frames a second{rollouts_against}.

| one thread | the update | the machine | share |
|---|---|---|---|
| GFLOP/s | {flops:.0f} | {peak:.0f} (product of 1024 x 1024 matrices) | {flops_share:.0%} |
| GB/s | {bytes:.1f} | {memory:.1f} (triad in memory) | {memory_share:.0%} |
| the same | {bytes:.1f} | {cache:.0f} (triad in the cache) | {cache_share:.0%} |

(The share of a large product's rate is smaller than that of the products' own time: small products are slower.)
GB/s counts every operand and result of every operation of the update, {traffic:.0f} MB, wherever they lie; the most
lie in the caches.
"""

DIRECTIONS = ("forward_matmul", "forward_other", "backward_matmul", "backward_other")
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
    setting = Setting()
    one, every = found["one_core"], found["all_cores"]
    rates = one["training"]["rates"]
    head = HEAD.format(
        machine=found["machine"],
        versions=", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items()),
        quick=" A quick try (`--quick`): the figures are rough." if found["quick"] else "",
        parameters=one["training"]["parameters"],
        hidden=HIDDEN_SIZE,
        length=setting.length,
        batch=setting.batch,
        turns=len(rates["dvbf"]),
        seconds="a second" if not found["quick"] else "a fifth of a second",
        load=found["load"],
        minutes=found["minutes"],
    )
    collected = every["collecting"]
    rate = spread(collected["rates"]["collect"], 1e-3)
    parts = [head, "## Goals", goals(found), "## Rates", rates_table(found)]
    if "gpu" in found:
        parts += [f"## On the GPU ({found['gpu']['device']})", gpu_table(found["gpu"])]
    parts += [
        f"Frames 16 x 16 are collected at {rate} thousand a second, in NumPy, two million in a call;"
        f" {collected['seconds_of_a_call']:.1f} s of it are what the smallest call costs, too.",
        "## One frame at a time",
        "Microseconds from a uint8 frame to the latent in NumPy, batch 1, one thread.",
        latency_table(one["latency"]),
        "## The machine's limits",
        limits_text(one),
        shapes_table(one["training"]),
        "Where an update's time goes, in percent of it (XLA's own profile, one thread):",
        profile_table(one["profile"]["parts"]),
        "## What it costs to grow",
        "Milliseconds of an update when one thing is changed and all else stays as above; lower is better.",
        "![Milliseconds of an update](docs/speed.png)",
        "## Seconds until something happens, and memory",
        "All cores.",
        first_use_table(found),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def goals(found: dict[str, Any]) -> str:
    """What was aimed at and what came of it; of a ratio to PyTorch that was missed, how much was possible."""
    one, every = found["one_core"], found["all_cores"]
    seeds = every["seeds"]["rates"]
    most = max(seeds, key=int)
    share = matmul_share(one["training"])
    each_over_one = [single / each for single, each in zip(seeds["1"], seeds[most], strict=True)]
    start = found["start"]["warm"]
    training, imagining = ratios(one["training"]), ratios(one["imagining"])
    rows = [
        ["training, one thread: steps/s over those of PyTorch", "at least 6", spread(training), verdict(training, 6)],
        [
            "the matrix products of a training step alone, over the step",
            "at least 35%",
            f"{share:.0%}",
            verdict([share], 0.35),
        ],
        [
            "imagined rollouts of 64, decoded, one thread: frames/s over those of PyTorch",
            "at least 5",
            spread(imagining),
            verdict(imagining, 5),
        ],
        [
            f"{most} seeds at once on all cores: time for each, over that of one alone",
            "at most 1",
            spread(each_over_one),
            verdict(each_over_one, 1, at_most=True),
        ],
        [
            "scripts/imagine.py as a whole, warm compilation cache",
            "at most 8 s",
            f"{spread(start)} s",
            verdict(start, 8, at_most=True),
        ],
    ]
    parts = [table(["", "goal", "here", ""], rows)]
    for what, measured, goal, rate in (
        ("Training", one["training"], 6, 1 / alone(one["training"]["shapes"])),
        ("Imagining", one["imagining"], 5, statistics.median(one["imagining"]["rates"]["matmuls"])),
    ):
        if verdict(ratios(measured), goal) == "**missed**":
            ceiling = rate / statistics.median(measured["rates"]["twin"])
            reach = "out of reach of any program that multiplies them in float32" if ceiling < goal else "within reach"
            parts.append(
                f"{what} that did nothing but its matrix products, at the machine's best, would have {ceiling:.1f}\n"
                f"times the rate of PyTorch: {goal} times it are {reach}, on this machine."
            )
    return "\n\n".join(parts)


def verdict(values: list[float], goal: float, at_most: bool = False) -> str:
    """Whether the median reaches the goal."""
    if not values:
        return MISSING
    middle = statistics.median(values)
    return "met" if (middle <= goal if at_most else middle >= goal) else "**missed**"


def rates_table(found: dict[str, Any]) -> str:
    setting = Setting()
    rows = []
    window = setting.batch * setting.length
    for name, where, what, unit, factor in (
        ("dvbf", "training", "DVBF, training", "steps/s", 1.0),
        ("dvbf", "training", "the same", "frames/s", window),
        ("vae", "training", f"static VAE, training, {VAE_BATCH} frames a step", "steps/s", 1.0),
        ("vae", "training", "the same", "frames/s", VAE_BATCH),
        ("dvbf", "imagining", f"DVBF, {setting.batch} rollouts of {IMAGINED} frames, decoded", "frames/s", 1.0),
        ("roll_out", "imagining", "DVBF, what scripts/imagine.py does with them", "frames/s", 1.0),
    ):
        row = [f"{what}, {unit}"]
        for cores in ("one_core", "all_cores"):
            measured = found[cores][where]
            row.append(spread(measured["rates"][name], factor))
            twin = measured["rates"].get("twin") if name == "dvbf" else None
            row += [spread(twin, factor), ratio(measured)] if twin else [MISSING, MISSING]
        rows.append(row)
    cores = found["machine"].split(" of ")[0]
    return table(["", "one thread", "PyTorch", "ratio", cores, "PyTorch", "ratio"], rows)


def gpu_table(gpu: dict[str, Any]) -> str:
    seeds = gpu["seeds"]["rates"]
    rows = [
        ["DVBF, training, steps/s", spread(gpu["training"]["rates"]["dvbf"]), ratio(gpu["training"])],
        ["static VAE, training, steps/s", spread(gpu["training"]["rates"]["vae"]), MISSING],
        ["DVBF, rollouts, decoded, frames/s", spread(gpu["imagining"]["rates"]["dvbf"]), ratio(gpu["imagining"])],
    ]
    rows += [[f"DVBF, {count} seeds at once, steps/s of all", spread(rate), MISSING] for count, rate in seeds.items()]
    return table(["", "here", "over PyTorch"], rows)


def latency_table(latency: dict[str, Any]) -> str:
    names = {"step": "a filter step with one frame", "look": "a fresh look at five frames"}
    rows = [
        [what] + [f"{1e6 * seconds:.0f}" for name in latency for seconds in latency[name][kind]]
        for kind, what in names.items()
    ]
    heads = [
        f"{label}, {rank}" for label in ("ours", "PyTorch")[: len(latency)] for rank in ("median", "99th percentile")
    ]
    return table(["", *heads], rows)


def limits_text(one: dict[str, Any]) -> str:
    training, imagining = one["training"], one["imagining"]
    rates = {name: statistics.median(rate) for name, rate in training["rates"].items()}
    flops = sum(shape["count"] * shape["flops"] for shape in training["shapes"])
    floor, moved = alone(training["shapes"]), training["traffic_bytes"] * rates["dvbf"]
    rollouts = {name: statistics.median(rate) for name, rate in imagining["rates"].items()}
    return LIMITS.format(
        products=sum(shape["count"] for shape in training["shapes"]),
        gflop=flops / GIGA,
        floor=1e3 * floor,
        step=1e3 / rates["dvbf"],
        share=matmul_share(training),
        ceiling=1 / floor,
        against=f", {1 / floor / rates['twin']:.1f} times those of PyTorch" if "twin" in rates else "",
        rollouts=number(1e-3 * rollouts["matmuls"]),
        rollouts_against=f", {rollouts['matmuls'] / rollouts['twin']:.1f} times those of PyTorch"
        if "twin" in rollouts
        else "",
        flops=flops * rates["dvbf"] / GIGA,
        peak=rates["peak"] / GIGA,
        flops_share=flops * rates["dvbf"] / rates["peak"],
        bytes=moved / GIGA,
        memory=rates["memory"] / GIGA,
        memory_share=moved / rates["memory"],
        cache=rates["cache"] / GIGA,
        cache_share=moved / rates["cache"],
        traffic=training["traffic_bytes"] / MEGA,
    )


def alone(shapes: list[dict[str, Any]]) -> float:
    """Seconds that matrix products take by themselves, as often as an update needs them."""
    return sum(shape["count"] * statistics.median(shape["seconds"]) for shape in shapes)


def matmul_share(training: dict[str, Any]) -> float:
    """The time of an update's matrix products alone over that of the update."""
    return alone(training["shapes"]) * statistics.median(training["rates"]["dvbf"])


def shapes_table(training: dict[str, Any]) -> str:
    """The shapes that take longest, together, and the rest."""

    def row(name: str, shapes: list[dict[str, Any]]) -> list[str]:
        whole, flops = alone(shapes), sum(shape["count"] * shape["flops"] for shape in shapes)
        times = str(sum(shape["count"] for shape in shapes))
        return [name, times, f"{1e3 * whole:.3f}", f"{flops / whole / GIGA:.0f}"]

    shapes = sorted(training["shapes"], key=lambda shape: -alone([shape]))
    rows = []
    for shape in shapes[:SHOWN_SHAPES]:
        batch = f"{shape['batch']} of " if shape["batch"] > 1 else ""
        rows.append(row(f"{batch}[{shape['m']}, {shape['k']}] @ [{shape['k']}, {shape['n']}]", [shape]))
    if rest := shapes[SHOWN_SHAPES:]:
        rows.append(row(f"{len(rest)} other shapes", rest))
    return table(["product", "times", "ms in all", "GFLOP/s"], rows)


def profile_table(parts: dict[str, dict[str, float]]) -> str:
    def row(name: str, kinds: list[dict[str, float]]) -> list[str]:
        cells = [sum(each.get(direction, 0) for each in kinds) for direction in DIRECTIONS]
        return [name, *(f"{100 * cell:.1f}" for cell in cells), f"{100 * sum(cells):.1f}"]

    ordered = sorted(parts, key=lambda name: -sum(parts[name].values()))
    rows = [row(name, [parts[name]]) for name in ordered] + [row("all", list(parts.values()))]
    heads = ["forward, matrix products", "forward, the rest", "backward, matrix products", "backward, the rest", "all"]
    return table(["", *heads], rows)


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
        key = "imports" if what == "imports" else "seconds"
        each = [kinds.get(kind) for kind in ("cold", "warm")]
        seconds = [f"{one[key]:.1f}" if one else MISSING for one in each]
        memory = [f"{one['peak_bytes'] / MEGA:.0f}" if one else MISSING for one in each]
        rows.append([names[what], *seconds, *memory])
    start = [spread(found["start"][kind]) for kind in ("cold", "warm")]
    rows.append(["scripts/imagine.py as a whole, 60 sequences of 60 frames", *start, MISSING, MISSING])
    heads = ["s, empty compilation cache", "s, warm cache", "peak memory in MB, empty cache", "warm cache"]
    return table(["", *heads], rows)


def ratios(measured: dict[str, Any]) -> list[float]:
    """Ours over the twin's, turn by turn; empty without the twin."""
    rates = measured["rates"]
    return [ours / others for ours, others in zip(rates["dvbf"], rates.get("twin", []), strict=False)]


def ratio(measured: dict[str, Any]) -> str:
    return spread(ratios(measured))


def spread(values: list[float], factor: float = 1) -> str:
    """The median (smallest to largest), with three digits."""
    if not values:
        return MISSING
    middle = statistics.median(values)
    shown = [number(factor * value) for value in (middle, min(values), max(values))]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def number(value: float) -> str:
    """Three digits, no exponent: 0.123, 12.3, 1,230."""
    if value >= 100:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
