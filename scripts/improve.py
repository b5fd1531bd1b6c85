"""Improve by acting: collect at random, train, plan, collect where the plans lead, train on all of it, and again.

For worlds where random actions do not reach what matters, such as a pendulum that starts hanging.
"""

from worldmodel.planning.options import ImproveOptions
from worldmodel.support.script import INTERRUPTED, run_script


def main(options: ImproveOptions) -> int:
    options.check()  # before JAX is loaded

    from worldmodel.training.rounds import improve

    if improve(options) is None:
        return INTERRUPTED
    print(f"{options.out}: rounds.json, rounds.png; the last model is round_{options.rounds}/run")
    return 0


if __name__ == "__main__":
    run_script(main, ImproveOptions, __doc__)
