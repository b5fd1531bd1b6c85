"""The checks to run before a training: overfit one batch, and a learning-rate range test."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from worldmodel.data.sequences import Sequences, spread_over, spread_within
from worldmodel.data.windows import Batch, mean_of_seen, sample_windows, to_device
from worldmodel.evaluation.seen import mean_frame, of_seen
from worldmodel.imagination.dreamer import reconstruct
from worldmodel.models.networks import initialise
from worldmodel.pictures.figures import draw_overfit, draw_range_test
from worldmodel.runs.folder import refuse_existing_run
from worldmodel.support.files import UserError
from worldmodel.support.progress import progress_bar
from worldmodel.training.fit import Task
from worldmodel.training.options import TrainingOptions
from worldmodel.training.seeds import Build
from worldmodel.training.step import initial_state, make_optimiser, make_train_step

OVERFIT_STEPS = 2000
OVERFIT_SEQUENCES = 8
SHOWN = 12
"""frames in the picture of the check"""
OVERFIT_SHARE = 0.02
"""The check passes when the reconstruction leaves less than this share of the batch's pixel variance."""

RANGE_TEST_STEPS = 300
LOWEST_RATE, HIGHEST_RATE = 1e-5, 1.0


@dataclasses.dataclass(frozen=True)
class Overfit:
    """What came of overfitting one batch."""

    share: np.ndarray
    """`[steps]` reconstruction error as a share of the batch's pixel variance"""
    model: nnx.Module

    @property
    def passed(self) -> bool:
        return bool(self.share[-1] < OVERFIT_SHARE)


def overfit_one_batch(build: Build, batch: Batch, learning_rate: float, steps: int, key: jax.Array) -> Overfit:
    """Train on one batch until it is reproduced or 2000 updates are used up, as at the beginning of a training of so
    many steps.

    A model, a loss and an optimiser that cannot do this will not learn a data set either. The key is consumed.
    """
    parameters_key, training_key = jax.random.split(key)
    graphdef, params = initialise(build, parameters_key)
    optimiser = make_optimiser(learning_rate)
    train_step = jax.jit(make_train_step(graphdef, optimiser, steps), donate_argnums=0)
    state = initial_state(params, optimiser, training_key)
    frames, valid = batch.frames, None if batch.valid is None else np.asarray(batch.valid)
    if valid is not None and not valid.any():
        raise UserError("all frames of the batch are missing: there is nothing to fit")
    mean = mean_frame(np.asarray(frames), valid)
    variance = float(mean_of_seen((frames - mean[None, None]) ** 2, batch.valid))
    if variance < 1e-10:
        raise UserError("all frames of the batch are the same: there is nothing to fit")
    share: list[float] = []
    with progress_bar("overfit one batch", OVERFIT_STEPS, "step") as bar:
        while len(share) < OVERFIT_STEPS and not (share and share[-1] < OVERFIT_SHARE / 2):
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
            state, metrics = train_step(state, batch, key)
            share.append(float(metrics["frame_mse"]) / variance)
            bar.update()
            if len(share) % 50 == 0:
                bar.set_postfix_str(f"{share[-1]:.1%} of the variance left", refresh=False)
    return Overfit(np.array(share), nnx.merge(graphdef, state.params))


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What came of a learning-rate range test (Smith, 2017, arXiv 1506.01186)."""

    rates: np.ndarray
    """`[steps]`"""
    losses: np.ndarray
    """`[steps]` smoothed training loss, nats per frame"""

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the smoothed loss stops falling."""
        return float(self.rates[int(np.argmin(self.losses))] / 10)


def range_test(build: Build, next_batch: Callable[[jax.Array], Batch], steps: int, key: jax.Array) -> RangeTest:
    """Raise the learning rate from 1e-5 to 1 over 300 steps and watch the loss; stop when it explodes.

    The loss is that at the beginning of a training of so many steps. `next_batch` draws a batch with a key. The key is
    consumed.
    """
    parameters_key, training_key = jax.random.split(key)
    graphdef, params = initialise(build, parameters_key)
    growth = math.log(HIGHEST_RATE / LOWEST_RATE) / (RANGE_TEST_STEPS - 1)

    def schedule(step: jax.Array) -> jax.Array:
        return LOWEST_RATE * jnp.exp(growth * step)

    # Plain Adam: clipping would hide the explosion that the test looks for.
    optimiser = optax.adam(schedule)
    train_step = jax.jit(make_train_step(graphdef, optimiser, steps), donate_argnums=0)
    state = initial_state(params, optimiser, training_key)
    smoothed = 0.0
    losses: list[float] = []
    with progress_bar("learning-rate range test", RANGE_TEST_STEPS, "step") as bar:
        for index in range(RANGE_TEST_STEPS):
            batch_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(state.key), index))
            state, metrics = train_step(state, next_batch(batch_key), loss_key)
            value = float(metrics["loss"])
            smoothed = 0.95 * smoothed + 0.05 * value
            corrected = smoothed / (1 - 0.95 ** (index + 1))
            fallen = max(losses) - min(losses) if losses else 0.0
            if not math.isfinite(value) or (index > 30 and corrected > max(losses[0], min(losses)) + fallen):
                break
            losses.append(corrected)
            bar.update()
    if not losses:
        raise UserError("the loss is not a finite number even before training: no learning rate can mend that")
    return RangeTest(np.array([LOWEST_RATE * math.exp(growth * i) for i in range(len(losses))]), np.array(losses))


def run_overfit(task: Task, data: Sequences, options: TrainingOptions) -> int:
    """Overfit one batch of `data`, draw the result into the --out folder, print it; 0 if it passed."""
    refuse_existing_run(options.out)
    batch_key, key = jax.random.split(jax.random.key(options.seed))
    device = to_device(spread_within(data, options.recipe(task.window).memory_budget))
    batch = sample_windows(device, batch_key, OVERFIT_SEQUENCES, task.window)
    result = overfit_one_batch(task.build, batch, options.learning_rate, max(options.steps, OVERFIT_STEPS), key)
    picture = options.out / "overfit_one_batch.png"
    frames, valid = np.asarray(batch.frames), None if batch.valid is None else np.asarray(batch.valid)
    rebuilt = reconstruct(result.model, frames, np.asarray(batch.actions), valid)
    pairs = [spread_over(of_seen(each, valid), SHOWN) for each in (frames, rebuilt)]
    draw_overfit(picture, result.share, OVERFIT_SHARE, *pairs)
    verdict = "pass" if result.passed else "FAIL"
    print(
        f"{verdict}: {result.share[-1]:.2%} of the pixel variance of one batch is left after {len(result.share)}"
        f" steps (passes below {OVERFIT_SHARE:.0%}); picture: {picture}"
    )
    if not result.passed:
        print(
            "A model that cannot reproduce one batch will not learn the data: look at the picture, then at the"
            " learning rate (--find-lr) and at the data."
        )
    return 0 if result.passed else 1


def run_range_test(task: Task, data: Sequences, options: TrainingOptions) -> int:
    """A learning-rate range test on `data`, drawn into the --out folder and printed."""
    refuse_existing_run(options.out)
    device = to_device(spread_within(data, options.recipe(task.window).memory_budget))
    next_batch = jax.jit(lambda key: sample_windows(device, key, options.batch_size, task.window))
    result = range_test(task.build, next_batch, max(options.steps, RANGE_TEST_STEPS), jax.random.key(options.seed))
    picture = options.out / "find_lr.png"
    draw_range_test(picture, result.rates, result.losses, result.suggestion)
    print(f"suggested --learning-rate {result.suggestion:.1e}; picture: {picture}")
    return 0
