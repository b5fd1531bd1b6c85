"""Options of the rivals, with their defaults and units. Imports nothing heavy."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from baselines.options import StaticVAEOptions
from worldmodel.models.vision.options import VisionOptions
from worldmodel.support.files import UserError
from worldmodel.support.settings import flag, require_at_least, require_positive, require_share

if TYPE_CHECKING:
    from flax import nnx

    from baselines.kvae import KVAE
    from baselines.rssm import GaussianRSSM
    from baselines.rssm_categorical import CategoricalRSSM
    from baselines.vision import Paper
    from baselines.world_models import WorldModels
    from worldmodel.data.scale import FrameScale


@dataclasses.dataclass(frozen=True)
class RivalOptions(VisionOptions):
    """What every rival has: an observation noise, and networks of frames that may be those of its own paper.

    A model has the latter by `PAPER`, a name in baselines.vision.PAPERS, and by make_encoder and make_decoder, which it
    calls as every model does. What it passes them as hidden layers is left out of the paper's networks, whose
    convolutions are followed, or preceded, by one linear map.
    """

    PAPER: ClassVar[str]
    """whose networks "original" means"""
    SIZES: ClassVar[tuple[str, ...]] = ()
    """options that must be at least 1"""

    networks: Literal["auto", "dense", "conv", "original"] = "auto"  # type: ignore[assignment]  # one more
    """The networks of frames, encoder and decoder: "dense" is fully connected, "conv" convolutional, "original" those
    of the model's paper, for 64 x 64 frames; "auto" is "conv" for frames of 48 pixels and more on the shorter side,
    "dense" for smaller ones."""
    vision_size: int = 128
    """Units in the hidden layers of the encoder and of the decoder, but for those of the paper."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: chosen from the frames' variance."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        for name in ("vision_size", *self.SIZES):
            require_at_least(flag(name), getattr(self, name), 1)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)

    def sharpened(self, scale: "FrameScale") -> Self:
        """For overfitting one batch: reconstruction is made dear."""
        return dataclasses.replace(self, observation_std=scale.sharp(self.observation_std))

    def settled(self, scale: "FrameScale") -> Self:
        """As VisionOptions.settled. Raises UserError when the paper's networks do not take such frames."""
        if published := self.published():
            published.check(scale.frame_shape)
        return super().settled(scale)

    def published(self) -> "Paper | None":
        """The paper's networks where they are asked for."""
        if self.networks != "original":
            return None
        from baselines.vision import PAPERS

        return PAPERS[self.PAPER]


@dataclasses.dataclass(frozen=True)
class RSSMOptions(RivalOptions):
    """The recurrent state-space model of PlaNet (Hafner et al. 2019): a GRU's belief beside a Gaussian state."""

    PAPER: ClassVar[str] = "world-models"  # PlaNet sees with the same
    SIZES: ClassVar[tuple[str, ...]] = ("belief_size", "stochastic_size", "hidden_size", "feature_size")
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.001}

    belief_size: int = 128
    """Dimensions of the deterministic belief h, the GRU's (PlaNet: 200)."""
    stochastic_size: int = 30
    """Dimensions of the stochastic state s."""
    hidden_size: int = 128
    """Units in the hidden layers of the dynamics (PlaNet: 200)."""
    feature_size: int = 64
    """Features that the encoder gives for each frame."""
    min_std: float = 0.1
    """Added to all standard deviations of s."""
    free_nats: float = 3.0
    """Nats of a step's KL that cost nothing, and teach nothing."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        require_at_least("--min-std", self.min_std, 0)
        require_at_least("--free-nats", self.free_nats, 0)

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "GaussianRSSM":
        """An untrained model."""
        from baselines.rssm import GaussianRSSM

        return GaussianRSSM(scale, self, rngs)


PLANET = RSSMOptions(belief_size=200, hidden_size=200)
"""the paper's sizes"""


@dataclasses.dataclass(frozen=True)
class CategoricalRSSMOptions(RivalOptions):
    """The recurrent state-space model of DreamerV3 (Hafner et al. 2023): a block GRU's belief beside categories."""

    PAPER: ClassVar[str] = "dreamer"
    SIZES: ClassVar[tuple[str, ...]] = (
        "belief_size",
        "blocks",
        "variables",
        "classes",
        "hidden_size",
        "feature_size",
    )
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.02}

    belief_size: int = 256
    """Dimensions of the deterministic belief h (DreamerV3's smallest: 512)."""
    blocks: int = 8
    """Blocks that the belief's GRU is of."""
    variables: int = 32
    """Categorical variables of the stochastic state s."""
    classes: int = 4
    """Classes of each."""
    hidden_size: int = 64
    """Units in the hidden layers of the dynamics."""
    feature_size: int = 64
    """Features that the encoder gives for each frame."""
    uniform_share: float = 0.01
    """Share of the uniform distribution in all probabilities."""
    dynamics_weight: float = 1.0
    """Weight of the KL by which the prior learns to foresee the posterior."""
    representation_weight: float = 0.1
    """Weight of the KL by which the posterior learns to be foreseeable."""
    free_nats: float = 1.0
    """Nats of each of the two that cost nothing, and teach nothing."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        if self.belief_size % self.blocks:
            raise UserError(f"--belief-size must be a multiple of --blocks, not {self.belief_size} of {self.blocks}")
        require_share("--uniform-share", self.uniform_share)
        require_positive("--uniform-share", self.uniform_share)
        for name in ("dynamics_weight", "representation_weight", "free_nats"):
            require_at_least(flag(name), getattr(self, name), 0)

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "CategoricalRSSM":
        """An untrained model."""
        from baselines.rssm_categorical import CategoricalRSSM

        return CategoricalRSSM(scale, self, rngs)


SMALLEST_DREAMER = CategoricalRSSMOptions(belief_size=512)
"""the sizes of the smallest preset"""


@dataclasses.dataclass(frozen=True)
class KVAEOptions(RivalOptions):
    """The Kalman Variational Autoencoder (Fraccaro et al. 2017): codes of frames, a mixture of linear systems behind
    them, and an exact Kalman filter."""

    PAPER: ClassVar[str] = "kvae"
    SIZES: ClassVar[tuple[str, ...]] = ("code_size", "latent_size", "base_matrices", "memory_size", "feature_size")

    code_size: int = 2
    """Dimensions of the code a of a frame."""
    latent_size: int = 4
    """Dimensions of the latent z, whose dynamics are linear."""
    base_matrices: int = 16
    """How many linear systems are mixed (the paper's K). With its 3, and nothing else changed, the tenth imagined
    frame of the DVBF paper's pendulum had four to eight times the error, in two trainings of 8,000 updates."""
    memory_size: int = 50
    """Units of the LSTM that mixes them."""
    feature_size: int = 64
    """Features that the encoder gives for each frame, before the code."""
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
        for name in (
            "reconstruction_weight",
            "transition_variance",
            "emission_variance",
            "initial_variance",
            "initial_matrix_std",
        ):
            require_positive(flag(name), getattr(self, name))
        require_share("--mixture-from", self.mixture_from)

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "KVAE":
        """An untrained model."""
        from baselines.kvae import KVAE

        return KVAE(scale, self, rngs)


PUBLISHED_KVAE = KVAEOptions(
    code_size=2,
    latent_size=4,
    base_matrices=3,
    memory_size=50,
    vision_size=25,
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


@dataclasses.dataclass(frozen=True)
class RivalVAEOptions(RivalOptions, StaticVAEOptions):
    """Of the static VAE within World Models."""

    PAPER: ClassVar[str] = "world-models"


@dataclasses.dataclass(frozen=True)
class WorldModelsOptions(RivalOptions):
    """The World Models of Ha and Schmidhuber (2018): a static VAE, and a recurrent network with a mixture density that
    foresees its latents."""

    PAPER: ClassVar[str] = "world-models"
    SIZES: ClassVar[tuple[str, ...]] = ("latent_size", "hidden_size", "components")
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 6e-3}

    latent_size: int = 4
    """Dimensions of the VAE's latent z."""
    hidden_size: int = 128
    """Units of the LSTM (the paper: 256)."""
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

    def vae(self, scale: "FrameScale") -> RivalVAEOptions:
        """Those of the VAE, for such frames."""
        given = self.observation_std
        std = scale.default_observation_std / 2 if given is None else given
        return RivalVAEOptions(
            networks=self.networks,
            channels=self.channels,
            latent_size=self.latent_size,
            hidden_size=self.vision_size,
            observation_std=std,
        )

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        super().check()
        require_share("--vae-share", self.vae_share)

    def build(self, scale: "FrameScale", rngs: "nnx.Rngs") -> "WorldModels":
        """An untrained model."""
        from baselines.world_models import WorldModels

        return WorldModels(scale, self, rngs)


PUBLISHED_WORLD_MODELS = WorldModelsOptions(latent_size=32, hidden_size=256)
"""The sizes of Ha and Schmidhuber's car racing"""
