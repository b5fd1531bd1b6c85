"""RESULTS.md from results/*.json: every table with the paper's figures, the floors and the ceilings beside ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from baselines.lineup import ABLATIONS, MODELS
from baselines.scores import CONTEXTS, HORIZONS
from worldmodel.files import atomic_write, read_json

HEAD = """
# Results

Written by `make benchmark` from results/*.json, which hold every seed. The paper's pendulum (m = l = 1, mu = 0.5,
g = 9.81, dt = 0.1 s, torques uniform up to 2 N m, initial velocities uniform up to 8 rad/s), 16 x 16 frames, 500
training, 500 validation and 500 test sequences of 15, 300 longer ones for the rollouts. The standard deviation of the
angular velocity is SPREAD; the paper's Table 1 implies 3.69. All models have 8,000 steps of 32 sequences. The paper's
figures are in italics: one run, on its own data, of which it does not state time step, torques and renderer.

A seed *works* when all polynomial R^2 reach 0.98 and, after 15 frames, the median angle error stays within 5 degrees at
10, 30 and 100 imagined frames with 90% of the sequences within 30 degrees. Friction makes late steps easy: see the row
of a pendulum that always hangs down. R^2 and bounds are of samples of the filter on test sequences; imagined frames are
of the mean.
"""


def write_results_page(out: Path) -> None:
    """Write `out`/RESULTS.md from all of `out`/results."""
    files = {path.stem: read_json(path) for path in sorted((out / "results").glob("*.json"))}
    order = [*MODELS, *ABLATIONS]
    results = {name: data for name, data in files.items() if data.get("model") in order}
    results = dict(sorted(results.items(), key=lambda item: (order.index(item[1]["model"]), item[0])))

    def chosen(keep: Callable[[dict[str, Any]], bool]) -> dict[str, dict[str, Any]]:
        return {name: data for name, data in results.items() if keep(data)}

    paper = chosen(lambda data: data["model"] in MODELS and data["world"] == "paper")
    frictionless = chosen(lambda data: data["model"] in MODELS and data["world"] != "paper")
    ablations = chosen(lambda data: data["model"] in ABLATIONS)
    spreads = [data["velocity_std"] for data in paper.values()] or [{"train": 0, "test": 0}]
    lines = [HEAD.strip().replace("SPREAD", "{train} (train) and {test} rad/s (test)".format(**spreads[0])), ""]
    lines += [f"- `{name}`: {MODELS[name].about}" for name in MODELS if name in results]
    lines += ["", "`-noise0.05`: Gaussian noise of that standard deviation on every pixel; `-sequences250`: half the"]
    lines += ["data.", ""]
    lines += ["## Latents: R^2 on 500 test sequences", "", *probe_table(paper), ""]
    floors = files.get("floors-and-ceilings", {}).get("rows", {})
    for context in CONTEXTS:
        lines += [f"## Imagination after {context} frames: median angle error in degrees (share within 30)", ""]
        lines += [*rollout_table(paper, floors, context), ""]
    lines += ["## Imagination after 15 frames: pixel MSE x 1000", ""]
    lines += [*mse_table(paper, floors), ""]
    lines += ["## Bounds on the test set, in nats (median seed), and times", "", *bounds_table(paper), ""]
    if frictionless:
        lines += [FRICTIONLESS.strip(), ""]
        rows = files.get("floors-and-ceilings-frictionless", {}).get("rows", {})
        lines += [*rollout_table(frictionless, rows, 15), ""]
        lines += ["The same, of the sequences whose speed has not been clipped by then:", ""]
        lines += [*unclipped_table(frictionless, rows), "", *probe_table(frictionless), ""]
    if ablations:
        lines += [ABLATION.strip(), "", *ablation_table(paper, ablations), ""]
    with atomic_write(out / "RESULTS.md") as file:
        file.write("\n".join(lines).encode())


FRICTIONLESS = """
## The frictionless world

Gymnasium's Pendulum-v1 physics (g = 10, dt = 0.05 s, a uniform rod, torques up to 2 N m, speed clipped at 8 rad/s),
from any angle and any speed up to the clip; trained on 1000 sequences of 50. Nothing dies out
here, and the clip is a kink in the dynamics. Median angle error in degrees after 15 frames (share within 30):
"""

ABLATION = """
## What the parts of the recipe do

`dvbf` with one part removed at a time. The last column is what the health check of `train_dvbf.py` says of the seeds,
from validation frames alone, and on how many.
"""


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def header(*cells: str) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def summary(values: list[float], which: str) -> float:
    """Median, worst (smallest) or best (largest)."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if which == "median":
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[0] if which == "worst" else ordered[-1]


def share_that_works(data: dict[str, Any]) -> str:
    return f"{sum(run['works'] for run in data['runs'])}/{len(data['runs'])}"


def probe_table(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = header("model", "seeds that work", "", "sin", "cos", "velocity", "polynomial: sin", "cos", "velocity")
    for name, data in results.items():
        for which in ("median", "worst", "best"):
            values = [
                summary([list(run[kind].values())[i] for run in data["runs"]], which)
                for kind in ("r2_linear", "r2_polynomial")
                for i in range(3)
            ]
            first = (name, share_that_works(data)) if which == "median" else ("", "")
            cells = [f"{value:.3f}" for value in values[:3]] + [f"{value:.4f}" for value in values[3:]]
            lines.append(row(*first, which, *cells))
    lines.append(row("*paper: DVBF-LL*", "*1 run*", "", "*0.961*", "*0.982*", "*0.916*", "", "", ""))
    lines.append(row("*paper: DKF*", "*1 run*", "", "*0.929*", "*0.979*", "*0.035*", "", "", ""))
    return lines


def shown_horizons(results: dict[str, dict[str, Any]]) -> list[str]:
    rolled = [run["context_15"] for data in results.values() for run in data["runs"] if "context_15" in run]
    return [str(h) for h in HORIZONS if rolled and str(h) in rolled[0]["angle_error_degrees"]]


def rolled_out(results: dict[str, dict[str, Any]], context: int) -> dict[str, list[dict[str, Any]]]:
    """The rollouts of every seed, of the models that have any."""
    key = f"context_{context}"
    return {name: [run[key] for run in data["runs"]] for name, data in results.items() if key in data["runs"][0]}


def rollout_table(results: dict[str, dict[str, Any]], floors: dict[str, Any], context: int) -> list[str]:
    horizons = shown_horizons(results)
    lines = header("", "", *horizons)
    for name, rolled in rolled_out(results, context).items():
        for which in ("median", "worst"):
            cells = []
            for h in horizons:
                error = -summary([-seed["angle_error_degrees"][h] for seed in rolled], which)
                cells.append(f"{error:.2f} ({summary([seed['within_30_degrees'][h] for seed in rolled], which):.0%})")
            lines.append(row(name if which == "median" else "", f"{which} seed", *cells))
    for name, floor in floors.items() if context == 15 else ():
        if "angle_error_degrees" in floor:
            errors, shares = floor["angle_error_degrees"], floor["within_30_degrees"]
            lines.append(row(name, "", *(f"{errors[h]:.2f} ({shares[h]:.0%})" for h in horizons)))
    return lines


def unclipped_table(results: dict[str, dict[str, Any]], floors: dict[str, Any]) -> list[str]:
    horizons = shown_horizons(results)
    rows = rolled_out(results, 15)
    lines = header("", "", *horizons)
    for name, rolled in rows.items():
        if len(lines) == 2:
            shares = rolled[0]["unclipped"]["share"]
            lines.append(row("share of the sequences", "", *(f"{shares[h]:.0%}" for h in horizons)))
        for which in ("median", "worst"):
            values = [[-seed["unclipped"]["angle_error_degrees"][h] for seed in rolled] for h in horizons]
            cells = [f"{-summary(errors, which):.2f}" for errors in values]
            lines.append(row(name if which == "median" else "", f"{which} seed", *cells))
    for name, floor in floors.items():
        if "unclipped" in floor:
            errors = floor["unclipped"]["angle_error_degrees"]
            lines.append(row(name, "", *(f"{errors[h]:.2f}" for h in horizons)))
    return lines


def mse_table(results: dict[str, dict[str, Any]], floors: dict[str, Any]) -> list[str]:
    horizons = shown_horizons(results)
    lines = header("", "", *horizons)
    for name, rolled in rolled_out(results, 15).items():
        for which in ("median", "worst"):
            values = [[-1000 * seed["frame_mse"][h] for seed in rolled] for h in horizons]
            cells = [f"{-summary(errors, which):.2f}" for errors in values]
            lines.append(row(name if which == "median" else "", f"{which} seed", *cells))
    for name, floor in floors.items():
        if "frame_mse" in floor:
            lines.append(row(name, "", *(f"{1000 * floor['frame_mse'][h]:.2f}" for h in horizons)))
    return lines


def bounds_table(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = header(
        *("", "ELBO per sequence", "per frame", "reconstruction", "KL", "IWAE, 16 samples"),
        *("valid frames after 15", "after 5", "training, all seeds together", "machine"),
    )
    for name, data in results.items():
        runs = data["runs"]
        parts = ("elbo", "reconstruction", "kl", "iwae")
        elbo, reconstruction, kl, iwae = (
            summary([run["nats_per_sequence"][part] for run in runs], "median") for part in parts
        )
        valid = [
            f"{summary([run[f'context_{context}']['valid_prediction_frames'] for run in runs], 'median'):.0f}"
            if f"context_{context}" in runs[0]
            else ""
            for context in CONTEXTS
        ]
        nats = (f"{value:.1f}" for value in (elbo, elbo / 15, reconstruction, kl, iwae))
        lines.append(row(name, *nats, *valid, f"{len(runs)} seeds in {data['training_seconds']} s", data["machine"]))
    lines.append(row("*paper: DVBF-LL*", "*798.6*", "*not said which*", "*802.1*", "*3.5*", "", "", "", "", ""))
    lines.append(row("*paper: DKF*", "*784.7*", "*not said which*", "*788.6*", "*3.9*", "", "", "", "", ""))
    return lines


def ablation_table(paper: dict[str, dict[str, Any]], ablations: dict[str, dict[str, Any]]) -> list[str]:
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
            errors = [-run["context_15"]["angle_error_degrees"][h] for run in runs]
            cells.append(f"{-summary(errors, 'median'):.1f} ({-summary(errors, 'worst'):.1f})")
        named = [problem for run in runs for problem in run["problems"]]
        words = ", ".join(f"{problem} ({named.count(problem)})" for problem in dict.fromkeys(named)) or "healthy"
        what = f"`{name}`: {data['about']}" if name in ablations else f"`{name}`"
        probes = (f"{summary(velocity, which):.3f}" for which in ("median", "worst"))
        lines.append(row(what, share_that_works(data), *probes, *cells, words))
    return lines
