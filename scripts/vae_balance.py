"""Study the static VAE's balance: sweep the observation noise from an autoencoder to a collapse, and draw it.

Writes results/vae-balance.json and docs/vae_balance.png.
"""

import dataclasses
from pathlib import Path

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least, require_positive
from worldmodel.training.options import Recipe


@dataclasses.dataclass(frozen=True)
class Options:
    observation_stds: tuple[float, ...] = (0.01, 0.03, 0.06, 0.1, 0.18, 0.3, 0.6, 1.0, 1.5, 3.0)
    """The noises of a pixel to try, in units of full brightness; the default of the models is near 0.18 here."""
    seeds: int = 3
    """Seeds of each, trained together."""
    steps: int = 3000
    """Optimiser updates of 128 frames."""
    out: Path = Path()
    """Folder for results/ and docs/; files there are replaced."""


def main(options: Options) -> None:
    require_at_least("--seeds", options.seeds, 1)
    require_at_least("--steps", options.steps, 1)
    for std in options.observation_stds:
        require_positive("--observation-stds", std)
    if len(options.observation_stds) < 2:
        raise UserError("--observation-stds: give at least two values")

    from baselines.study.balance import study_balance

    recipe = Recipe(tuple(range(options.seeds)), options.steps, batch_size=128, window=1)
    study_balance(options.observation_stds, recipe, options.out)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
