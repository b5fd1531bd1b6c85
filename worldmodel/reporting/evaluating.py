"""What scripts/imagine.py and scripts/evaluate.py do with a trained model: numbers with intervals, and pictures."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.evaluation.coverage import Coverage, judge_coverage
from worldmodel.evaluation.health import CONTEXT
from worldmodel.evaluation.judge import CEILING, judge, judge_samples, predict, probe_latents, reader_of
from worldmodel.evaluation.measures import rank_by_error
from worldmodel.evaluation.record import Evaluation, Outside
from worldmodel.imagination.counterfactuals import imagine_counterfactuals
from worldmodel.imagination.dreamer import Dreamer, Rollouts, filtered_latents, reconstruct, roll_out
from worldmodel.imagination.futures import sample_futures
from worldmodel.imagination.variables import visible_states, visible_variables
from worldmodel.models.protocol import FrameModel, WorldModel
from worldmodel.pictures.forecasts import (
    animate_counterfactuals,
    draw_counterfactuals,
    draw_errors,
    draw_futures,
    draw_reliability,
    draw_rollouts,
)
from worldmodel.pictures.latents import draw_latents
from worldmodel.reporting.parts import NO_OTHER_ACTIONS
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import run_folder
from worldmodel.support.files import UserError, atomic_folder, write_json
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_at_least
from worldmodel.worlds.simulator import find_simulator
from worldmodel.worlds.world import Reader, World, world_of

FEWEST_FUTURES = 39
"""of fewer samples no interval of 95% can be told"""


@dataclasses.dataclass(frozen=True)
class Dreaming:
    """A trained model and the sequences that it is asked to imagine."""

    run: Run
    dreamer: Dreamer
    data: Sequences
    source: Path
    """where the sequences come from"""
    context: int
    """frames that are observed"""
    world: World | None
    left_out: list[str]
    """what of the data is not looked at, and why"""

    @cached_property
    def read(self) -> Reader | None:
        """The reader of the world's visible variables, by the data's own frames; None where no world is known."""
        if self.world is None or self.data.states is None:
            return None
        return reader_of(self.world, as_unit_frames(self.data.frames), self.data.states, self.data.seen())

    @staticmethod
    def of(
        run: Run, model: WorldModel, data: Sequences, source: Path, context: int | None, sequences: int | None
    ) -> "Dreaming":
        """Raises UserError when the data do not fit the model or are too short, or a number is out of its range."""
        for name, value in (("--context", context), ("--sequences", sequences)):
            if value is not None:
                require_at_least(name, value, 1)
        require_world_model(run, model)
        run.check_fits(data, source)
        if context is None:
            context = max(model.context, min(CONTEXT, data.length - 1))
        if context < model.context:
            raise UserError(f"--context must be at least {model.context} frames, which the model needs")
        if data.length <= context:
            raise UserError(f"sequences of {data.length} frames leave nothing to imagine after a context of {context}")
        there = data.to_foresee(context)
        lost = len(data) - len(there)
        if not len(there):
            raise UserError(f"{source}: no sequence has a frame among the first {context} and one after them")
        left_out = [f"left out: {lost} of {len(data)} sequences, which have no frame to foresee, or none before it"]
        some = there.take(slice(None, sequences)).to_foresee(context)
        gaps = [f"left out: frames that are missing or padding ({words})" for words in [some.in_words()] if words]
        world = world_of(data, str(source))
        return Dreaming(run, Dreamer(model), some, source, context, world, [*(left_out if lost else []), *gaps])

    def judged(self, rollouts: Rollouts, filtered: np.ndarray, ceiling: FrameModel | None = None) -> Evaluation:
        """Everything but the samples; `filtered` `[N, T, Z]` are the latents of a filter that sees all frames."""
        predictions = predict(self.dreamer, self.data, self.context, rollouts)
        if ceiling is not None:
            predictions[CEILING] = reconstruct(ceiling, as_unit_frames(self.data.frames[:, self.context :]))
        about: dict[str, Any] = {
            "model": self.run.model,
            "data": str(self.source),
            "trained_steps": max(self.run.checkpoint_steps(), default=0),
            "left_out": self.left_out,
        }
        found = judge(self.data, self.context, predictions, self.world, self.read)
        return dataclasses.replace(found, **about, **probe_latents(filtered, self.data, self.world))


def require_empty(folder: Path) -> None:
    """Raise UserError when a folder holds something, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not an empty folder; nothing is overwritten: delete it, or give another --out")


def require_world_model(run: Run, model: Any) -> None:
    """Raise UserError when a run's model cannot imagine."""
    if not isinstance(model, WorldModel):
        raise UserError(f"{run.folder}: holds a run of {run.model}, a model of single frames, which imagines nothing")


def open_ceiling(folder: Path, data: Sequences, source: Path) -> FrameModel:
    """The trained model of single frames in a run folder. Raises UserError when there is none of such frames."""
    run = Run.open(run_folder(folder))
    run.check_fits(data, source)
    model = run.load()
    if isinstance(model, WorldModel):
        raise UserError(f"{folder}: holds a run of {run.model}, which is no model of single frames")
    return model


def imagine_run(task: Dreaming, out_folder: Path, seed: int) -> Evaluation:
    """Write imagined.npz, metrics.json and pictures into a folder. Raises UserError when something is in it."""
    require_at_least("--seed", seed, 0)
    require_empty(out_folder)
    data, context = task.data, task.context
    rollouts = roll_out(task.dreamer, data, context)
    filtered = filtered_latents(task.dreamer, data, jax.random.key(seed))
    found = task.judged(rollouts, filtered)
    arrays = {
        "true_frames": data.frames,
        "imagined_frames": rollouts.frames,
        "posterior_latents": filtered,
        "imagined_latents": rollouts.latents,
        "actions": data.actions,
    }
    if (seen := data.seen()) is not None:
        arrays["seen"] = seen
    if data.states is not None:
        arrays |= {"states": data.states, "state_names": np.array(data.state_names)}
    with atomic_folder(out_folder) as out:
        np.savez(out / "imagined.npz", allow_pickle=False, **arrays)
        write_json(out / "metrics.json", dataclasses.asdict(found))
        ranking = rank_by_error(as_unit_frames(data.frames), rollouts.frames, context, data.seen())
        draw_predictions(out, task, rollouts, ranking, found)
    return found


def evaluate_run(
    task: Dreaming, out_folder: Path, futures: int, seed: int, ceiling: FrameModel | None = None
) -> Evaluation:
    """Write evaluation.json and all pictures into a folder; K = `futures` of every sequence are sampled, and a model of
    single frames is the ceiling. Raises UserError when something is in the folder."""
    require_at_least("--seed", seed, 0)
    require_at_least("--futures", futures, FEWEST_FUTURES)
    require_empty(out_folder)
    dreamer, data, context, world = task.dreamer, task.data, task.context, task.world
    roll_key, sample_key, fan_key = jax.random.split(jax.random.key(seed), 3)
    with (
        progress_bar("evaluation", 6, "part") as bar,
        atomic_folder(out_folder) as out,
        drawing_thread() as drawing,
    ):
        rollouts, filtered = roll_out(dreamer, data, context), filtered_latents(dreamer, data, roll_key)
        ranking = rank_by_error(as_unit_frames(data.frames), rollouts.frames, context, data.seen())
        pictures = [
            drawing.submit(draw_latents, out, dreamer, data, rollouts, filtered, context, world),
            drawing.submit(draw_what_if, out, task, int(ranking[len(ranking) // 2])),
            drawing.submit(draw_fans, out / "futures.png", task, spread_over(ranking, 3), futures, fan_key),
        ]
        found = task.judged(rollouts, filtered, ceiling)
        bar.update()
        predictions = drawing.submit(draw_predictions, out, task, rollouts, ranking, found)
        samples = judge_samples(dreamer, data, context, futures, sample_key, world, task.read)
        bar.update()
        reliability = drawing.submit(draw_reliability, out / "reliability.png", samples, data.dt)
        left_out = [*task.left_out]
        outside, unknown = find_outside(task, rollouts, found.shown_horizons)
        left_out += unknown
        for lines in pictures:
            left_out += lines.result()
            bar.update()
        for drawn in (predictions, reliability):
            drawn.result()
        found = dataclasses.replace(found, samples=samples, outside=outside, left_out=left_out)
        write_json(out / "evaluation.json", dataclasses.asdict(found))
        bar.update()
    return found


def find_outside(task: Dreaming, rollouts: Rollouts, horizons: list[int]) -> tuple[Outside | None, list[str]]:
    """What has left the data that the run was trained on; a line where that is not there any more."""
    try:
        coverage = Coverage.of_run(task.dreamer, task.run)
    except UserError as error:
        return None, [f"left out: what is beyond the training data ({error})"]
    return judge_coverage(coverage, task.dreamer, task.data, task.context, rollouts, horizons), []


@contextmanager
def drawing_thread() -> Iterator[ThreadPoolExecutor]:
    """Draws in Python while programs are compiled and run; after a failure, what waits to be drawn is dropped."""
    with ThreadPoolExecutor(1) as thread:
        try:
            yield thread
        except BaseException:
            thread.shutdown(cancel_futures=True)
            raise


def draw_predictions(folder: Path, task: Dreaming, rollouts: Rollouts, ranking: np.ndarray, found: Evaluation) -> None:
    """errors.png, film_strip.png and rollouts.gif; `ranking` `[N]` are the sequences by error."""
    draw_errors(folder / "errors.png", found)
    data = task.data
    truth, seen = as_unit_frames(data.frames), data.seen()
    draw_rollouts(folder, truth, rollouts.frames, ranking, task.context, data.dt, seen)


def draw_what_if(folder: Path, task: Dreaming, sequence: int) -> list[str]:
    """counterfactuals.png and .gif of one sequence; a line for what they lack."""
    if not task.data.actions.any():
        return [NO_OTHER_ACTIONS]
    simulator = find_simulator(task.data)
    found = imagine_counterfactuals(task.dreamer, task.data, sequence, task.context, simulator)
    variable = None if simulator is None else visible_variables(simulator.world)[0]
    draw_counterfactuals(folder / "counterfactuals.png", found, variable, task.data.dt)
    animate_counterfactuals(folder / "counterfactuals.gif", found, task.data.dt)
    left_out = "left out: the truth of other actions (no known world's physics made the data)"
    return [left_out] if simulator is None else []


def draw_fans(path: Path, task: Dreaming, sequences: np.ndarray, futures: int, key: jax.Array) -> list[str]:
    """Sampled futures of the world's first visible variable; a line where there is none. The key is consumed."""
    data, context = task.data, task.context
    if task.world is None or data.states is None or task.read is None:
        return [f"left out: {path.name} (no known world's states are in the data)"]
    variable = visible_variables(task.world)[0]
    values = visible_states(task.world, data.states)[..., 0]
    if data.ended is not None:
        values = np.where(np.arange(data.length) < data.lengths()[:, None], values, np.nan)
    parts = sample_futures(task.dreamer, data.take(sequences), context, futures, key, task.read)
    samples = np.concatenate([shown[..., 0] for _, _, shown in parts], axis=1)
    ranks = ("the best", "the median", "the worst") if len(sequences) == 3 else ("the best", "the worst")
    names = [f"{rank} of {len(data)} (sequence {which})" for rank, which in zip(ranks, sequences, strict=False)]
    draw_futures(path, variable, samples, values[sequences], context, names, data.dt)
    return []
