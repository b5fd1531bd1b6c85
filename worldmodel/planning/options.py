"""Options of learning to act. Nothing heavy is imported here."""

import dataclasses
from pathlib import Path

from worldmodel.support.settings import require_at_least, require_positive
from worldmodel.worlds.actions import Kind


@dataclasses.dataclass(frozen=True)
class PolicyOptions:
    """How a policy is learnt in the dream."""

    horizon: int = 40
    """Steps of a dream."""
    updates: int = 2000
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


@dataclasses.dataclass(frozen=True)
class ImproveOptions:
    """Rounds of collecting where plans lead, and training on all that was collected."""

    out: Path
    """Folder for everything; the same command goes on where it was stopped."""
    env: str = "Pendulum-v1"
    """Gymnasium id of an environment with rgb_array rendering."""
    model: str = "dvbf"
    """Model that is trained, by its name."""
    rounds: int = 3
    """Rounds after the first, which is random."""
    first: int = 40
    """Sequences of random actions to begin with."""
    sequences: int = 40
    """Sequences that are collected by planning in each round."""
    frames: int = 120
    """Frames in each sequence."""
    size: int = 24
    """Side of the square frames, pixels."""
    crop: float = 1.0
    """Share of the rendered picture's width and height that is kept."""
    centre: tuple[float, float] = (0.5, 0.5)
    """Centre of what is kept, from the left in shares of the picture's width and from the top in shares of its
    height."""
    grey: bool = True
    """Grey frames; with --no-grey red, green and blue."""
    actions: Kind = "held"
    """Kind of random actions."""
    start: str | None = None
    """Place of the world at which every sequence and every test begins; default: its own random starts."""
    steps: int = 5000
    """Optimiser steps of every training."""
    planner: str = "cem"
    """Which planner; it brings options of its own."""
    noise: float = 0.3
    """Standard deviation of what is added to a planned action while collecting, in half ranges of an action."""
    episodes: int = 10
    """Episodes of every test, which are not trained on."""
    test_steps: int | None = None
    """Of a test's episode, at most; default: the environment's own limit, or 200."""
    seed: int = 0
    """Of the data, the trainings and the tests."""

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        for name, least in (
            ("rounds", 0),
            ("first", 2),
            ("sequences", 1),
            ("frames", 8),
            ("steps", 1),
            ("episodes", 1),
        ):
            require_at_least(f"--{name}", getattr(self, name), least)
        require_at_least("--noise", self.noise, 0)
