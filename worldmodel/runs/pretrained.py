"""Trained runs that come with the package: where a run's folder is asked for, their names do as well.

worldmodel/pretrained/NAME/  config.json, health.json, metrics.jsonl (some lines), checkpoints/ (parameters alone),
                             acting/ (a learnt reward), sample.npz (some sequences of its world), CARD.md, card.json
"""

import shutil
from pathlib import Path

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import load_sequences
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, atomic_folder, read_json

CARD = "card.json"
SHIPPED = Path(__file__).parents[1] / "pretrained"
COPIES = Path("runs/pretrained")
"""a run's results are written into its folder, so what is used is a copy of the user's own"""


def pretrained_names() -> list[str]:
    """The runs that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def run_folder(run: Path) -> Path:
    """The folder of a run, which may be given by the name of one that comes with the package: then its copy in
    runs/pretrained/ of the working directory, made where there is none. Raises UserError where it cannot be made, or is
    of another version of the package, and for a name of neither."""
    names = pretrained_names()
    if not run.exists() and run.name == str(run) not in names:
        raise UserError(f"{run}: not a run folder, and none of the runs that come with the package: {', '.join(names)}")
    if run.exists() or str(run) not in names:
        return run
    copy = COPIES / run
    if not (copy / CARD).exists():
        try:
            with atomic_folder(copy) as folder:
                shutil.copytree(SHIPPED / run, folder, dirs_exist_ok=True)
        except UserError:
            if not (copy / CARD).exists():  # else somebody else has made it meanwhile
                raise
    if read_json(copy / CARD) != read_json(SHIPPED / run / CARD):
        raise UserError(f"{copy}: is not the run {run} that comes with this version of the package; move it away")
    return copy


def shown_data(run: Run) -> tuple[Path, Sequences]:
    """What shows the world of a run, and where it lies: the data set that it was trained on or, where that is not
    there, the sample that came with it. Raises UserError where there is neither, or another data set."""
    sample = run.folder / "sample.npz"
    if sample.exists() and not Path(run.card.path).exists():
        return sample, load_sequences(sample)
    return Path(run.card.path), run.data()
