"""The Python API, `import worldmodel as wm`: what the scripts do, by the same functions."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodel.support.script import saved_options, set_up_compiler

set_up_compiler()  # before JAX is imported


import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.data.storage import load_sequences, save_sequences
from worldmodel.evaluation.record import Evaluation
from worldmodel.exporting.export import export as export_runs
from worldmodel.imagination.dreamer import Dreamer, last
from worldmodel.models.catalogue import MODELS
from worldmodel.models.protocol import State
from worldmodel.planning.catalogue import PLANNERS
from worldmodel.planning.options import PolicyOptions
from worldmodel.planning.policy import LearntPolicy
from worldmodel.planning.record import Acted
from worldmodel.planning.saved import learn_and_save
from worldmodel.readers.catalogue import READERS, format_of
from worldmodel.readers.converting import convert
from worldmodel.reporting.acting import Acting, act, goal_of_image
from worldmodel.reporting.comparison import write_comparison
from worldmodel.reporting.evaluating import Dreaming, evaluate_run, imagine_run, open_ceiling
from worldmodel.reporting.report import verdict_of, write_report
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import SHIPPED, pretrained_names, run_folder, shown_data
from worldmodel.support.files import UserError, read_json
from worldmodel.training.options import training_options, with_defaults
from worldmodel.training.session import train as train_session
from worldmodel.worlds import collecting, registered  # noqa: F401 (registers the environments)
from worldmodel.worlds.world import WORLDS

PathLike = str | os.PathLike[str]


def list_models() -> dict[str, str]:
    """The models that can be trained, each with a sentence: the project's own and those of installed packages."""
    return {name: MODELS.sentence(name) for name in MODELS.names()}


def list_worlds() -> dict[str, str]:
    """The worlds whose truth is known, each with a sentence. Any Gymnasium environment that renders can be collected
    beside them."""
    return {name: WORLDS.sentence(name) for name in WORLDS.names()}


def list_pretrained() -> dict[str, str]:
    """The trained runs that come with the package, each with a sentence; `load` takes their names."""
    return {name: str(read_json(SHIPPED / name / "card.json")["about"]) for name in pretrained_names()}


def list_formats() -> dict[str, str]:
    """The formats of other libraries that data sets are read from, each with a sentence."""
    return {name: READERS.sentence(name) for name in READERS.names()}


def read(path: PathLike, *, out: PathLike | None = None, **options: Any) -> Sequences:
    """A data set: an .npz, or a folder of arrays, which stay in their files until they are touched. Or one in another
    format (`list_formats()`), of whose pictures frames are made, and whose episodes are padded to one length.

    Args:
        out: of another format: file to write as well, or a folder (a name without .npz), for data larger than memory.
        options: of another format: those of scripts/convert.py --help: `size`, `crop`, `centre`, `grey`, `camera`, ...

    Raises UserError, with the path and what is wrong with it.
    """
    place = Path(path)
    if out is None and not options and format_of(place) is None:
        return load_sequences(place)
    try:
        return convert(place, None if out is None else Path(out), **options)
    except TypeError as error:
        raise UserError(f"{place}: {error}") from None


def write(path: PathLike, data: Sequences) -> None:
    """Write a data set as an .npz, whole or not at all. Raises UserError when it does not fit the format."""
    save_sequences(Path(path), data)


def collect(
    world: str = "pendulum",
    sequences: int = 500,
    frames: int = 15,
    size: int | None = None,
    *,
    out: PathLike | None = None,
    **more: Any,
) -> Sequences:
    """Random actions in a world: a name of `list_worlds()`, or the Gymnasium id of an environment with rgb_array
    rendering.

    Args:
        frames: T, of each of the N sequences; T - 1 actions.
        size: side of the square frames, pixels; default: the world's usual size, 16 where it has none.
        out: file to write as well, or a folder (a name without .npz), for data larger than memory.
        more: `seed`, `noise`, `crop`, `centre`, `grey`, `workers`, `actions`, `start` (worlds/collecting.py), and the
            world's own options, such as `preset="gymnasium"` of the pendulum.

    Raises UserError when one of these does not fit.
    """
    place = None if out is None else Path(out)
    chosen: Any = world
    if world in WORLDS.names():
        kind = WORLDS.options(world)
        own = {field.name for field in dataclasses.fields(kind)}
        chosen = kind(**{name: more.pop(name) for name in own & more.keys()})
    try:
        return collecting.collect(chosen, sequences, frames, size, out=place, **more)
    except TypeError as error:
        raise UserError(f"{world}: {error}") from None


def train(model: str, data: PathLike | Sequences, out: PathLike, **options: Any) -> "Trained | list[Trained]":
    """Train a model of `list_models()` and keep the run in the folder `out`, with checkpoints, metrics and pictures.

    Args:
        data: a data set's path, or one in memory, which is then written to data.npz in `out`.
        options: those of scripts/train.py MODEL --help, with underscores: the training's (`steps`, `seed`, `seeds`,
            `resume`, ...) and the model's (`latent_size`, ...).

    Gives the trained run or, with several `seeds`, one for each. Raises UserError for what cannot be, and
    KeyboardInterrupt where Ctrl-C stopped the training, which is saved: `resume=True` goes on.
    """
    folder, kind = Path(out), MODELS.options(model)
    for name in ("overfit_one_batch", "find_lr", "coordinator"):
        if options.get(name):
            raise UserError(f"{name}: is for scripts/train.py, on a command line")
    path = folder / "data.npz" if isinstance(data, Sequences) else Path(data)
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    own = {field.name for field in dataclasses.fields(kind)}
    try:
        start = saved_options(training_options(model), folder) if options.get("resume") else None
        start = start or with_defaults(model)
        chosen = dataclasses.replace(start.model, **{name: options.pop(name) for name in own & options.keys()})
        settings = dataclasses.replace(start, data=path, out=folder, model=chosen, **options)
    except TypeError as error:
        raise UserError(f"{model}: {error}") from None
    settings.check()
    if isinstance(data, Sequences):
        if path.exists() and load_sequences(path).fingerprint() != data.fingerprint():
            raise UserError(f"{path}: holds other data than is given; give another `out`")
        if not path.exists():
            save_sequences(path, data)
    if train_session(model, settings) is None:
        raise KeyboardInterrupt(f"{folder}: stopped and saved")
    runs = [load(each.out) for each in settings.each_seed()]
    return runs if settings.seeds > 1 else runs[0]


def load(run: PathLike) -> "Trained":
    """A trained run: of a folder, or one that comes with the package by its name (`list_pretrained()`), of which
    runs/pretrained/ then holds a copy. Raises UserError when the folder does not hold one."""
    return Trained(run_folder(Path(run)))


def report(run: PathLike | Sequence[PathLike], out: PathLike | None = None) -> Path:
    """Write all that a run folder says, also of a training that is not finished, as one HTML page, by default
    report.html in the folder; its path. Of several runs, what they say side by side, by default comparison.html in the
    folder that the first one lies in. Raises UserError when a folder is no run, or holds a damaged file."""
    if not isinstance(run, str | os.PathLike):
        if len(run) != 1:
            folders = [run_folder(Path(each)) for each in run]
            return write_comparison(folders, None if out is None else Path(out))
        [run] = run
    folder = run_folder(Path(run))
    path = folder / "report.html" if out is None else Path(out)
    write_report(folder, path)
    return path


def export(
    run: PathLike,
    out: PathLike | None = None,
    *,
    onnx: PathLike | None = None,
    data: PathLike | None = None,
    context: int | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write a trained world model as one page that dreams by itself in any browser (`out`, an .html file), as ONNX
    files (in the folder `onnx`), or both; the files that were written.

    Args:
        data: data set that shows the page's true world; default: what the run was trained on.
        context: true frames that the page's model is shown before it dreams; default: as many as it needs, at least 5.
        seed: of the page's random starts.

    Raises UserError when the run holds no world model, its world is not a known one, or it needs what cannot be
    exported.
    """
    page, folder, shown = (None if path is None else Path(path) for path in (out, onnx, data))
    return export_runs([Path(run)], page, folder, shown, context, seed)


class Trained(Dreamer):
    """A trained run: its model ready for use (Dreamer: filter, filter_step, imagine, encode, decode, vector), and its
    judgement. States belong to the model; hand them on as they are."""

    def __init__(self, folder: Path):
        self.run = Run.open(folder)
        super().__init__(self.run.load())

    def __repr__(self) -> str:
        return f"<{self.run.model} trained for {max(self.run.checkpoint_steps())} steps, {self.run.folder}>"

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.run.folder

    @property
    def verdict(self) -> str:
        """What the check at the end of the training said, in words. Raises UserError where it has not been made, or is
        damaged."""
        health, posterior = verdict_of(self.folder)
        if health is not None:
            return health.in_words()
        if posterior is not None:
            return " ".join(posterior.in_words)
        raise UserError(f"{self.folder}: its training is not finished; with resume=True it goes on")

    @staticmethod
    def last(states: State) -> State:
        """The state `[B, ...]` at the end of states along time, `[B, T, ...]`."""
        return last(states)

    @property
    def config(self) -> dict[str, Any]:
        """All that reproduces the run."""
        return self.run.config

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What was logged, every hundred steps."""
        return self.run.metrics()

    def evaluate(
        self,
        data: PathLike | Sequences,
        *,
        context: int | None = None,
        sequences: int | None = None,
        futures: int = 50,
        vae: PathLike | None = None,
        seed: int = 0,
        out: PathLike | None = None,
    ) -> Evaluation:
        """How far its dreams can be trusted: numbers with intervals, written with pictures into evaluation/ of the run,
        or into `out`.

        Args:
            context: frames that are observed before imagination begins; default: as many as the model needs, at
                least 5.
            sequences: only the first so many.
            futures: that are sampled of every sequence, at least 39.
            vae: run of a model of single frames, which is shown the truth: the ceiling.

        Raises UserError when the data does not fit, or when something is there already.
        """
        task = self._task(data, context, sequences)
        ceiling = None if vae is None else open_ceiling(Path(vae), task.data, task.source)
        place = self.run.folder / "evaluation" if out is None else Path(out)
        return evaluate_run(task, place, futures, seed, ceiling)

    def roll_out(
        self,
        data: PathLike | Sequences,
        out: PathLike,
        *,
        context: int | None = None,
        sequences: int | None = None,
        seed: int = 0,
    ) -> Evaluation:
        """Imagine every sequence to its end with its own actions, and write all frames and latents (imagined.npz), the
        errors and pictures into the folder `out`; else as `evaluate`, which asks more and keeps less."""
        return imagine_run(self._task(data, context, sequences), Path(out), seed)

    def act(
        self,
        env: str | None = None,
        *,
        planner: str = "cem",
        episodes: int = 10,
        seed: int = 100,
        steps: int | None = None,
        start: str | None = None,
        goal: PathLike | np.ndarray | tuple[int, int] | None = None,
        policy: bool = True,
        ceilings: bool = True,
        out: PathLike | None = None,
        **options: Any,
    ) -> Acted:
        """Act in the real environment, by default the one that made the run's data: plan in the dream, act, look, plan
        again. Returns beside floors and ceilings, written with pictures into acting/PLANNER of the run, or into `out`.

        Args:
            planner: cem, mppi, gradient, or policy: what `learn_policy` found.
            seed: of the starts and of the planner.
            steps: of an episode, at most; default: the environment's own limit, or 200.
            start: place of the world at which all episodes start; default: its own random starts.
            goal: picture of what the world should look like, in place of the reward that is learnt from the data: a
                file, a frame `[H, W(, C)]`, or the numbers of a sequence of the run's data and of a frame in it.
            policy: whether the policy that was learnt in the dream makes proposals, where there is one.
            ceilings: whether to ask what the same planner gets on the true physics, and what the optimum is.
            options: the planner's own, such as `horizon`.

        Raises UserError when these do not fit, or when something is there already.
        """
        kind = PLANNERS.options(planner)
        try:
            search = kind(**options)
        except TypeError as error:
            raise UserError(f"{planner}: {error}") from None
        search.check()
        picture = None if goal is None else self._goal(goal)
        place = self.run.folder / "acting" / planner if out is None else Path(out)
        with Acting.of(self.run, self, env, picture, steps, start) as task:
            return act(task, place, planner, search, episodes, seed, ceilings, policy)

    def learn_policy(self, **options: Any) -> LearntPolicy:
        """Learn a policy in the dream, by gradients of the learnt reward through imagined roll-outs, and keep it in the
        run, where `act` finds it.

        Args:
            options: `horizon`, `updates`, `dreams`, ... (scripts/learn_policy.py --help).

        Raises UserError when one does not fit, or the run's data has no rewards or is gone.
        """
        try:
            chosen = PolicyOptions(**options)
        except TypeError as error:
            raise UserError(f"policy: {error}") from None
        return learn_and_save(self.run, self, chosen)

    def _goal(self, goal: PathLike | np.ndarray | tuple[int, int]) -> np.ndarray:
        if isinstance(goal, np.ndarray):
            return as_unit_frames(goal)
        if isinstance(goal, tuple):
            frames = shown_data(self.run)[1].frames
            if not (0 <= goal[0] < frames.shape[0] and 0 <= goal[1] < frames.shape[1]):
                raise UserError(f"--goal-frame: the data has {frames.shape[0]} sequences of {frames.shape[1]} frames")
            return as_unit_frames(frames[goal])
        return goal_of_image(Path(goal), self.run.card.scale)

    def _task(self, data: PathLike | Sequences, context: int | None, sequences: int | None) -> Dreaming:
        there, source = (data, Path("data")) if isinstance(data, Sequences) else (read(data), Path(data))
        return Dreaming.of(self.run, self.model, there, source, context, sequences)

    def report(self, out: PathLike | None = None) -> Path:
        """Write all that the run folder says as one HTML page, report.html; its path."""
        return report(self.run.folder, out)
