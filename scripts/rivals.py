"""The benchmark of rivals: the DVBF beside RSSMs, World Models and the KVAE under one protocol, with several seeds.

Writes results/rivals.json, RIVALS.md and docs/rivals.png. What is finished is kept in --place: a benchmark that was
stopped goes on.
"""

import dataclasses
from pathlib import Path

from baselines.study.kept import StudyOptions
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options(StudyOptions):
    seeds: int = 10
    """Trainings of each."""
    contenders: tuple[str, ...] | None = None
    """Which of the models; default: all of them."""
    place: Path = Path("runs/rivals")


def main(options: Options) -> None:
    from baselines.study.kept import named
    from baselines.study.rivals import benchmark
    from baselines.study.rivals_lineup import CONTENDERS, SETTINGS

    settings = options.chosen(SETTINGS)
    contenders = named("--contenders", options.contenders, CONTENDERS)
    benchmark(settings, contenders, options.seeds, options.workers, options.out, options.place)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
