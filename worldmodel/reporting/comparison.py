"""Several runs on one page: their figures side by side, their curves over one another, their film strips below one
another. Everything is made of what the report of each of them says (report.py)."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodel.evaluation.record import Evaluation
from worldmodel.evaluation.tables import NAIVE, Table, number, plural, when
from worldmodel.pictures import figures
from worldmodel.pictures.curves import overlaid_curves
from worldmodel.pictures.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, as_png
from worldmodel.pictures.forecasts import errors_over_horizon
from worldmodel.reporting.comparison_tables import (
    Compared,
    acting_tables,
    difference_tables,
    error_tables,
    health_tables,
    one_dt,
    probe_tables,
    same_questions,
    sample_tables,
    shown_horizons,
    size_table,
    with_naive,
)
from worldmodel.reporting.parts import FRAME_PARTS, WORLD_PARTS, Figure
from worldmodel.reporting.report import Picture, Tile, as_picture, embed, findings, frame_tiles, write_page
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
"""of the runs, in their order; more can hardly be told apart"""
FILMS = ("imagined", "decoded", "training")
"""parts of a report whose figures are shown below one another, but for OVERLAID"""
OVERLAID = ("evaluation/errors.png", "curves.png")
"""figures whose lines are drawn into one"""
CHOSEN = (
    "From the report of each run. Where a picture shows a good, a median or a bad sequence, it is so by that run's own"
    " errors, and need not be the same one for all."
)

ERRORS = Figure(
    "errors over the horizon",
    "Errors over the horizon",
    "A colour for each run, and grey for a naive predictor: the better run is on the better side of the others all the"
    " way, and its band does not touch theirs.",
    "Lines that meet the naive predictor's: from there on nothing is foreseen.",
)
CURVES = Figure(
    "learning curves",
    "Learning curves",
    "A colour for each run; the dashes tell the metrics of a panel apart.",
    "A run that is still getting better where it ends was stopped too early to be compared.",
)


def write_comparison(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write one HTML page on the runs in these folders, by default comparison.html in the folder that the first of them
    lies in; its path.

    Raises UserError when a folder is no run or is given twice, when there are more than can be told apart, or when a
    file of theirs is damaged.
    """
    runs = compared(folders)
    out = folders[0].resolve().parent / "comparison.html" if out is None else out
    write_page("comparison.html", describe_all(runs), out)
    return out


def describe_all(runs: Sequence[Compared]) -> dict[str, Any]:
    """All that the page says, by the names that the template uses."""
    judged = [(each, each.evaluation) for each in runs if each.evaluation is not None]
    evaluations = {each.name: found for each, found in judged}
    same = same_questions(list(evaluations.values()))
    sections = [
        section("errors", "How far can they be trusted?", error_tables(evaluations, same), error_picture(judged, same)),
        section("films", "Frames", films=films(runs), note=CHOSEN),
        section("health", "Health check", health_tables(runs)),
        section("samples", "Samples and latents", [*sample_tables(evaluations), *probe_tables(evaluations)]),
        section("acting", "Acting by imagining", acting_tables(runs)),
        section("curves", "How they learnt", picture=curves_picture(runs)),
        section("size", "Size and time", [size_table(runs)]),
        section("configuration", "Differences in configuration and data", difference_tables(runs)),
    ]
    return {
        "runs": [card(each, evaluations, index) for index, each in enumerate(runs)],
        "limits": limits(runs, evaluations, same),
        "sections": [each for each in sections if each["tables"] or each["pictures"] or each["films"]],
        "command": f"python scripts/report.py {' '.join(f'--run {where(each)}' for each in runs)}",
        "colours": figures,
        "run_colours": COLOURS,
    }


def section(
    anchor: str,
    title: str,
    tables: Sequence[Table] = (),
    picture: Picture | None = None,
    films: Sequence[dict[str, Any]] = (),
    note: str = "",
) -> dict[str, Any]:
    """A part of the page."""
    pictures = [] if picture is None else [picture]
    return {"anchor": anchor, "title": title, "note": note, "tables": tables, "pictures": pictures, "films": films}


def compared(folders: Sequence[Path]) -> list[Compared]:
    """The runs, each with a name and a colour. Raises UserError where they cannot be compared at all."""
    if not folders:
        raise UserError("no run is given")
    if len(folders) > len(COLOURS):
        raise UserError(f"{len(folders)} runs are more than can be told apart; give {len(COLOURS)} at most")
    there = [folder.resolve() for folder in folders]
    for index, folder in enumerate(folders):
        if there[index] in there[:index]:
            raise UserError(f"{folder}: is given twice")
    runs = [Run.open(folder) for folder in folders]
    return [
        Compared(run, name, colour, findings(run.folder))
        for run, name, colour in zip(runs, short_names(there), COLOURS, strict=False)
    ]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of their parents as it takes to tell them apart."""
    names = [folder.name for folder in folders]
    for parents in range(2, 1 + max(len(folder.parts) for folder in folders)):
        if len(set(names)) == len(names):
            break
        names = ["/".join(folder.parts[-parents:]) for folder in folders]
    return names


def where(each: Compared) -> str:
    return shlex.quote(str(each.run.folder))


def card(each: Compared, evaluations: dict[str, Evaluation], index: int) -> dict[str, Any]:
    """What stands of a run at the head of the page."""
    health, posterior = each.found.health, each.found.posterior
    tile, verdict, good = None, [], None
    if each.evaluation is not None:
        measure, horizon = each.evaluation.measures[0], shown_horizons(evaluations)[-1]
        value = each.evaluation.rows["model"][measure.name].at(horizon).value
        text = number(measure.factor * value, measure.form) + measure.unit
        tile = Tile(measure.title, text, f"after {when(each.evaluation, horizon)}")
    elif posterior is not None:
        tile = frame_tiles(posterior)[0]
    if health is not None:
        good = not health.problems
        verdict = health.in_words().splitlines()
    elif posterior is not None:
        verdict = posterior.in_words
    return {
        "index": index,
        "name": each.name,
        "kind": each.run.model,
        "steps": each.steps,
        "card": each.run.card,
        "tile": tile,
        "verdict": verdict,
        "good": good,
        "command": next(part.command for part in each.parts if part.anchor == "training").format(
            run=where(each), model=each.run.model
        ),
    }


def limits(runs: Sequence[Compared], evaluations: dict[str, Evaluation], same: bool) -> list[str]:
    """What cannot be compared, a sentence each."""
    said = []
    if len({each.run.card.fingerprint for each in runs}) > 1:
        on = "; ".join(f"{each.name}: {data_in_words(each.run)}" for each in runs)
        said.append(
            f"They were trained on different data ({on}). The learning curves and the health check are of each run's"
            " own held-out sequences, so their heights do not compare, only their courses."
        )
    if not same:
        asked = "; ".join(
            f"{name}: {plural(found.sequences, 'sequence')} of {found.data}, {plural(found.context, 'frame')} observed,"
            f" {found.horizon:,} imagined"
            for name, found in evaluations.items()
        )
        said.append(
            f"They were evaluated on different sequences ({asked}). Errors stand side by side, but only those in units"
            " of the naive predictors' tell which run foresees more of its world."
        )
    for each in runs:
        if each.found.posterior is not None:
            said.append(
                f"{each.name} is a model of single frames: it imagines nothing, and has no errors over a horizon."
            )
        elif each.evaluation is None:
            said.append(
                f"{each.name} has not been evaluated. This does it:"
                f" python scripts/evaluate.py --run {where(each)} --data DATA"
            )
        elif each.evaluation.trained_steps != each.steps:
            said.append(
                f"The evaluation of {each.name} is of an earlier state of the run, after"
                f" {plural(each.evaluation.trained_steps, 'optimiser step')}: delete its folder and evaluate again."
            )
    return said


def data_in_words(run: Run) -> str:
    """What a run was trained on."""
    made = "" if run.card.world is None else f", {run.card.world.id}"
    size = " × ".join(map(str, run.card.scale.frame_shape))
    return f"{Path(run.card.path).name}{made}, {size} pixels"


def error_picture(judged: Sequence[tuple[Compared, Evaluation]], same: bool) -> Picture | None:
    """Errors over the horizon, a line for each run."""
    if not judged:
        return None
    evaluations = {each.name: found for each, found in judged}
    rows = with_naive(evaluations, same)
    styles: dict[str, tuple[str, Any]] = {row: (GREY, dashes) for row, dashes in zip(NAIVE, ("--", ":"), strict=True)}
    styles |= {each.name: (each.colour, "-") for each, _ in judged}
    measures = {measure.name: measure for found in evaluations.values() for measure in found.measures}
    curves = {label: found.rows[row] for label, (found, row) in rows.items()}
    title = "Errors of imagined frames"
    drawn = errors_over_horizon(list(measures.values()), curves, styles, one_dt(evaluations.values()), title)
    return as_picture(ERRORS, as_png(drawn))


def curves_picture(runs: Sequence[Compared]) -> Picture | None:
    """The learning curves of all runs over one another."""
    drawn = overlaid_curves({each.name: each.metrics for each in runs}, {each.name: each.colour for each in runs})
    return None if drawn is None else as_picture(CURVES, as_png(drawn))


def films(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """The figures that show frames, each with what every run has of it; of one that has none, what makes it."""
    found = []
    shown = [(part, figure) for part in WORLD_PARTS + FRAME_PARTS if part.anchor in FILMS for figure in part.figures]
    for part, figure in shown:
        strips = []
        for index, each in enumerate(runs):
            if figure.file in OVERLAID or part not in each.parts:
                continue
            command = part.command.format(run=where(each), model=each.run.model)
            strip = {"name": each.name, "index": index, "picture": embed(each.run.folder, figure), "command": command}
            strips.append(strip)
        if any(strip["picture"] for strip in strips):
            found.append({"figure": figure, "strips": strips})
    return found
