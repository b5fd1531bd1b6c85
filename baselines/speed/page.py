"""SPEED.md and docs/speed.png from results/speed.json."""

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from baselines.markdown import table
from baselines.speed.figure import draw_costs
from baselines.speed.goals import before_where, goals_table, quality_table
from baselines.speed.measures import HIDDEN_SIZE, IMAGINED, VAE_BATCH, Rates, Setting
from baselines.speed.quality import CONTEXT, QUALITY_HORIZONS
from baselines.speed.rates import MISSING, divided, number, over_twin, ratios, spread, total
from baselines.speed.scale import scale_section
from baselines.speed.tried import TRIED
from worldmodel.support.files import UserError, atomic_write, read_json
from worldmodel.training.options import Recipe

SHOWN_SHAPES = 12
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
