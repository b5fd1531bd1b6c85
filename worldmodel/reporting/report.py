"""One report: a run folder as a single HTML page that needs nothing else, to read, print or send to somebody.

The pictures are inside it, byte for byte; it loads nothing and runs no script. Its figures, how to read them and what a
bad one looks like stand in parts.py, its tables in evaluation/tables.py, its looks in report.html.
"""

import base64
import dataclasses
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from worldmodel.evaluation.health import Health
from worldmodel.evaluation.posterior import Posterior
from worldmodel.evaluation.record import Evaluation, read_evaluation, read_record
from worldmodel.evaluation.tables import (
    Cell,
    Group,
    Row,
    Table,
    capitalised,
    evaluation_tables,
    facts_table,
    number,
    plural,
    when,
)
from worldmodel.models.catalogue import MODELS
from worldmodel.pictures import figures
from worldmodel.planning.record import FILE, Acted, read_acted
from worldmodel.reporting.parts import Figure, acted_figures, parts_of
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, atomic_write
from worldmodel.support.settings import flag
from worldmodel.worlds.world import environment_of

T = TypeVar("T")

CSS_DOTS = 96.0
"""pixels that a page counts as an inch"""
TRAIN_ANEW = "--resume of the training makes it anew"
WIDE = 700
"""width, in pixels of the page, from which a picture has a row to itself, and is scrolled, not shrunk, on a phone"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure that is there."""

    figure: Figure
    uri: str
    """all of its bytes"""
    width: int
    height: int
    """on the page, in its pixels"""

    @property
    def wide(self) -> bool:
        return self.width > WIDE


@dataclasses.dataclass(frozen=True)
class Tile:
    """A headline number."""

    label: str
    value: str
    beside: str = ""


def write_report(folder: Path, out: Path) -> None:
    """Write the report of the run in `folder` as one HTML file.

    Raises UserError when the folder is no run of a registered model, or when a file that the report shows is damaged.
    """
    write_page("report.html", describe(folder), out)


def write_page(template: str, page: dict[str, Any], out: Path) -> None:
    """Write the HTML of what a template, a file beside this one, says of `page`. All of that is escaped."""
    environment = Environment(
        loader=PackageLoader("worldmodel.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "by_option": lambda words: re.split(r"(--[a-z][a-z-]*)", str(words)),
        "capitalised": capitalised,
        "file_name": lambda path: Path(path).name,
        "plural": plural,
    }
    text = environment.get_template(template).render(page)
    with atomic_write(out) as file:
        file.write(text.encode(errors="replace"))


class Findings(NamedTuple):
    """What was found of a run; none of it need be there."""

    evaluation: Evaluation | None
    health: Health | None
    posterior: Posterior | None
    acted: dict[str, Acted]
    """by the name of its folder"""


def verdict_of(folder: Path) -> tuple[Health | None, Posterior | None]:
    """What the check at the end of a training found. Raises UserError when it is damaged."""
    return (
        optional(lambda path: read_record(Health, path, TRAIN_ANEW), folder / "health.json"),
        optional(lambda path: read_record(Posterior, path, TRAIN_ANEW), folder / "posterior.json"),
    )


def findings(folder: Path) -> Findings:
    """Raises UserError when one of them is damaged."""
    return Findings(
        optional(read_evaluation, folder / "evaluation" / "evaluation.json"),
        *verdict_of(folder),
        {path.parent.name: read_acted(path.parent) for path in sorted(folder.glob(f"acting/*/{FILE}"))},
    )


def describe(folder: Path) -> dict[str, Any]:
    """All that the page of a run says, by the names that the template uses."""
    run, where = Run.open(folder), shlex.quote(str(folder))
    evaluation, health, posterior, acted = findings(folder)
    tables = {} if evaluation is None else evaluation_tables(evaluation)
    tiles = [] if evaluation is None else horizon_tiles(evaluation)
    if posterior is not None:
        tables, tiles = tables | {"posterior": [posterior.in_numbers()]}, frame_tiles(posterior)
    tables |= {"acting": [acted_table(name, found) for name, found in acted.items()]}
    filled: list[dict[str, Any]] = []
    for part in parts_of(run):
        shown = part.figures
        if part.anchor == "acting":
            shown = tuple(figure for name in acted for figure in acted_figures(f"acting/{name}", name))
        pictures = [picture for picture in (embed(folder, figure) for figure in shown) if picture]
        command = part.command.format(run=where, model=run.model)
        instead = part.instead if evaluation is not None and part.instead in evaluation.left_out else ""
        if part.anchor == "acting":
            instead = why_not_acted(run)
        made = {"tables": tables.get(part.anchor, []), "pictures": pictures, "command": command, "instead": instead}
        filled.append({"anchor": part.anchor, "title": part.title} | made)
    return {
        "name": folder.resolve().name,
        "kind": run.model,
        "purpose": MODELS.sentence(run.model),
        "steps": max(run.checkpoint_steps(), default=0),
        "card": run.card,
        "evaluation": evaluation,
        "health": health,
        "posterior": posterior,
        "tiles": tiles,
        "first": filled[0],
        "parts": filled[1:],
        "training_command": filled[-1]["command"],
        "configuration": configuration(run),
        "command": f"python scripts/report.py --run {where}",
        "colours": figures,
    }


def horizon_tiles(found: Evaluation) -> list[Tile]:
    """The headline measure of the model at the shown horizons, beside repeating the last frame."""
    metric, rival = found.measures[0], "repeat last frame"

    def shown(row: str, horizon: int) -> str:
        return number(metric.factor * found.rows[row][metric.name].at(horizon).value, metric.form) + metric.unit

    beaten = metric.name in found.rows.get(rival, {})
    return [
        Tile(when(found, h), shown("model", h), f"{rival} {shown(rival, h)}" if beaten else "")
        for h in found.shown_horizons
    ]


def why_not_acted(run: Run) -> str:
    """Why no model can act in the world that made the run's data; empty where it can."""
    if run.card.world is None:
        return "left out: the data has no record of its world, as collect.py writes it, in which a model could act"
    try:
        environment_of(run.card.world)
    except UserError as error:
        return f"left out: {error}"
    return ""


def acted_table(name: str, found: Acted) -> Table:
    """The returns of a model that acted, between floors and ceilings."""
    rows = [
        Row("model" if row == found.planner else row, [Cell(f"{value:.1f}") for value in figures_of(returns)])
        for row, returns in found.rows()
    ]
    said = [found.sentence(), f"Wanted: {found.wanted}.", *([found.reward] if found.reward else []), *found.warnings]
    return Table(f"Acting: {name}", " ".join(said), "return of an episode", ["mean", "worst", "best"], [Group(rows)])


def figures_of(returns: list[float]) -> tuple[float, float, float]:
    """Mean, worst and best."""
    return sum(returns) / len(returns), min(returns), max(returns)


def frame_tiles(found: Posterior) -> list[Tile]:
    """How well, and with how much, a model of single frames describes them."""
    return [
        Tile("reconstruction error", number(found.reconstruction_share, ".1%"), "of the frames' variance"),
        Tile("dimensions in use", str(len(found.kl) - len(found.unused)), f"of {len(found.kl)}"),
        Tile("information", number(sum(found.kl), ".1f"), "nats per frame (KL)"),
    ]


def configuration(run: Run) -> list[Table]:
    """Tables of the options, the data's card and the versions. Raises UserError where they are not there."""
    return [facts_table(title, corner, facts) for title, corner, facts in configuration_facts(run)]


def configuration_facts(run: Run) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, what is named, and values by name, of each of these tables. Raises UserError where they are not there."""
    card = run.card
    try:
        options, versions = dict(run.config["options"]), dict(run.config["versions"])
        model = dict(options.pop("model"))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{run.folder / 'config.json'}: its options are not those of this version") from None
    facts = {
        "file": card.path,
        "sequences": f"{card.sequences:,}",
        "frames in a sequence": card.length,
        **({"missing or padding": card.gaps} if card.gaps else {}),
        "frame": " × ".join(map(str, card.scale.frame_shape)) + " pixels",
        "numbers in an action": card.scale.action_size,
        "seconds between frames": "unknown" if card.dt is None else f"{card.dt:.4g}",
        "mean brightness": f"{card.scale.pixel_mean:.3f}",
        "root mean square of the actions, 1 where all are 0": f"{card.scale.action_scale:.3g}",
        "SHA-256": card.fingerprint,
    }
    return [
        ("The data", "fact", facts),
        ("The model", "option", {flag(name): value for name, value in model.items()}),
        ("The training", "option", {flag(name): value for name, value in options.items()}),
        ("Versions", "package", versions),
    ]


def embed(folder: Path, figure: Figure) -> Picture | None:
    """The figure with all its bytes, or None where it is not there. Raises UserError when it is no PNG or GIF."""
    there = [path for name in (figure.file, figure.once) if (path := folder / name).is_file()]
    if not there:
        return None
    path = there[0]
    try:
        return as_picture(figure, path.read_bytes())
    except Exception:  # damaged bytes make the decoders fail in more ways than can be listed
        raise UserError(f"{path}: no picture, or a damaged one") from None


def as_picture(figure: Figure, data: bytes) -> Picture:
    """The figure whose file, a PNG or a GIF, has these bytes. Fails in one of many ways when they are damaged."""
    with Image.open(io.BytesIO(data), formats=("PNG", "GIF")) as image:
        image.load()
        kind, dots = str(image.format).lower(), image.info.get("dpi", (CSS_DOTS, CSS_DOTS))
        width, height = (round(size * CSS_DOTS / dot) for size, dot in zip(image.size, dots, strict=True))
    return Picture(figure, f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height)


def optional(read: Callable[[Path], T], path: Path) -> T | None:
    """What `read` makes of a file that need not be there."""
    return read(path) if path.exists() else None
