"""The numbers of a report, set in tables."""

import dataclasses
import math
from typing import Any

from worldmodel.evaluation.posterior import Posterior
from worldmodel.evaluation.record import Estimate, Evaluation, Samples

NOTHING = "–"
"""stands where there is no number"""


@dataclasses.dataclass(frozen=True)
class Cell:
    text: str
    interval: str = ""
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    cells: list[Cell]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows under a heading of their own, or under none."""

    title: str
    rows: list[Row]


@dataclasses.dataclass(frozen=True)
class Table:
    title: str
    note: str
    """how to read it"""
    corner: str
    """what the first column holds"""
    columns: list[str]
    groups: list[Group]
    numbers: bool = True
    """columns of numbers are set to the right"""


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else NOTHING


def estimate_rows(
    columns: dict[str, list[Estimate]], form: str, factor: float, larger_is_better: bool, ceilings: list[str]
) -> list[Row]:
    """A row for each predictor; the best value of a column is marked, the ceilings left out of the contest."""

    def merit(name: str, estimate: Estimate) -> float:
        if name in ceilings or math.isnan(estimate.value):
            return -math.inf
        return estimate.value if larger_is_better else -estimate.value

    merits = {name: [merit(name, estimate) for estimate in estimates] for name, estimates in columns.items()}
    best = [max(column) for column in zip(*merits.values(), strict=True)]

    def cell(estimate: Estimate, merit: float, best: float) -> Cell:
        value, low, high = (number(factor * x, form) for x in dataclasses.astuple(estimate))
        return Cell(value, "" if NOTHING in (low, high) else f"{low} to {high}", merit == best > -math.inf)

    return [
        Row(
            name,
            [cell(*column) for column in zip(estimates, merits[name], best, strict=True)],
            "ceiling" if name in ceilings else "",
        )
        for name, estimates in columns.items()
    ]


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def error_table(found: Evaluation) -> Table:
    """Every metric at the shown horizons."""
    groups = []
    for metric in found.measures:
        columns = {
            name: [curves[metric.name].at(h) for h in found.shown_horizons]
            for name, curves in found.rows.items()
            if metric.name in curves
        }
        better = "higher is better" if metric.larger_is_better else "lower is better"
        rows = estimate_rows(columns, metric.form, metric.factor, metric.larger_is_better, found.ceilings)
        groups.append(Group(f"{capitalised(metric.title)} ({better})", rows))
    return Table(
        "Errors of imagined frames",
        f"{plural(found.sequences, 'sequence')}, {plural(found.context, 'frame')} observed. Small: 95% bootstrap"
        " interval over the sequences. Marked: the best of its column, but for the ceilings, which are shown the"
        " frames that the others must foresee.",
        "after so many imagined frames",
        _horizons(found),
        groups,
    )


def valid_table(found: Evaluation) -> Table:
    """How long predictions stay valid."""
    estimates = {name: [estimate] for name, estimate in found.valid_prediction_frames.items()}
    columns, rows = ["frames"], estimate_rows(estimates, ".0f", 1, True, found.ceilings)
    if found.dt:
        seconds = estimate_rows(estimates, ".2f", found.dt, True, found.ceilings)
        columns = ["frames", "seconds"]
        rows = [Row(row.name, row.cells + more.cells, row.note) for row, more in zip(rows, seconds, strict=True)]
    return Table(
        "Valid prediction time",
        "Until the squared error of a frame passes 2.5% of its squares, counted from the background, at"
        f" most {plural(found.horizon, 'frame')}. Median over the sequences; higher is better.",
        "predictor",
        columns,
        [Group("", rows)],
    )


def sample_table(found: Evaluation, samples: Samples) -> Table:
    """Coverage and CRPS of sampled futures."""

    def row(name: str, values: list[float], form: str) -> Row:
        return Row(name, [Cell(number(values[h - 1], form)) for h in found.shown_horizons])

    rows = [
        row(f"truths inside the {float(level):.0%} interval", values, ".0%")
        for level, values in samples.coverage.items()
    ]
    rows.append(row(f"CRPS / {samples.unit}", samples.crps, ".2f" if samples.unit == "degrees" else ".4f"))
    return Table(
        "Sampled futures in numbers",
        f"{samples.futures} futures of each sequence. Inside the 50% interval should lie 50% of the truths: fewer"
        " say that the model is too sure of itself, more that it is not sure enough. CRPS is the error of the whole"
        " distribution: lower is better.",
        "after so many imagined frames",
        _horizons(found),
        [Group("", rows)],
    )


def probe_table(found: Evaluation) -> Table:
    """R^2 from the latents to the true states."""
    names = list(found.r2_linear | found.r2_polynomial)
    rows = [
        Row(title, [Cell(number(values.get(name, math.nan), ".3f")) for name in names])
        for title, values in (("linear", found.r2_linear), ("polynomial", found.r2_polynomial))
    ]
    return Table(
        "Probes",
        "R² from the filter's latents to the true states, which the model has never seen; 1 is perfect.",
        "probe",
        [name.replace("_", " ") for name in names],
        [Group("", rows)],
    )


def posterior_table(found: Posterior) -> Table:
    """How each latent dimension of a model of frames is used."""
    rows = [
        Row(str(dimension), [Cell(number(kl, ".2f")), Cell(number(std, ".3f"))])
        for dimension, (kl, std) in enumerate(zip(found.kl, found.std, strict=True))
    ]
    return Table(
        "The posterior",
        "Averaged over held-out frames; the prior's standard deviation is 1.",
        "latent dimension",
        ["KL / nats per frame", "posterior std"],
        [Group("", rows)],
    )


def facts_table(title: str, corner: str, facts: dict[str, Any]) -> Table:
    """Names and what they are, as words."""
    rows = [Row(name, [Cell("default" if value is None else str(value))]) for name, value in facts.items()]
    return Table(title, "", corner, ["value"], [Group("", rows)], numbers=False)


def when(found: Evaluation, horizon: int) -> str:
    """A horizon in frames, and in seconds where they are known."""
    return plural(horizon, "frame") + (f", {horizon * found.dt:.3g} s" if found.dt else "")


def _horizons(found: Evaluation) -> list[str]:
    return [f"{h:,}" + (f" ({h * found.dt:.3g}\u00a0s)" if found.dt else "") for h in found.shown_horizons]
