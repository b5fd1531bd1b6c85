"""A made-up run of each kind, whose figures are known, and the page of its report, taken apart."""

import dataclasses
import functools
import html.parser
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worldmodel.data.sequences import Sequences
from worldmodel.evaluation.health import Health
from worldmodel.evaluation.judge import CEILING
from worldmodel.evaluation.measures import PIXEL_MEASURES
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.pictures.figures import save_animation
from worldmodel.reporting.parts import FRAME_PARTS, WORLD_PARTS, Part
from worldmodel.reporting.report import write_report
from worldmodel.runs.folder import DataCard, Run
from worldmodel.support.files import write_json
from worldmodel.worlds.pendulum.world import PendulumWorld

HORIZON = 30
ANGLES = ("angle_error_degrees", "share_within_30_degrees", "energy_error")
LEARNT = Health(
    {
        "reconstruction_share": 0.01,
        "open_loop_mse": 0.0002,
        "repeat_last_frame_mse": 0.01,
        "mean_frame_mse": 0.008,
        "shuffled_actions_mse": 0.003,
        "imagined_rms": 0.9,
        "latent_growth": 1.0,
        "kl_initial": 27.0,
        "information": 20.0,
        "kl_step": 0.3,
        "initial_std": 0.01,
    },
    problems=[],
)


def made_up_evaluation(states: bool) -> dict[str, Any]:
    """evaluation.json of 60 sequences. Errors grow in proportion to the horizon; "mean frame" has half the model's
    energy error, and the ceilings are better than all."""

    def curve(slope: float, at_most: float = np.inf) -> dict[str, list[float]]:
        parts = {"value": slope, "low": 0.5 * slope, "high": 2 * slope}
        return {name: np.minimum(part * np.arange(1, HORIZON + 1), at_most).tolist() for name, part in parts.items()}

    rows: dict[str, Any] = {}
    slopes = {"model": 1.0, "repeat last frame": 20.0, "mean frame": 30.0, CEILING: 0.1}
    for name, slope in slopes.items():
        rows[name] = {"mse": curve(0.00012345 * slope), "psnr": curve(-slope), "ssim": curve(0.01 / slope, 1.0)}
        if states:
            rows[name]["angle_error_degrees"] = curve(0.26 * slope)
            rows[name]["share_within_30_degrees"] = curve(0.03 / slope, 1.0)
            rows[name]["energy_error"] = curve(0.2 * (0.5 if name == "mean frame" else slope))
    if states:
        rows["angle read off true frames"] = {"angle_error_degrees": curve(0.001)}
    valid = {"model": {"value": 26.0, "low": 13.0, "high": 30.0}, "mean frame": {"value": 0.0, "low": 0.0, "high": 1.0}}
    nominal = [0.1, 0.5, 0.9]
    measures = [*PendulumWorld.measures, *PIXEL_MEASURES] if states else PIXEL_MEASURES
    found = {
        "model": "dvbf",
        "data": "runs/test.npz",
        "trained_steps": 9000,
        "left_out": ["left out: futures.png (no reason)"],
        "sequences": 60,
        "context": 10,
        "horizon": HORIZON,
        "dt": 0.05 if states else None,
        "shown_horizons": [1, 10, HORIZON],
        "measures": [dataclasses.asdict(measure) for measure in measures],
        "rows": rows,
        "ceilings": [CEILING, "angle read off true frames"],
        "valid_prediction_frames": valid,
        "samples": {
            "futures": 50,
            "unit": "degrees" if states else "brightness",
            "coverage": {"0.5": [0.444] * HORIZON, "0.9": [0.888] * HORIZON},
            "crps": curve(0.123)["value"],
            "reliability": {"nominal": nominal, "observed": {"10": nominal}},
        },
    }
    if states:
        found["r2_linear"] = {"sin angle": 0.99912, "angular_velocity": 0.9871}
        found["r2_polynomial"] = {"sin angle": 0.9999, "angular_velocity": None}
    return found


@functools.cache
def pictures(parts: tuple[Part, ...]) -> dict[str, bytes]:
    """A different PNG or GIF for every figure, some of them wider than a phone."""
    random, drawn = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory() as folder:
        for figure in (figure for part in parts for figure in part.figures):
            path = Path(folder) / Path(figure.file).name
            shape = (10, 1200 if random.random() < 0.5 else 300, 3)
            frames = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(3)]
            if path.suffix == ".gif":
                save_animation(path, frames, milliseconds=50)
            else:
                Image.fromarray(frames[0]).save(path, dpi=(120, 120))
            drawn[figure.file] = path.read_bytes()
    return drawn


def draw_pictures(folder: Path, parts: tuple[Part, ...]) -> None:
    for name, content in pictures(parts).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def make_dvbf_run(folder: Path, data: Sequences, states: bool = True) -> Path:
    options = {"seed": 3, "steps": 9000, "model": dataclasses.asdict(DVBFOptions())}
    Run.create(folder, "dvbf", options, DataCard.of(Path("runs/train.npz"), data))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step_00009000.npz").touch()
    draw_pictures(folder, WORLD_PARTS)
    write_json(folder / "evaluation" / "evaluation.json", made_up_evaluation(states))
    write_json(folder / "health.json", dataclasses.asdict(LEARNT))
    return folder


def make_vae_run(folder: Path, data: Sequences) -> Path:
    options = {"steps": 4000, "model": {"latent_size": 3, "observation_std": None}}
    Run.create(folder, "vae", options, DataCard.of(Path("runs/train.npz"), data))
    draw_pictures(folder, FRAME_PARTS)
    found = {
        "kl": [2.246, 0.001, 1.0],
        "std": [0.1174, 1.0, 0.2],
        "reconstruction_share": 0.0489,
        "in_words": ["1 of 3 dimensions collapsed (unused: [1]).", "The reconstruction's error is 4.9%."],
    }
    write_json(folder / "posterior.json", found)
    return folder


class Page(html.parser.HTMLParser):
    """What a reader finds in a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.best: list[tuple[str, str]] = []
        """name of the row and text of every marked cell"""
        self.headings: list[tuple[int, str]] = []
        self.figures: list[dict[str, Any]] = []
        self._open: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag == "table":
            self.rows.append([""])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            if found.get("class") == "best":
                self.best.append((self.rows[-1][0], str(len(self.rows[-1]) - 1)))
        elif re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        elif tag == "figure":
            self.figures.append({"caption": "", "images": []})
        elif tag == "img":
            self.figures[-1]["images"].append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag
        if tag in ("td", "th"):
            self.rows[-1][-1] = " ".join(self.rows[-1][-1].split())

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)
        if "figcaption" in self._open:
            self.figures[-1]["caption"] += data

    def attribute(self, name: str) -> list[str]:
        return [value or "" for _, found in self.tags for key, value in found.items() if key == name]

    def group(self, title: str) -> dict[str, list[str]]:
        """Rows under the heading of a group, by name."""
        start = next(i for i, row in enumerate(self.rows) if row[0].startswith(title))
        rows = {}
        for row in self.rows[start + 1 :]:
            if len(row) < 2:
                break
            rows[row[0]] = row[1:]
        return rows

    def structure(self) -> list[tuple[str, list[str]]]:
        return [(tag, list(found)) for tag, found in self.tags]


def report(run: Path) -> Page:
    out = run / "report.html"
    write_report(run, out)
    return Page(out)
