"""What a training looks at on held-out data while it goes on, and what it leaves in the run folder when it is done: one
class for models of sequences, one for models of single frames.

What draws is loaded where it is needed, after the first updates (training/session.py).
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.evaluation import health
from worldmodel.evaluation.calibration import calibrated
from worldmodel.evaluation.posterior import latent_walk, report_posterior
from worldmodel.evaluation.seen import of_seen
from worldmodel.imagination.dreamer import Dreamer, bounds, reconstruct
from worldmodel.models.protocol import Bounded, FrameModel, WorldModel
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, write_json
from worldmodel.worlds.world import world_of

if TYPE_CHECKING:
    from worldmodel.pictures.learning import Watched


class Watch(Protocol):
    """How a kind of model is looked at."""

    def validate(self, model: Any) -> tuple[dict[str, float], list[str]]:
        """Metrics on held-out data, and what is wrong, in words."""
        ...

    def snapshot(self, model: Any) -> dict[str, np.ndarray]:
        """Arrays that show how far learning is."""
        ...

    def film_strip(self, step: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """The snapshot of a step, drawn: truth above the model's frames, uint8 RGB `[H, W, 3]`."""
        ...

    def calibrate(self, model: Any) -> Any:
        """The trained model with samples as wide as its errors on held-out data."""
        ...

    def finish(self, run: Run, model: Any) -> tuple[list[str], str]:
        """Write what a finished run leaves; the names of its pictures, and the verdict in words."""
        ...


class WatchedSequences:
    """Models of sequences: the health check, the bound, imagined frames and the cloud of latents."""

    def __init__(self, validation: Sequences, source: str, context: int, seed: int):
        """Raises UserError, beginning with `source`, where the held-out data cannot be looked at."""
        self.all = validation
        if validation.ended is not None:
            length = health.looked_at(validation, context)[1]
            validation = validation.whole(length)
            if not len(validation):
                raise UserError(f"{source}: no held-out sequence has {length} frames before its end to look at")
        if not len(health.seen_and_imagined(validation, context)[1]):
            raise UserError(f"{source}: of no held-out sequence were the frames seen that are looked at")
        self.validation, self.context, self.seed = validation, context, seed
        world_of(validation, source)  # a record that does not fit is told before the training, not after it

    @cached_property
    def watched(self) -> Watched:
        from worldmodel.pictures.learning import Watched

        return Watched.of(self.validation, self.context)

    def validate(self, model: WorldModel) -> tuple[dict[str, float], list[str]]:
        found = health.measure(model, self.validation)
        metrics = {f"validation_{name}": value for name, value in found.figures.items()}
        if isinstance(model, Bounded):
            elbo = bounds(Dreamer(model), self.validation, jax.random.key(self.seed), samples=1)["elbo"]
            seen = self.validation.seen()
            metrics["validation_elbo"] = elbo / (self.validation.length if seen is None else seen.sum(axis=1).mean())
        return metrics, list(map(str, found.problems))

    def snapshot(self, model: WorldModel) -> dict[str, np.ndarray]:
        return self.watched.snapshot(model)

    def film_strip(self, step: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
        return self.watched.film_strip(step, arrays["frames"])

    def calibrate(self, model: WorldModel) -> WorldModel:
        return calibrated(model, self.validation)

    def finish(self, run: Run, model: WorldModel) -> tuple[list[str], str]:
        found = health.measure(model, self.validation).with_far_look(health.look_far(model, self.all))
        if snapshots := run.snapshots():
            self.watched.animate(run.folder / "learning.gif", snapshots)
        write_json(run.folder / "health.json", dataclasses.asdict(found))  # last: it says that the run is finished
        return ["learning.gif"], found.in_words()


class WatchedFrames:
    """Models of single frames: reconstructions, and how each latent dimension is used."""

    LARGEST, SHOWN = 1000, 8
    """frames that are looked at, and shown"""

    def __init__(self, validation: Sequences, source: str):
        """Raises UserError, beginning with `source`, where there is no frame to look at."""
        self.frames = as_unit_frames(spread_over(of_seen(validation.frames, validation.seen()), self.LARGEST))
        if not len(self.frames):
            raise UserError(f"{source}: all frames of the held-out sequences are missing")
        self.shown = spread_over(self.frames, self.SHOWN)

    def validate(self, model: FrameModel) -> tuple[dict[str, float], list[str]]:
        return {"validation_mse": float(np.mean((reconstruct(model, self.frames) - self.frames) ** 2))}, []

    def snapshot(self, model: FrameModel) -> dict[str, np.ndarray]:
        return {"frames": reconstruct(model, self.shown)}

    def film_strip(self, step: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
        from worldmodel.pictures.figures import beneath_truth

        return beneath_truth(step, arrays["frames"], self.shown)

    def calibrate(self, model: FrameModel) -> FrameModel:
        return model

    def finish(self, run: Run, model: FrameModel) -> tuple[list[str], str]:
        from worldmodel.pictures.figures import animate_grid, animate_walk, draw_posterior

        folder: Path = run.folder
        found = report_posterior(model.posterior(self.frames), self.frames, reconstruct(model, self.frames))
        write_json(folder / "posterior.json", dataclasses.asdict(found))
        draw_posterior(folder / "posterior.png", np.array(found.kl), np.array(found.std))
        if snapshots := run.snapshots():
            pictures = [arrays["frames"] for arrays in snapshots.values()]
            animate_grid(folder / "learning.gif", list(snapshots), pictures, self.shown)
        dreamer = Dreamer(model)
        walk = latent_walk(dreamer.vector(dreamer.encode(self.frames)))
        animate_walk(folder / "latent_walk.gif", np.clip(model.emission(walk).mean(), 0, 1))
        return ["posterior.png", "learning.gif", "latent_walk.gif"], "\n".join([found.table(), *found.in_words])


def watch_for(model: Any, validation: Sequences, source: str, seed: int) -> Watch:
    """The one for the kind of a model. Raises UserError, beginning with `source`, where the held-out data cannot be
    looked at."""
    if isinstance(model, WorldModel):
        return WatchedSequences(validation, source, model.context, seed)
    return WatchedFrames(validation, source)
