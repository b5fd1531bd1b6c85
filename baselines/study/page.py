"""RESULTS.md from results/*.json: every table with the paper's figures, the floors and the ceilings beside ours."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baselines.study.lineup import ABLATIONS, MODELS
from baselines.study.scores import CONTEXTS, HORIZONS
from worldmodel.support.files import UserError, atomic_write, read_json
from worldmodel.support.settings import from_json

Results = dict[str, dict[str, Any]]
"""file name without its ending -> what it holds"""

HEAD = """
# Results

Written by `make benchmark` from results/*.json, which hold every seed. The paper's pendulum (m = l = 1, mu = 0.5,
g = 9.81, dt = 0.1 s, torques uniform up to 2 N m, initial velocities uniform up to 8 rad/s), 16 x 16 frames, 500
training, 500 validation and 500 test sequences of 15; {rollouts} longer ones for the rollouts; {steps} optimiser
steps of 32 sequences. The standard deviation of the angular velocity is {train} (train) and {test} rad/s (test); the
paper's Table 1 implies 3.69. The paper's figures are in italics: one run, on its own data, of which it does not state
time step, torques and renderer.

A seed *works* when all polynomial R^2 reach 0.98 and, after 15 frames, the median angle error stays within 5 degrees at
10, 30 and 100 imagined frames with 90% of the sequences within 30 degrees. Friction makes late steps easy: see the row
of a pendulum that always hangs down.

- *median*, *worst*, *best*: over the seeds, each column by itself.
- *R^2*: of a probe from samples of the filter's latents to the true state, fitted on one half of the test sequences
  and scored on the other, both ways. The polynomial probe's degree is the largest that the frames allow.
- *imagined*: the mean prediction after some observed frames, with the true torques, compared with frames without
  noise. *Valid* until the squared error exceeds 0.025 of the frame's squares (Botev et al. 2021), counted from the
  background.
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

ABLATION = """
## What the parts of the recipe do

`dvbf` with one part removed at a time. The last column is what the health check of `train.py` says, from held-out
frames alone, and of how many seeds.
"""

NEEDED = ("options", "world", "noise", "steps", "rollouts", "velocity_std", "training_sequences", "machine", "runs")


def read_results(out: Path) -> Results:
    """All of `out`/results that belongs to models of the lineup, in its order. Raises UserError for a file of another
    version of the benchmark."""
    order = [*MODELS, *ABLATIONS]
    results = {}
    for path in sorted((out / "results").glob("*.json")):
        data = read_json(path)
        if isinstance(data, dict) and "model" in data:
            if data["model"] not in order or any(key not in data for key in NEEDED):
                raise UserError(f"{path}: written by another version of the benchmark; delete it")
            options = (MODELS | ABLATIONS)[data["model"]].options
            if not _equal(options, data["options"]):
                raise UserError(f"{path}: its model had other options than it has now; delete it")
            results[path.stem] = data
    return dict(sorted(results.items(), key=lambda item: (order.index(item[1]["model"]), item[0])))


def _equal(options: Any, saved: dict[str, Any]) -> bool:
    """Whether saved options are these; one that was not there yet had its default."""
    try:
        return from_json(type(options), saved) == options
    except TypeError:
        return False


def write_results_page(out: Path) -> None:
    """Write `out`/RESULTS.md from all of `out`/results."""
    results = read_results(out)

    def chosen(keep: Callable[[dict[str, Any]], bool]) -> Results:
        return {name: data for name, data in results.items() if keep(data)}

    def floors(world: str) -> dict[str, Any]:
        path = out / "results" / f"floors-and-ceilings{world}.json"
        return read_json(path)["rows"] if path.exists() else {}

    paper = chosen(lambda data: data["model"] in MODELS and data["world"] == "paper")
    frictionless = chosen(lambda data: data["model"] in MODELS and data["world"] == "frictionless")
    ablations = chosen(lambda data: data["model"] in ABLATIONS and data["world"] == "paper" and not data["noise"])
    head = {"train": "unknown", "test": "unknown", "steps": "", "rollouts": ""}
    for name in ("steps", "rollouts"):
        head[name] = " or ".join(sorted({f"{data[name]:,}" for data in results.values()}))
    for data in paper.values():
        head |= data["velocity_std"]
        break
    lines = [HEAD.strip().format(**head), ""]
    shown = [data["model"] for data in (paper | frictionless).values()]
    lines += [f"- `{name}`: {MODELS[name].about}" for name in dict.fromkeys(shown)]
    lines += ["", *LEGEND.strip().splitlines(), ""]
    lines += ["## Latents: R^2 on 500 test sequences", "", *probe_table(paper), *PAPER_PROBES, ""]
    for context in CONTEXTS:
        lines += [f"## Imagination after {context} frames: median angle error in degrees (share within 30)", ""]
        lines += [*rollout_table(paper, floors("") if context == 15 else {}, context), ""]
    lines += ["## Imagination after 15 frames: pixel MSE x 1000", "", *mse_table(paper, floors("")), ""]
    lines += ["## Bounds on the test set, in nats (medians), and times", "", *bounds_table(paper), ""]
    if frictionless:
        rows = floors("-frictionless")
        lines += [FRICTIONLESS.strip(), "", *rollout_table(frictionless, rows, 15), ""]
        lines += ["The same, of the sequences whose speed has not been clipped by then:", ""]
        lines += [*unclipped_table(frictionless, rows), "", *probe_table(frictionless), ""]
    if ablations:
        lines += [ABLATION.strip(), "", *ablation_table(paper, ablations), ""]
    with atomic_write(out / "RESULTS.md") as file:
        file.write("\n".join(lines).encode())


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def header(*cells: str) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def number(value: float | None, form: str) -> str:
    """A figure as text; "failed" where a seed gave none."""
    return "failed" if value is None or not math.isfinite(value) else f"{value:{form}}"


def summary(values: list[float | None], which: str, smaller_is_better: bool = False) -> float:
    """Median, worst or best; a seed that gave no number is the worst."""
    sign = -1 if smaller_is_better else 1
    ordered = sorted(-math.inf if value is None or math.isnan(value) else sign * value for value in values)
    middle = len(ordered) // 2
    if which == "median":
        return sign * (ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)
    return sign * (ordered[0] if which == "worst" else ordered[-1])


def share_that_works(data: dict[str, Any]) -> str:
    return f"{sum(run['works'] for run in data['runs'])}/{len(data['runs'])}"


def probe_table(results: Results) -> list[str]:
    lines = header(
        *("model", "seeds that work", "", "sin", "cos", "velocity"),
        *("polynomial: sin", "cos", "velocity", "degree"),
    )
    for name, data in results.items():
        runs = data["runs"]
        for which in ("median", "worst", "best"):
            cells = [
                number(summary([list(run[kind].values())[i] for run in runs], which), form)
                for kind, form in (("r2_linear", ".3f"), ("r2_polynomial", ".4f"))
                for i in range(3)
            ]
            first = (name, share_that_works(data)) if which == "median" else ("", "")
            lines.append(row(*first, which, *cells, str(runs[0]["polynomial_degree"])))
    return lines


PAPER_PROBES = [
    "| *paper: DVBF-LL* | *1 run* |  | *0.961* | *0.982* | *0.916* |  |  |  |  |",
    "| *paper: DKF* | *1 run* |  | *0.929* | *0.979* | *0.035* |  |  |  |  |",
]


def horizons_of(results: Results) -> list[str]:
    rolled = [run["context_15"] for data in results.values() for run in data["runs"] if "context_15" in run]
    return [str(h) for h in HORIZONS if rolled and str(h) in rolled[0]["angle_error_degrees"]]


def seed_rows(results: Results, context: int, cell: Callable[[list[dict[str, Any]], str, str], str]) -> list[str]:
    """Two rows for each model that imagines: its median and its worst seed at every horizon, as `cell` (rollouts of all
    seeds, horizon, which) writes them."""
    key, lines = f"context_{context}", []
    for name, data in results.items():
        if key in data["runs"][0]:
            rolled = [run[key] for run in data["runs"]]
            for which in ("median", "worst"):
                cells = [cell(rolled, h, which) for h in horizons_of(results)]
                lines.append(row(name if which == "median" else "", which, *cells))
    return lines


def rollout_table(results: Results, floors: dict[str, Any], context: int) -> list[str]:
    def cell(rolled: list[dict[str, Any]], h: str, which: str) -> str:
        error = summary([seed["angle_error_degrees"][h] for seed in rolled], which, smaller_is_better=True)
        return f"{number(error, '.2f')} ({summary([seed['within_30_degrees'][h] for seed in rolled], which):.0%})"

    horizons = horizons_of(results)
    lines = [*header("", "", *horizons), *seed_rows(results, context, cell)]
    for name, floor in floors.items():
        if "angle_error_degrees" in floor:
            errors, shares = floor["angle_error_degrees"], floor["within_30_degrees"]
            lines.append(row(name, "", *(f"{errors[h]:.2f} ({shares[h]:.0%})" for h in horizons)))
    return lines


def unclipped_table(results: Results, floors: dict[str, Any]) -> list[str]:
    def cell(rolled: list[dict[str, Any]], h: str, which: str) -> str:
        errors = [seed["unclipped"]["angle_error_degrees"][h] for seed in rolled]
        return number(summary(errors, which, smaller_is_better=True), ".2f")

    horizons = horizons_of(results)
    share = next(iter(results.values()))["runs"][0]["context_15"]["unclipped"]["share"]
    lines = [*header("", "", *horizons), row("share of the sequences", "", *(f"{share[h]:.0%}" for h in horizons))]
    lines += seed_rows(results, 15, cell)
    for name, floor in floors.items():
        if "unclipped" in floor:
            errors = floor["unclipped"]["angle_error_degrees"]
            lines.append(row(name, "", *(number(errors[h], ".2f") for h in horizons)))
    return lines


def mse_table(results: Results, floors: dict[str, Any]) -> list[str]:
    def cell(rolled: list[dict[str, Any]], h: str, which: str) -> str:
        error = summary([seed["frame_mse"][h] for seed in rolled], which, smaller_is_better=True)
        return number(1000 * error, ".2f")

    horizons = horizons_of(results)
    lines = [*header("", "", *horizons), *seed_rows(results, 15, cell)]
    for name, floor in floors.items():
        if "frame_mse" in floor:
            lines.append(row(name, "", *(f"{1000 * floor['frame_mse'][h]:.2f}" for h in horizons)))
    return lines


def valid_frames(runs: list[dict[str, Any]], context: int) -> str:
    """The median over seeds of the valid prediction time, where it was measured; a static model has none."""
    rolled = [run.get(f"context_{context}", {}) for run in runs]
    if "valid_prediction_frames" not in rolled[0]:
        return ""
    return number(summary([of_run["valid_prediction_frames"] for of_run in rolled], "median"), ".0f")


def bounds_table(results: Results) -> list[str]:
    lines = header(
        *("", "ELBO per sequence", "per frame", "reconstruction", "KL", "IWAE, 16 samples"),
        *("valid frames after 15", "after 5", "training, all seeds together", "machine"),
    )
    for name, data in results.items():
        runs = data["runs"]
        elbo, reconstruction, kl, iwae = (
            summary([run["nats_per_sequence"][part] for run in runs], "median")
            for part in ("elbo", "reconstruction", "kl", "iwae")
        )
        valid = (valid_frames(runs, context) for context in CONTEXTS)
        nats = (number(value, ".1f") for value in (elbo, elbo / 15, reconstruction, kl, iwae))
        lines.append(row(name, *nats, *valid, f"{len(runs)} seeds in {data['training_seconds']} s", data["machine"]))
    lines.append(row("*paper: DVBF-LL*", "*798.6*", "*not said which*", "*802.1*", "*3.5*", "", "", "", "", ""))
    lines.append(row("*paper: DKF*", "*784.7*", "*not said which*", "*788.6*", "*3.9*", "", "", "", "", ""))
    return lines


def ablation_table(paper: Results, ablations: Results) -> list[str]:
    horizons = ("10", "30", "100", "500")
    lines = header(
        *("", "seeds that work", "R^2 polynomial, velocity: median", "worst"),
        *(f"degrees @{h}: median (worst)" for h in horizons),
        "health check",
    )
    whole = {name: data for name, data in paper.items() if name == "dvbf"}
    for name, data in (whole | ablations).items():
        runs = data["runs"]
        velocity = [list(run["r2_polynomial"].values())[2] for run in runs]
        cells = []
        for h in horizons:
            errors = [run["context_15"]["angle_error_degrees"][h] for run in runs]
            median, worst = (summary(errors, which, smaller_is_better=True) for which in ("median", "worst"))
            cells.append(f"{number(median, '.1f')} ({number(worst, '.1f')})")
        named = [problem for run in runs for problem in run["problems"]]
        words = ", ".join(f"{problem} ({named.count(problem)})" for problem in dict.fromkeys(named)) or "healthy"
        what = f"`{name}`: {data['about']}" if name in ablations else f"`{name}`"
        probes = (number(summary(velocity, which), ".3f") for which in ("median", "worst"))
        lines.append(row(what, share_that_works(data), *probes, *cells, words))
    return lines
