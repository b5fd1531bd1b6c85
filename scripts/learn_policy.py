"""Learn to act inside a trained model's dream: a small policy, by gradients of its reward through imagined roll-outs.

It is kept in the run. scripts/plan.py --planner policy plays it in the real environment, and the other planners try
what it proposes.
"""

import dataclasses
from pathlib import Path

import tyro

from worldmodel.planning.options import PolicyOptions
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    run: Path
    """Run folder of a model that was trained on sequences with rewards."""
    policy: tyro.conf.OmitArgPrefixes[PolicyOptions] = dataclasses.field(default_factory=PolicyOptions)


def main(options: Options) -> None:
    import worldmodel as wm

    run = wm.load(options.run)
    run.learn_policy(**dataclasses.asdict(options.policy))
    place = run.folder / "acting" / "policy.npz"
    print(f"{place}: python scripts/plan.py --run {options.run} --planner policy plays it")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
