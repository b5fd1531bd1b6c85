"""The benchmark of acting: train on random pushes, plan in the dream, act in the real environments, with several seeds.

Writes results/acting.json and ACTING.md. What is finished is kept in --place: a benchmark that was stopped goes on.
"""

import dataclasses
from pathlib import Path

from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    entries: tuple[str, ...] | None = None
    """Which entries of baselines/study/acting.py; default: all of them. Results of the others stay as they are."""
    seeds: int = 5
    """Trainings of each."""
    workers: int = 2
    """Trainings at a time, each on one core."""
    place: Path = Path("runs/acting")
    """Folder for data and runs."""
    out: Path = Path()
    """Folder for results/acting.json and ACTING.md, which are replaced: the published ones, in this repository."""


def main(options: Options) -> None:
    from baselines.study.acting import ENTRIES, benchmark
    from baselines.study.kept import chosen

    entries = chosen("--entries", options.entries, ENTRIES, options.seeds, options.workers)
    benchmark(entries, options.seeds, options.workers, options.out, options.place)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
