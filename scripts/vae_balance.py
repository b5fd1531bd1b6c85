"""Study the static VAE's balance: sweep the observation noise from an autoencoder to a collapse, and draw it.

The noise sigma is what weighs reconstruction against KL: a beta-VAE with weight beta on its KL has the optimum of a
plain one with sigma^2 multiplied by beta. Writes results/vae-balance.json and docs/vae_balance.png.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.support.files import UserError, write_json
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least, require_positive

if TYPE_CHECKING:
    import numpy as np

    from baselines.static_vae import StaticVAE
    from worldmodel.data.sequences import Sequences

SAMPLES = 256
"""pictures drawn from the prior, to be judged"""
SHOWN = 4
"""of them, drawn in the figure"""


@dataclasses.dataclass(frozen=True)
class Options:
    observation_stds: tuple[float, ...] = (0.01, 0.03, 0.06, 0.1, 0.18, 0.3, 0.6, 1.0, 1.5, 3.0)
    """The noises of a pixel to try, in units of full brightness; the default of the models is near 0.18 here."""
    seeds: int = 3
    """Seeds of each, trained together."""
    steps: int = 3000
    """Optimiser updates of 128 frames."""
    out: Path = Path()
    """Folder for results/ and docs/; files there are replaced."""


def main(options: Options) -> None:
    require_at_least("--seeds", options.seeds, 1)
    require_at_least("--steps", options.steps, 1)
    for std in options.observation_stds:
        require_positive("--observation-stds", std)
    if len(options.observation_stds) < 2:
        raise UserError("--observation-stds: give at least two values")

    from worldmodel.data.sequences import as_unit_frames
    from worldmodel.pictures.figures import draw_balance
    from worldmodel.worlds.pendulum.physics import PAPER
    from worldmodel.worlds.pendulum.world import collect_pendulum

    training = collect_pendulum(0, 500, 15, PAPER, 16)
    frames = as_unit_frames(collect_pendulum(1, 100, 15, PAPER, 16).frames).reshape(-1, 16, 16)
    rows, pictures = [], []
    for std in sorted(options.observation_stds):
        trained = train(training, std, options)
        runs = [judge(model, frames, seed) for seed, model in enumerate(trained)]
        rows.append({"observation_std": std, "runs": runs})
        pictures.append(prior_samples(trained[0], 0)[:SHOWN])
        print(f"sigma {std:g}: " + ", ".join(f"{name} {value:.3g}" for name, value in runs[0].items()))
    write_json(options.out / "results" / "vae-balance.json", {"steps": options.steps, "rows": rows})
    draw_balance(options.out / "docs" / "vae_balance.png", rows, pictures)
    print(f"pictures: {options.out / 'docs' / 'vae_balance.png'}")


def train(data: "Sequences", std: float, options: Options) -> "list[StaticVAE]":
    """One VAE for each seed."""
    from baselines.options import StaticVAEOptions
    from worldmodel.data.scale import FrameScale
    from worldmodel.training.options import Recipe
    from worldmodel.training.seeds import train_seeds

    scale, model = FrameScale.of(data, "the study's data"), StaticVAEOptions(observation_std=std)
    recipe = Recipe(tuple(range(options.seeds)), options.steps, batch_size=128, window=1)
    return train_seeds(f"sigma {std:g}", lambda rngs: model.build(scale, rngs), data, recipe)


def prior_samples(model: "StaticVAE", seed: int) -> "np.ndarray":
    """Frames `[SAMPLES, H, W]` decoded from latents of the prior."""
    import jax
    import numpy as np

    latents = jax.random.normal(jax.random.key(seed), (SAMPLES, model.options.latent_size))
    return np.clip(model.emission(latents).mean(), 0, 1)


def judge(model: "StaticVAE", frames: "np.ndarray", seed: int) -> dict[str, float]:
    """The figures of one seed, on held-out frames `[M, H, W]`."""
    import jax.numpy as jnp
    import numpy as np

    from worldmodel.evaluation.posterior import report_posterior
    from worldmodel.imagination.dreamer import reconstruct

    report = report_posterior(model.posterior(jnp.asarray(frames)), frames, reconstruct(model, frames))
    variance = float(np.mean(np.var(frames, axis=0)))
    samples, true = prior_samples(model, seed).reshape(SAMPLES, -1), frames.reshape(len(frames), -1)
    squared = np.sum(samples**2, axis=1)[:, None] + np.sum(true**2, axis=1) - 2 * samples @ true.T
    nearest = np.min(squared, axis=1) / true.shape[1]
    return {
        "reconstruction_share": report.reconstruction_share,
        "kl": sum(report.kl),
        "active_dimensions": float(len(report.kl) - len(report.unused)),
        "posterior_std": float(np.exp(np.mean(np.log(report.std)))),
        "prior_sample_share": float(np.mean(nearest)) / variance,
    }


if __name__ == "__main__":
    run_script(main, Options, __doc__)
