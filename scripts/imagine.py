"""Imagine: let a trained DVBF watch the first frames of every sequence, then dream the rest from the actions."""

import dataclasses
from pathlib import Path

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least


@dataclasses.dataclass(frozen=True)
class Options:
    run: Path
    """Run folder of a trained DVBF."""
    data: Path
    """Data set to imagine: an .npz of frames and actions, or a folder of arrays."""
    out: Path
    """Folder to write imagined.npz, metrics.json and the pictures into."""
    context: int | None = None
    """Frames to filter before imagination begins (K); default: as many as the run's initial state needs."""
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

    import jax
    import numpy as np

    from worldmodel.data.sequences import Sequences, as_unit_frames
    from worldmodel.data.storage import load_sequences
    from worldmodel.evaluation.judge import judge, predict, probe_latents, summary_table
    from worldmodel.evaluation.measures import rank_by_error
    from worldmodel.imagination.rollouts import Rollouts, open_dvbf, roll_out
    from worldmodel.pictures.figures import draw_rollouts
    from worldmodel.pictures.forecasts import draw_errors
    from worldmodel.support.files import atomic_folder, write_json

    run, model = open_dvbf(options.run)
    data = load_sequences(options.data)
    run.check_fits(data, options.data)
    data = data.take(slice(None, options.sequences))
    context = options.context or model.options.initial_frames

    def imagine(data: Sequences) -> Rollouts:
        return roll_out(model, data, context, jax.random.key(options.seed))

    rollouts = imagine(data)
    metrics = judge(data, context, predict(data, context, rollouts, imagine))
    metrics |= probe_latents(rollouts.posterior_latents, data)
    arrays = {
        "true_frames": data.frames,
        "imagined_frames": rollouts.frames,
        "posterior_latents": rollouts.posterior_latents,
        "imagined_latents": rollouts.latents,
        "actions": data.actions,
    }
    if data.states is not None:
        arrays |= {"states": data.states, "state_names": np.array(data.state_names)}
    with atomic_folder(options.out) as out:
        np.savez(out / "imagined.npz", allow_pickle=False, **arrays)
        write_json(out / "metrics.json", metrics)
        truth = as_unit_frames(data.frames)
        ranking = rank_by_error(truth, rollouts.frames, context)
        draw_rollouts(out, truth, rollouts.frames, ranking, context, data.dt)
        draw_errors(out / "errors.png", metrics)

    print(summary_table(metrics))
    print(f"{options.out}: imagined.npz, metrics.json; pictures: film_strip.png, rollouts.gif, errors.png")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
