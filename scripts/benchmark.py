"""Train models on the pendulum with many seeds each, and write every figure beside the paper's.

The paper's world: 500 training and 500 test sequences of 15 frames 16 x 16, and 300 sequences of 515 frames with fresh
torques for the rollouts. The frictionless one (Gymnasium's physics): 1000 training sequences of 50. The recipe was
chosen on data of other seeds; nothing is chosen by these. Results go to results/*.json and RESULTS.md.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from worldmodel.support.files import UserError, write_json
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least

TRAINING_SEQUENCES = {"paper": 500, "frictionless": 1000}


@dataclasses.dataclass(frozen=True)
class Options:
    models: tuple[str, ...] | None = None
    """Which models of baselines/study/lineup.py to train; default: all of MODELS. Results of the others stay as they
    are."""
    ablations: bool = False
    """Train the ablations of baselines/study/lineup.py instead."""
    seeds: int = 10
    """Seeds of each model, trained together."""
    steps: int | None = None
    """Optimiser updates; default: as many as each model's training usually takes."""
    world: Literal["paper", "frictionless"] = "paper"
    """The paper's pendulum, or Gymnasium's: no friction, speed clipped at 8 rad/s, initial speeds up to that."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on every pixel of all data, in units of full brightness."""
    sequences: int | None = None
    """Training sequences; default: 500, or 1000 in the frictionless world."""
    rollouts: int = 300
    """Long sequences that the rollouts are judged on."""
    out: Path = Path()
    """Folder for results/ and RESULTS.md; files there are replaced, the published ones when it is this repository."""


def main(options: Options) -> None:
    for name, least in (("seeds", 1), ("noise", 0), ("rollouts", 4)):
        require_at_least(f"--{name}", getattr(options, name), least)
    if options.steps is not None:
        require_at_least("--steps", options.steps, 1)
    usual = TRAINING_SEQUENCES[options.world]
    sequences = usual if options.sequences is None else options.sequences
    require_at_least("--sequences", sequences, 2)

    from baselines.study.lineup import ABLATIONS, MODELS
    from baselines.study.page import read_results, write_results_page
    from baselines.study.scores import Trials, floors_and_ceilings, study

    entries = MODELS | ABLATIONS
    if options.models is not None and options.ablations:
        raise UserError("give --models or --ablations, not both")
    names = options.models if options.models is not None else tuple(ABLATIONS if options.ablations else MODELS)
    if not names:
        raise UserError(f"--models: name some of {', '.join(entries)}")
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise UserError(f"--models: {', '.join(unknown)} is none of {', '.join(entries)}")
    read_results(options.out)  # what cannot be shown beside the new results is told before the hours of training
    trials = Trials.collect(options.world, sequences, options.rollouts, options.noise)
    results, suffix = options.out / "results", "" if options.world == "paper" else f"-{options.world}"
    if not options.noise:
        write_json(results / f"floors-and-ceilings{suffix}.json", {"rows": floors_and_ceilings(trials)})
    suffix += f"-noise{options.noise:g}" if options.noise else ""
    suffix += f"-sequences{sequences}" if sequences != usual else ""
    for name in names:
        found = study(name, entries[name], trials, options.seeds, options.steps)
        path = results / f"{name}{suffix}.json"
        write_json(path, {"world": options.world, "noise": options.noise} | found)
        working = sum(run["works"] for run in found["runs"])
        print(f"{path}: {working} of {options.seeds} seeds work")
    write_results_page(options.out)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
