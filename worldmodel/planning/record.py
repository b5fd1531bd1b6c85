"""What came of acting: written to episodes.json as it is, and read back by the report."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.support.files import UserError, read_json, write_json
from worldmodel.support.settings import from_json

FILE = "episodes.json"
THE_REWARD = "the reward"
"""what is wanted where no goal is"""


@dataclasses.dataclass(frozen=True)
class Acted:
    """Episodes of one model in one environment."""

    env: str
    seed: int
    """of the starts"""
    start: str | None
    """place at which all begin; None: the environment's own random starts"""
    steps: int
    """of an episode, at most"""
    planner: str
    options: dict[str, Any]
    """of the planner"""
    wanted: str
    """what was wanted: the reward, or a goal"""
    policy: bool
    """whether a policy from the dream proposed plans"""
    returns: list[float]
    lengths: list[int]
    """actions of each episode"""
    ended: float
    """share of the episodes that ended by themselves"""
    seconds_per_decision: float
    """median: filter step and plan, one at a time"""
    dreamt: list[float]
    """returns of stretches of the planner's horizon, dreamt with the actions that were done"""
    real: list[float]
    """what these stretches were really paid"""
    floors: dict[str, list[float]]
    """returns on the same starts without a thought"""
    ceilings: dict[str, list[float]]
    """returns on the same starts by who knows the truth"""
    reward: str | None
    """how well the reward is known, in words"""
    warnings: list[str]
    outcomes: dict[str, float] = dataclasses.field(default_factory=dict)
    """"goal_closeness", of the median episode's last true frames to a goal, from 0 to 1; the world's own figures, such
    as a pendulum's "upright" and "rest_degrees". In the file they stand beside the others"""

    def write(self, folder: Path) -> None:
        fields = dataclasses.asdict(self)
        outcomes = fields.pop("outcomes")
        assert not fields.keys() & outcomes.keys(), f"a world's outcomes have names of their own: {sorted(outcomes)}"
        write_json(folder / FILE, fields | outcomes)

    def rows(self) -> list[tuple[str, list[float]]]:
        """Names and returns, from floor to ceiling."""
        return [*self.floors.items(), (self.planner, self.returns), *self.ceilings.items()]

    def table(self) -> str:
        """For a terminal."""
        lines = [f"{'return':<44}{'mean':>9}{'worst':>9}{'best':>9}"]
        for name, returns in self.rows():
            shown = f"this model, {name}" if name == self.planner else name
            lines.append(f"  {shown:<42}{np.mean(returns):>9.1f}{np.min(returns):>9.1f}{np.max(returns):>9.1f}")
        return "\n".join(lines)

    def sentence(self) -> str:
        """Beside the table."""
        count = f"{len(self.returns)} episode{'' if len(self.returns) == 1 else 's'}"
        said = [f"{count} of {self.env}, {1000 * self.seconds_per_decision:.1f} ms a decision"]
        if self.wanted != THE_REWARD:
            said.append(f"wanted was {self.wanted}, and the returns are what the environment pays")
        if self.ended:
            said.append(
                f"{self.ended:.0%} ended by themselves, at the median after {np.median(self.lengths):.0f} steps"
            )
        said += [f"{name.replace('_', ' ')} {value:.3g}" for name, value in self.outcomes.items()]
        return "; ".join(said) + "."

    def summary(self) -> str:
        """All that is said of it, for a terminal."""
        return "\n".join([self.table(), self.sentence(), *([self.reward] if self.reward else []), *self.warnings])


def read_acted(folder: Path) -> Acted:
    """What `Acted.write` wrote. Raises UserError when it is damaged."""
    path = folder / FILE
    value = read_json(path)
    names = {field.name for field in dataclasses.fields(Acted)}
    try:
        known = {name: item for name, item in value.items() if name in names}
        return from_json(Acted, known | {"outcomes": {n: v for n, v in value.items() if n not in names}})
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: damaged, or of another version; delete its folder and act again") from None
