"""Loggers beside metrics.jsonl, TensorBoard and Weights & Biases, and the logbook of a run, which feeds them.

A logger is a class with the methods of Logger, and an entry of LOGGERS. It shows what the run folder holds, nothing
else: where a training goes on, its loggers begin anew and are told first what the run keeps of its past, so that steps
which a killed training takes twice are logged once. Nothing heavy is imported here before a logger is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from worldmodel.support.extras import library
from worldmodel.support.files import UserError
from worldmodel.support.settings import SEED_FOLDER

if TYPE_CHECKING:
    import numpy as np

    from worldmodel.runs.folder import Run

MODES = ("offline", "online", "disabled")
"""of Weights & Biases"""


class Logger(Protocol):
    """Somewhere that metrics and pictures of a run are shown. Steps never decrease; what is told of one step belongs
    together. Every method raises UserError where it fails."""

    def __init__(self, run: Run) -> None:
        """Begin anew: what was logged of this run before is replaced."""
        ...

    @staticmethod
    def check() -> None:
        """Raise UserError, before anything is trained, where nothing could be logged."""
        ...

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Metrics by name."""
        ...

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """uint8 RGB `[H, W, 3]`."""
        ...

    def animation(self, step: int, name: str, gif: bytes) -> None:
        """A GIF, as it is in a file."""
        ...

    def close(self, failed: bool) -> None:
        """Nothing more will come; `failed` where the training is not finished."""
        ...


class TensorBoard:
    """Event files in tensorboard/ of the run, by tensorboardX: no TensorFlow, and no thread that could fail unheard."""

    EXTRA = "tensorboard"

    def __init__(self, run: Run) -> None:
        self._folder = run.folder / "tensorboard"
        self._event = library("tensorboardX.proto.event_pb2", self.EXTRA).Event
        self._summary = library("tensorboardX.proto.summary_pb2", self.EXTRA).Summary
        writer = library("tensorboardX.event_file_writer", self.EXTRA).EventsWriter
        with self._writing():
            self._folder.mkdir(exist_ok=True)
            for old in self._folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._events = writer(str(self._folder / "events"))

    @staticmethod
    def check() -> None:
        library("tensorboardX", TensorBoard.EXTRA)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._write(step, *(self._summary.Value(tag=name, simple_value=value) for name, value in values.items()))

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        self._image(step, name, picture.shape[:2], file.getvalue())

    def animation(self, step: int, name: str, gif: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(gif)) as image:
            self._image(step, name, (image.height, image.width), gif)

    def close(self, failed: bool) -> None:
        with self._writing():
            self._events.close()

    def _image(self, step: int, name: str, size: tuple[int, ...], encoded: bytes) -> None:
        image = self._summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=encoded)
        self._write(step, self._summary.Value(tag=name, image=image))

    def _write(self, step: int, *values: Any) -> None:
        """Append an event, all of it at once."""
        from time import time

        with self._writing():
            self._events.write_event(self._event(wall_time=time(), step=step, summary=self._summary(value=values)))
            self._events.flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written: {error.strerror}") from None


class WandB:
    """A run of Weights & Biases in wandb/ of the run. Offline, to be sent by `wandb sync`, unless $WANDB_MODE says
    otherwise; it asks nobody to log in. $WANDB_PROJECT is the project, else "worldmodel".

    A process of its own writes, for a moment longer than `close` takes; the end of this process waits for it."""

    def __init__(self, run: Run) -> None:
        wandb = library("wandb", "wandb")
        self._image, self._video = wandb.Image, wandb.Video
        # folders are called [offline-]run-<time>-<id>; under its own id a run that was sent before is replaced there
        before = sorted((run.folder / "wandb").glob("*run-*-*"), key=lambda path: path.name.partition("run-")[2])
        of_seeds = run.folder.name.startswith(SEED_FOLDER)
        # $WANDB_RUN_ID would be the same for all seeds
        new = secrets.token_hex(4) if of_seeds else None
        with _asking(), _reporting_nothing_offline():
            for old in before:
                if old.name.startswith("offline-"):
                    shutil.rmtree(old)
            self._run = wandb.init(
                mode=_mode(),
                project=os.environ.get("WANDB_PROJECT", "worldmodel"),
                name=os.environ.get("WANDB_NAME", str(run.folder)),
                group=str(run.folder.parent) if of_seeds else None,
                id=before[-1].name.rpartition("-")[2] if before else new,
                dir=run.folder,
                config=run.config,
                reinit="create_new",  # beside those of other seeds, and of a notebook
                settings=wandb.Settings(silent=True, console="off"),
            )

    @staticmethod
    def check() -> None:
        wandb = library("wandb", "wandb")
        if _mode() not in MODES:
            raise UserError(f"--log wandb: $WANDB_MODE must be one of {', '.join(MODES)}, not {_mode()}")
        if _mode() == "online":
            with _asking():
                if not wandb.login(prompt=False):
                    raise UserError("--log wandb: $WANDB_MODE is online, but nobody is logged in: run `wandb login`")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._log(step, values)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._log(step, {name: self._image(picture)})

    def animation(self, step: int, name: str, gif: bytes) -> None:
        self._log(step, {name: self._video(io.BytesIO(gif), format="gif")})

    def close(self, failed: bool) -> None:
        with _asking():
            self._run.finish(exit_code=int(failed))

    def _log(self, step: int, values: dict[str, Any]) -> None:
        with _asking():
            self._run.log(values, step=step)


def _mode() -> str:
    return os.environ.get("WANDB_MODE", "offline")


@contextlib.contextmanager
def _reporting_nothing_offline() -> Iterator[None]:
    """The process that wandb starts within the block sends no reports of its own errors where nothing is to go out,
    unless $WANDB_ERROR_REPORTING says so."""
    name = "WANDB_ERROR_REPORTING"
    if _mode() != "offline" or name in os.environ:
        yield
        return
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Whatever wandb raises within the block becomes one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--log wandb: {' '.join(str(error).split())}") from None


NONE = "none"
"""in place of a logger's name: none at all"""
LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WandB}


def check_loggers(names: Iterable[str]) -> None:
    """Raise UserError where one of the loggers is not known, or could not log."""
    for name in names:
        if name == NONE:
            raise UserError(f"--log: {NONE} goes with no other")
        if name not in LOGGERS:
            raise UserError(f"--log: {name!r} is none of {', '.join(LOGGERS)}")
        LOGGERS[name].check()


class Logbook:
    """What is written of a run while it trains: its metrics and snapshots, and the same to its loggers.

    Once training goes on, a logger that fails raises nothing: what it raised waits in `failure` until the run is safe.
    """

    def __init__(
        self, run: Run, names: Iterable[str], film_strip: Callable[[int, dict[str, np.ndarray]], np.ndarray]
    ) -> None:
        """`names` of LOGGERS; `film_strip` draws the snapshot of a step, uint8 RGB `[H, W, 3]`."""
        self.run, self._names, self._film_strip = run, tuple(names), film_strip
        self._loggers: list[Logger] = []
        self._finished = False
        self.failure: Exception | None = None
        """what a logger raised first"""

    def begin(self) -> None:
        """Open the loggers, and tell them what the run holds of its past. Raises what one of them raises."""
        for name in self._names:
            self._loggers.append(LOGGERS[name](self.run))
        if self._loggers:
            snapshots = self.run.snapshots()
            for line in self.run.metrics():
                self._tell(line, snapshots.get(line["step"]))
                if self.failure is not None:
                    raise self.failure

    def write(self, metrics: dict[str, Any], snapshot: dict[str, np.ndarray] | None = None) -> None:
        """Add a line of metrics, "step" among them, and what was kept of this step to look at."""
        if snapshot is not None:
            self.run.save_snapshot(metrics["step"], snapshot)
        self.run.append_metrics(metrics)
        self._tell(metrics, snapshot)

    def finish(self, step: int, files: Iterable[str]) -> None:
        """The run is finished: show pictures of its folder, PNGs and GIFs, by their names without suffix."""
        self._finished = True
        if not self._loggers:
            return
        import numpy as np
        from PIL import Image

        paths = [path for path in (self.run.folder / file for file in files) if path.exists()]
        for logger in self._loggers:
            with self._keeping_failure():
                for path in paths:
                    if path.suffix == ".gif":
                        logger.animation(step, path.stem, path.read_bytes())
                    else:
                        with Image.open(path) as image:
                            logger.picture(step, path.stem, np.asarray(image.convert("RGB")))

    def close(self) -> None:
        """Close the loggers, all of them."""
        while self._loggers:
            with self._keeping_failure():
                self._loggers.pop().close(failed=not self._finished)

    def _tell(self, line: dict[str, Any], snapshot: dict[str, np.ndarray] | None) -> None:
        step, values = line["step"], {name: value for name, value in line.items() if name != "step"}
        picture = None if snapshot is None or not self._loggers else self._film_strip(step, snapshot)
        for logger in self._loggers:
            with self._keeping_failure():
                if values:
                    logger.scalars(step, values)
                if picture is not None:
                    logger.picture(step, "film_strip", picture)

    @contextlib.contextmanager
    def _keeping_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


@contextlib.contextmanager
def logbooks(
    runs: Iterable[Run], names: Iterable[str], film_strip: Callable[[int, dict[str, np.ndarray]], np.ndarray]
) -> Iterator[list[Logbook]]:
    """A logbook for each run, whose loggers are closed after the block. Then raises what one of them raised first,
    unless the block itself raised something."""
    books = [Logbook(run, names, film_strip) for run in runs]
    try:
        yield books
    finally:
        for book in books:
            book.close()
    for book in books:
        if book.failure is not None:
            raise book.failure
