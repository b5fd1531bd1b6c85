"""Imagine: let a trained world model watch the first frames of every sequence, then dream the rest from the actions."""

import dataclasses
from pathlib import Path

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least


@dataclasses.dataclass(frozen=True)
class Options:
    run: Path
    """Run folder of a trained model."""
    data: Path
    """Data set to imagine: an .npz of frames and actions, or a folder of arrays."""
    out: Path
    """Folder to write imagined.npz, metrics.json and the pictures into."""
    context: int | None = None
    """Frames to filter before imagination begins (K); default: as many as the model needs, at least 5."""
    sequences: int | None = None
    """Use only the first so many sequences; default: all."""
    seed: int = 0
    """Seed of the samples of the posterior."""


def main(options: Options) -> None:
    require_at_least("--seed", options.seed, 0)
    if options.context is not None:
        require_at_least("--context", options.context, 1)
    if options.sequences is not None:
        require_at_least("--sequences", options.sequences, 1)
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UserError(f"{options.out}: exists and is not an empty folder; nothing is overwritten")

    from worldmodel.data.storage import load_sequences
    from worldmodel.evaluation.judge import summary_table
    from worldmodel.reporting.evaluating import Task, imagine_run
    from worldmodel.runs.folder import Run

    run = Run.open(options.run)
    model, data = run.load(), load_sequences(options.data)
    task = Task.of(run, model, data, options.data, options.context, options.sequences)
    print(summary_table(imagine_run(task, options.out, options.seed)))
    print(f"{options.out}: imagined.npz, metrics.json; pictures: film_strip.png, rollouts.gif, errors.png")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
