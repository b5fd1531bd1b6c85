"""The models that the benchmark compares, and the parts of the recipe that its ablation takes away, one by one."""

import dataclasses
from functools import partial
from typing import Any

import optax

from baselines.options import DKFOptions, PaperDVBFOptions, StaticVAEOptions
from worldmodel.models.dvbf.options import PLAIN_BOUND, DVBFOptions
from worldmodel.training.step import B2, CLIP, MakeOptimiser, make_optimiser


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of the benchmark."""

    about: str
    options: Any
    """a dataclass of the catalogue of models, which builds the model"""
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    """what is changed of the training's Recipe"""
    make_optimiser: MakeOptimiser = make_optimiser


DEFAULTS = DVBFOptions()


def _dvbf(about: str, base: DVBFOptions = DEFAULTS, **changes: Any) -> Entry:
    return Entry(about, dataclasses.replace(base, **changes))


def _trained(about: str, make_optimiser: MakeOptimiser = make_optimiser, **recipe: Any) -> Entry:
    return Entry(about, DEFAULTS, recipe, make_optimiser)


def _clipped(optimiser: MakeOptimiser, schedule: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(CLIP), optimiser(schedule))


USUAL_ADAM = partial(_clipped, optax.adam)
ADAM_OF_SHORT_MEMORY = partial(_clipped, partial(optax.adam, b2=B2))


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
        "the paper's networks and annealed bound, but Adam and 16,000 x 16 sequences, not Adadelta and 100,000 x 500",
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
    "late-help": _dvbf("the beginner's help goes from 23% to 70% of the steps, not from 15% to 45%", help_ends=0.7),
    "usual-adam": _trained("Adam as usual: b2 0.999, no Nesterov, rate 0.002", USUAL_ADAM, learning_rate=0.002),
    "usual-adam-high-rate": _trained("the same, at the recipe's rate of 0.01", USUAL_ADAM),
    "without-nesterov": _trained("the recipe's rate and b2, without Nesterov's momentum", ADAM_OF_SHORT_MEMORY),
    "low-rate": _trained("rate 0.002", learning_rate=0.002),
    "half-the-steps": _trained("half as many updates, of twice as many windows", batch_size=32, steps=8000),
    "plain-bound": _dvbf("none of the parts: the ELBO alone", PLAIN_BOUND, visible_size=8),
}
