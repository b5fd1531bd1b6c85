"""From run folders to what is exported of them."""

from collections.abc import Sequence
from pathlib import Path

import jax

from worldmodel.exporting.onnx_files import write_onnx
from worldmodel.exporting.page import write_page
from worldmodel.play.runs import open_runs
from worldmodel.play.staging import open_stage
from worldmodel.reporting.evaluating import require_world_model
from worldmodel.support.files import UserError
from worldmodel.support.settings import require_at_least


def export(
    folders: Sequence[Path],
    page: Path | None,
    onnx: Path | None,
    data: Path | None = None,
    context: int | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write the page of some runs, the ONNX files of one, or both; the files that were written.

    Args:
        data: that shows the page's true world; by default what the first run was trained on. context: true frames that
            the page's models are shown before they dream. seed: of the page's random starts.

    Raises UserError where these do not fit, or a run's model cannot be exported.
    """
    require_at_least("--seed", seed, 0)
    if page is None and onnx is None:
        raise UserError("there is nothing to write: give --out, for a page, or --onnx, for a folder of ONNX files")
    if onnx is not None and len(folders) > 1:
        raise UserError(f"--onnx takes one run, not {len(folders)}")
    runs = open_runs(folders)
    written: list[Path] = []
    if page is not None:
        write_page(open_stage(runs, data, context, warn=False), page, jax.random.key(seed))
        written.append(page)
    if onnx is not None:
        run = next(iter(runs.values()))
        model = run.load()
        require_world_model(run, model)
        written += write_onnx(run, model, onnx)
    return written
