"""From run folders to what is exported of them."""

from collections.abc import Sequence
from pathlib import Path

import jax

from worldmodel.exporting.onnx_files import onnx_files
from worldmodel.exporting.onnx_operations import onnx_library
from worldmodel.exporting.page import page_of
from worldmodel.play.runs import open_runs
from worldmodel.play.staging import open_stage
from worldmodel.reporting.evaluating import require_world_model
from worldmodel.support.files import UserError, write_files
from worldmodel.support.settings import require_at_least


def export(
    folders: Sequence[Path],
    page: Path | None,
    onnx: Path | None,
    data: Path | None = None,
    context: int | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write the page of some runs, the ONNX files of one, or both; the files that were written. All are made
    and checked before the first is written, and all are written or none.

    Args:
        page: an .html file. onnx: a folder; files of the same names in it are replaced.
        data: that shows the page's true world; by default what the first run was trained on. context: true frames that
            the page's models are shown before they dream. seed: of the page's random starts.

    Raises UserError where these do not fit, a run's model cannot be exported, or a place cannot be written.
    """
    require_at_least("--seed", seed, 0)
    _require_places(page, onnx)
    for name, value in (("--data", data), ("--context", context)):
        if page is None and value is not None:
            raise UserError(f"{name} is of the page alone, and there is no --out for one")
    if onnx is not None and len(folders) > 1:
        raise UserError(f"--onnx takes one run, not {len(folders)}")
    runs = open_runs(folders)
    made: dict[Path, bytes] = {}
    if onnx is not None:
        run = next(iter(runs.values()))
        model = run.load()
        require_world_model(run, model)
        made |= {onnx / name: content for name, content in onnx_files(run, model).items()}
    if page is not None:
        made = {page: page_of(open_stage(runs, data, context, warn=False), jax.random.key(seed))} | made
    write_files(made)
    return list(made)


def _require_places(page: Path | None, onnx: Path | None) -> None:
    if page is None and onnx is None:
        raise UserError("there is nothing to write: give --out, for a page, or --onnx, for a folder of ONNX files")
    if page is not None and (page.is_dir() or page == onnx):
        raise UserError(f"{page}: is a folder, and the page is one file")
    if page is not None and page.suffix != ".html":
        raise UserError(f"{page}: the page is an .html file, and is named so")
    if onnx is not None and onnx.exists() and not onnx.is_dir():
        raise UserError(f"{onnx}: is a file, and ONNX files are written into a folder")
    if onnx is not None:
        onnx_library()
