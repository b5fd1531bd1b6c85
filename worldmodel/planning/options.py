"""Options of learning a policy in the dream. Nothing heavy is imported here."""

import dataclasses

from worldmodel.support.settings import require_at_least, require_positive


@dataclasses.dataclass(frozen=True)
class PolicyOptions:
    """How a policy is learnt in the dream."""

    horizon: int = 40
    """Steps of a dream."""
    updates: int = 1000
    """Updates of the policy."""
    dreams: int = 64
    """Dreams in an update, from states that the filter finds in the data."""
    hidden_size: int = 64
    """Units in each of two hidden layers."""
    learning_rate: float = 3e-3
    """Of Adam, at its highest."""
    seed: int = 0
    """Of the first weights and of the dreams' beginnings."""

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        for name in ("horizon", "updates", "dreams", "hidden_size"):
            require_at_least(f"--{name.replace('_', '-')}", getattr(self, name), 1)
        require_positive("--learning-rate", self.learning_rate)
