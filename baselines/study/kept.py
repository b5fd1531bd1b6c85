"""A benchmark whose tasks are processes of their own, and whose results are kept: one JSON file for each seed of each
entry, so that one that was stopped goes on where it was."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.runs.metrics import training_seconds
from worldmodel.support.files import UserError, read_json
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_at_least

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What the script of every such benchmark takes."""

    entries: tuple[str, ...] | None = None
    """Which entries of its file in baselines/study/; default: all of them. Results of the others stay as they are."""
    seeds: int = 5
    """Trainings of each."""
    workers: int = 2
    """Trainings at a time."""
    place: Path = Path("runs/study")
    """Folder for data and runs; what is finished there is not done again."""
    out: Path = Path()
    """Folder for the results and pages named above, which are replaced: the published ones, in this repository."""

    def chosen(self, entries: dict[str, T]) -> dict[str, T]:
        """Those of the entries that are asked for. Raises UserError for a name that is none of theirs, and where there
        are no seeds or workers."""
        require_at_least("--seeds", self.seeds, 1)
        require_at_least("--workers", self.workers, 1)
        return named("--entries", self.entries, entries)


def named(option: str, names: Sequence[str] | None, entries: dict[str, T]) -> dict[str, T]:
    """Those of the entries that are named, or all of them. Raises UserError for a name that is none of theirs."""
    unknown = [name for name in names or () if name not in entries]
    if unknown:
        raise UserError(f"{option}: {', '.join(map(repr, unknown))} is none of {', '.join(map(repr, entries))}")
    return {name: entries[name] for name in (entries if names is None else names)}


def result(place: Path, name: str, seed: int) -> Path:
    """The file of one seed of an entry."""
    return place / "results" / f"{_plain(name)}_{seed}.json"


def _plain(name: str) -> str:
    return name.replace(", ", "_").replace("; ", "_").replace("/", "-")


def finished(place: Path, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """By entry, the results of its seeds that are there, in order."""
    found = {}
    for name in names:
        paths = (place / "results").glob(f"{_plain(name)}_*.json")
        mine = (path for path in paths if path.stem.rpartition("_")[0] == _plain(name))
        seeds = [read_json(path) for path in sorted(mine, key=lambda path: int(path.stem.rpartition("_")[2]))]
        if seeds:
            found[name] = seeds
    return found


def run_tasks(
    title: str,
    unit: str,
    work: Callable[..., str],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    after: Callable[[], None],
) -> None:
    """`work(*task)` for every task, so many at a time, each in a process of its own, with a progress bar that shows the
    word that it gives back; `after` each of them."""
    with (
        progress_bar(title, len(tasks), unit) as bar,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        running = [pool.submit(work, *task) for task in tasks]
        for done in as_completed(running):
            if done.exception() is not None:
                pool.shutdown(cancel_futures=True)
            bar.set_postfix_str(done.result(), refresh=False)
            bar.update()
            after()


def trained(model: str, data: Path, folder: Path, seed: int, **options: Any) -> Any:
    """The finished run in a folder (wm.Trained), trained where it is not there, and gone on with where it was
    stopped."""
    import worldmodel as wm

    if not any((folder / verdict).exists() for verdict in ("health.json", "posterior.json")):
        begun = (folder / "config.json").exists()
        wm.train(model, data, folder, seed=seed, resume=begun, **({} if begun else options))
    return wm.load(folder)


def about_training(run: Any) -> dict[str, Any]:
    """How a run was trained, and what its check says."""
    config, health = run.config["options"], read_json(run.run.folder / "health.json")
    return {
        "steps": config["steps"],
        "batch_size": config["batch_size"],
        "training_seconds": training_seconds(run.metrics),
        "problems": [problem["name"] for problem in health["problems"]],
    }
