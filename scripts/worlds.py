"""The benchmark of worlds: the same model with its defaults on every world, with several seeds.

Writes results/worlds.json, WORLDS.md and docs/worlds.png. What is finished is kept in --place: a benchmark that was
stopped goes on.
"""

import dataclasses
from pathlib import Path

from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    worlds: tuple[str, ...] | None = None
    """Which entries of baselines/study/worlds.py; default: all of them. Results of the others stay as they are."""
    seeds: int = 5
    """Trainings of each."""
    workers: int = 2
    """Trainings at a time, each on one core."""
    place: Path = Path("runs/worlds")
    """Folder for data and runs."""
    out: Path = Path()
    """Folder for results/worlds.json, WORLDS.md and docs/worlds.png, which are replaced: the published ones, in this
    repository."""


def main(options: Options) -> None:
    from baselines.study.kept import chosen
    from baselines.study.worlds import ENTRIES, benchmark

    entries = chosen("--worlds", options.worlds, ENTRIES, options.seeds, options.workers)
    benchmark(entries, options.seeds, options.workers, options.out, options.place)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
