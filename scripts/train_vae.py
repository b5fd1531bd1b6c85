"""Train the static VAE on single frames: the stage before the DVBF."""

import dataclasses
from typing import Annotated

import tyro

from baselines.options import StaticVAEOptions
from worldmodel.support.script import INTERRUPTED, run_script
from worldmodel.training.options import TrainingOptions


@dataclasses.dataclass(frozen=True)
class Options(TrainingOptions):
    steps: int = 4000
    """Optimiser updates."""
    batch_size: int = 128
    """Single frames in one update."""
    model: Annotated[StaticVAEOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=StaticVAEOptions)
    """The model."""

    def check(self) -> None:
        super().check()
        self.model.check()


CURVES = (
    ("ELBO and reconstruction", "nats per frame", {"elbo": "ELBO", "reconstruction": "reconstruction"}),
    ("KL", "nats per frame", {"kl": "KL(q(z|x) || N(0, I))"}),
    ("Reconstruction error", "pixel MSE", {"frame_mse": "training", "validation_mse": "validation"}),
)


def main(options: Options) -> int:
    options.check()

    from worldmodel.training.cluster import is_writer, join

    join(options)

    import numpy as np

    from baselines.static_vae import StaticVAE, latent_walk, reconstruct, report_posterior, vae_loss
    from worldmodel.data.sequences import as_unit_frames, spread_over
    from worldmodel.pictures.figures import animate_grid, animate_walk, draw_curves, draw_posterior
    from worldmodel.support.files import write_json
    from worldmodel.training.checks import run_overfit, run_range_test, sharpened
    from worldmodel.training.fit import Task, fit, load_training_data, start_or_resume

    data, validation, card = load_training_data(options, window=1)
    frames = as_unit_frames(spread_over(validation.frames.reshape(-1, *card.scale.frame_shape), 1000))
    shown = spread_over(frames, 8)

    def task(model: StaticVAEOptions) -> Task:
        return Task(
            name="static_vae",
            build=lambda rngs: StaticVAE(card.scale, model, rngs),
            loss=vae_loss,
            window=1,
            validate=lambda model: ({"validation_mse": float(np.mean((reconstruct(model, frames) - frames) ** 2))}, []),
            snapshot=lambda model: {"frames": reconstruct(model, shown)},
        )

    if options.overfit_one_batch:
        return run_overfit(task(sharpened(options.model, card.scale)), data, options, reconstruct)
    if options.find_lr:
        return run_range_test(task(options.model), data, options)
    runs = start_or_resume(options, "static_vae", card)
    models, finished = fit(runs, task(options.model), data, options)
    if not is_writer():
        return 0 if finished else INTERRUPTED
    for run, model in zip(runs, models, strict=True):
        draw_curves(run.folder / "curves.png", run.metrics(), CURVES)
        if not finished:
            continue
        posterior = model.posterior(frames)
        report = report_posterior(posterior, frames, reconstruct(model, frames))
        write_json(run.folder / "posterior.json", report.to_json())
        draw_posterior(run.folder / "posterior.png", report.kl, report.std)
        if snapshots := run.snapshots():
            pictures = [arrays["frames"] for arrays in snapshots.values()]
            animate_grid(run.folder / "learning.gif", list(snapshots), pictures, shown)
        walk = latent_walk(np.asarray(posterior.mean()))
        animate_walk(run.folder / "latent_walk.gif", np.clip(model.emission(walk).mean(), 0, 1))
        print(f"{run.folder}: trained; pictures: curves.png, posterior.png, learning.gif, latent_walk.gif")
        print(report.table())
        print("\n".join(report.in_words()))
    if not finished:
        print(f"{options.out}: stopped and saved; --resume goes on from here")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    run_script(main, Options, __doc__)
