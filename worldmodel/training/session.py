"""A whole training, from a data set to the pictures of its run: what scripts/train.py and the Python API call.

What draws is loaded where it is needed: Matplotlib takes a third of a second, and the first updates do not wait for it.
"""

import dataclasses
from typing import Any

from flax import nnx

from worldmodel.models.catalogue import MODELS
from worldmodel.models.protocol import WorldModel
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
from worldmodel.training.cluster import is_writer
from worldmodel.training.fit import Task, fit, load_training_data, start_or_resume
from worldmodel.training.loggers import logbooks
from worldmodel.training.options import TrainingOptions
from worldmodel.training.watch import watch_for

LONGEST_WINDOW = 30


def train(name: str, options: TrainingOptions) -> int | None:
    """Train a model of the catalogue, or do the check that the options ask for.

    Gives the exit status of a check, or None when Ctrl-C stopped a training, which is saved; otherwise 0. Raises
    UserError for options or data with which no training can be.
    """
    options.check()
    kind = MODELS.options(name)
    data, validation, card = load_training_data(options)
    if options.resume:  # on the scale that it began with, whatever the data is measured as today
        card = dataclasses.replace(card, scale=Run.open(options.each_seed()[0].out).card.scale)
    if card.gaps and is_writer():
        print(f"{options.data}: {card.gaps}; what is not there is imagined, and counts nowhere")
    if hasattr(kind, "settled"):
        options = dataclasses.replace(options, model=options.model.settled(card.scale))

    def build(model: Any) -> Any:
        return lambda rngs: model.build(card.scale, rngs)

    structure: Any = nnx.eval_shape(lambda: build(options.model)(nnx.Rngs(params=0)))
    window = choose_window(name, structure, options, int(data.lengths().max()))
    watch = watch_for(structure, validation, str(options.data), options.seed)

    def task(model: Any) -> Task:
        return Task(name, build(model), window, watch.validate, watch.snapshot, watch.calibrate)

    if options.overfit_one_batch:
        from worldmodel.training.checks import run_overfit

        sharp = options.model.sharpened(card.scale) if hasattr(kind, "sharpened") else options.model
        return run_overfit(task(sharp), data, options)
    if options.find_lr:
        from worldmodel.training.checks import run_range_test

        return run_range_test(task(options.model), data, options)
    with (
        start_or_resume(options, name, card) as runs,
        logbooks(runs, options.log if is_writer() else (), watch.film_strip) as books,
    ):
        models, finished = fit(books, task(options.model), data, options)
        if is_writer():
            drawn = []
            for run, model in zip(runs, models, strict=True):
                draw(run, model)
                if finished:
                    pictures, verdict = watch.finish(run, model)
                    drawn.append(["curves.png", *pictures])
                    print(f"{run.folder}: trained; pictures: {', '.join(drawn[-1])}\n{verdict}")
            if finished:  # no sooner: what a logger takes its time for, or is stopped in, costs no run its end
                for book, files in zip(books, drawn, strict=True):
                    book.finish(options.steps, files)
            else:
                print(f"{options.out}: stopped and saved; --resume goes on from here")
    return 0 if finished else None


def shortest(model: Any) -> int:
    """Frames that a model must be shown at least to learn anything: those of its first state and one more."""
    return model.context + 1 if isinstance(model, WorldModel) else 1


def choose_window(name: str, model: Any, options: TrainingOptions, longest: int) -> int:
    """Frames in a training window: as the options say, else as the data have, within reason. Raises UserError where a
    window is too short for the model or the data for it."""
    if not isinstance(model, WorldModel):
        if options.window is not None:
            raise UserError(f"--window: {name} is a model of single frames, and takes none")
        return 1
    least = shortest(model)
    if options.window is not None and options.window < least:
        raise UserError(f"--window must be at least {least}, not {options.window}")
    window = options.window or max(least, min(longest, LONGEST_WINDOW))
    if longest < window:
        raise UserError(f"{options.data}: sequences have {longest} frames, but training needs {window}")
    return window


def draw(run: Run, model: Any) -> None:
    """curves.png, of the metrics that the model has."""
    from worldmodel.pictures.curves import draw_curves, panels_for

    metrics = run.metrics()
    draw_curves(run.folder / "curves.png", metrics, panels_for(model, {name for line in metrics for name in line}))
