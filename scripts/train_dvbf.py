"""Train a Deep Variational Bayes Filter on sequences of frames and actions."""

import dataclasses
from typing import Annotated

import tyro

from worldmodel.cli import INTERRUPTED, require_at_least, run_script
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
    ("ELBO and reconstruction", "nats per frame", {"elbo": "ELBO", "reconstruction": "reconstruction"}),
    ("KL", "nats", {"kl_initial": "initial state", "kl_step": "one filtered step"}),
    (
        "Open loop, 10 frames (validation)",
        "pixel MSE",
        {"open_loop_mse": "imagined", "repeat_last_frame_mse": "repeat last frame"},
    ),
)


def main(options: Options) -> int:
    options.check()

    from worldmodel.checks import run_overfit, run_range_test, sharpened
    from worldmodel.dvbf import DVBF
    from worldmodel.figures import draw_curves
    from worldmodel.fitting import Task, fit, load_training_data, start_or_resume
    from worldmodel.objectives import dvbf_loss
    from worldmodel.rollouts import open_loop_check, reconstruct

    shortest = options.model.initial_frames + 1
    data, validation, card = load_training_data(options, options.window or shortest)
    window = options.window or min(data.length, LONGEST_WINDOW)

    def task(model: DVBFOptions) -> Task:
        return Task(
            name="dvbf",
            build=lambda rngs: DVBF(card.scale, model, rngs),
            loss=lambda *arguments: dvbf_loss(*arguments, steps=options.steps),
            window=window,
            validate=lambda model: open_loop_check(model, validation),
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
    print(verdict(open_loop_check(trained, validation)))
    return 0


def verdict(check: dict[str, float]) -> str:
    """The open-loop check in words."""
    share = check["open_loop_mse"] / check["repeat_last_frame_mse"]
    if share < 0.5:
        return (
            f"Dynamics learnt: frames imagined on validation data have {share:.1%} of the error of repeating the last."
        )
    return (
        f"DYNAMICS NOT LEARNT: frames imagined on validation data have {share:.0%} of the error of repeating the last"
        " frame. Train longer (--steps), give the latents more room (--visible-size, --latent-size), or look at the"
        " data: do the actions move what the frames show, or is most of every frame noise?"
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
