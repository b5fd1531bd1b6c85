"""Imagine: let a trained DVBF watch the first frames of every sequence, then dream the rest from the actions."""

import dataclasses
from pathlib import Path

from worldmodel.cli import run_script
from worldmodel.config import require_at_least
from worldmodel.files import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    run: Path
    """Run folder of a trained DVBF."""
    data: Path
    """Data set to imagine, an .npz of frames and actions."""
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

    from worldmodel.dvbf import DVBF
    from worldmodel.figures import animate_rollouts, draw_film_strip, draw_horizon
    from worldmodel.files import atomic_folder, write_json
    from worldmodel.options import DVBFOptions
    from worldmodel.rollouts import Rollouts, roll_out, score_rollouts, summary_table
    from worldmodel.runs import Run
    from worldmodel.sequences import Sequences, as_unit_frames, load_sequences

    run = Run.open(options.run, "dvbf")
    data = load_sequences(options.data)
    run.check_fits(data, options.data)
    data = data.take(slice(None, options.sequences))
    model = run.restore_model(lambda rngs: DVBF(run.card.scale, run.model_options(DVBFOptions), rngs))
    context = options.context or model.options.initial_frames
    if context < model.options.initial_frames:
        raise UserError(
            f"--context must be at least {model.options.initial_frames} frames, which the initial state needs"
        )
    if data.length <= context:
        raise UserError(f"{options.data}: {data.length} frames leave nothing to imagine after a context of {context}")

    def imagine(data: Sequences) -> Rollouts:
        return roll_out(model, data, context, jax.random.key(options.seed))

    rollouts = imagine(data)
    metrics = score_rollouts(data, context, rollouts, imagine)
    truth = as_unit_frames(data.frames)
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
        np.savez_compressed(out / "imagined.npz", allow_pickle=False, **arrays)
        write_json(out / "metrics.json", metrics)

        # The sequences shown are spread over the ranking by error: not the best ones only.
        ranking = np.argsort(np.mean((truth - rollouts.frames)[:, context:] ** 2, axis=tuple(range(1, truth.ndim))))
        median = ranking[len(ranking) // 2]
        title = f"sequence {median}, the one with the median error of {len(data)}"
        draw_film_strip(out / "film_strip.png", truth[median], rollouts.frames[median], context, data.dt, title)
        ranks = (0.1, 0.4, 0.6, 0.9)
        names = [f"better than {1 - rank:.0%}" for rank in ranks]
        shown = ranking[[round(rank * (len(ranking) - 1)) for rank in ranks]]
        animate_rollouts(out / "rollouts.gif", truth[shown], rollouts.frames[shown], names, context, data.dt)
        curves = {name.replace("_", " "): np.array(values) for name, values in metrics["mse"].items()}
        draw_horizon(out / "horizon.png", curves, "pixel MSE", data.dt, "Error of imagined frames")

    print(summary_table(metrics))
    print(f"{options.out}: imagined.npz, metrics.json; pictures: film_strip.png, rollouts.gif, horizon.png")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
