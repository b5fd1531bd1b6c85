import jax
import numpy as np
from conftest import TINY
from flax import nnx

from worldmodel.dvbf import DVBF
from worldmodel.objectives import dvbf_loss
from worldmodel.options import DVBFOptions
from worldmodel.scaling import FrameScale
from worldmodel.seeds import train_seeds
from worldmodel.sequences import Sequences


def test_seeds_trained_together_equal_those_trained_alone(pendulum_data: Sequences):
    scale = FrameScale.of(pendulum_data, "data")

    def train(seeds: list[int]) -> list[dict[str, np.ndarray]]:
        models = train_seeds(
            "dvbf",
            lambda rngs: DVBF(scale, DVBFOptions(**TINY), rngs),
            lambda *arguments: dvbf_loss(*arguments, steps=30),
            pendulum_data,
            seeds,
            steps=30,
            batch_size=4,
            learning_rate=1e-3,
            window=8,
        )
        return [jax.tree.leaves(nnx.split(model)[1]) for model in models]

    together, alone = train([0, 5, 9]), train([5])[0]
    for a, b in zip(together[1], alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert any(np.abs(a - b).max() > 0.01 for a, b in zip(together[0], together[1], strict=True))
