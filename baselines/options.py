"""Options of the baselines, with their defaults and units. Imports nothing heavy."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from worldmodel.models.vision.options import VisionOptions
from worldmodel.support.settings import flag, require_at_least, require_positive, require_share

if TYPE_CHECKING:
    from flax import nnx

    from baselines.dkf import DKF
    from baselines.paper_dvbf import PaperDVBF
    from baselines.static_vae import StaticVAE
    from baselines.world_models import WorldModels
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
class WorldModelsOptions(VisionOptions):
    """The World Models of Ha and Schmidhuber (2018): a static VAE, and a recurrent network with a mixture density that
    foresees its latents."""

    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 6e-3}

    latent_size: int = 4
    """Dimensions of the VAE's latent z."""
    hidden_size: int = 128
    """Units of the LSTM, and in the hidden layer of the encoder and of the decoder."""
    components: int = 5
    """Gaussians that are mixed for each dimension of the next latent."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: half of what the frames' variance gives
    other models, since a latent is read off one frame and must be read well."""
    vae_share: float = 0.2
    """Share of the updates that train the VAE alone, before the LSTM and the mixture begin to learn."""
    vae_goes_on: bool = True
    """Train the VAE on while they learn; without, it stands still from then on, as in the paper, at whatever the
    learning rate's schedule has left it."""

    def vae(self, scale: "FrameScale") -> StaticVAEOptions:
        """Those of the VAE, for such frames."""
        given = self.observation_std
        std = scale.default_observation_std / 2 if given is None else given
        return StaticVAEOptions(self.networks, self.channels, self.latent_size, self.hidden_size, std)

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        for name in ("latent_size", "hidden_size", "components"):
            require_at_least(flag(name), getattr(self, name), 1)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)
        require_share("--vae-share", self.vae_share)

    def sharpened(self, scale: "FrameScale") -> "WorldModelsOptions":
        """For overfitting one batch: reconstruction is made dear."""
        return dataclasses.replace(self, observation_std=scale.sharp(self.observation_std))

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "WorldModels":
        """An untrained model."""
        from baselines.world_models import WorldModels

        return WorldModels(scale, self, rngs)


PUBLISHED_WORLD_MODELS = WorldModelsOptions(latent_size=32, hidden_size=256)
"""The sizes of Ha and Schmidhuber's car racing"""
