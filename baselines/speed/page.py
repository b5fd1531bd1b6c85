"""SPEED.md and docs/speed.png from results/speed.json."""

import statistics
from pathlib import Path
from typing import Any

from baselines.speed.measures import HIDDEN_SIZE, IMAGINED, VAE_BATCH, Setting
from worldmodel.figures import BLUE, ORANGE, new_figure, save_figure
from worldmodel.files import UserError, atomic_write, read_json

HEAD = """
# Speed

Written by `make bench` from results/speed.json.{quick} {machine}, with a load of {load:g} from other work
when it began; {versions}; {minutes:g} minutes.

The DVBF has {parameters:,} parameters (hidden size {hidden}, all else the defaults), float32, and is trained on
windows of {length} frames 16 x 16, {batch} at a time, by what `train_dvbf.py` uses. *PyTorch* is its twin,
`baselines/torch_dvbf.py`: the same model, objective, optimiser and schedules, held to the same losses and gradients by
a test; networks are batched over time, a Python loop runs over the steps of the filter.

Figures are medians (smallest to largest) of {turns} turns. What is compared takes turns in one process, about
{seconds} of each; a ratio is taken turn by turn. *One thread*: one core, and one thread on it. On several cores
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
| | | {cache:.0f} (triad in the cache) | {cache_share:.0%} |

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
        draw_costs(out / "docs" / "speed.png", found)
        page = speed_page(found)
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
        f"Frames 16 x 16 are collected at {rate} thousand a second, in NumPy, after"
        f" {collected['seconds_of_a_call']:.1f} s that every call costs.",
        "## One frame at a time",
        "Microseconds from a uint8 frame to the latent in NumPy, batch 1, one thread.",
        latency_table(one["latency"]),
        "## The machine's limits",
        limits_text(one),
        shapes_table(one["training"]),
        "Where an update's time goes, in percent of it (XLA's own profile, one thread):",
        profile_table(one["profile"]["parts"]),
        "## What it costs to grow",
        "![Milliseconds of an update](docs/speed.png)",
        "## Seconds until something happens, and memory",
        "All cores.",
        first_use_table(found),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def goals(found: dict[str, Any]) -> str:
    one, every = found["one_core"], found["all_cores"]
    seeds = every["seeds"]["rates"]
    most = max(seeds, key=int)
    rows = [
        [
            "training, one thread: steps/s over those of PyTorch",
            "at least 6",
            ratio(one["training"]) + ceiling(one["training"], 1 / alone(one["training"]["shapes"])),
        ],
        [
            "the matrix products of a training step alone, over the step",
            "at least 35%",
            f"{matmul_share(one['training']):.0%}",
        ],
        [
            "imagined rollouts of 64, decoded, one thread: frames/s over those of PyTorch",
            "at least 5",
            ratio(one["imagining"])
            + ceiling(one["imagining"], statistics.median(one["imagining"]["rates"]["matmuls"])),
        ],
        [
            f"{most} seeds at once on all cores: time for each, over that of one alone",
            "at most 1",
            spread([one / each for one, each in zip(seeds["1"], seeds[most], strict=True)]),
        ],
        ["scripts/imagine.py as a whole, warm compilation cache", "under 8 s", f"{spread(found['start']['warm'])} s"],
    ]
    return table(["", "goal", "here"], rows)


def ceiling(measured: dict[str, Any], rate: float) -> str:
    """How many times the twin's rate one would have that does nothing but the matrix products, at a rate of its own."""
    if "twin" not in measured["rates"]:
        return ""
    return f"; the matrix products alone: {rate / statistics.median(measured['rates']['twin']):.1f}"


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
        "dvbf": "DVBF, then the first update",
        "vae": "static VAE, then the first update",
        "roll_out": "DVBF, then the first 64 rollouts",
        "twin": "PyTorch's DVBF, then the first update",
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


def ratio(measured: dict[str, Any]) -> str:
    """Ours over the twin's, turn by turn."""
    rates = measured["rates"]
    if "twin" not in rates:
        return MISSING
    return spread([ours / others for ours, others in zip(rates["dvbf"], rates["twin"], strict=True)])


def spread(values: list[float], factor: float = 1) -> str:
    """The median (smallest to largest), with three digits."""
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


def draw_costs(path: Path, found: dict[str, Any]) -> None:
    """Milliseconds of an update over batch, sequence length, latent size and number of seeds."""
    labels = {"batch": "windows in a batch", "length": "frames in a window", "latent": "dimensions of the latent"}
    figure = new_figure(9, 6.4)
    axes = figure.subplots(2, 2).ravel()
    for axis, cost in zip(axes, found["one_core"]["costs"], strict=False):
        points = cost["points"]
        x = [point["value"] for point in points]
        for name, label, colour in (("dvbf", "ours", BLUE), ("twin", "PyTorch", ORANGE)):
            if all(name in point["rates"] for point in points):
                draw_milliseconds(axis, x, [point["rates"][name] for point in points], label, colour)
        axis.set(xlabel=labels[cost["axis"]], ylabel="ms for an update, one thread", xticks=x)
    seeds, twin = found["all_cores"]["seeds"]["rates"], found["one_core"]["training"]["rates"].get("twin")
    draw_milliseconds(axes[-1], list(map(int, seeds)), list(seeds.values()), "ours", BLUE)
    if twin:
        label = "PyTorch, one alone on one thread"
        axes[-1].axhline(1e3 / statistics.median(twin), color=ORANGE, linestyle="--", label=label)
    axes[-1].set(
        xlabel="seeds trained at once, all cores", ylabel="ms for an update of one seed", xticks=list(map(int, seeds))
    )
    for axis in axes:
        axis.set_xlim(left=0)
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
    axes[0].legend(loc="upper left", fontsize=8)
    axes[-1].legend(loc="lower left", fontsize=8)
    figure.suptitle(
        "What a training step costs: median, and range over the turns; all else is the reference's", fontsize=10
    )
    save_figure(figure, path)


def draw_milliseconds(axis: Any, x: list[int], rates: list[list[float]], label: str, colour: str) -> None:
    """Medians of 1 / rate with their range, for a list of rates at each x."""
    middle = [1e3 / statistics.median(rate) for rate in rates]
    below = [m - 1e3 / max(rate) for m, rate in zip(middle, rates, strict=True)]
    above = [1e3 / min(rate) - m for m, rate in zip(middle, rates, strict=True)]
    axis.errorbar(x, middle, (below, above), color=colour, marker="o", markersize=4, capsize=3, label=label)
