"""The static VAE's balance of reconstruction and KL, over the observation noise.

The noise sigma is what weighs reconstruction against KL: a beta-VAE with weight beta on its KL has the optimum of a
plain one with sigma^2 multiplied by beta.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from baselines.options import StaticVAEOptions
from baselines.static_vae import StaticVAE
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import as_unit_frames
from worldmodel.evaluation.posterior import report_posterior
from worldmodel.imagination.dreamer import reconstruct
from worldmodel.pictures.figures import BLUE, GREY, ORANGE, Strip, new_figure, save_figure, show_strips
from worldmodel.support.files import write_json
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import train_seeds
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

SAMPLES = 256
"""pictures drawn from the prior, to be judged"""
SHOWN = 4
"""of them, drawn in the figure"""


def study_balance(stds: Sequence[float], recipe: Recipe, out: Path) -> None:
    """Train VAEs with each of these observation noises; write `out`/results/vae-balance.json and
    `out`/docs/vae_balance.png."""
    training = collect_pendulum(0, 500, 15, PAPER, 16)
    frames = as_unit_frames(collect_pendulum(1, 100, 15, PAPER, 16).frames).reshape(-1, 16, 16)
    scale = FrameScale.of(training, "the study's data")
    rows, pictures = [], []
    for std in sorted(stds):
        options = StaticVAEOptions(observation_std=std)
        models = train_seeds(f"sigma {std:g}", partial(options.build, scale), training, recipe)
        runs = [judge(model, frames, seed) for seed, model in enumerate(models)]
        rows.append({"observation_std": std, "runs": runs})
        pictures.append(prior_samples(models[0], 0)[:SHOWN])
        print(f"sigma {std:g}: " + ", ".join(f"{name} {value:.3g}" for name, value in runs[0].items()))
    write_json(out / "results" / "vae-balance.json", {"steps": recipe.steps, "rows": rows})
    draw_balance(out / "docs" / "vae_balance.png", rows, pictures)
    print(f"pictures: {out / 'docs' / 'vae_balance.png'}")


def prior_samples(model: StaticVAE, seed: int) -> np.ndarray:
    """Frames `[SAMPLES, H, W]` decoded from latents of the prior."""
    latents = jax.random.normal(jax.random.key(seed), (SAMPLES, model.latent_size))
    return np.clip(model.emission(latents).mean(), 0, 1)


def judge(model: StaticVAE, frames: np.ndarray, seed: int) -> dict[str, float]:
    """The figures of one seed, on held-out frames `[M, H, W]`."""
    report = report_posterior(model.posterior(jnp.asarray(frames)), frames, reconstruct(model, frames))
    samples, true = prior_samples(model, seed).reshape(SAMPLES, -1), frames.reshape(len(frames), -1)
    nearest = cdist(samples, true, "sqeuclidean").min(axis=1) / true.shape[1]
    return {
        "reconstruction_share": report.reconstruction_share,
        "kl": sum(report.kl),
        "active_dimensions": float(len(report.kl) - len(report.unused)),
        "posterior_std": float(np.exp(np.mean(np.log(report.std)))),
        "prior_sample_share": float(np.mean(nearest) / np.mean(np.var(frames, axis=0))),
    }


def draw_balance(path: Path, rows: list[dict[str, Any]], pictures: Sequence[np.ndarray]) -> None:
    """A sweep of a VAE's observation noise: what every seed of each row measured, and samples of the prior.

    A row has an `observation_std` and `runs`, each a dictionary of figures; `pictures` has frames `[M, H, W]` for
    each row.
    """
    figure = new_figure(12, 7)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    top, bottom = parts
    panels = (
        ("Reconstruction against KL, by sigma", "KL / nats per frame", "kl", "linear"),
        ("Dimensions in use", "latent dimensions", "active_dimensions", "linear"),
        ("How wide is the posterior?", "posterior std (prior: 1)", "posterior_std", "log"),
        ("Prior sample to nearest frame", "distance / frame variance", "prior_sample_share", "linear"),
    )
    stds = np.array([row["observation_std"] for row in rows])
    for axis, (title, label, name, scale) in zip(top.subplots(1, len(panels)), panels, strict=True):
        values = np.array([[run[name] for run in row["runs"]] for row in rows])
        if name == "kl":
            lost = np.array([[run["reconstruction_share"] for run in row["runs"]] for row in rows])
            axis.plot(lost.mean(axis=1), values.mean(axis=1), color=GREY)
            axis.plot(lost, values, ".", color=BLUE)
            collapsed = 0
            for x, y, std in zip(lost.mean(axis=1), values.mean(axis=1), stds, strict=True):
                # collapsed ones lie on one another, at the right edge
                shift = (-8, 4 + 10 * collapsed) if x > 0.9 else (4, 3)
                collapsed += x > 0.9
                axis.annotate(f"{std:g}", (x, y), xytext=shift, textcoords="offset points", fontsize=7)
            axis.set(xscale="log", yscale=scale, xlabel="reconstruction error / frame variance")
        else:
            axis.plot(stds, values.mean(axis=1), color=GREY)
            axis.plot(stds, values, ".", color=ORANGE)
            axis.set(xscale="log", yscale=scale, xlabel="observation noise sigma")
            if scale == "linear":
                axis.set_ylim(bottom=0)
        axis.set(title=title, ylabel=label)
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.3)
    bottom.suptitle("Samples of the prior, decoded", fontsize=10)
    samples = [Strip("", frames) for frames in zip(*pictures, strict=True)]
    show_strips(bottom, samples, [f"sigma {std:g}" for std in stds])
    save_figure(figure, path)
