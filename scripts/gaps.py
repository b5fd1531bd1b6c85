"""The benchmark of gaps: the shaken pendulum of the Recurrent Kalman Networks, half of its frames missing or all noisy.

Writes results/gaps.json and GAPS.md. What is finished is kept in --place: a benchmark that was stopped goes on.
"""

import dataclasses
from pathlib import Path

from baselines.study.kept import StudyOptions
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options(StudyOptions):
    place: Path = Path("runs/gaps")


def main(options: Options) -> None:
    from baselines.study.gaps import ENTRIES, benchmark

    benchmark(options.chosen(ENTRIES), options.seeds, options.workers, options.out, options.place)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
