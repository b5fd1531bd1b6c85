"""What the notebooks of the tutorial share: trainings that are kept, frames side by side, and colours.

Each notebook runs alone: what it needs of an earlier one is trained where `_runs/` does not hold it.
"""

import contextlib
import io
import json
import os
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import worldmodel as wm
from worldmodel.pictures.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, Strip, show_strips
from worldmodel.training.options import with_defaults

os.environ.setdefault("TQDM_DISABLE", "1")  # the first use of wm loads the progress bars, which a page cannot show
plt.rcParams |= {"figure.constrained_layout.use": True, "axes.grid": True, "grid.alpha": 0.3, "font.size": 10}
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=[BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY])

ASKED, SAID = "asked.json", "said.txt"
"""what a kept run was asked for, and what it printed when it was done"""
COLUMNS = 80
"""of printed text, which pages do not wrap"""


def train(model: str, data: wm.Sequences, out: str, **options: Any) -> wm.Trained:
    """`wm.train(model, data, out=out, **options)` of one seed, or the run that it left in `out` before, where that has
    the same data and options. Either way what the training said at its end is printed; warnings on the way are not.

    `out` is a folder in `_runs`; a run in it that is unfinished or of another kind is replaced. Raises UserError as
    wm.train does.
    """
    folder = Path(out)
    assert folder.parent.name == "_runs", f"{out}: only runs in _runs are kept and replaced"
    asked = _asked(model, data, options)
    if not (folder / SAID).exists() or json.loads((folder / ASKED).read_text()) != asked:
        shutil.rmtree(folder, ignore_errors=True)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            wm.train(model, data, out=folder, **options)
        (folder / ASKED).write_text(json.dumps(asked))
        (folder / SAID).write_text(said.getvalue())
    for line in (folder / SAID).read_text().splitlines():
        print(textwrap.fill(line, COLUMNS, break_on_hyphens=False))
    return wm.load(folder)


def _asked(model: str, data: wm.Sequences, options: dict[str, Any]) -> Any:
    """All that a training depends on, as JSON has it."""
    defaults = with_defaults(model, data=Path(), out=Path()).to_json()
    every = {"model": model, "data": data.fingerprint(), "options": options, "defaults": defaults}
    return json.loads(json.dumps(every, default=lambda number: number.item()))


def strip(rows: Mapping[str, np.ndarray], titles: list[str] | None = None, context: int | None = None) -> Figure:
    """Frames `[M, H, W]`, uint8 or in [0, 1], in a row for each name. With a `context` the first so many have blue
    borders, as what a model observes, and the others orange ones, as what it imagines."""
    count = len(next(iter(rows.values())))
    borders = [] if context is None else [BLUE] * context + [ORANGE] * (count - context)
    figure = plt.figure(figsize=(0.72 * count + 1.2, 0.8 * len(rows) + 0.3))
    strips = [Strip(name, list(as_unit(frames)), borders) for name, frames in rows.items()]
    axes = show_strips(figure, strips, titles or [])
    for axis, name in zip(axes, rows, strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.grid(visible=False)
    return figure


def as_unit(frames: np.ndarray) -> np.ndarray:
    """Brightness in [0, 1] of frames as data sets keep them, uint8, or as models give them."""
    return frames / np.float32(255) if frames.dtype == np.uint8 else frames
