"""The models that the benchmark compares, and the parts of the recipe that its ablation takes away, one by one."""

import dataclasses
from typing import Any

from baselines.options import DKFOptions, PaperDVBFOptions, StaticVAEOptions
from worldmodel.models.dvbf.options import PLAIN_BOUND, DVBFOptions


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of the benchmark."""

    about: str
    options: Any
    """a dataclass of the catalogue of models, which builds the model"""


DEFAULTS = DVBFOptions()


def _dvbf(about: str, base: DVBFOptions = DEFAULTS, **changes: Any) -> Entry:
    return Entry(about, dataclasses.replace(base, **changes))


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
    "paper-dvbf": Entry(
        "the paper's networks and annealed bound, but Adam and 8,000 x 32 sequences, not Adadelta and 100,000 x 500",
        PaperDVBFOptions(),
    ),
    "paper-dvbf-bayesian": Entry("the same with Bayesian base matrices", PaperDVBFOptions(bayesian=True)),
    "dkf": Entry("Deep Kalman Filter, the paper's rival: latent 3, the plain bound", DKFOptions()),
    "static-vae": Entry("static VAE: single frames, no dynamics, nothing to imagine with", StaticVAEOptions()),
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
