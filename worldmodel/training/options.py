"""Every option of a training that is not its model's, with its default and its unit. The defaults are the recipe.

This file imports nothing heavy, so that a script's --help answers at once.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from worldmodel.models.catalogue import MODELS
from worldmodel.support.files import UserError
from worldmodel.support.settings import SEED_FOLDER, require_at_least, require_positive, require_share
from worldmodel.training.loggers import NONE, check_loggers

MODES = ("resume", "overfit_one_batch", "find_lr", "memory_budget", "coordinator", "processes", "process_id")
"""options that say what to do now, and are no part of a run's configuration"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever it is and wherever its run is kept."""

    seeds: tuple[int, ...] = (0,)
    """trained together, in one program"""
    steps: int = 16000
    batch_size: int = 16
    learning_rate: float = 0.01
    window: int = 15
    """frames"""
    memory_budget: float = math.inf
    """bytes of data that may lie on each device; more is streamed to it"""


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What every training takes; `training_options` adds the model's own."""

    data: Path
    """Data set to learn from: an .npz of frames and actions, or a folder of arrays."""
    out: Path
    """Run folder to write."""
    seed: int = 0
    """Seed of the initial parameters, of the batches and of all noise."""
    seeds: int = 1
    """How many runs to train at once, in one program: with more than one, runs of the seeds --seed, --seed + 1, ... in
    the folders seed_0, seed_1, ... of --out, each a run of its own."""
    steps: int = 16000
    """Optimiser updates."""
    batch_size: int = 16
    """Windows (or single frames) in one update."""
    learning_rate: float = 0.01
    """Adam's peak rate: 200 steps of warm-up (at most a tenth of all) lead to it, a cosine down to 1% of it."""
    validation_share: float = 0.1
    """Share of the sequences that is held out for validation."""
    resume: bool = False
    """Continue the run in the --out folder from its last checkpoint, with its own options. Of them only --steps may
    be changed, and --log; the schedules (learning rate, KL weight, noise) then stretch, and jump where the run goes
    on."""
    overfit_one_batch: bool = False
    """Instead of training, the classic first check: fit one batch to near-zero error in at most 2000 steps, draw
    it, say pass or fail."""
    find_lr: bool = False
    """Instead of training, a learning-rate range test of 300 steps: a plot of the loss against the rate, and a
    suggestion."""
    window: int | None = None
    """Frames in a training window, cut at random from the sequences; default: whole sequences, at most 30. Not for
    models of single frames."""
    memory_budget: float = 4.0
    """GB of frames and actions that may lie on each device. A larger data set is streamed to it: the same windows, read
    ahead from where the data is."""
    log: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Beside metrics.jsonl: tensorboard or wandb, or both (give it twice), into folders of these names in the run
    folder; none for neither. wandb works offline, unless $WANDB_MODE says otherwise. With --resume it replaces what the
    run had."""
    coordinator: str | None = None
    """Train over several processes, each of which runs this same command: address (host:port) of the first; "auto"
    asks SLURM, Open MPI or Kubernetes."""
    processes: int | None = None
    """How many processes there are, with a --coordinator that is an address."""
    process_id: int | None = None
    """Which of them this is, from 0, with a --coordinator that is an address."""
    model: Annotated[Any, tyro.conf.Suppress] = None
    """The model's own options."""

    def __post_init__(self) -> None:
        log = tuple(dict.fromkeys((self.log,) if isinstance(self.log, str) else self.log))
        object.__setattr__(self, "log", () if log == (NONE,) else log)

    def recipe(self, window: int) -> Recipe:
        """How to train, on windows of so many frames."""
        seeds = tuple(range(self.seed, self.seed + self.seeds))
        budget = 1e9 * self.memory_budget
        return Recipe(seeds, self.steps, self.batch_size, self.learning_rate, window, budget)

    def to_json(self) -> dict[str, Any]:
        """As config.json keeps them."""
        plain = dataclasses.asdict(self) | {"data": str(self.data), "out": str(self.out)}
        return {name: value for name, value in plain.items() if name not in MODES}

    def each_seed(self: Self) -> list[Self]:
        """The options of each run, with which it could be trained or resumed alone."""
        if self.seeds == 1:
            return [self]
        return [
            dataclasses.replace(self, seed=seed, seeds=1, out=self.out / f"{SEED_FOLDER}{seed}")
            for seed in range(self.seed, self.seed + self.seeds)
        ]

    def check(self) -> None:
        """Raise UserError for values that no training can have."""
        require_at_least("--seed", self.seed, 0)
        require_at_least("--seeds", self.seeds, 1)
        require_at_least("--steps", self.steps, 1)
        require_at_least("--batch-size", self.batch_size, 1)
        require_positive("--learning-rate", self.learning_rate)
        require_share("--validation-share", self.validation_share)
        require_positive("--memory-budget", self.memory_budget)
        if self.resume + self.overfit_one_batch + self.find_lr > 1:
            raise UserError("give only one of --resume, --overfit-one-batch and --find-lr")
        if self.seeds > 1 and (self.overfit_one_batch or self.find_lr):
            raise UserError("--overfit-one-batch and --find-lr take one seed, not --seeds")
        if self.log and (self.overfit_one_batch or self.find_lr):
            raise UserError("--overfit-one-batch and --find-lr have nothing to --log")
        if self.window is not None:
            require_at_least("--window", self.window, 1)
        self.check_processes()
        self.model.check()
        check_loggers(self.log)

    def check_processes(self) -> None:
        """Raise UserError when what is said of several processes does not fit together."""
        address = self.coordinator not in (None, "auto")
        if address != (self.processes is not None) or address != (self.process_id is not None):
            raise UserError("--processes and --process-id go with a --coordinator that is an address, and it with them")
        if self.processes is not None and self.process_id is not None:
            require_at_least("--processes", self.processes, 1)
            if not 0 <= self.process_id < self.processes:
                raise UserError(f"--process-id must be between 0 and {self.processes - 1}, not {self.process_id}")
        if self.coordinator is not None and (self.overfit_one_batch or self.find_lr):
            raise UserError("--overfit-one-batch and --find-lr run in one process, without --coordinator")


def training_options(name: str) -> type[TrainingOptions]:
    """The options of a training of one model of the catalogue, the model's own among them.

    Raises UserError when there is no such model.
    """
    kind = MODELS.options(name)
    model = dataclasses.field(default_factory=kind)
    fields = [("model", Annotated[kind, tyro.conf.arg(name="")], model)]
    return dataclasses.make_dataclass("Options", fields, bases=(TrainingOptions,), frozen=True)


def with_defaults(name: str, **given: Any) -> TrainingOptions:
    """The options of a training of one model, as its class and then `given` change the defaults; `data` and `out` may
    be left out for a command line to give."""
    missing = {"data": tyro.MISSING, "out": tyro.MISSING}
    return training_options(name)(**(missing | getattr(MODELS.options(name), "TRAINING", {}) | given))
