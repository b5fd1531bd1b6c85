"""Options of the baselines, with their defaults and units. Imports nothing heavy."""

import dataclasses

from worldmodel.support.settings import require_at_least, require_positive


@dataclasses.dataclass(frozen=True)
class StaticVAEOptions:
    """The static VAE: single frames, no time, no actions."""

    latent_size: int = 4
    """Dimensions of the latent z."""
    hidden_size: int = 128
    """Units in the hidden layer of the encoder and of the decoder."""
    observation_std: float | None = None
    """Standard deviation of a pixel, in units of full brightness; default: chosen from the frames' variance.
    Too small and the posterior's variance goes to zero; too large and dimensions collapse."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        require_at_least("--latent-size", self.latent_size, 1)
        require_at_least("--hidden-size", self.hidden_size, 1)
        if self.observation_std is not None:
            require_positive("--observation-std", self.observation_std)
