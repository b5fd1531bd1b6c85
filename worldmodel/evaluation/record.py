"""What an evaluation found: written to evaluation.json as it is, and read back by the report, which needs no world."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.support.files import UserError, read_json
from worldmodel.support.settings import from_json
from worldmodel.worlds.world import Measure

T = TypeVar("T")

SHOWN_LEVELS = ("0.5", "0.9")
"""of the intervals whose coverage is shown over the horizon"""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value and its 95% bootstrap interval over the sequences; NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclasses.dataclass(frozen=True)
class Curve:
    """The same at every horizon: index h - 1 is the h-th imagined frame."""

    value: list[float]
    low: list[float]
    high: list[float]

    def at(self, horizon: int) -> Estimate:
        return Estimate(self.value[horizon - 1], self.low[horizon - 1], self.high[horizon - 1])


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How often the truth lies in central intervals of the samples."""

    nominal: list[float]
    """how often it should"""
    observed: dict[str, list[float]]
    """how often it does, by horizon"""


@dataclasses.dataclass(frozen=True)
class Samples:
    """How well sampled futures cover what came."""

    futures: int
    """of each sequence"""
    unit: str
    """of the CRPS"""
    coverage: dict[str, list[float]]
    """share of truths inside, over the horizon, by nominal share of the interval"""
    crps: list[float]
    """over the horizon"""
    reliability: Reliability


MUCH = 0.1
"""share outside of what the training data covered that is warned of"""


@dataclasses.dataclass(frozen=True)
class Outside:
    """What has left that which the training data covered (evaluation/coverage.py)."""

    latents: dict[str, list[float]]
    """shares of the sequences, at the shown horizons, by how the latents were found"""
    actions: float
    """share of the sequences' own actions"""
    frames: float = math.nan
    """share of the sequences' own frames; not a number in evaluations of earlier versions"""

    def warning(self) -> str | None:
        """Of sequences that are unlike what was trained on, a sentence."""
        latents = self.latents.get("true frames, filtered", [0.0])
        shares = {"frames": self.frames, "latents": sum(latents) / len(latents), "actions": self.actions}
        said = [f"{share:.0%} of the {name}" for name, share in shares.items() if share > MUCH]
        if not said:
            return None
        return (
            f"BEYOND THE TRAINING DATA: {' and '.join(said)} of these sequences are unlike all that was trained on:"
            " what is dreamt there is a guess."
        )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predictions of S frames after the context, scored side by side."""

    sequences: int
    context: int
    horizon: int
    """S, frames"""
    dt: float | None
    """seconds between two frames"""
    shown_horizons: list[int]
    """of the tables, frames"""
    measures: list[Measure]
    """of the rows, in the order of the tables; the first is the headline"""
    rows: dict[str, dict[str, Curve]]
    """by predictor and measure"""
    ceilings: list[str]
    """rows that have seen the frames that the others must foresee"""
    valid_prediction_frames: dict[str, Estimate]
    """frames until a prediction is no longer valid, by predictor"""
    r2_linear: dict[str, float] = dataclasses.field(default_factory=dict)
    """of a probe from latents to true variables; empty without states"""
    polynomial_degree: int | None = None
    r2_polynomial: dict[str, float] = dataclasses.field(default_factory=dict)
    samples: Samples | None = None
    outside: Outside | None = None
    """None where the training data is not there any more"""
    model: str = ""
    """its name in the catalogue"""
    data: str = ""
    """path of the data set"""
    trained_steps: int = 0
    left_out: list[str] = dataclasses.field(default_factory=list)
    """what could not be evaluated or drawn, and why, a line each"""

    def __post_init__(self) -> None:
        """Raises ValueError where the parts do not fit each other."""
        shown, names = self.shown_horizons, {measure.name for measure in self.measures}
        series = [getattr(curve, part) for row in self.rows.values() for curve in row.values() for part in PARTS]
        if self.samples is not None:
            series += [self.samples.crps, *(self.samples.coverage[level] for level in SHOWN_LEVELS)]
        outside = [] if self.outside is None else list(self.outside.latents.values())
        fits = (
            bool(shown)
            and 1 <= min(shown) <= max(shown) <= self.horizon
            and all(len(values) == self.horizon for values in series)
            and all(len(shares) == len(shown) for shares in outside)
            and all(names >= set(row) for row in self.rows.values())
            and self.measures[0].name in self.rows["model"]
            and all(re.fullmatch(r"\.\d[fg%]", measure.form) for measure in self.measures)
        )
        if not fits:
            raise ValueError("the parts of an evaluation do not fit each other")


PARTS = tuple(field.name for field in dataclasses.fields(Curve))


def read_record(kind: type[T], path: Path, made_by: str) -> T:
    """A dataclass that `write_json` wrote. Raises UserError when the file is damaged or of another version."""
    found: Any = read_json(path)
    try:
        return from_json(kind, found)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f"{path}: damaged, or of another version; {made_by}") from None


def read_evaluation(path: Path) -> Evaluation:
    """Raises UserError when the file is damaged or of another version."""
    return read_record(Evaluation, path, "make it anew with scripts/evaluate.py")
