"""Imagine: let a trained world model watch the first frames of every sequence, then dream the rest from the actions."""

import dataclasses
from pathlib import Path

from worldmodel.support.script import run_script


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
    import worldmodel as wm
    from worldmodel.evaluation.tables import summary

    choices = {name: getattr(options, name) for name in ("context", "sequences", "seed")}
    print(summary(wm.load(options.run).roll_out(options.data, options.out, **choices)))
    print(f"{options.out}: imagined.npz, metrics.json; pictures: film_strip.png, rollouts.gif, errors.png")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
