"""The runs whose dreams are shown side by side."""

from collections.abc import Sequence
from pathlib import Path

from worldmodel.data.sequences import Sequences
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import run_folder
from worldmodel.support.files import UserError

MOST = 4
"""dreams that the page has room and colours for"""


def open_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Each by a name of its own: the end of its path, from where no other ends alike. Raises UserError where there are
    none or too many, one is there twice, or a folder holds no run."""
    if not 1 <= len(folders) <= MOST:
        raise UserError(f"--run must be given 1 to {MOST} times, not {len(folders)}")
    found = [run_folder(folder) for folder in folders]
    places = [folder.resolve() for folder in found]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UserError(f"--run {folders[number]}: is given twice")
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return {str(Path(*place.parts[-depth:])): Run.open(folder) for place, folder in zip(places, found, strict=True)}


def require_same_world(run: Run, data: Sequences, path: Path) -> None:
    """Raise UserError where a run was trained in another world than the data, read from `path`, were made in; what is
    not known of either is not held against it."""
    there, here = run.card.world, data.world
    if there is not None and here is not None and there.id != here.id:
        raise UserError(f"{path}: shows the world {here.id}, but {run.folder} was trained in {there.id}")
