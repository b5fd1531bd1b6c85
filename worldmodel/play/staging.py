"""Trained runs, and the truth beside them, ready to be shown."""

from concurrent.futures import Future
from pathlib import Path

from worldmodel.data.storage import load_sequences
from worldmodel.evaluation.coverage import Coverage
from worldmodel.evaluation.health import CONTEXT
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.play.live import Dream
from worldmodel.play.runs import require_same_world
from worldmodel.play.serving import Stage
from worldmodel.reporting.evaluating import require_world_model
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import shown_data
from worldmodel.support.files import UserError
from worldmodel.support.settings import require_at_least
from worldmodel.worlds.simulator import Simulator


def open_stage(runs: dict[str, Run], path: Path | None, context: int | None, warn: bool = True) -> Stage:
    """The dreams of runs, by their names, in the world of the data at `path`, or else of what shows the first one's.

    Args:
        context: true frames that the models are shown; by default as many as the one needs that needs most, at least 5.
        warn: whether to find out where each model's training data never was; prints where that is not known.

    Raises UserError where runs, data and context do not fit, one is no world model, or the data's world is not known.
    """
    path, data = shown_data(next(iter(runs.values()))) if path is None else (path, load_sequences(path))
    models = {}
    for name, run in runs.items():
        run.check_fits(data, path)
        require_same_world(run, data, path)
        models[name] = run.load()
        require_world_model(run, models[name])
    simulator = Simulator.of(data, str(path))
    needed = max(model.context for model in models.values())
    context = max(needed, CONTEXT) if context is None else context
    require_at_least("--context", context, needed)
    if data.length < needed:
        raise UserError(f"{path}: has {data.length} frames, but the initial state needs {needed}")
    dreams = []
    for name, run in runs.items():
        dreamer, coverage = Dreamer(models[name]), None
        try:
            coverage = Coverage.of_run(dreamer, run) if warn else None
        except UserError as error:
            print(f"left out: whether the dream of {name} is beyond its training data ({error})")
        dreams.append(Dream.of(name, run.model, dreamer, data, coverage))
    return Stage(dreams, simulator, simulator.reader(), context, Future())
