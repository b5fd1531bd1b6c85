"""Options of the baselines, with their defaults and units. Imports nothing heavy."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from worldmodel.models.vision.options import VisionOptions
from worldmodel.support.settings import flag, require_at_least, require_positive, require_share

if TYPE_CHECKING:
    from flax import nnx

    from baselines.dkf import DKF
    from baselines.kvae import KVAE
    from baselines.paper_dvbf import PaperDVBF
    from baselines.static_vae import StaticVAE
    from worldmodel.data.scale import FrameScale


@dataclasses.dataclass(frozen=True)
class StaticVAEOptions(VisionOptions):
    """The static VAE (Kingma and Welling 2014): single frames, no time, no actions. Train it first, to see that the
    frames can be encoded."""

    TRAINING: ClassVar[dict[str, Any]] = {"steps": 2000, "batch_size": 128}

    latent_size: int = 4
    """Dimensions of the latent z."""
    hidden_size: int = 128
    """Units in the hidden layer of the encoder and of the decoder."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: chosen from the frames' variance.
    Too small and the posterior's variance goes to zero; too large and dimensions collapse."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        require_at_least("--latent-size", self.latent_size, 1)
        require_at_least("--hidden-size", self.hidden_size, 1)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)

    def sharpened(self, scale: "FrameScale") -> "StaticVAEOptions":
        """For overfitting one batch: reconstruction is made dear."""
        return dataclasses.replace(self, observation_std=scale.sharp(self.observation_std))

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "StaticVAE":
        """An untrained model."""
        from baselines.static_vae import StaticVAE

        return StaticVAE(scale, self, rngs)


@dataclasses.dataclass(frozen=True)
class DKFOptions(VisionOptions):
    """The Deep Kalman Filter (Krishnan et al. 2015): the rival in the DVBF's paper, whose latents do not pass through
    the transition."""

    latent_size: int = 3
    """Dimensions of the latent z; all of them are visible."""
    hidden_size: int = 128
    """Units in the hidden layers and in the recurrent network."""
    feature_size: int = 64
    """Features that the encoder gives for each frame."""
    initial_frames: int = 5
    """Frames (and the actions between them) that the initial state is inferred from."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: chosen from the frames' variance."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        for name in ("latent_size", "hidden_size", "feature_size", "initial_frames"):
            require_at_least(flag(name), getattr(self, name), 1)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)

    def sharpened(self, scale: "FrameScale") -> "DKFOptions":
        """For overfitting one batch: reconstruction is made dear."""
        return dataclasses.replace(self, observation_std=scale.sharp(self.observation_std))

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "DKF":
        """An untrained model."""
        from baselines.dkf import DKF

        return DKF(scale, self, rngs)


@dataclasses.dataclass(frozen=True)
class PaperDVBFOptions:
    """The DVBF as its paper has it (Karl et al. 2017): the paper's networks, inference and annealed bound, with Adam
    and a shorter annealing."""

    latent_size: int = 3
    """Dimensions of the latent z; all of them are visible."""
    base_matrices: int = 16
    """How many matrices the locally linear transition mixes (the paper's M)."""
    hidden_size: int = 128
    """Units in the hidden layer of every network."""
    annealing_share: float = 0.5
    """The paper's T_A: share of the steps over which the likelihood's temperature rises from 0.01 to 1; 0 for none."""
    bayesian: bool = False
    """Give the base matrices a Gaussian posterior (Blundell et al. 2015) instead of point estimates."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        for name in ("latent_size", "base_matrices", "hidden_size"):
            require_at_least(flag(name), getattr(self, name), 1)
        require_share("--annealing-share", self.annealing_share)

    def sharpened(self, scale: "FrameScale") -> "PaperDVBFOptions":
        """For overfitting one batch: the likelihood counts in full from the first step on."""
        return dataclasses.replace(self, annealing_share=0.0)

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "PaperDVBF":
        """An untrained model."""
        from baselines.paper_dvbf import PaperDVBF

        return PaperDVBF(scale, self, rngs)


@dataclasses.dataclass(frozen=True)
class KVAEOptions(VisionOptions):
    """The Kalman Variational Autoencoder (Fraccaro et al. 2017): codes of frames, a mixture of linear systems behind
    them, and an exact Kalman filter."""

    code_size: int = 2
    """Dimensions of the code a of a frame."""
    latent_size: int = 4
    """Dimensions of the latent z, whose dynamics are linear."""
    base_matrices: int = 16
    """How many linear systems are mixed (the paper's K). With its 3, and nothing else changed, the tenth imagined
    frame of the DVBF paper's pendulum had four to eight times the error, in two trainings of 8,000 updates."""
    memory_size: int = 50
    """Units of the LSTM that mixes them."""
    hidden_size: int = 128
    """Units in the hidden layers of the encoder and of the decoder."""
    feature_size: int = 64
    """Features that the encoder gives for each frame, before the code."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: chosen from the frames' variance."""
    reconstruction_weight: float = 1.0
    """Of ln p(x | a) in what is trained."""
    transition_variance: float = 0.08
    """Of the transition's noise, the diagonal of Q."""
    emission_variance: float = 0.03
    """Of the code's noise, the diagonal of R; no code is inferred less exactly than that."""
    initial_variance: float = 20.0
    """Of every dimension of z before the first frame."""
    initial_matrix_std: float = 0.05
    """Of the entries of the base matrices B and C before training. Those of A are the identity."""
    mixture_from: float = 0.125
    """Share of the steps before which the LSTM is not trained."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        for name in ("code_size", "latent_size", "base_matrices", "memory_size", "hidden_size", "feature_size"):
            require_at_least(flag(name), getattr(self, name), 1)
        for name in (
            "reconstruction_weight",
            "transition_variance",
            "emission_variance",
            "initial_variance",
            "initial_matrix_std",
        ):
            require_positive(flag(name), getattr(self, name))
        require_share("--mixture-from", self.mixture_from)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)

    def sharpened(self, scale: "FrameScale") -> "KVAEOptions":
        """For overfitting one batch: reconstruction is made dear."""
        return dataclasses.replace(self, observation_std=scale.sharp(self.observation_std))

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "KVAE":
        """An untrained model."""
        from baselines.kvae import KVAE

        return KVAE(scale, self, rngs)


PUBLISHED_KVAE = KVAEOptions(
    code_size=2,
    latent_size=4,
    base_matrices=3,
    memory_size=50,
    hidden_size=25,
    feature_size=25,
    observation_std=0.1**0.5,
    reconstruction_weight=0.3,
    transition_variance=0.08,
    emission_variance=0.03,
    initial_variance=20.0,
    initial_matrix_std=0.05,
    mixture_from=0.125,
)
"""The sizes, noises and weights of the paper's code (github.com/simonkamronn/kvae, kvae/utils/config.py), with its
fully connected networks; it trained with a learning rate of 0.007, on batches of 32, and the LSTM from the tenth epoch
of 80 on."""
