"""A training run from its first step to its last: drives step.py and keeps the run folder."""

import dataclasses
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from worldmodel.data.sequences import Sequences, hold_out, spread_within
from worldmodel.data.storage import load_sequences
from worldmodel.runs.folder import DataCard, Run, refuse_existing_run
from worldmodel.support.files import DamagedError, Diverged, UserError, remove_new
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import read_options
from worldmodel.training.cluster import any_process, is_writer, wait_for_all
from worldmodel.training.loggers import Logbook
from worldmodel.training.options import TrainingOptions
from worldmodel.training.seeds import Build, Trainings, headline, make_mesh
from worldmodel.training.step import FINITE, LOG_EVERY

VALIDATE_EVERY = 500
CHECKPOINT_EVERY = 500
LARGEST_VALIDATION = 64e6
"""bytes of held-out frames and actions that are looked at; of more, evenly spread sequences. Looking takes some twenty
times as much memory."""
WARN_FROM = 0.5
"""share of the steps after which what validation finds wrong is printed; before it, little is learnt yet"""


@dataclasses.dataclass(frozen=True)
class Task:
    """A model to be trained."""

    name: str
    """in config.json"""
    build: Build
    window: int
    """frames in a training window"""
    validate: Callable[[Any], tuple[dict[str, float], list[str]]]
    """model -> metrics on held-out sequences, and what is wrong, in words"""
    snapshot: Callable[[Any], dict[str, np.ndarray]]
    """model -> arrays that show how far learning is; kept in the run folder"""
    calibrate: Callable[[Any], Any]
    """trained model -> the model whose sampled futures are as wide as its errors on held-out sequences"""


class Warnings:
    """Of one training: each is said when it comes up, and when it is gone."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def news(self, problems: list[str]) -> list[str]:
        """Lines for what has changed; a problem is known by what stands before its colon."""
        found = {problem.partition(":")[0]: problem for problem in problems}
        lines = [problem for name, problem in found.items() if name not in self._said]
        lines += [f"no longer: {name}" for name in sorted(self._said - found.keys())]
        self._said = set(found)
        return lines


def load_training_data(options: TrainingOptions) -> tuple[Sequences, Sequences, DataCard]:
    """Training and validation sequences and their card."""
    data = load_sequences(options.data)
    card = DataCard.of(options.data, data)
    training, validation = hold_out(data, options.validation_share, str(options.data))
    return training, spread_within(validation, LARGEST_VALIDATION), card


@contextmanager
def start_or_resume(options: TrainingOptions, name: str, card: DataCard) -> Iterator[list[Run]]:
    """The run folders for these options, one for each seed: new ones, or with --resume those that are there. Where the
    block fails before anything is known of the training, new ones are removed again: the same command can be retried.

    Raises UserError when a new run would overwrite another, or when a resumed one has other options or data.
    """
    each = options.each_seed()
    make_mesh(options.seeds, options.batch_size)  # can all processes take part?
    if options.resume:
        runs = [resume(alone, name, card) for alone in each]
        for run, alone in zip(runs, each, strict=True):
            if is_writer():
                run.change_options(steps=alone.steps, log=list(alone.log))
        yield runs
        return
    runs = [Run(alone.out) for alone in each]
    folders = dict.fromkeys((options.out, *(run.folder for run in runs)))
    for folder in folders:
        refuse_existing_run(folder)
    wait_for_all("no process has created a run yet")
    if not is_writer():
        yield runs
        return
    before = {folder: list(folder.iterdir()) if folder.exists() else None for folder in folders}
    try:
        for run, alone in zip(runs, each, strict=True):
            Run.create(run.folder, name, alone.to_json(), card)
        yield runs
    except BaseException:
        if not any(run.has_begun for run in runs):
            for folder in reversed(folders):
                remove_new(folder, before[folder])
        raise


def resume(options: TrainingOptions, name: str, card: DataCard) -> Run:
    """The run in options.out. Raises UserError when it has other options or data."""
    run = Run.open(options.out)
    if run.model != name:
        raise UserError(f"{options.out}: holds a run of {run.model}, not of {name}")
    if run.card.fingerprint != card.fingerprint:
        raise UserError(f"{options.data}: not the data that {options.out} was trained on ({run.card.path})")
    # through the class, so that an option that was not there yet has its default
    saved, given = (_flat(each.to_json()) for each in (read_options(options.out, type(options)), options))
    free = {"data", "out", "steps", "log"}
    changed = [f"{key} was {saved[key]}" for key in given if key not in free and given[key] != saved[key]]
    if changed:
        raise UserError(f"{options.out}: a resumed run keeps its options, but {', '.join(changed)}")
    done = max(run.checkpoint_steps(), default=0)
    if options.steps < done:
        raise UserError(f"{options.out}: has {done} steps already, more than --steps {options.steps}")
    return run


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Options by name, the model's among them."""
    return options | options.get("model", {}) | {"model": None}


def fit(books: list[Logbook], task: Task, data: Sequences, options: TrainingOptions) -> tuple[list[Any], bool]:
    """Train the run of every logbook, all in one program, until `options.steps`, or until Ctrl-C or the failure of a
    logger; give the models and whether they are trained to the end.

    Goes on from the last checkpoint that all runs have. Raises UserError when a loss is no longer a number; the last
    good checkpoints stay.
    """
    runs = [book.run for book in books]
    trainings = Trainings(task.build, data, options.recipe(task.window))
    step = saved = restore(runs, trainings)
    for book in books:
        book.begin()

    def shown(step: int) -> list[Any]:
        """The models, where they are to be looked at."""
        return trainings.models() if step % VALIDATE_EVERY == 0 or step >= options.steps else []

    warnings = [Warnings() for _ in runs]

    def log(step: int, models: list[Any], metrics: list[dict[str, Any]]) -> None:
        if not is_writer():
            return
        looked: list[tuple[dict[str, Any], dict[str, np.ndarray] | None]] = [({}, None) for _ in runs]
        for index, model in enumerate(models):
            validated, problems = task.validate(model)
            if WARN_FROM * options.steps <= step < options.steps:
                for line in warnings[index].news(problems):
                    bar.write(f"{label(runs[index], runs)}step {step}: {line}", file=sys.stderr)
            looked[index] = validated, task.snapshot(model)
        for book, trained, (validated, snapshot) in zip(books, metrics, looked, strict=True):
            book.write({"step": step} | trained | validated, snapshot)

    def stopped() -> bool:
        return any_process(interrupted() or any(book.failure is not None for book in books))

    def save() -> None:
        for run, state in zip(runs, trainings.states(), strict=True):
            if is_writer():
                run.save_checkpoint(int(state.step), state)

    with (
        closing(trainings),
        stop_on_interrupt() as interrupted,
        progress_bar(task.name, options.steps, "step", done=step) as bar,
    ):
        untrained = shown(0) if step == 0 else []  # looked at after the first updates, which a person waits for
        while step < options.steps and not stopped():
            started = time.monotonic()
            updates = min(LOG_EVERY - step % LOG_EVERY, options.steps - step)
            metrics = trainings.train(updates)
            step += updates
            if untrained:
                log(0, untrained, [{}] * len(runs))
                untrained = []
            for run, of_run in zip(runs, metrics, strict=True):
                require_finite(run, step - updates, updates, of_run)
                of_run["steps_per_second"] = updates / (time.monotonic() - started)
            log(step, shown(step), metrics)
            bar.update(updates)
            bar.set_postfix_str(headline(metrics), refresh=False)
            if step % CHECKPOINT_EVERY == 0 and step < options.steps:
                save()
                saved = step
        if untrained:  # stopped before the first update
            log(0, untrained, [{}] * len(runs))
        if step >= options.steps:
            trainings.adopt([task.calibrate(model) for model in trainings.models()])
    if step != saved:
        save()
    return trainings.models(), step >= options.steps


def label(run: Run, runs: list[Run]) -> str:
    """What begins a line about one of several runs."""
    return "" if len(runs) == 1 else f"{run.folder}: "


def restore(runs: list[Run], trainings: Trainings) -> int:
    """Go on from the newest checkpoint that every run has and that is whole; give its step, 0 where there is none.

    A damaged one is named on stderr and the one before is taken. Raises UserError when all are damaged, or when one run
    is further than the others by more than a killed training can leave it.
    """
    steps = [run.checkpoint_steps() for run in runs]
    newest = [max(of_run, default=0) for of_run in steps]
    if max(newest) - min(newest) > CHECKPOINT_EVERY:
        behind, ahead = np.argmin(newest), np.argmax(newest)
        raise UserError(
            f"{runs[behind].folder} is at step {newest[behind]}, {runs[ahead].folder} at {newest[ahead]}:"
            " resume each by itself"
        )
    common = set.intersection(*map(set, steps))
    for step in sorted(common, reverse=True):
        try:
            states = [run.load_checkpoint(step, like) for run, like in zip(runs, trainings.states(), strict=True)]
        except DamagedError as error:
            if is_writer():
                before = "; the one before is used" if step > min(common) else ""
                print(f"warning: {error}{before}", file=sys.stderr)
            continue
        trainings.load(states)
        forget_after(step, runs)
        return step
    if common:
        raise UserError(f"{runs[0].folder}: has no whole checkpoint")
    forget_after(-1, runs)
    return 0


def forget_after(step: int, runs: list[Run]) -> None:
    """Forget what runs that were killed wrote after their last common checkpoint."""
    wait_for_all("every process has read its state")
    for run in runs:
        if is_writer():
            run.forget_after(step)


def require_finite(run: Run, done: int, updates: int, metrics: dict[str, float]) -> None:
    """Raise Diverged, with the step and the likely cause, if the metrics of so many updates after `done` are not all
    finite numbers. The shares of FINITE are taken out of them."""
    well = {name: round(updates * metrics.pop(share)) for name, share in FINITE.items()}
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if not broken:
        return
    first = min(well, key=lambda name: well[name])  # of two, the loss, from which the gradient comes
    if well[first] < updates:
        what, when = first.replace("_", " "), f"at step {done + well[first] + 1}"
    else:
        what, when = broken[0], f"between steps {done + 1} and {done + updates}"
    noise = " or an --observation-std near 0" if "observation_std" in run.config["options"].get("model", {}) else ""
    steps = run.checkpoint_steps()
    kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint yet"
    raise Diverged(
        f"{run.folder}: {what} is no longer a finite number {when}; {kept}. The usual cause is a learning rate that is"
        f" too high (try --find-lr, and another --out){noise}"
    )


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM do not raise; the function tells whether one of them came."""
    came = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: came.append(True)) for number in signals]
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
