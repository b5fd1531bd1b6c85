"""The benchmark of worlds: the same model with its defaults on every world, with several seeds.

Writes results/worlds.json, WORLDS.md and docs/worlds.png. What is finished is kept in --place: a benchmark that was
stopped goes on.
"""

import dataclasses
from pathlib import Path

from baselines.study.kept import StudyOptions
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options(StudyOptions):
    place: Path = Path("runs/worlds")


def main(options: Options) -> None:
    from baselines.study.worlds import ENTRIES, benchmark

    benchmark(options.chosen(ENTRIES), options.seeds, options.workers, options.out, options.place)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
