"""The benchmark of acting: train on random pushes, plan in the dream, act in the real environments, with several seeds.

Writes results/acting.json and ACTING.md. What is finished is kept in --place: a benchmark that was stopped goes on.
"""

import dataclasses
from pathlib import Path

from baselines.study.kept import StudyOptions
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options(StudyOptions):
    place: Path = Path("runs/acting")


def main(options: Options) -> None:
    from baselines.study.acting import ENTRIES, benchmark

    benchmark(options.chosen(ENTRIES), options.seeds, options.workers, options.out, options.place)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
