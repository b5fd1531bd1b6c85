"""Collect a data set of frames and actions: from the project's own pendulum, or from any Gymnasium environment."""

import dataclasses
from pathlib import Path
from typing import Literal

from worldmodel.support.files import UserError, require_writable
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least, require_positive, require_share


@dataclasses.dataclass(frozen=True)
class Options:
    out: Path
    """Data set to write: an .npz, or, for data larger than memory, a folder (a name without .npz) that is written piece
    by piece. What exists is not overwritten."""
    env: str | None = None
    """Gymnasium id of an environment with rgb_array rendering (for example Pendulum-v1); default: the project's
    own pendulum, compiled."""
    preset: Literal["paper", "gymnasium"] = "paper"
    """Constants of the project's own pendulum: Karl et al. 2017, or Gymnasium's Pendulum-v1. Not used with
    --env."""
    sequences: int = 500
    """Sequences to collect (N)."""
    frames: int = 15
    """Frames in each sequence (T); one action fewer."""
    size: int = 16
    """Side of the square frames, pixels."""
    seed: int = 0
    """Seed of the initial states, of the actions and of the pixel noise."""
    max_torque: float | None = None
    """Own pendulum: actions are uniform up to this torque, N m; default: the preset's."""
    initial_speed: float | None = None
    """Own pendulum: initial angular velocities are uniform up to this, rad/s; default: the preset's."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on every pixel, in units of full brightness."""
    crop: float = 1.0
    """With --env: share of the rendered picture's width and height that is kept, around its centre."""
    workers: int = 2
    """With --env: processes that render."""


SMALLEST_CROP = 0.05


def main(options: Options) -> None:
    require_at_least("--sequences", options.sequences, 1)
    require_at_least("--frames", options.frames, 2)
    require_at_least("--size", options.size, 4)
    require_at_least("--seed", options.seed, 0)
    require_at_least("--noise", options.noise, 0)
    require_share("--crop", options.crop)
    require_at_least("--workers", options.workers, 1)
    if options.max_torque is not None:
        require_positive("--max-torque", options.max_torque)
    if options.initial_speed is not None:
        require_at_least("--initial-speed", options.initial_speed, 0)
    if options.crop < SMALLEST_CROP:
        raise UserError(f"--crop must be at least {SMALLEST_CROP}, not {options.crop}")
    if options.env is None and options.crop != 1:
        raise UserError("--crop belongs to --env")
    if options.out.exists():
        raise UserError(f"{options.out}: exists already; it is not overwritten")
    if options.env is not None and (options.max_torque is not None or options.initial_speed is not None):
        raise UserError("--max-torque and --initial-speed belong to the project's own pendulum, not to --env")

    require_writable(options.out)  # say it now, not after the work

    from worldmodel.data.storage import load_sequences, save_blocks
    from worldmodel.worlds import collecting

    if options.env is None:
        from worldmodel.worlds.pendulum.physics import PRESETS

        params = PRESETS[options.preset]
        if options.max_torque is not None:
            params = dataclasses.replace(params, max_torque=options.max_torque)
        if options.initial_speed is not None:
            params = dataclasses.replace(params, initial_speed=options.initial_speed)
        blocks = collecting.pendulum_blocks(
            options.seed, options.sequences, options.frames, params, options.size, options.noise
        )
    else:
        blocks = collecting.gymnasium_blocks(
            options.env,
            options.seed,
            options.sequences,
            options.frames,
            collecting.Camera(options.size, options.crop, options.noise),
            options.workers,
        )
    save_blocks(options.out, blocks, options.sequences)
    data = load_sequences(options.out)
    print(
        f"{options.out}: {len(data)} sequences of {data.length} frames {list(data.frame_shape)}, actions of size"
        f" {data.action_size}"
    )
    velocity = data.state("angular_velocity")
    if velocity is not None:
        print(f"standard deviation of the angular velocity: {velocity.std():.2f} rad/s")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
