"""Improve by acting: collect at random, train, plan, collect where the plans lead, train on all of it, and again.

For worlds where random actions do not reach what matters, such as a pendulum that starts hanging.
"""

import dataclasses
import sys
from typing import Annotated, Any, Generic, TypeVar

import tyro

from worldmodel.planning.catalogue import PLANNERS
from worldmodel.planning.options import ImproveOptions
from worldmodel.support.files import UserError
from worldmodel.support.script import INTERRUPTED, option_given, run_script

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
    try:
        kind: Any = PLANNERS.options(option_given(sys.argv[1:], "--planner") or "cem")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    run_script(main, Options[kind], f"{__doc__}\n\nPlanners:\n{PLANNERS.table()}")
