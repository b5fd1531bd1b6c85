"""Collect a data set of frames and actions: from one of the project's own worlds, or from any Gymnasium environment."""

import dataclasses
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import tyro

from worldmodel.support.files import UserError
from worldmodel.support.script import run_chosen
from worldmodel.worlds.actions import Kind
from worldmodel.worlds.world import WORLDS

World = TypeVar("World")
DEFAULT = "pendulum"


@dataclasses.dataclass(frozen=True)
class Options(Generic[World]):
    out: Path
    """Data set to write: an .npz, or, for data larger than memory, a folder (a name without .npz) that is written piece
    by piece; the same command goes on with one that was stopped. What exists is not overwritten."""
    arguments: Annotated[World, tyro.conf.arg(name="")]
    world: str = DEFAULT
    """Which of the worlds above; it brings options of its own."""
    env: str | None = None
    """Gymnasium id of an environment with rgb_array rendering (for example Pendulum-v1), in place of --world."""
    sequences: int = 500
    """Sequences to collect (N)."""
    frames: int = 15
    """Frames in each sequence (T); one action fewer."""
    size: int | None = None
    """Side of the square frames, pixels; default: the world's usual size, 16 where it has none."""
    seed: int = 0
    """Seed of the initial states, of the actions and of the pixel noise."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on every pixel, in units of full brightness."""
    crop: float = 1.0
    """With --env: share of the rendered picture's width and height that is kept."""
    centre: tuple[float, float] = (0.5, 0.5)
    """With --env: centre of what is kept, from the left in shares of the picture's width and from the top in shares of
    its height."""
    grey: bool = True
    """With --env: grey frames; with --no-grey red, green and blue."""
    workers: int = 2
    """With --env: processes that render."""
    actions: Kind = "white"
    """Random actions that are independent from frame to frame; or held, for up to 32 frames and often at full strength,
    which drives the world further; or mixed, sequence by sequence."""
    start: str | None = None
    """Place of the world at which every sequence begins, such as "hanging, at rest"; another name lists them. Default:
    a random start."""


def main(options: Options) -> None:
    if options.env is not None:
        if options.world != DEFAULT:
            raise UserError("give --world or --env, not both")
        if options.arguments != type(options.arguments)():
            names = (f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(options.arguments))
            raise UserError(f"{', '.join(names)} belong to the project's own {DEFAULT}, not to --env")

    import numpy as np

    from worldmodel.worlds.collecting import collect
    from worldmodel.worlds.world import world_of

    data = collect(
        options.arguments if options.env is None else options.env,
        options.sequences,
        options.frames,
        options.size,
        seed=options.seed,
        noise=options.noise,
        crop=options.crop,
        grey=options.grey,
        centre=options.centre,
        workers=options.workers,
        actions=options.actions,
        start=options.start,
        out=options.out,
    )
    print(f"{options.out}: {data.shape_in_words()}")
    if data.ended is not None:
        print(f"episodes that ended within their sequence, and are padded: {(data.lengths() < data.length).sum()}")
    world, real = world_of(data), np.arange(data.length) < data.lengths()[:, None]
    for variable in world.variables if world is not None else ():
        values = data.state(variable.name)
        if values is not None and not variable.circular:
            name = variable.name.replace("_", " ")
            print(f"standard deviation of the {name}: {values[real].std():.2f} {variable.unit}")


if __name__ == "__main__":
    run_chosen(main, Options, WORLDS, DEFAULT, __doc__)
