"""Who takes part in the benchmark of rivals, and in what settings."""

import dataclasses
from typing import Any

from baselines.options import MLPDVBFOptions
from baselines.rival_options import (
    PLANET,
    PUBLISHED_KVAE,
    PUBLISHED_WORLD_MODELS,
    SMALLEST_DREAMER,
    CategoricalRSSMOptions,
    KVAEOptions,
    RSSMOptions,
    WorldModelsOptions,
)
from baselines.study.worlds import Entry
from worldmodel.models.dvbf.options import DVBFOptions

MODELS = {
    DVBFOptions: "dvbf",
    MLPDVBFOptions: "dvbf-mlp",
    KVAEOptions: "kvae",
    RSSMOptions: "rssm",
    CategoricalRSSMOptions: "rssm-categorical",
    WorldModelsOptions: "world-models",
}
"""names in the catalogue"""


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model that is compared."""

    about: str
    options: Any
    """of the model"""
    rates: tuple[float, ...] = ()
    """learning rates that are tried"""
    tried: dict[str, Any] = dataclasses.field(default_factory=dict)
    """options that are tried with each of the rates, besides none"""
    like: str | None = None
    """the contender whose trials count for this one, which has none; its learning rate is taken"""

    @property
    def model(self) -> str:
        """In the catalogue."""
        return MODELS[type(self.options)]

    def changed(self) -> dict[str, Any]:
        """Its options that are not the defaults."""
        usual = dataclasses.asdict(type(self.options)())
        return {name: value for name, value in dataclasses.asdict(self.options).items() if value != usual[name]}

    def trials(self) -> list[dict[str, Any]]:
        """The options of each."""
        return [{"learning_rate": rate} | more for more in ({}, self.tried) for rate in self.rates]


CONTENDERS = {
    "dvbf": Contender("the DVBF of this project", DVBFOptions(), (0.01, 0.003, 0.001), {"final_noise_scale": 0.3}),
    "dvbf, wide": Contender(
        "the same with the size of transition that the rivals' success on the ball suggested",
        DVBFOptions(base_matrices=32, mixture_hidden_size=256),
        (0.01, 0.003, 0.001),
        {"final_noise_scale": 0.3},
    ),
    "dvbf-mlp": Contender(
        "the DVBF with a plain network as its transition",
        MLPDVBFOptions(),
        (0.02, 0.01, 0.003),
        {"final_noise_scale": 0.3},
    ),
    "kvae": Contender("Fraccaro et al. 2017", KVAEOptions(), (0.02, 0.01, 0.005), {"transition_variance": 0.01}),
    "rssm": Contender("PlaNet, Hafner et al. 2019", RSSMOptions(), (0.002, 0.001, 0.0005), {"free_nats": 1.0}),
    "rssm-categorical": Contender(
        "DreamerV3, Hafner et al. 2023", CategoricalRSSMOptions(), (0.02, 0.01, 0.005), {"free_nats": 0.1}
    ),
    "world-models": Contender(
        "Ha and Schmidhuber 2018", WorldModelsOptions(), (0.01, 0.006, 0.003), {"latent_size": 6}
    ),
    "kvae, published": Contender("with the sizes, noises and weights of the paper's code", PUBLISHED_KVAE, like="kvae"),
    "rssm, published": Contender("at PlaNet's sizes", PLANET, like="rssm"),
    "rssm-categorical, published": Contender(
        "at the sizes of DreamerV3's smallest preset", SMALLEST_DREAMER, like="rssm-categorical"
    ),
    "world-models, published": Contender("at the sizes of the paper", PUBLISHED_WORLD_MODELS, like="world-models"),
}


TRIALS = {"pendulum": (10, 30), "ball": (10,)}
"""Settings that there are trials in, and the horizons at which imagined frames judge them: after 30 nobody foresees the
ball."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the models are trained on, and judged by."""

    entry: Entry
    trials: tuple[str, ...] = ("pendulum",)
    """the settings in which the options were tried that are taken here; of several, what does best in all of them"""
    noise: float = 0.0
    """standard deviation of that on every pixel that a model sees; imagined frames are held against the mean of such
    frames"""
    published: bool = False
    """whether the contenders of published size take part"""
    episodes: int = 0
    """of Gymnasium's environment that each model acts in"""


def _pendulum(about: str, sequences: int) -> Entry:
    return Entry(about, "pendulum", sequences, 15, 200, 165)


SETTINGS = {
    "pendulum": Setting(_pendulum("the paper's pendulum, 500 training sequences", 500), published=True),
    "pendulum, 100": Setting(_pendulum("the paper's pendulum, 100 training sequences", 100)),
    "pendulum, 2000": Setting(_pendulum("the paper's pendulum, 2,000 training sequences", 2000)),
    "pendulum, noise": Setting(_pendulum("the paper's pendulum, 500 sequences, pixel noise of 0.1", 500), noise=0.1),
    "ball": Setting(Entry("the bouncing ball, 5,000 training sequences", "ball", 5000, 15, 200, 115), ("ball",)),
    "Pendulum-v1": Setting(
        Entry(
            "Gymnasium's pendulum without friction, 24,000 frames, and swinging it up",
            "Pendulum-v1",
            240,
            100,
            200,
            115,
            size=24,
            more=(("actions", "mixed"), ("crop", 0.55)),
        ),
        episodes=20,
    ),
    "Acrobot-v1": Setting(
        Entry(
            "64 x 64 in colour, windows of 15, half of the updates",
            "Acrobot-v1",
            240,
            100,
            100,
            115,
            size=64,
            more=(("actions", "mixed"), ("grey", False)),
            training=(("window", 15), ("steps", 2000)),
        ),
        ("pendulum", "ball"),
    ),
}
