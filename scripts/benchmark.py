"""Train models on the pendulum with many seeds each, and write every figure beside the paper's.

The paper's world: 500 training and 500 test sequences of 15 frames 16 x 16, and 300 sequences of 515 frames with fresh
torques for the rollouts. The frictionless one (Gymnasium's physics): 1000 training sequences of 50. Nothing is chosen
on the test data. Results go to results/*.json and RESULTS.md.
"""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from worldmodel.support.files import UserError, write_json
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least

if TYPE_CHECKING:
    from baselines.study.lineup import Entry
    from worldmodel.data.sequences import Sequences


@dataclasses.dataclass(frozen=True)
class Options:
    models: tuple[str, ...] | None = None
    """Which models of baselines/study/lineup.py to train; default: all of MODELS. Results of the others stay as they
    are."""
    ablations: bool = False
    """Train the ablations of baselines/study/lineup.py instead."""
    seeds: int = 10
    """Seeds of each model, trained together."""
    steps: int = 8000
    """Optimiser updates."""
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
    require_at_least("--seeds", options.seeds, 1)
    require_at_least("--steps", options.steps, 1)
    if options.sequences is not None:
        require_at_least("--sequences", options.sequences, 2)
    require_at_least("--noise", options.noise, 0)
    require_at_least("--rollouts", options.rollouts, 4)

    from baselines.study.lineup import ABLATIONS, MODELS
    from baselines.study.page import read_results, write_results_page

    entries = MODELS | ABLATIONS
    if options.models == ():
        raise UserError(f"--models: name some of {', '.join(entries)}")
    for name in options.models or ():
        if name not in entries:
            raise UserError(f"--models: {name} is none of {', '.join(entries)}")
    if options.models and options.ablations:
        raise UserError("give --models or --ablations, not both")
    read_results(options.out)  # what cannot be shown beside the new results is told before the hours of training
    benchmark = Benchmark(options)
    for name in options.models or (ABLATIONS if options.ablations else MODELS):
        benchmark.run(name, entries[name])
    write_results_page(options.out)


class Benchmark:
    """One world, one setting of the data, any number of models."""

    def __init__(self, options: Options):
        from baselines.study.scores import Trials, floors_and_ceilings
        from worldmodel.data.sequences import as_unit_frames
        from worldmodel.worlds.pendulum.physics import GYMNASIUM, PAPER
        from worldmodel.worlds.pendulum.reading import AngleReader
        from worldmodel.worlds.pendulum.world import collect_pendulum

        paper = options.world == "paper"
        params = PAPER if paper else dataclasses.replace(GYMNASIUM, initial_speed=GYMNASIUM.max_speed)
        usual = 500 if paper else 1000
        count = options.sequences or usual

        def collect(seed: int, sequences: int, length: int, noise: float = options.noise) -> "Sequences":
            return collect_pendulum(seed, sequences, length, params, 16, noise)

        self.options = options
        self.training = collect(0, count, 15 if paper else 50)
        horizon = 515 if paper else 115
        self.trials = Trials(
            params,
            validation=collect(1, 500, 15),
            test=collect(2, 500, 15),
            long=collect(3, options.rollouts, horizon),
            clean=collect(3, options.rollouts, horizon, noise=0.0),
        )
        angles = self.trials.clean.state("angle")
        assert angles is not None
        self.read = AngleReader.of(as_unit_frames(self.trials.clean.frames), angles)
        self.suffix = "" if paper else "-frictionless"
        if not options.noise:
            floors = options.out / "results" / f"floors-and-ceilings{self.suffix}.json"
            write_json(floors, {"rows": floors_and_ceilings(self.trials)})
        self.suffix += f"-noise{options.noise:g}" if options.noise else ""
        self.suffix += f"-sequences{count}" if count != usual else ""
        self.spread = {"train": spread_of_velocity(self.training), "test": spread_of_velocity(self.trials.test)}
        print(f"standard deviation of the angular velocity in rad/s: {self.spread}")

    def run(self, name: str, entry: "Entry") -> None:
        """Train and score all seeds of one model, and write its file."""
        from baselines.study.scores import score, score_static
        from worldmodel.data.scale import FrameScale
        from worldmodel.models.protocol import WorldModel
        from worldmodel.support.machine import machine
        from worldmodel.training.options import Recipe
        from worldmodel.training.seeds import train_seeds

        options = self.options
        scale = FrameScale.of(self.training, "the benchmark's data")
        started = time.monotonic()
        recipe = Recipe(tuple(range(options.seeds)), options.steps, window=self.training.length)
        models = train_seeds(name, lambda rngs: entry.options.build(scale, rngs), self.training, recipe)
        seconds = time.monotonic() - started
        runs = [
            score(model, seed, self.trials, self.read)
            if isinstance(model, WorldModel)
            else score_static(model, seed, self.trials)
            for seed, model in enumerate(models)
        ]
        about: dict[str, Any] = {"model": name, "about": entry.about, "options": dataclasses.asdict(entry.options)}
        about |= {"world": options.world, "noise": options.noise, "training_sequences": len(self.training)}
        about |= {
            "steps": options.steps,
            "rollouts": options.rollouts,
            "training_seconds": round(seconds),
            "machine": machine(),
        }
        path = options.out / "results" / f"{name}{self.suffix}.json"
        write_json(path, about | {"velocity_std": self.spread, "runs": runs})
        working = sum(run["works"] for run in runs)
        print(f"{path}: {working} of {options.seeds} seeds work; trained together in {seconds:.0f} s")


def spread_of_velocity(data: "Sequences") -> float:
    """Standard deviation of the angular velocity, rad/s."""
    velocity = data.state("angular_velocity")
    assert velocity is not None
    return round(float(velocity.std()), 3)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
