"""Evaluate: how far can the dreams of a trained DVBF be trusted? Numbers with intervals, and pictures of everything.

Beside the model stand predictors that learn nothing, the same model with wrong actions, and, with --vae, a static VAE
that is shown the true frames: the ceiling. Sampled futures are asked whether they are as sure as they should be, and
one prefix is continued under five action sequences, beside the true simulator where the data is a known pendulum's.
"""

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
    """Data set to evaluate on: an .npz or a folder of frames and actions that the model was not trained on."""
    out: Path | None = None
    """Folder to write evaluation.json and the pictures into; default: evaluation/ in the run folder."""
    vae: Path | None = None
    """Run folder of a static VAE of the same frames, whose reconstructions are the ceiling."""
    context: int | None = None
    """Frames to filter before imagination begins (K); default: as many as the run's initial state needs."""
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

    import jax

    from baselines.static_vae import open_vae, reconstruct
    from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
    from worldmodel.data.storage import load_sequences
    from worldmodel.evaluation.judge import (
        judge,
        judge_samples,
        predict,
        probe_latents,
        sample_angles,
        summary_table,
        true_angles,
    )
    from worldmodel.evaluation.measures import rank_by_error
    from worldmodel.imagination.counterfactuals import imagine_counterfactuals
    from worldmodel.imagination.rollouts import Rollouts, open_dvbf, roll_out
    from worldmodel.pictures.figures import draw_rollouts
    from worldmodel.pictures.forecasts import (
        animate_counterfactuals,
        draw_counterfactuals,
        draw_errors,
        draw_futures,
        draw_reliability,
    )
    from worldmodel.pictures.latents import draw_latents
    from worldmodel.support.files import atomic_folder, write_json
    from worldmodel.support.progress import progress_bar
    from worldmodel.worlds.pendulum.truth import find_simulator

    run, model = open_dvbf(options.run)
    data = load_sequences(options.data)
    run.check_fits(data, options.data)
    vae = None if options.vae is None else open_vae(options.vae, data, options.data)
    simulator = find_simulator(data)
    data = data.take(slice(None, options.sequences))
    context = options.context or model.options.initial_frames
    roll_key, sample_key, fan_key = jax.random.split(jax.random.key(options.seed), 3)

    def imagine(data: Sequences) -> Rollouts:
        return roll_out(model, data, context, roll_key)

    with progress_bar("evaluation", 4, "part") as bar:
        truth = as_unit_frames(data.frames)
        rollouts = imagine(data)
        predictions = predict(data, context, rollouts, imagine)
        if vae is not None:
            predictions["static VAE reconstruction"] = reconstruct(vae, truth[:, context:])
        bar.update()
        judged = judge(data, context, predictions, None if simulator is None else simulator.params)
        bar.update()
        samples = judge_samples(model, data, context, options.futures, sample_key)
        of = {"data": str(options.data), "trained_steps": max(run.checkpoint_steps())}
        found = of | judged | {"samples": samples}
        found |= probe_latents(rollouts.posterior_latents, data)
        bar.update()
        with atomic_folder(out_folder) as out:
            write_json(out / "evaluation.json", found)
            draw_errors(out / "errors.png", judged)
            draw_reliability(out / "reliability.png", samples, data.dt)
            ranking = rank_by_error(truth, rollouts.frames, context)
            draw_rollouts(out, truth, rollouts.frames, ranking, context, data.dt)
            median = int(ranking[len(ranking) // 2])
            what_if = imagine_counterfactuals(model, data, median, context, simulator)
            draw_counterfactuals(out / "counterfactuals.png", what_if, data.dt)
            animate_counterfactuals(out / "counterfactuals.gif", what_if, data.dt)
            angles = true_angles(data)
            if angles is not None:
                shown = spread_over(ranking, 3)
                fans = sample_angles(model, data, shown, context, options.futures, fan_key)
                ranks = ("the best", "the median", "the worst") if len(shown) == 3 else ("the best", "the worst")
                names = [f"{rank} of {len(data)} (sequence {which})" for rank, which in zip(ranks, shown, strict=False)]
                draw_futures(
                    out / "futures.png", fans, angles[shown, context:], angles[shown, :context], names, data.dt
                )
            draw_latents(out, model, data, rollouts, context, simulator)
        bar.update()

    print(summary_table(found))
    print(f"{out_folder}: evaluation.json and pictures")
    if options.out is None:
        print(f"python scripts/report.py --run {options.run} makes a page of them")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
