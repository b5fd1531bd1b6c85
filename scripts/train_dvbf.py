"""Train a Deep Variational Bayes Filter on sequences of frames and actions."""

import dataclasses
from typing import Annotated

import tyro

from worldmodel.support.script import INTERRUPTED, run_script
from worldmodel.support.settings import require_at_least
from worldmodel.training.options import DVBFOptions, TrainingOptions


@dataclasses.dataclass(frozen=True)
class Options(TrainingOptions):
    window: int | None = None
    """Frames in a training window, cut at random from the sequences; default: whole sequences, at most 30."""
    model: Annotated[DVBFOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DVBFOptions)
    """The model."""

    def check(self) -> None:
        super().check()
        self.model.check()
        if self.window is not None:
            require_at_least("--window", self.window, self.model.initial_frames + 1)


LONGEST_WINDOW = 30

CURVES = (
    (
        "ELBO and reconstruction",
        "nats per frame",
        {"elbo": "ELBO", "reconstruction": "reconstruction", "validation_elbo": "ELBO (validation)"},
    ),
    ("KL", "nats", {"kl_initial": "initial state", "kl_step": "one filtered step"}),
    (
        "Open loop, 10 frames (validation)",
        "pixel MSE",
        {
            "validation_open_loop_mse": "imagined",
            "validation_repeat_last_frame_mse": "repeat last frame",
            "validation_mean_frame_mse": "mean frame",
        },
    ),
)


def main(options: Options) -> int:
    options.check()

    from worldmodel.training.cluster import is_writer, join

    join(options)

    import jax

    from worldmodel.evaluation import health
    from worldmodel.imagination.rollouts import reconstruct, validation_elbo
    from worldmodel.models.dvbf.model import DVBF
    from worldmodel.models.dvbf.objective import dvbf_loss
    from worldmodel.pictures.figures import draw_curves
    from worldmodel.pictures.learning import Watched
    from worldmodel.support.files import write_json
    from worldmodel.training.checks import run_overfit, run_range_test, sharpened
    from worldmodel.training.fit import Task, fit, load_training_data, start_or_resume

    shortest = options.model.initial_frames + 1
    data, validation, card = load_training_data(options, options.window or shortest)
    window = options.window or min(data.length, LONGEST_WINDOW)
    watched = Watched.of(validation, options.model.initial_frames)

    def validate(model: DVBF) -> tuple[dict[str, float], list[str]]:
        found = health.measure(model, validation)
        elbo = validation_elbo(model, validation, jax.random.key(options.seed))
        metrics = {f"validation_{name}": value for name, value in dataclasses.asdict(found).items()}
        return metrics | {"validation_elbo": elbo}, list(map(str, found.problems()))

    def task(model: DVBFOptions) -> Task:
        return Task(
            name="dvbf",
            build=lambda rngs: DVBF(card.scale, model, rngs),
            loss=lambda *arguments: dvbf_loss(*arguments, steps=options.steps),
            window=window,
            validate=validate,
            snapshot=watched.snapshot,
        )

    if options.overfit_one_batch:
        model = dataclasses.replace(sharpened(options.model, card.scale), open_loop_share=0.0)
        return run_overfit(task(model), data, options, reconstruct)
    if options.find_lr:
        return run_range_test(task(options.model), data, options)
    runs = start_or_resume(options, "dvbf", card)
    models, finished = fit(runs, task(options.model), data, options)
    if not is_writer():
        return 0 if finished else INTERRUPTED
    for run, model in zip(runs, models, strict=True):
        draw_curves(run.folder / "curves.png", run.metrics(), CURVES)
        if not finished:
            continue
        if snapshots := run.snapshots():
            watched.animate(run.folder / "learning.gif", snapshots)
        found = health.measure(model, validation)
        problems = [problem.name for problem in found.problems()]
        write_json(run.folder / "health.json", dataclasses.asdict(found) | {"problems": problems})
        print(f"{run.folder}: trained; pictures: curves.png, learning.gif")
        print(found.in_words())
    if not finished:
        print(f"{options.out}: stopped and saved; --resume goes on from here")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    run_script(main, Options, __doc__)
