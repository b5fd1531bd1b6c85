"""One report: a run folder as a single HTML page that needs nothing else, to read, print or send to somebody.

The pictures are inside it, byte for byte; it loads nothing and runs no script. Its figures, how to read them and what a
bad one looks like stand in report_parts.py, its tables in report_tables.py, its looks in pages/report.html.
"""

import base64
import dataclasses
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from worldmodel.pictures import figures
from worldmodel.reporting.parts import MODELS, VAE_PARTS, Figure, Part
from worldmodel.reporting.tables import (
    Evaluation,
    Table,
    capitalised,
    error_table,
    facts_table,
    number,
    plural,
    posterior_table,
    probe_table,
    read_evaluation,
    read_health,
    read_posterior,
    sample_table,
    valid_table,
)
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, atomic_write

T = TypeVar("T")

CSS_DOTS = 96.0
"""pixels that a page counts as an inch"""
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
class Filled:
    """A part with what the run has of it."""

    part: Part
    tables: list[Table]
    pictures: list[Picture]
    command: str
    """makes it, where nothing is there"""


@dataclasses.dataclass(frozen=True)
class Tile:
    """A headline number."""

    label: str
    value: str
    beside: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run's own files say in numbers and words."""

    about: str = ""
    """a sentence on what was measured"""
    headline: str = ""
    """what the tiles show"""
    tiles: list[Tile] = dataclasses.field(default_factory=list)
    tables: dict[str, list[Table]] = dataclasses.field(default_factory=dict)
    """by part"""
    health: str = ""
    """the health check's verdict in a few words; empty where there was none"""
    mood: str = ""
    """"good" or "bad", where the verdict is one or the other"""
    problems: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)
    """what else the health check says"""


def write_report(folder: Path, out: Path) -> None:
    """Write the report of the run in `folder` as one HTML file.

    Raises UserError when the folder is no run of MODELS, or when a file that the report shows is damaged.
    """
    page = render(describe(folder))
    with atomic_write(out) as file:
        file.write(page.encode(errors="replace"))


def render(page: dict[str, Any]) -> str:
    """The HTML of what `describe` gives. All of it is escaped."""
    environment = Environment(
        loader=PackageLoader("worldmodel.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["by_option"] = lambda text: re.split(r"(--[a-z][a-z-]*)", text)
    return environment.get_template("report.html").render(page)


def describe(folder: Path) -> dict[str, Any]:
    """All that the page of a run says, by the names that the template uses."""
    run = Run.open(folder, *MODELS)
    kind, purpose, parts = MODELS[run.config["model"]]
    summary = summarise_vae(folder) if parts is VAE_PARTS else summarise_dvbf(folder)
    where = shlex.quote(str(folder))
    filled = []
    for part in parts:
        pictures = [picture for picture in (embed(folder, figure) for figure in part.figures) if picture]
        filled.append(Filled(part, summary.tables.get(part.anchor, []), pictures, part.command.format(run=where)))
    return {
        "name": folder.resolve().name,
        "kind": kind,
        "purpose": purpose,
        "trained": trained(run),
        "summary": summary,
        "first": filled[0],
        "parts": filled[1:],
        "training_command": filled[-1].command,
        "configuration": configuration(run),
        "command": f"python scripts/report.py --run {where}",
        "colours": figures,
    }


def summarise_dvbf(folder: Path) -> Summary:
    """What evaluation.json and health.json say, as far as they are there."""
    summary = Summary()
    found = optional(read_evaluation, folder / "evaluation" / "evaluation.json")
    if found is not None:
        tables = {"errors": [error_table(found), valid_table(found)], "samples": [sample_table(found)]}
        summary = Summary(
            about=f"Shown {plural(found.context, 'frame')} of each of {plural(found.sequences, 'sequence')}"
            f" ({Path(found.data).name}), it imagined the next {found.horizon:,} from the actions alone.",
            headline=f"{capitalised(found.headline.title)}, by imagined frames",
            tiles=tiles(found),
            tables=tables | ({"latents": [probe_table(found)]} if found.probes else {}),
        )
    health = optional(read_health, folder / "health.json")
    if health is None:
        return summary
    problems = health.problems()
    return dataclasses.replace(
        summary,
        health=f"Health check: {plural(len(problems), 'problem') if problems else 'no problem'} found",
        mood="bad" if problems else "good",
        problems=list(map(str, problems)),
        remarks=[] if problems else [health.in_words()],
    )


def summarise_vae(folder: Path) -> Summary:
    """What posterior.json says, if it is there."""
    found = optional(read_posterior, folder / "posterior.json")
    if found is None:
        return Summary()
    return Summary(
        headline="On held-out frames",
        tiles=[
            Tile("reconstruction error", number(found.reconstruction_share, ".1%"), "of the frames' variance"),
            Tile("dimensions in use", str(len(found.kl) - found.unused), f"of {len(found.kl)}"),
            Tile("information", number(sum(found.kl), ".1f"), "nats per frame (KL)"),
        ],
        tables={"posterior": [posterior_table(found)]},
        health=found.in_words[0],
        remarks=found.in_words,
    )


def tiles(found: Evaluation) -> list[Tile]:
    """The headline metric of the model at the shown horizons, beside repeating the last frame."""
    metric = found.headline

    def shown(row: str, horizon: int) -> str:
        return number(metric.factor * found.rows[row][metric.name][horizon - 1].value, metric.form) + metric.unit

    rival = "repeat last frame"
    beaten = metric.name in found.rows.get(rival, {})
    return [Tile(found.when(h), shown("model", h), f"{rival} {shown(rival, h)}" if beaten else "") for h in found.shown]


def trained(run: Run) -> str:
    """How long, and on what."""
    card, steps = run.card, max(run.checkpoint_steps(), default=0)
    return (
        f"Trained for {plural(steps, 'optimiser step')} on {plural(card.sequences, 'sequence')} of"
        f" {plural(card.length, 'frame')} ({Path(card.path).name})."
    )


def configuration(run: Run) -> list[Table]:
    """Tables of the options, the data's card and the versions. Raises UserError where they are not there."""
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
        "frame": " × ".join(map(str, card.scale.frame_shape)) + " pixels",
        "numbers in an action": card.scale.action_size,
        "seconds between frames": "unknown" if card.dt is None else f"{card.dt:.4g}",
        "mean brightness": f"{card.scale.pixel_mean:.3f}",
        "root mean square of the actions": f"{card.scale.action_scale:.3g}",
        "SHA-256": card.fingerprint,
    }
    return [
        facts_table("The data", "fact", facts),
        facts_table("The model", "option", _flags(model)),
        facts_table("The training", "option", _flags(options)),
        facts_table("Versions", "package", versions),
    ]


def _flags(options: dict[str, Any]) -> dict[str, Any]:
    return {"--" + name.replace("_", "-"): value for name, value in options.items()}


def embed(folder: Path, figure: Figure) -> Picture | None:
    """The figure with all its bytes, or None where it is not there. Raises UserError when it is no PNG or GIF."""
    path = folder / figure.file
    if not path.is_file():
        return None
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG", "GIF")) as image:
            image.load()
            kind, dots = str(image.format).lower(), image.info.get("dpi", (CSS_DOTS, CSS_DOTS))
            width, height = (round(size * CSS_DOTS / dot) for size, dot in zip(image.size, dots, strict=True))
    except Exception:  # damaged bytes make the decoders fail in more ways than can be listed
        raise UserError(f"{path}: no picture, or a damaged one") from None
    return Picture(figure, f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height)


def optional(read: Callable[[Path], T], path: Path) -> T | None:
    """What `read` makes of a file that need not be there."""
    return read(path) if path.exists() else None
