"""Report: everything that a run folder says about a model, or several of them side by side, as one HTML page that needs
nothing else."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    run: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction]
    """Run folder of any model. Given several times, the runs are compared."""
    out: Path | None = None
    """HTML file to write; default: report.html in the run folder, or, of several runs, comparison.html in the folder
    that the first one lies in."""


def main(options: Options) -> None:
    if options.out is not None and options.out.suffix != ".html":
        raise UserError(f"{options.out}: a report is an .html file")

    import worldmodel as wm

    out = wm.report(options.run, options.out)
    print(f"{out}: the report, {out.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
