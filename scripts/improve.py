"""Improve by acting: collect at random, train, plan, collect where the plans lead, train on all of it, and again.

For worlds where random actions do not reach what matters, such as a pendulum that starts hanging.
"""

import dataclasses
from typing import Annotated, Generic, TypeVar

import tyro

from worldmodel.planning.catalogue import PLANNERS
from worldmodel.planning.options import ImproveOptions
from worldmodel.support.script import INTERRUPTED, run_chosen

Search = TypeVar("Search")


@dataclasses.dataclass(frozen=True)
class Options(Generic[Search]):
    loop: Annotated[ImproveOptions, tyro.conf.arg(name="")]
    search: Annotated[Search, tyro.conf.arg(name="")]


def main(options: Options) -> int:
    options.loop.check()  # before JAX is loaded

    from worldmodel.training.rounds import improve

    loop = options.loop
    if improve(loop, options.search) is None:
        return INTERRUPTED
    print(f"{loop.out}: rounds.json, rounds.png; the last model is round_{loop.rounds}/run")
    return 0


if __name__ == "__main__":
    run_chosen(main, Options, PLANNERS, "cem", __doc__)
