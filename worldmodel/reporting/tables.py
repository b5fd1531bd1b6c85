"""The numbers of a report: evaluation.json, health.json and posterior.json, read with care and set in tables."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from worldmodel.evaluation.health import Health
from worldmodel.evaluation.judge import MEASURES, READING, Measure
from worldmodel.support.files import UserError, read_json
from worldmodel.support.settings import from_json

CEILINGS = ("static VAE reconstruction", READING)
"""rows that have seen the frames that the others must foresee"""
NOTHING = "–"
"""stands where there is no number"""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value and its 95% bootstrap interval over the sequences; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What evaluation.json says. Lists over the horizon have S values; index h - 1 is the h-th imagined frame."""

    data: str
    sequences: int
    context: int
    horizon: int
    """S, frames"""
    dt: float | None
    """seconds between two frames"""
    shown: list[int]
    """horizons of the tables, frames"""
    rows: dict[str, dict[str, list[Estimate]]]
    """by predictor and metric, over the horizon"""
    valid: dict[str, Estimate]
    """frames until a prediction is no longer valid, by predictor"""
    futures: int
    """samples of each sequence"""
    unit: str
    """of the CRPS"""
    coverage: dict[str, list[float]]
    """share of truths inside, over the horizon, by nominal share of the interval"""
    crps: list[float]
    probes: dict[str, dict[str, float]]
    """R^2 by probe and true state; empty without states"""

    @property
    def headline(self) -> Measure:
        return next(metric for metric in MEASURES if metric.name in self.rows["model"])

    def when(self, horizon: int) -> str:
        """A horizon in frames, and in seconds where they are known."""
        return plural(horizon, "frame") + (f", {horizon * self.dt:.3g} s" if self.dt else "")


def read_evaluation(path: Path) -> Evaluation:
    """Raises UserError when the file is damaged or of another version."""
    found = read_json(path)
    try:
        horizon = _whole(found["horizon"])
        rows = {
            row: {m.name: _estimates(metrics[m.name], horizon) for m in MEASURES if m.name in metrics}
            for row, metrics in found["rows"].items()
        }
        samples, shown = found["samples"], [_whole(h) for h in found["shown_horizons"]]
        if not shown or not 1 <= min(shown) <= max(shown) <= horizon or not rows["model"]:
            raise ValueError("nothing to show")
        return Evaluation(
            data=str(found["data"]),
            sequences=_whole(found["sequences"]),
            context=_whole(found["context"]),
            horizon=horizon,
            dt=None if found["dt"] is None else _number(found["dt"]),
            shown=shown,
            rows=rows,
            valid={row: Estimate(**_numbers(value)) for row, value in found["valid_prediction_frames"].items()},
            futures=_whole(samples["futures"]),
            unit=str(samples["unit"]),
            coverage={level: _series(samples["coverage"][level], horizon) for level in ("0.5", "0.9")},
            crps=_series(samples["crps"], horizon),
            probes={name: _numbers(found[name]) for name in ("r2_linear", "r2_polynomial") if name in found},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f"{path}: damaged, or of another version; make it anew with scripts/evaluate.py") from None


def read_health(path: Path) -> Health:
    """Raises UserError when the file is damaged or of another version."""
    found = read_json(path)
    try:
        return from_json(Health, {name: _number(value) for name, value in found.items() if name != "problems"})
    except (TypeError, AttributeError, OverflowError):
        raise UserError(f"{path}: damaged, or of another version; --resume of the training makes it anew") from None


@dataclasses.dataclass(frozen=True)
class Posterior:
    """What posterior.json says of a static VAE."""

    kl: list[float]
    """nats per frame, by latent dimension"""
    std: list[float]
    """by latent dimension; the prior has 1"""
    reconstruction_share: float
    """squared error of the reconstructed frames, over their variance"""
    unused: int
    """latent dimensions that collapsed to the prior"""
    in_words: list[str]


def read_posterior(path: Path) -> Posterior:
    """Raises UserError when the file is damaged or of another version."""
    found = read_json(path)
    try:
        kl = [_number(value) for value in found["kl_nats"]]
        return Posterior(
            kl=kl,
            std=_series(found["std"], len(kl)),
            reconstruction_share=_number(found["reconstruction_share"]),
            unused=len(found["unused"]),
            in_words=[str(sentence) for sentence in found["in_words"]],
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: damaged, or of another version; --resume of the training makes it anew") from None


def _number(value: Any) -> float:
    """A JSON number; null is NaN, as `write_json` has it. Raises TypeError for anything else."""
    if value is not None and type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return math.nan if value is None else float(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in values.items()}


def _series(values: Any, length: int) -> list[float]:
    if len(values) != length:
        raise ValueError(f"{len(values)} values instead of {length}")
    return [_number(value) for value in values]


def _estimates(curve: dict[str, Any], horizon: int) -> list[Estimate]:
    parts = (_series(curve[name], horizon) for name in ("value", "low", "high"))
    return [Estimate(*estimate) for estimate in zip(*parts, strict=True)]


# Tables


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


def estimate_rows(columns: dict[str, list[Estimate]], form: str, factor: float, larger_is_better: bool) -> list[Row]:
    """A row for each predictor; the best value of a column is marked, the ceilings left out of the contest."""

    def merit(name: str, estimate: Estimate) -> float:
        if name in CEILINGS or math.isnan(estimate.value):
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
            "ceiling" if name in CEILINGS else "",
        )
        for name, estimates in columns.items()
    ]


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def error_table(found: Evaluation) -> Table:
    """Every metric at the shown horizons."""
    groups = []
    for metric in MEASURES:
        columns = {
            name: [curves[metric.name][h - 1] for h in found.shown]
            for name, curves in found.rows.items()
            if metric.name in curves
        }
        if columns:
            better = "higher is better" if metric.larger_is_better else "lower is better"
            rows = estimate_rows(columns, metric.form, metric.factor, metric.larger_is_better)
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
    estimates = {name: [estimate] for name, estimate in found.valid.items()}
    columns, rows = ["frames"], estimate_rows(estimates, ".0f", 1, larger_is_better=True)
    if found.dt:
        seconds = estimate_rows(estimates, ".2f", found.dt, larger_is_better=True)
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


def sample_table(found: Evaluation) -> Table:
    """Coverage and CRPS of sampled futures."""
    rows = [
        Row(f"truths inside the {float(level):.0%} interval", [Cell(number(values[h - 1], ".0%")) for h in found.shown])
        for level, values in found.coverage.items()
    ]
    form = ".2f" if found.unit == "degrees" else ".4f"
    rows.append(Row(f"CRPS / {found.unit}", [Cell(number(found.crps[h - 1], form)) for h in found.shown]))
    return Table(
        "Sampled futures in numbers",
        f"{found.futures} futures of each sequence. Inside the 50% interval should lie 50% of the truths: fewer"
        " say that the model is too sure of itself, more that it is not sure enough. CRPS is the error of the whole"
        " distribution: lower is better.",
        "after so many imagined frames",
        _horizons(found),
        [Group("", rows)],
    )


def probe_table(found: Evaluation) -> Table:
    """R^2 from the latents to the true states."""
    titles = {"r2_linear": "linear", "r2_polynomial": "polynomial"}
    names = list(dict.fromkeys(name for probe in found.probes.values() for name in probe))
    rows = [
        Row(titles[probe], [Cell(number(values.get(name, math.nan), ".3f")) for name in names])
        for probe, values in found.probes.items()
    ]
    return Table(
        "Probes",
        "R² from the filter's latents to the true states, which the model has never seen; 1 is perfect.",
        "probe",
        [name.replace("_", " ") for name in names],
        [Group("", rows)],
    )


def posterior_table(found: Posterior) -> Table:
    """How each latent dimension of a static VAE is used."""
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


def _horizons(found: Evaluation) -> list[str]:
    return [f"{h:,}" + (f" ({h * found.dt:.3g}\u00a0s)" if found.dt else "") for h in found.shown]
