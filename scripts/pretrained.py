"""The trained runs that come with the package: train each as its card says, and write worldmodel/pretrained/.

A training that is finished in --place is not done again.
"""

import dataclasses
from pathlib import Path

from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    entries: tuple[str, ...] | None = None
    """Which of them; default: all. The others stay as they are."""
    place: Path = Path("runs/pretrained-study")
    """Folder for data and trainings."""


def main(options: Options) -> None:
    from baselines.study.kept import named
    from baselines.study.pretrained import ENTRIES, make

    for name, entry in named("--entries", options.entries, ENTRIES).items():
        folder = make(name, entry, options.place)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
