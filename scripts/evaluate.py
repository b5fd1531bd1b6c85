"""Evaluate: how far can the dreams of a trained model be trusted? Numbers with intervals, and pictures of everything.

Beside the model stand predictors that learn nothing, the same model with wrong actions, and, with --vae, a static VAE
that is shown the true frames: the ceiling. Sampled futures are asked whether they are as sure as they should be, and
one prefix is continued under five action sequences, beside the true simulator where the data's world is known.
"""

import dataclasses
from pathlib import Path

from worldmodel.support.script import run_script


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
    import worldmodel as wm
    from worldmodel.evaluation.tables import summary

    choices = {name: getattr(options, name) for name in ("context", "sequences", "futures", "vae", "seed", "out")}
    run = wm.load(options.run)
    found = run.evaluate(options.data, **choices)
    print(summary(found))
    print(f"{options.out or run.folder / 'evaluation'}: evaluation.json and pictures")
    if options.out is None:
        print(f"python scripts/report.py --run {options.run} makes a page of them")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
