"""Every option of the DVBF, with its default and its unit. The defaults are the recipe. Imports nothing heavy."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from worldmodel.models.vision.options import VisionOptions
from worldmodel.support.settings import flag, require_at_least, require_positive, require_share

if TYPE_CHECKING:
    from flax import nnx

    from worldmodel.data.scale import FrameScale
    from worldmodel.models.dvbf.model import DVBF


@dataclasses.dataclass(frozen=True)
class FilterOptions(VisionOptions):
    """What a DVBF has whatever its transition is."""

    RETIRED: ClassVar[dict[str, Any]] = {"annealing_steps": 0}
    """options of earlier versions, with the value that says the same as leaving them out"""
    TRAINING: ClassVar[dict[str, Any]] = {}
    """what differs from the usual defaults of a training"""

    inference: Literal["fusion", "noise"] = "fusion"
    """How a step is corrected by its frame: "fusion" multiplies the transition's Gaussian with a measurement's;
    "noise" infers the process noise w from (z, u, next frame), as the paper does."""
    latent_size: int = 8
    """Dimensions of the latent z."""
    visible_size: int = 4
    """The first dimensions of z, which the decoder and the measurement see. The others can be reached through
    the dynamics only (velocities, for instance)."""
    hidden_size: int = 128
    """Units in the hidden layer of the encoder, the decoder and the initial network."""
    feature_size: int = 64
    """Features that the encoder gives for each frame."""
    initial_frames: int = 5
    """Frames (and the actions between them) that the initial state is inferred from."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: chosen from the frames' variance."""
    open_loop_share: float = 0.5
    """Share of the training windows that run without measurements from a random step on, while the training is
    helped."""
    transition_kl_weight: float = 5.0
    """Weight of the transition's KL while the training is helped."""
    help_ends: float = 0.45
    """Share of the steps by which that help has gone: no open loop, the weight at 1. It is given in full for the first
    third of that time."""
    final_noise_scale: float = 0.07
    """The transition's noise is multiplied by 1 for the first 20% of the steps and by this from 70% on."""
    annealing_share: float = 0.0
    """The paper's T_A: share of the steps over which the likelihood's temperature rises from 0.01 to 1; 0 for none."""
    consistency_weight: float = 30.0
    """Weight of the mean squared distance between a filtered latent and the initial state that the frames from
    there on would give, in nats per frame: a latent must mean the same at every time."""
    glimpse_weight: float = 1.0
    """Weight of learning what the initial state can be when only some of its frames were seen: the first of them, where
    one acts at once. What it learns moves no other network; with 0 there is none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the networks of frames (encoder, initial state, decoder) compute in. Parameters, dynamics and densities stay
    float32."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        for name in ("latent_size", "visible_size", "hidden_size", "feature_size"):
            require_at_least(flag(name), getattr(self, name), 1)
        if self.visible_size > self.latent_size:
            require_at_least("--latent-size", self.latent_size, self.visible_size)
        require_at_least("--initial-frames", self.initial_frames, 1)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)
        require_share("--open-loop-share", self.open_loop_share)
        for name in ("help_ends", "final_noise_scale"):
            require_positive(flag(name), getattr(self, name))
        require_share("--annealing-share", self.annealing_share)
        for name in ("transition_kl_weight", "consistency_weight", "glimpse_weight"):
            require_at_least(flag(name), getattr(self, name), 0)

    def sharpened(self, scale: "FrameScale") -> Self:
        """For overfitting one batch: reconstruction is made dear, and every frame is looked at."""
        return dataclasses.replace(self, observation_std=scale.sharp(self.observation_std), open_loop_share=0.0)


@dataclasses.dataclass(frozen=True)
class DVBFOptions(FilterOptions):
    """The Deep Variational Bayes Filter (Karl et al. 2017): locally linear dynamics, learnt through the filter. The
    project's model, with the recipe that trains on every seed."""

    base_matrices: int = 16
    """How many matrices the locally linear transition mixes (the paper's M)."""
    mixture_hidden_size: int = 64
    """Units in the hidden layer of the network that mixes the base matrices."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        require_at_least("--base-matrices", self.base_matrices, 1)
        require_at_least("--mixture-hidden-size", self.mixture_hidden_size, 1)

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "DVBF":
        """An untrained model."""
        from worldmodel.models.dvbf.model import DVBF

        return DVBF(scale, self, rngs)


PLAIN_BOUND = DVBFOptions(
    open_loop_share=0.0,
    transition_kl_weight=1.0,
    final_noise_scale=1.0,
    consistency_weight=0.0,
)
"""The evidence lower bound alone, without what the recipe adds to it; the glimpse, which moves nothing else, learns
beside it."""
