"""Report: everything that a run folder says about a model, as one HTML page that needs nothing else."""

import dataclasses
from pathlib import Path

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    run: Path
    """Run folder of any model."""
    out: Path | None = None
    """HTML file to write; default: report.html in the run folder."""


def main(options: Options) -> None:
    out = options.out or options.run / "report.html"
    if out.suffix != ".html":
        raise UserError(f"{out}: a report is an .html file")

    import worldmodel as wm

    wm.report(options.run, out)
    print(f"{out}: the report, {out.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
