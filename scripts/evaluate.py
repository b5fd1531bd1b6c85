"""Evaluate: how far can the dreams of a trained model be trusted? Numbers with intervals, and pictures of everything.

Beside the model stand predictors that learn nothing, the same model with wrong actions, and, with --vae, a static VAE
that is shown the true frames: the ceiling. Sampled futures are asked whether they are as sure as they should be, and
one prefix is continued under five action sequences, beside the true simulator where the data's world is known.
"""

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
    """Data set to evaluate on: an .npz or a folder of frames and actions that the model was not trained on."""
    out: Path | None = None
    """Folder to write evaluation.json and the pictures into; default: evaluation/ in the run folder."""
    vae: Path | None = None
    """Run folder of a static VAE of the same frames, whose reconstructions are the ceiling."""
    context: int | None = None
    """Frames to filter before imagination begins (K); default: as many as the model needs, at least 5."""
    sequences: int | None = None
    """Use only the first so many sequences; default: all."""
    futures: int = 50
    """Sampled futures of every sequence."""
    seed: int = 0
    """Seed of all samples."""


def main(options: Options) -> None:
    require_at_least("--seed", options.seed, 0)
    # of fewer samples no interval of 95% can be told
    require_at_least("--futures", options.futures, 39)
    if options.context is not None:
        require_at_least("--context", options.context, 1)
    if options.sequences is not None:
        require_at_least("--sequences", options.sequences, 1)
    out_folder = options.out or options.run / "evaluation"
    if out_folder.exists() and (not out_folder.is_dir() or any(out_folder.iterdir())):
        raise UserError(
            f"{out_folder}: exists and is not an empty folder; nothing is overwritten: delete it, or give --out"
        )

    from worldmodel.data.storage import load_sequences
    from worldmodel.evaluation.judge import summary_table
    from worldmodel.reporting.evaluating import Task, evaluate_run, open_ceiling
    from worldmodel.runs.folder import Run

    run = Run.open(options.run)
    model, data = run.load(), load_sequences(options.data)
    task = Task.of(run, model, data, options.data, options.context, options.sequences)
    vae = None if options.vae is None else open_ceiling(options.vae, data, options.data)
    found = evaluate_run(task, out_folder, options.futures, options.seed, vae)
    print(summary_table(found))
    print(f"{out_folder}: evaluation.json and pictures")
    if options.out is None:
        print(f"python scripts/report.py --run {options.run} makes a page of them")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
