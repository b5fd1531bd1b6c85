"""The models that the benchmark compares, and the parts of the recipe that its ablation takes away, one by one."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import nnx

from baselines.dkf import DKF, DKF_OPTIONS
from baselines.options import StaticVAEOptions
from baselines.paper_dvbf import PAPER_OPTIONS, PaperDVBF, paper_loss
from baselines.static_vae import StaticVAE, vae_loss
from worldmodel.data.scale import FrameScale
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import dvbf_loss
from worldmodel.training.options import PLAIN_BOUND, DVBFOptions
from worldmodel.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of the benchmark."""

    about: str
    options: DVBFOptions | StaticVAEOptions
    build: Callable[[FrameScale, nnx.Rngs], nnx.Module]
    loss: Callable[[int, int], Loss]
    """(optimiser steps, training sequences) -> the loss"""


def _bound(steps: int, sequences: int) -> Loss:
    return lambda *arguments: dvbf_loss(*arguments, steps=steps)


def _paper_bound(steps: int, sequences: int) -> Loss:
    return lambda *arguments: paper_loss(*arguments, steps=steps, sequences=sequences)


DEFAULTS = DVBFOptions()


def _dvbf(about: str, base: DVBFOptions = DEFAULTS, **changes: Any) -> Entry:
    chosen = dataclasses.replace(base, **changes)
    return Entry(about, chosen, lambda scale, rngs: DVBF(scale, chosen, rngs), _bound)


def _paper(about: str, bayesian: bool) -> Entry:
    return Entry(
        about, PAPER_OPTIONS, lambda scale, rngs: PaperDVBF(scale, PAPER_OPTIONS, bayesian, rngs), _paper_bound
    )


VAE_OPTIONS = StaticVAEOptions()

MODELS: dict[str, Entry] = {
    "dvbf": _dvbf("DVBF with this project's defaults: latent 8, half of it visible, nothing fitted to the pendulum"),
    "dvbf-told": _dvbf(
        "the same, told the pendulum's size: latent 4, 3 of them visible", latent_size=4, visible_size=3
    ),
    "dvbf-large": _dvbf(
        "the defaults with 32 base matrices, mixed by 256 units: for dynamics with a kink",
        base_matrices=32,
        mixture_hidden_size=256,
    ),
    "dvbf-bfloat16": _dvbf("the defaults, the networks of frames computing in bfloat16", precision="bfloat16"),
    "dvbf-w-inference": _dvbf("the defaults with the paper's inference q(w | z, u, x')", inference="noise"),
    "paper-dvbf": _paper(
        "the paper's networks and annealed bound, but Adam and 8,000 x 32 sequences, not Adadelta and 100,000 x 500",
        bayesian=False,
    ),
    "paper-dvbf-bayesian": _paper("the same with Bayesian base matrices", bayesian=True),
    "dkf": Entry(
        "Deep Kalman Filter, the paper's rival: latent 3, the plain bound",
        DKF_OPTIONS,
        lambda scale, rngs: DKF(scale, DKF_OPTIONS, rngs),
        _bound,
    ),
    "static-vae": Entry(
        "static VAE: single frames, no dynamics, nothing to imagine with",
        VAE_OPTIONS,
        lambda scale, rngs: StaticVAE(scale, VAE_OPTIONS, rngs),
        lambda steps, sequences: vae_loss,
    ),
}

ABLATIONS: dict[str, Entry] = {
    "without-consistency": _dvbf("latents need not be initial states", consistency_weight=0.0),
    "without-hidden-part": _dvbf("the decoder sees all eight latents", visible_size=8),
    "without-open-loop": _dvbf("every frame of every window is filtered", open_loop_share=0.0),
    "without-kl-weight": _dvbf("corrections are never surcharged", transition_kl_weight=1.0),
    "without-noise-annealing": _dvbf("the process noise stays as it is learned", final_noise_scale=1.0),
    "one-initial-frame": _dvbf("the initial state is inferred from one frame", initial_frames=1),
    "small-observation-noise": _dvbf("pixel sigma 0.03 instead of 0.18", observation_std=0.03),
    "large-observation-noise": _dvbf("pixel sigma 1 instead of 0.18", observation_std=1.0),
    "plain-bound": _dvbf("none of the parts: the ELBO alone", PLAIN_BOUND, visible_size=8),
}
