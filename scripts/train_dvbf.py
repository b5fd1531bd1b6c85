"""Train a Deep Variational Bayes Filter on sequences of frames and actions."""

import dataclasses
from typing import Annotated

import tyro

from worldmodel.cli import INTERRUPTED, run_script
from worldmodel.config import require_at_least
from worldmodel.options import DVBFOptions, TrainingOptions


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
        {"open_loop_mse": "imagined", "repeat_last_frame_mse": "repeat last frame", "mean_frame_mse": "mean frame"},
    ),
)


def main(options: Options) -> int:
    options.check()

    import jax

    from worldmodel.checks import run_overfit, run_range_test, sharpened
    from worldmodel.dvbf import DVBF
    from worldmodel.figures import draw_curves
    from worldmodel.files import write_json
    from worldmodel.fitting import Task, fit, load_training_data, start_or_resume
    from worldmodel.objectives import dvbf_loss
    from worldmodel.rollouts import open_loop_check, reconstruct, validation_elbo

    shortest = options.model.initial_frames + 1
    data, validation, card = load_training_data(options, options.window or shortest)
    window = options.window or min(data.length, LONGEST_WINDOW)

    def task(model: DVBFOptions) -> Task:
        return Task(
            name="dvbf",
            build=lambda rngs: DVBF(card.scale, model, rngs),
            loss=lambda *arguments: dvbf_loss(*arguments, steps=options.steps),
            window=window,
            validate=lambda model: (
                open_loop_check(model, validation)
                | {"validation_elbo": validation_elbo(model, validation, jax.random.key(options.seed))}
            ),
        )

    if options.overfit_one_batch:
        model = dataclasses.replace(sharpened(options.model, card.scale), open_loop_share=0.0)
        return run_overfit(task(model), data, options, reconstruct)
    if options.find_lr:
        return run_range_test(task(options.model), data, options)
    run = start_or_resume(options, "dvbf", card)
    trained, finished = fit(run, task(options.model), data, options)
    draw_curves(run.folder / "curves.png", run.metrics(), CURVES)
    if not finished:
        print(f"{run.folder}: stopped and saved; --resume goes on from here")
        return INTERRUPTED
    print(f"{run.folder}: trained; pictures: {run.folder / 'curves.png'}")
    check = open_loop_check(trained, validation)
    write_json(run.folder / "open_loop.json", check)
    print(verdict(check))
    return 0


def verdict(check: dict[str, float]) -> str:
    """The open-loop check in words."""
    naive = min(check["repeat_last_frame_mse"], check["mean_frame_mse"])
    if naive == 0:
        return "Nothing moves in the validation sequences: there are no dynamics to learn."
    share = check["open_loop_mse"] / naive
    measured = f"frames imagined on validation data have {share:.0%} of the error of the better naive predictor"
    advice = (
        "Train longer (--steps), give the latents more room (--visible-size, --latent-size), collect more, or look at"
        " the data: do the actions move what the frames show, or is most of every frame noise?"
    )
    if share < 0.5:
        return f"Dynamics learnt: {measured}."
    if share < 0.9:
        return f"Dynamics learnt in part: {measured}. {advice}"
    return f"DYNAMICS NOT LEARNT: {measured}. {advice}"


if __name__ == "__main__":
    run_script(main, Options, __doc__)
