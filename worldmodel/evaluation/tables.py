"""Numbers set in tables, which a report shows whole and a terminal without intervals."""

import dataclasses
import math
from typing import Any

from worldmodel.evaluation.record import Estimate, Evaluation, Samples
from worldmodel.worlds.world import Measure

NAIVE = ("repeat last frame", "mean frame")
"""rows of who knows no dynamics"""
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
    """Rows, under a heading of their own or that of the table."""

    rows: list[Row]
    title: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    title: str
    note: str
    """how to read it"""
    corner: str
    """what the first column holds"""
    columns: list[str]
    """what the others hold, a detail in brackets"""
    groups: list[Group]
    numbers: bool = True
    """columns of numbers are set to the right"""

    def in_text(self) -> str:
        """Without intervals and details, for a terminal."""
        heads = [column.partition(" (")[0] for column in self.columns]

        def line(name: str, texts: list[str]) -> str:
            cells = (f"{text:>{max(9, len(head) + 2)}}" for text, head in zip(texts, heads, strict=True))
            return f"{name:<{wide}}" + "".join(cells)

        lines, wide = [], max(33, *(len(row.name) + 2 for group in self.groups for row in group.rows)) + 1
        for group in self.groups:
            lines.append(line(group.title or self.title, heads))
            lines += [line(f"  {row.name}", [cell.text for cell in row.cells]) for row in group.rows]
        return "\n".join(lines)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else NOTHING


def number_row(name: str, values: list[float], form: str) -> Row:
    return Row(name, [Cell(number(value, form)) for value in values])


def summary(found: Evaluation) -> str:
    """An evaluation for a terminal: all its tables, and what could not be evaluated."""
    about = f"{found.sequences} sequences, {found.context} frames observed, {found.horizon} imagined"
    tables = [table.in_text() for part in evaluation_tables(found).values() for table in part]
    lines = [f"{about}; a column headed by a number: after so many of them", *tables, *found.left_out]
    if found.outside is not None and (warning := found.outside.warning()):
        lines.append(warning)
    return "\n".join(lines)


def evaluation_tables(found: Evaluation) -> dict[str, list[Table]]:
    """All that an evaluation says in numbers, by part of the report (reporting/parts.py)."""
    return {
        "errors": [error_table(found), valid_table(found), *outside_tables(found)],
        "samples": [sample_table(found, found.samples)] if found.samples is not None else [],
        "latents": [probe_table(found)] if found.r2_linear else [],
    }


def estimate_rows(
    columns: dict[str, list[Estimate]], form: str, factor: float, larger_is_better: bool, ceilings: list[str]
) -> list[Row]:
    """A row for each predictor; the best value of a column is marked, the ceilings left out of the contest."""

    def merit(name: str, estimate: Estimate) -> float:
        if name in ceilings or math.isnan(estimate.value):
            return -math.inf
        return estimate.value if larger_is_better else -estimate.value

    best = [max(map(merit, columns, column)) for column in zip(*columns.values(), strict=True)]

    def cell(name: str, estimate: Estimate, best: float) -> Cell:
        value, low, high = (number(factor * x, form) for x in dataclasses.astuple(estimate))
        interval = "" if NOTHING in (low, high) else f"{low} to {high}"
        return Cell(value, interval, merit(name, estimate) == best > -math.inf)

    return [
        Row(name, [cell(name, *pair) for pair in zip(row, best, strict=True)], "ceiling" if name in ceilings else "")
        for name, row in columns.items()
    ]


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def error_table(found: Evaluation) -> Table:
    """Every measure at the shown horizons."""
    groups = []
    for measure in found.measures:
        columns = {
            name: [curves[measure.name].at(h) for h in found.shown_horizons]
            for name, curves in found.rows.items()
            if measure.name in curves
        }
        rows = estimate_rows(columns, measure.form, measure.factor, measure.larger_is_better, found.ceilings)
        groups.append(measure_group(measure, rows))
    if set(NAIVE) <= set(found.rows):
        groups.append(naive_group(naive_shares(found, found.shown_horizons)))
    return Table(
        "Errors of imagined frames",
        f"{plural(found.sequences, 'sequence')}, {plural(found.context, 'frame')} observed. Small: 95% bootstrap"
        " interval over the sequences. Marked: the best of its column, but for the ceilings, which are shown the"
        " frames that the others must foresee.",
        "after so many imagined frames",
        horizon_heads(found.shown_horizons, found.dt),
        groups,
    )


def measure_group(measure: Measure, rows: list[Row]) -> Group:
    """Rows of a measure under its name, and what is better."""
    better = "higher is better" if measure.larger_is_better else "lower is better"
    return Group(rows, capitalised(measure.title), better)


def naive_shares(found: Evaluation, horizons: list[int]) -> dict[str, list[float]]:
    """Pixel errors at these horizons over those of the better naive predictor, by row: units that tell as much of
    frames that are mostly empty. Both naive predictors must be among the rows."""
    errors = {
        name: [curves["mse"].at(h).value for h in horizons]
        for name, curves in found.rows.items()
        if "mse" in curves and name not in found.ceilings
    }
    naive = [min(pair) for pair in zip(*(errors.pop(name) for name in NAIVE), strict=True)]
    return {
        name: [value / least if least > 0 else math.nan for value, least in zip(values, naive, strict=True)]
        for name, values in errors.items()
    }


def naive_group(shares: dict[str, list[float]]) -> Group:
    """What `naive_shares` gives."""
    rows = [number_row(name, values, ".3f") for name, values in shares.items()]
    return Group(rows, "Pixel MSE / naive", f"that of the better of: {', '.join(NAIVE)}; 1 is no better than these")


def valid_table(found: Evaluation) -> Table:
    """How long predictions stay valid."""
    columns, rows = valid_rows(found.valid_prediction_frames, found.dt, found.ceilings)
    return Table(
        "Valid prediction time",
        "Until the squared error of a frame passes 2.5% of its squares, counted from the background, at"
        f" most {plural(found.horizon, 'frame')}. Median over the sequences; higher is better.",
        "predictor",
        columns,
        [Group(rows)],
    )


def valid_rows(frames: dict[str, Estimate], dt: float | None, ceilings: list[str]) -> tuple[list[str], list[Row]]:
    """Columns and rows of `valid_prediction_frames`, in frames, and in seconds where `dt` is known."""
    estimates = {name: [estimate] for name, estimate in frames.items()}
    columns, rows = ["frames"], estimate_rows(estimates, ".0f", 1, True, ceilings)
    if dt:
        seconds = estimate_rows(estimates, ".2f", dt, True, ceilings)
        columns = ["frames", "seconds"]
        rows = [Row(row.name, row.cells + more.cells, row.note) for row, more in zip(rows, seconds, strict=True)]
    return columns, rows


def outside_tables(found: Evaluation) -> list[Table]:
    """A table of how many latents have left what the training data covered, where that is known."""
    if found.outside is None:
        return []
    return [
        Table(
            "Beyond the training data",
            "Share of latents that are farther from those of the training data than all but 1% of its own frames are."
            " There the model was taught nothing: where imagined latents are outside and those of the true frames are"
            " not, the dream went astray; where both are, the world has gone where no training sequence was."
            f" Of the frames themselves {number(found.outside.frames, '.0%')} look like none of the training data, and"
            f" {number(found.outside.actions, '.0%')} of the actions are beyond its own."
            f" {found.outside.warning() or ''}".rstrip(),
            "after so many imagined frames",
            horizon_heads(found.shown_horizons, found.dt),
            [Group([number_row(name, shares, ".0%") for name, shares in found.outside.latents.items()])],
        )
    ]


def sample_table(found: Evaluation, samples: Samples) -> Table:
    """Coverage and CRPS of sampled futures."""
    return Table(
        f"{samples.futures} sampled futures",
        "Of each sequence. Inside the 50% interval should lie 50% of the truths: fewer say that the model is too sure"
        " of itself, more that it is not sure enough. CRPS is the error of the whole distribution: lower is better.",
        "after so many imagined frames",
        horizon_heads(found.shown_horizons, found.dt),
        [Group([number_row(name, x, form) for name, x, form in sample_lines(samples, found.shown_horizons)])],
    )


def sample_lines(samples: Samples, horizons: list[int]) -> list[tuple[str, list[float], str]]:
    """Name, values at these horizons and number format of everything that is said of sampled futures."""
    form = ".2f" if samples.unit == "degrees" else ".4f"
    lines = [(f"truths inside the {float(level):.0%} interval", x, ".0%") for level, x in samples.coverage.items()]
    lines.append((f"CRPS / {samples.unit}", samples.crps, form))
    return [(name, [values[h - 1] for h in horizons], form) for name, values, form in lines]


def probe_table(found: Evaluation) -> Table:
    """R^2 from the latents to the true states."""
    names = list(found.r2_linear | found.r2_polynomial)
    probes = {"linear": found.r2_linear}
    if found.polynomial_degree != 1:  # of few frames none of a higher degree is fitted
        probes["polynomial"] = found.r2_polynomial
    return Table(
        "R² of probes",
        "From the filter's latents to the true states, which the model has never seen; 1 is perfect.",
        "probe",
        [name.replace("_", " ") for name in names],
        [Group([number_row(title, [r2.get(name, math.nan) for name in names], ".3f") for title, r2 in probes.items()])],
    )


def facts_table(title: str, corner: str, facts: dict[str, Any]) -> Table:
    """Names and what they are, as words."""
    return facts_beside(title, "", corner, ["value"], {name: [fact(value)] for name, value in facts.items()})


def facts_beside(title: str, note: str, corner: str, columns: list[str], facts: dict[str, list[str]]) -> Table:
    """Names and what they are in each of the columns, as words."""
    rows = [Row(name, list(map(Cell, words))) for name, words in facts.items()]
    return Table(title, note, corner, columns, [Group(rows)], numbers=False)


def fact(value: Any) -> str:
    """A value as a word."""
    return "default" if value is None else str(value)


def when(found: Evaluation, horizon: int) -> str:
    """A horizon in frames, and in seconds where they are known."""
    return plural(horizon, "frame") + (f", {horizon * found.dt:.3g} s" if found.dt else "")


def horizon_heads(horizons: list[int], dt: float | None) -> list[str]:
    """Headings of columns."""
    return [f"{h:,}" + (f" ({h * dt:.3g}\u00a0s)" if dt else "") for h in horizons]
