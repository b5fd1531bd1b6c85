"""Export trained models: as one page that dreams by itself in any browser, and as ONNX for programs without Python."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    run: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction]
    """Run folder of a world model; up to four, of any models, dream side by side in a page."""
    out: Path | None = None
    """Page to write, one .html file with all that it needs; the models' world must be a known one."""
    onnx: Path | None = None
    """Folder to write ONNX files into, of one run: how the model begins, looks, imagines and shows."""
    data: Path | None = None
    """Data set that shows the page's true world, an .npz with its states; default: what the first was trained on."""
    context: int | None = None
    """True frames that the models are shown before they dream (K); default: as many as the one needs that
    needs most, at least 5."""
    seed: int = 0
    """Seed of the page's random starts."""


def main(options: Options) -> None:
    from worldmodel.exporting.export import export

    written = export(options.run, options.out, options.onnx, options.data, options.context, options.seed)
    for path in written:
        size = path.stat().st_size
        print(f"{path}: {size / 1e6:.1f} MB" if size >= 1e6 else f"{path}: {size / 1e3:.1f} kB")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
