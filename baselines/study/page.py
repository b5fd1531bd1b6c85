"""RESULTS.md from results/*.json: every table with the paper's figures, the floors and the ceilings beside ours."""

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

from baselines.markdown import table
from baselines.study.lineup import ABLATIONS, MODELS
from baselines.study.scores import CONTEXTS, COVERED_HORIZONS, IWAE_SAMPLES
from worldmodel.evaluation.record import SHOWN_LEVELS
from worldmodel.support.files import UserError, atomic_write, read_json
from worldmodel.support.settings import from_json

Results = dict[str, dict[str, Any]]
"""file name without its ending -> what it holds"""
Rollouts = dict[str, list[dict[str, Any]]]
"""name -> what the rollouts of every seed came to; a predictor that learns nothing counts as one seed"""

HEAD = """
# Results

Written by `make benchmark` from results/*.json, which hold every seed. The paper's pendulum (m = l = 1, mu = 0.5,
g = 9.81, dt = 0.1 s, torques uniform up to 2 N m, initial velocities uniform up to 8 rad/s), 16 x 16 frames, 500
training, 500 validation and 500 test sequences of 15; {rollouts} longer ones for the rollouts. The recipe was chosen on
data of other seeds; nothing was chosen by these. The standard deviation of the angular velocity is {train} (train) and
{test} rad/s (test); the paper's Table 1 implies 3.69. The paper's figures are in italics: one run, on its own data, of
which it does not state time step, torques and renderer.

A seed *works* when all polynomial R^2 reach 0.98 and, after 15 frames, the median angle error stays within 5 degrees at
10, 30 and 100 imagined frames with 90% of the sequences within 30 degrees. Friction makes late steps easy: see the row
of a pendulum that always hangs down.

- *median*, *worst*, *best*: over the seeds, each column by itself.
- *R^2*: of a probe from samples of the filter's latents to the true state, fitted on one half of the test sequences
  and scored on the other, both ways. The polynomial probe's degree is the largest that the frames allow. Every model is
  calibrated on the validation sequences before: one factor on the noise of its samples.
- *imagined*: the mean prediction after some observed frames, with the true torques, compared with frames without
  noise. *Valid* until the squared error exceeds 0.025 of the frame's squares (Botev et al. 2021), counted from the
  background.
- *coverage*: how many true angles lie in the central 50% and 90% of 100 sampled futures, after 15 frames of 100 of the
  long sequences. Aims: 42 to 58% and 85 to 95%.
- *oracles*: the true physics from a state estimated on the last five observed frames, by a parabola through their
  angles or by the trajectory that fits them best (shooting). Oracles and floors are scored on half of the long
  sequences; the other half tells them what angles look like.
- *IWAE*: the importance-weighted bound (Burda et al. 2016). Bounds compare only at equal pixel noise: the models here
  have sigma 0.18, but `paper-dvbf` learns its own, which comes to about 0.015.
"""

LEGEND = """
`-noise0.05`: Gaussian noise of that standard deviation on every pixel, cut off at black and white: dark pixels become
brighter on average, and so does what the model learns. `-sequences250`: so many training sequences.
"""

FRICTIONLESS = """
## The frictionless world

Gymnasium's Pendulum-v1 physics (g = 10, dt = 0.05 s, a uniform rod, torques up to 2 N m, speed clipped at 8 rad/s),
from any angle and any speed up to the clip; trained on 1000 sequences of 50. Nothing dies out here, and the clip is a
kink in the dynamics. A seed *works* here by what it does at 10 and 30 frames. Median angle error in degrees after 15
frames (share within 30):
"""

UNCLIPPED = "The same, of the sequences whose speed has not been clipped by then (their share; floors: of their half):"

ABLATION = """
## What the parts of the recipe do

`dvbf` with one thing changed at a time. The last column is what the health check of `train.py` says, from held-out
frames alone, and of how many seeds.
"""

PAPER_PROBES = [
    ["*paper: DVBF-LL*", "*1 run*", "", "*0.961*", "*0.982*", "*0.916*", "", "", "", ""],
    ["*paper: DKF*", "*1 run*", "", "*0.929*", "*0.979*", "*0.035*", "", "", "", ""],
]
PAPER_BOUNDS = [
    ["*paper: DVBF-LL*", "*798.6*", "*not said which*", "*802.1*", "*3.5*", "", "", "", ""],
    ["*paper: DKF*", "*784.7*", "*not said which*", "*788.6*", "*3.9*", "", "", "", ""],
]

NEEDED = {"options", "world", "noise", "steps", "batch_size", "rollouts", "velocity_std", "training_sequences", "runs"}


def read_results(out: Path) -> Results:
    """All of `out`/results that belongs to models of the lineup, in its order. Raises UserError for a file of another
    version of the benchmark."""
    entries = MODELS | ABLATIONS
    results = {}
    for path in sorted((out / "results").glob("*.json")):
        data = read_json(path)
        if isinstance(data, dict) and "model" in data:
            if data["model"] not in entries or not data.keys() >= NEEDED:
                raise UserError(f"{path}: written by another version of the benchmark; delete it")
            if not _equal(entries[data["model"]].options, data["options"]):
                raise UserError(f"{path}: its model had other options than it has now; delete it")
            results[path.stem] = data
    order = list(entries)
    return dict(sorted(results.items(), key=lambda item: (order.index(item[1]["model"]), item[0])))


def _equal(options: Any, saved: dict[str, Any]) -> bool:
    """Whether saved options are these; one that was not there yet had its default."""
    try:
        return from_json(type(options), dataclasses.asdict(type(options)()) | saved) == options
    except TypeError:
        return False


def write_results_page(out: Path) -> None:
    """Write `out`/RESULTS.md from all of `out`/results."""
    results = read_results(out)

    def of_world(world: str, lineup: dict[str, Any]) -> Results:
        return {name: data for name, data in results.items() if data["world"] == world and data["model"] in lineup}

    def floors(world: str) -> Rollouts:
        path = out / "results" / f"floors-and-ceilings{world}.json"
        return {name: [row] for name, row in read_json(path)["rows"].items()} if path.exists() else {}

    paper, frictionless = of_world("paper", MODELS), of_world("frictionless", MODELS)
    ablations = {name: data for name, data in of_world("paper", ABLATIONS).items() if not data["noise"]}
    counts = " or ".join(sorted({f"{data['rollouts']:,}" for data in results.values()}))
    spread = next((data["velocity_std"] for data in paper.values()), {"train": "unknown", "test": "unknown"})
    shown = dict.fromkeys(data["model"] for data in (paper | frictionless).values())
    parts = [
        HEAD.format(rollouts=counts, **spread),
        "\n".join(f"- `{name}`: {MODELS[name].about}" for name in shown),
        LEGEND,
        "## Goals: median over the seeds, unless it says otherwise",
        goals_table(results),
        "## Latents: R^2 on 500 test sequences",
        probe_table(paper, PAPER_PROBES),
    ]
    for context in CONTEXTS:
        rolled = rollouts(paper, context) | (floors("") if context == 15 else {})
        parts.append(f"## Imagination after {context} frames: median angle error in degrees (share within 30)")
        parts.append(horizon_table(rolled, "angle_error_degrees", share="within_30_degrees"))
    parts += [
        "## Sampled futures: coverage of 50% and 90% intervals, median over the seeds (least to most)",
        coverage_table(paper | frictionless),
        "## Imagination after 15 frames: pixel MSE x 1000",
        horizon_table(rollouts(paper, 15) | floors(""), "frame_mse", factor=1000),
        "## Bounds on the test set, in nats (medians)",
        bounds_table(paper),
    ]
    if frictionless:
        rolled = rollouts(frictionless, 15) | floors("-frictionless")
        unclipped = {
            name: [seed["unclipped"] for seed in seeds] for name, seeds in rolled.items() if "unclipped" in seeds[0]
        }
        parts += [FRICTIONLESS, horizon_table(rolled, "angle_error_degrees", share="within_30_degrees")]
        parts += [UNCLIPPED, horizon_table(unclipped, "angle_error_degrees", share="share")]
        parts.append(probe_table(frictionless))
    if ablations:
        whole = {name: data for name, data in paper.items() if name == "dvbf"}
        parts += [ABLATION, ablation_table(whole | ablations)]
    with atomic_write(out / "RESULTS.md") as file:
        file.write(("\n\n".join(part.strip() for part in parts) + "\n").encode())


def number(value: float | None, form: str) -> str:
    """A figure as text; "failed" where a seed gave none."""
    return "failed" if value is None or not math.isfinite(value) else f"{value:{form}}"


def summary(values: list[float | None], which: str, smaller_is_better: bool = False) -> float:
    """Median, worst or best; a seed that gave no number is the worst."""
    sign = -1 if smaller_is_better else 1
    goodness = [-math.inf if value is None else sign * value for value in values]
    statistic: Any = {"median": statistics.median, "worst": min, "best": max}[which]
    return sign * statistic(goodness)


def share_that_works(data: dict[str, Any]) -> str:
    return f"{sum(run['works'] for run in data['runs'])}/{len(data['runs'])}"


def probe_table(results: Results, paper: list[list[str]] | None = None) -> str:
    """Three rows for each model, and those of the paper."""
    rows = []
    for name, data in results.items():
        runs = data["runs"]
        for which in ("median", "worst", "best"):
            cells = [
                number(summary(list(seeds), which), form)
                for kind, form in (("r2_linear", ".3f"), ("r2_polynomial", ".4f"))
                for seeds in zip(*(run[kind].values() for run in runs), strict=True)
            ]
            first = [name, share_that_works(data)] if which == "median" else ["", ""]
            rows.append([*first, which, *cells, str(runs[0]["polynomial_degree"])])
    linear = ["model", "seeds that work", "", "sin", "cos", "velocity"]
    return table([*linear, "polynomial: sin", "cos", "velocity", "degree"], rows + (paper or []))


def rollouts(results: Results, context: int) -> Rollouts:
    """Of the models that imagine, after so many observed frames."""
    key = f"context_{context}"
    return {name: [run[key] for run in data["runs"]] for name, data in results.items() if key in data["runs"][0]}


def horizon_table(rolled: Rollouts, error: str, factor: float = 1, share: str = "") -> str:
    """An error, times the factor, of the median and the worst seed at every horizon; a share in brackets behind it."""
    rolled = {name: seeds for name, seeds in rolled.items() if error in seeds[0]}
    horizons = dict.fromkeys(horizon for seeds in rolled.values() for horizon in seeds[0][error])

    def cell(seeds: list[dict[str, Any]], which: str, horizon: str) -> str:
        value = summary([seed[error][horizon] for seed in seeds], which, smaller_is_better=True)
        behind = f" ({summary([seed[share][horizon] for seed in seeds], which):.0%})" if share else ""
        return number(factor * value, ".2f") + behind

    rows = []
    for name, seeds in rolled.items():
        median, worst = ([cell(seeds, which, horizon) for horizon in horizons] for which in ("median", "worst"))
        rows += [[name, "median", *median], ["", "worst", *worst]] if len(seeds) > 1 else [[name, "", *median]]
    return table(["", "", *horizons], rows)


def goals_table(results: Results) -> str:
    """What was aimed at, of the models that are there, and what came of it at each horizon; what is missed is bold."""
    rows = []

    def add(what: str, aims: dict[str, tuple[float, float]], values: dict[str, float], form: str) -> None:
        cells = [
            f"{values[h]:{form}}" if least <= values[h] <= most else f"**{values[h]:{form}}**"
            for h, (least, most) in aims.items()
        ]
        ends = {f"{most:{form}}" if least == 0 else f"{least:{form}} to {most:{form}}" for least, most in aims.values()}
        aim = ends.pop() if len(ends) == 1 else " / ".join(f"{most:{form}}" for _, most in aims.values())
        rows.append([what, " / ".join(aims), aim, " / ".join(cells)])

    for name, where, which, most in (
        ("dvbf", "the paper's pendulum", "median", (0.25, 0.25, 0.25, 0.25)),
        ("dvbf", "the paper's pendulum, the worst seed", "worst", (0.5, 0.5, 0.5, 0.5)),
        ("dvbf-large-frictionless", "the frictionless world", "median", (0.5, 1.0, 2.0, 4.0)),
    ):
        if name in results:
            aims = {h: (0.0, limit) for h, limit in zip(("10", "30", "60", "100"), most, strict=True)}
            runs = [run["context_15"]["angle_error_degrees"] for run in results[name]["runs"]]
            values = {h: summary([run[h] for run in runs], which, smaller_is_better=True) for h in aims}
            add(f"`{name}`: degrees, {where}", aims, values, ".2f")
    for name in ("dvbf", "dvbf-noise0.05"):
        for level, ends in (("0.5", (0.42, 0.58)), ("0.9", (0.85, 0.95))):
            if name in results:
                covered = [run["coverage"][level] for run in results[name]["runs"]]
                values = {str(h): statistics.median([run[str(h)] for run in covered]) for h in COVERED_HORIZONS}
                add(f"`{name}`: coverage of {float(level):.0%} intervals", dict.fromkeys(values, ends), values, ".0%")
    return table(["", "imagined frames", "at most, or between", "here"], rows)


def coverage_table(results: Results) -> str:
    """Of the models that sample futures: for each horizon what the 50% interval holds, then what the 90% one does."""
    results = {name: data for name, data in results.items() if "coverage" in data["runs"][0]}
    columns = [(level, str(h)) for h in COVERED_HORIZONS for level in SHOWN_LEVELS]
    rows = []
    for name, data in results.items():
        cells = []
        for level, horizon in columns:
            values = [run["coverage"][level][horizon] for run in data["runs"]]
            cells.append(f"{statistics.median(values):.0%} ({min(values):.0%} to {max(values):.0%})")
        rows.append([name, *cells])
    return table(["", *(f"{float(level):.0%} @{horizon}" for level, horizon in columns)], rows)


def bounds_table(results: Results) -> str:
    rows = []
    for name, data in results.items():
        runs = data["runs"]
        per_sequence = [
            number(summary([run["nats_per_sequence"][part] for run in runs], "median"), ".1f")
            for part in ("elbo", "reconstruction", "kl", "iwae")
        ]
        per_frame = number(summary([run["nats_per_frame"]["elbo"] for run in runs], "median"), ".1f")
        valid = []  # not measured of a static model, nor by earlier versions
        for context in CONTEXTS:
            frames = [run.get(f"context_{context}", {}).get("valid_prediction_frames") for run in runs]
            valid.append("" if None in frames else number(summary(frames, "median"), ".0f"))
        updates = f"{data['steps']:,} x {data['batch_size']}"
        rows.append([name, per_sequence[0], per_frame, *per_sequence[1:], *valid, updates])
    heads = ["", "ELBO per sequence", "per frame", "reconstruction", "KL", f"IWAE, {IWAE_SAMPLES} samples"]
    heads += ["valid frames after 15", "after 5", "updates x batch"]
    return table(heads, rows + PAPER_BOUNDS)


def ablation_table(results: Results) -> str:
    horizons, rows = ("10", "30", "100", "500"), []
    for name, data in results.items():
        runs = data["runs"]
        velocity = [list(run["r2_polynomial"].values())[2] for run in runs]
        cells = [number(summary(velocity, which), ".3f") for which in ("median", "worst")]
        for horizon in horizons:
            errors = [run["context_15"]["angle_error_degrees"][horizon] for run in runs]
            median, worst = (number(summary(errors, which, True), ".2f") for which in ("median", "worst"))
            cells.append(f"{median} ({worst})")
        named = [problem for run in runs for problem in run["problems"]]
        words = ", ".join(f"{problem} ({named.count(problem)})" for problem in dict.fromkeys(named)) or "healthy"
        what = f"`{name}`" + (f": {data['about']}" if data["model"] in ABLATIONS else "")
        rows.append([what, share_that_works(data), *cells, words])
    degrees = (f"degrees @{horizon}: median (worst)" for horizon in horizons)
    heads = ["", "seeds that work", "R^2 polynomial, velocity: median", "worst", *degrees, "health check"]
    return table(heads, rows)
