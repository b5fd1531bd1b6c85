"""The tables of a comparison: a row or a column for each run (comparison.py)."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import jax
from flax import nnx

from worldmodel.evaluation.health import naive_share
from worldmodel.evaluation.record import Evaluation
from worldmodel.evaluation.tables import (
    NAIVE,
    NOTHING,
    Cell,
    Group,
    Row,
    Table,
    estimate_rows,
    fact,
    facts_beside,
    horizon_heads,
    measure_group,
    naive_group,
    naive_shares,
    number,
    number_row,
    plural,
    sample_lines,
    valid_rows,
)
from worldmodel.reporting.parts import Part, parts_of
from worldmodel.reporting.report import Findings, configuration_facts, figures_of, frame_tiles
from worldmodel.runs.folder import Run
from worldmodel.runs.metrics import training_seconds
from worldmodel.support.files import UserError

OWN = "--out"
"""option that is every run's own, and no difference"""
SAME = 1e-4
"""relative difference of what another machine computes of the same data"""
INCOMPARABLE = " They were not asked the same, so none is marked as the best."


@dataclasses.dataclass(frozen=True)
class Compared:
    """A run among others."""

    run: Run
    name: str
    """short, and unlike the others'"""
    colour: str
    found: Findings

    @property
    def evaluation(self) -> Evaluation | None:
        return self.found.evaluation

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return self.run.metrics()

    @property
    def steps(self) -> int:
        return max(self.run.checkpoint_steps(), default=0)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        return parts_of(self.run)


def same_questions(evaluations: Sequence[Evaluation]) -> bool:
    """Whether all were evaluated on the same sequences after the same context. Of those, the predictor that repeats the
    last frame has the same errors, whatever the model."""

    def naive(found: Evaluation) -> list[float]:
        return found.rows["repeat last frame"]["mse"].value if "repeat last frame" in found.rows else []

    def alike(one: Evaluation, other: Evaluation) -> bool:
        asked = all(getattr(one, name) == getattr(other, name) for name in ("sequences", "context", "dt"))
        errors = list(zip(naive(one), naive(other), strict=False))
        return asked and bool(errors) and all(math.isclose(a, b, rel_tol=SAME, abs_tol=1e-12) for a, b in errors)

    return all(alike(evaluations[0], other) for other in evaluations[1:])


def shown_horizons(evaluations: dict[str, Evaluation]) -> list[int]:
    """Those of the run that imagined the fewest frames: all the others have them, too."""
    return min(evaluations.values(), key=lambda found: found.horizon).shown_horizons


def one_dt(evaluations: Iterable[Evaluation]) -> float | None:
    """Seconds between two frames, where they are the same for all."""
    found = {each.dt for each in evaluations}
    return found.pop() if len(found) == 1 else None


def unmarked(rows: list[Row]) -> list[Row]:
    """The rows, none of whose cells is the best."""
    return [dataclasses.replace(row, cells=[dataclasses.replace(x, best=False) for x in row.cells]) for row in rows]


def with_naive(evaluations: dict[str, Evaluation], same: bool) -> dict[str, tuple[Evaluation, str]]:
    """Evaluation, and its row, of what stands in the tables of errors: the runs and, where all were asked the same, the
    naive predictors beside them."""
    rows = {name: (found, "model") for name, found in evaluations.items()}
    if same:
        first = next(iter(evaluations.values()))
        rows |= {row: (first, row) for row in NAIVE if row in first.rows and row not in rows}
    return rows


def error_tables(evaluations: dict[str, Evaluation], same: bool) -> list[Table]:
    """Errors by horizon and how long predictions stay valid, a row for each run."""
    if not evaluations:
        return []
    horizons, dt, rows = shown_horizons(evaluations), one_dt(evaluations.values()), with_naive(evaluations, same)
    measures = {measure.name: measure for found in evaluations.values() for measure in found.measures}
    groups = []
    for name, measure in measures.items():
        columns = {
            label: [found.rows[row][name].at(h) for h in horizons]
            for label, (found, row) in rows.items()
            if name in found.rows[row]
        }
        lines = estimate_rows(columns, measure.form, measure.factor, measure.larger_is_better, [])
        groups.append(measure_group(measure, lines if same else unmarked(lines)))
    shares = {
        name: naive_shares(found, horizons) for name, found in evaluations.items() if set(NAIVE) <= set(found.rows)
    }
    if shares:
        groups.append(naive_group({name: share["model"] for name, share in shares.items()}))
    small = "Small: 95% bootstrap interval over the sequences."
    note = " Marked: the best of its column." if same else INCOMPARABLE
    heads = horizon_heads(horizons, dt)
    errors = Table("Errors of imagined frames", small + note, "after so many imagined frames", heads, groups)
    frames = {
        label: found.valid_prediction_frames[row]
        for label, (found, row) in rows.items()
        if row in found.valid_prediction_frames
    }
    if not frames:
        return [errors]
    units, lines = valid_rows(frames, dt, [])
    valid = Table(
        "Valid prediction time",
        "Until the squared error of a frame passes 2.5% of its squares, counted from the background, but no longer than"
        f" was imagined. Median over the sequences; higher is better.{'' if same else INCOMPARABLE}",
        "run",
        units,
        [Group(lines if same else unmarked(lines))],
    )
    return [errors, valid]


def health_tables(runs: Sequence[Compared]) -> list[Table]:
    """The verdicts' figures, a column for each run."""
    tables = []
    checked = {each.name: each.found.health for each in runs if each.found.health is not None}
    if checked:
        found = list(checked.values())
        named = [", ".join(problem.name for problem in each.problems) or "none" for each in found]
        left = [each.figures.get("reconstruction_share", math.nan) for each in found]
        rows = {
            "problems": named,
            "imagined error / naive": [number(naive_share(each.figures), ".1%") for each in found],
            "filtered error / variance": [number(share, ".1%") for share in left],
            "growth of the latents": [number(each.figures["latent_growth"], ".2f") for each in found],
            "frames foreseen": [foreseen(each.figures) for each in found],
        }
        note = "Of each run's own data; the first error is that of ten imagined frames."
        tables.append(facts_beside("On held-out sequences", note, "figure", list(checked), rows))
    balanced = {each.name: each.found.posterior for each in runs if each.found.posterior is not None}
    if balanced:
        tiles = [frame_tiles(each) for each in balanced.values()]
        rows = {row[0].label: [f"{tile.value} {tile.beside}" for tile in row] for row in zip(*tiles, strict=True)}
        note = "Of the models of single frames, on held-out frames."
        tables.append(facts_beside("The posterior", note, "figure", list(balanced), rows))
    return tables


def foreseen(figures: dict[str, float]) -> str:
    """For how many frames of those that there are the naive predictors are beaten."""
    if "foreseen_frames" not in figures:
        return NOTHING
    return f"{figures['foreseen_frames']:.0f} of {figures['imagined_frames']:.0f}"


def sample_tables(evaluations: dict[str, Evaluation]) -> list[Table]:
    """Sampled futures, a row for each run."""
    sampled = {name: found.samples for name, found in evaluations.items() if found.samples is not None}
    if not sampled:
        return []
    horizons, groups = shown_horizons(evaluations), dict[str, list[Row]]()
    for name, samples in sampled.items():
        for line, values, form in sample_lines(samples, horizons):
            groups.setdefault(line, []).append(number_row(name, values, form))
    return [
        Table(
            "Sampled futures",
            "Inside the 50% interval should lie 50% of the truths: fewer say that the model is too sure of itself, more"
            " that it is not sure enough. CRPS is the error of the whole distribution: lower is better.",
            "after so many imagined frames",
            horizon_heads(horizons, one_dt(evaluations.values())),
            [
                Group(rows, line, "lower is better" if line.startswith("CRPS") else "share")
                for line, rows in groups.items()
            ],
        )
    ]


def probe_tables(evaluations: dict[str, Evaluation]) -> list[Table]:
    """R^2 of linear probes from the latents to the true states, a row for each run."""
    probed = {name: found.r2_linear for name, found in evaluations.items() if found.r2_linear}
    states = list(dict.fromkeys(state for found in probed.values() for state in found))
    if not states:
        return []
    rows = [number_row(name, [found.get(state, math.nan) for state in states], ".3f") for name, found in probed.items()]
    note = "From the filter's latents to the true states, which the model has never seen; 1 is perfect."
    return [Table("R² of linear probes", note, "run", [state.replace("_", " ") for state in states], [Group(rows)])]


def acting_tables(runs: Sequence[Compared]) -> list[Table]:
    """Returns of those that acted, together where they were asked the same."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for each in runs:
        for found in each.found.acted.values():
            begun = "random starts" if found.start is None else f"from {found.start}"
            asked = (
                f"{plural(len(found.returns), 'episode')} of at most {plural(found.steps, 'step')}, {begun} of seed"
                f" {found.seed}, wanted: {found.wanted}"
            )
            cells = [Cell(f"{value:.1f}") for value in figures_of(found.returns)]
            groups.setdefault((found.env, asked), []).append(Row(each.name, cells, found.planner))
    if not groups:
        return []
    note = "Runs stand together that acted in the same environment from the same starts."
    shown = [Group(rows, env, asked) for (env, asked), rows in groups.items()]
    return [Table("Acting by imagining", note, "return of an episode", ["mean", "worst", "best"], shown)]


def size_table(runs: Sequence[Compared]) -> Table:
    """How large the models are, and how long they were trained."""
    rows: dict[str, list[str]] = {
        "parameters": [parameters(each.run) for each in runs],
        "last checkpoint": [megabytes(each.run) for each in runs],
        "optimiser steps": [f"{each.steps:,}" for each in runs],
        "updates a second (median)": [number(speed(each.metrics), ".1f") for each in runs],
        "time of the updates": [in_words(training_seconds(each.metrics)) for each in runs],
    }
    note = (
        "The time is that of the updates, and of compiling them; looks at held-out data, but for the first, are not in"
        " it. It depends on the machine and on what else ran there; seeds that were trained together share it."
    )
    return facts_beside("Models and their trainings", note, "figure", [each.name for each in runs], rows)


def parameters(run: Run) -> str:
    """Numbers that a model learns."""
    try:
        params = nnx.split(run.structure(), nnx.Param, ...)[1]
    except UserError:
        return NOTHING
    return f"{sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)):,}"


def megabytes(run: Run) -> str:
    """Of the last checkpoint, with the state of the optimiser."""
    steps = run.checkpoint_steps()
    return f"{run.checkpoint_path(steps[-1]).stat().st_size / 1e6:.2f} MB" if steps else NOTHING


def speed(metrics: list[dict[str, Any]]) -> float:
    rates = [line["steps_per_second"] for line in metrics if "steps_per_second" in line]
    return statistics.median(rates) if rates else math.nan


def in_words(time: float) -> str:
    """Seconds, or minutes where there are many."""
    if math.isnan(time):
        return NOTHING
    return f"{time:.1f} s" if time < 100 else f"{time / 60:.1f} min"


def difference_tables(runs: Sequence[Compared]) -> list[Table]:
    """What the runs' configurations do not have in common, a column for each run."""
    tables: list[Table] = []
    all_facts = [configuration_facts(each.run) for each in runs]
    for parts in zip(*all_facts, strict=True):
        title, corner, _ = parts[0]
        facts = [{name: fact(value) for name, value in found.items()} for _, _, found in parts]
        names = [name for name in dict.fromkeys(name for found in facts for name in found) if name != OWN]
        rows = {name: [found.get(name, NOTHING) for found in facts] for name in names}
        differ = {name: values for name, values in rows.items() if len(set(values)) > 1}
        if differ:
            note = f"{plural(len(rows) - len(differ), corner)} more, the same for all, left out."
            tables.append(facts_beside(title, note, corner, [each.name for each in runs], differ))
    return tables
