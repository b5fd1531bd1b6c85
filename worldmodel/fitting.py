"""A training run from its first step to its last: drives training.py and keeps the run folder."""

import dataclasses
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from worldmodel.files import UserError
from worldmodel.networks import initialise
from worldmodel.options import TrainingOptions
from worldmodel.progress import progress_bar
from worldmodel.runs import DataCard, Run
from worldmodel.sequences import Sequences, hold_out, load_sequences
from worldmodel.training import (
    Loss,
    TrainState,
    initial_state,
    make_optimiser,
    make_train_chunk,
    make_train_step,
    to_device,
    warm_up_and_cosine,
)

LOG_EVERY = 100
"""steps between two lines of metrics.jsonl; also the steps that run in one dispatch"""
VALIDATE_EVERY = 500
CHECKPOINT_EVERY = 500
WARN_FROM = 0.3
"""share of the steps after which what validation finds wrong is printed; before it, little is learnt yet"""


@dataclasses.dataclass(frozen=True)
class Task:
    """A model to be trained: what differs between the training scripts."""

    name: str
    """the model's name in config.json"""
    build: Callable[[nnx.Rngs], nnx.Module]
    loss: Loss
    window: int
    """frames in a training window"""
    validate: Callable[[Any], tuple[dict[str, float], list[str]]]
    """model -> metrics on held-out sequences, and what is wrong, in words"""
    snapshot: Callable[[Any], dict[str, np.ndarray]] | None = None
    """model -> arrays that show how far learning is; kept in the run folder"""


def load_training_data(options: TrainingOptions, window: int) -> tuple[Sequences, Sequences, DataCard]:
    """Training and validation sequences and their card. Raises UserError when they are shorter than a window."""
    data = load_sequences(options.data)
    if data.length < window:
        raise UserError(f"{options.data}: sequences have {data.length} frames, but training needs {window}")
    card = DataCard.of(options.data, data)
    return *hold_out(data, options.validation_share, str(options.data)), card


def split_seed(seed: int) -> tuple[jax.Array, jax.Array]:
    """The keys of a run: one for the initial parameters, one for all of training."""
    parameters, training = jax.random.split(jax.random.key(seed))
    return parameters, training


def start_or_resume(options: TrainingOptions, name: str, card: DataCard) -> Run:
    """The run folder for these options: a new one, or with --resume the one that is there.

    Raises UserError when a new run would overwrite another, or when a resumed one has other options or data.
    """
    if not options.resume:
        return Run.create(options.out, name, options.to_json(), card)
    run = Run.open(options.out, name)
    if run.card.fingerprint != card.fingerprint:
        raise UserError(f"{options.data}: not the data that {options.out} was trained on ({run.card.path})")
    saved, given = run.config["options"], json.loads(json.dumps(options.to_json()))
    free = {"data", "out", "steps"}
    changed = [f"{key} was {saved.get(key)}" for key in given if key not in free and given[key] != saved.get(key)]
    if changed:
        raise UserError(f"{options.out}: a resumed run keeps its options, but {', '.join(changed)}")
    done = max(run.checkpoint_steps(), default=0)
    if options.steps < done:
        raise UserError(f"{options.out}: has {done} steps already, more than --steps {options.steps}")
    if options.steps != saved["steps"]:
        run.change_steps(options.steps)
    return run


def fit(run: Run, task: Task, data: Sequences, options: TrainingOptions) -> tuple[Any, bool]:
    """Train until `options.steps` or until Ctrl-C; give the model and whether training ended by itself.

    Goes on from the run's last checkpoint where there is one. Raises UserError when the loss is no longer a
    number; the last good checkpoint stays.
    """
    parameters_key, training_key = split_seed(options.seed)
    graphdef, params = initialise(task.build, parameters_key)
    optimiser = make_optimiser(warm_up_and_cosine(options.learning_rate, options.steps))
    train_step = make_train_step(graphdef, task.loss, optimiser)
    train_chunk = jax.jit(make_train_chunk(train_step, options.batch_size, task.window), donate_argnums=0)
    state = initial_state(params, optimiser, training_key)
    state = run.restore_checkpoint(state) or state
    run.drop_metrics_after(int(state.step))
    device_data = to_device(data)

    def log(state: TrainState, metrics: dict[str, Any], bar: tqdm) -> dict[str, Any]:
        step = int(state.step)
        metrics = {"step": step} | metrics
        if step % VALIDATE_EVERY == 0 or step >= options.steps or step == 0:
            model = nnx.merge(graphdef, state.params)
            validated, problems = task.validate(model)
            metrics |= validated
            if WARN_FROM * options.steps <= step < options.steps:
                for problem in problems:
                    bar.write(f"step {step}: {problem}", file=sys.stderr)
            if task.snapshot is not None:
                run.save_snapshot(step, task.snapshot(model))
        run.append_metrics(metrics)
        return metrics

    with (
        stop_on_interrupt() as interrupted,
        progress_bar(task.name, options.steps, "step", done=int(state.step)) as bar,
    ):
        if int(state.step) == 0:
            log(state, {}, bar)
        while (step := int(state.step)) < options.steps and not interrupted():
            started = time.monotonic()
            updates = min(LOG_EVERY - step % LOG_EVERY, options.steps - step)
            state, means = train_chunk(state, device_data, jnp.asarray(updates))
            metrics = {name: float(value) for name, value in means.items()}
            if not all(math.isfinite(value) for value in metrics.values()):
                raise UserError(not_finite(run, int(state.step)))
            metrics["steps_per_second"] = updates / (time.monotonic() - started)
            metrics = log(state, metrics, bar)
            bar.update(updates)
            bar.set_postfix_str(f"ELBO {metrics['elbo']:.2f} nats/frame", refresh=False)
            if int(state.step) % CHECKPOINT_EVERY == 0:
                run.save_checkpoint(state)
    if int(state.step) not in run.checkpoint_steps():
        run.save_checkpoint(state)
    return nnx.merge(graphdef, state.params), int(state.step) >= options.steps


def not_finite(run: Run, step: int) -> str:
    steps = run.checkpoint_steps()
    kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint yet"
    return (
        f"{run.folder}: the loss is no longer a finite number at step {step}; {kept}. The usual cause is a learning"
        " rate that is too high: try --find-lr, and another --out"
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
