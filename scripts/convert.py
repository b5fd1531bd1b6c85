"""Convert a data set that another library wrote, or a folder of videos, into one of frames and actions."""

import dataclasses
from pathlib import Path

import tyro

from worldmodel.readers.catalogue import READERS
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Options:
    source: tyro.conf.Positional[Path]
    """File or folder to read."""
    out: Path
    """Data set to write: a folder, which is written an episode at a time, or an .npz. Must not exist."""
    format: str | None = None
    """Which of the formats above; default: what the source looks like."""
    size: int = 32
    """Side of the square frames, pixels; pictures are scaled by area."""
    crop: float = 1.0
    """Share of a picture's width and height that is kept."""
    centre: tuple[float, float] = (0.5, 0.5)
    """Centre of what is kept, from the left in shares of the picture's width and from the top in shares of its
    height."""
    grey: bool = True
    """Grey frames; with --no-grey red, green and blue."""
    camera: str | None = None
    """Name of the pictures, or the end of it, where the source has those of several cameras."""
    action: str | None = None
    """Name of the actions; default: what the format calls them."""
    state: str | None = None
    """Name of the states, which are used to score a model; default: what the format calls them, where there are any."""
    fps: float | None = None
    """Pictures a second, in place of what the source says; none is left out or made up."""


def main(options: Options) -> None:
    from worldmodel.readers.converting import convert

    chosen = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    data = convert(chosen.pop("source"), **chosen)
    print(f"{options.out}: {data.shape_in_words()}")
    shorter = data.lengths() < data.length
    if shorter.any():
        share = 1 - data.lengths().mean() / data.length
        print(f"episodes that are shorter than the longest, and are padded: {shorter.sum()}; {share:.0%} is padding")


if __name__ == "__main__":
    run_script(main, Options, f"{__doc__}\n\nFormats:\n{READERS.table()}")
