"""Options: checks of their values, and dataclasses from the JSON of a run's config.json. Imports nothing heavy."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.support.files import UserError, read_json

T = TypeVar("T")

SEED_FOLDER = "seed_"
"""begins the name of a run's folder within that of several seeds"""


def from_json(kind: type[T], value: dict[str, Any]) -> T:
    """A dataclass from a JSON object; fields may be dataclasses, paths and tuples of numbers, and fields that
    are not there keep their defaults. Raises TypeError for a name that `kind` does not have or a wrong type."""
    types = typing.get_type_hints(kind)
    return kind(**{name: _convert(types.get(name), item) for name, item in value.items()})


def _convert(expected: Any, item: Any) -> Any:
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return from_json(expected, item)
    if expected is Path:
        return Path(item)
    if typing.get_origin(expected) is tuple:
        return tuple(item)
    if typing.get_origin(expected) is types.UnionType:
        return None if item is None else _convert(typing.get_args(expected)[0], item)
    if expected is float and type(item) is int:
        return float(item)
    if expected in (bool, int, float, str) and type(item) is not expected:
        raise TypeError(f"{item!r} is not of type {expected.__name__}")
    return item


def read_options(folder: Path, kind: type[T], part: str | None = None) -> T:
    """The options in the config.json of a run folder, or a named part of them.

    Raises UserError when they are not those of `kind`.
    """
    path = folder / "config.json"
    try:
        options = read_json(path)["options"]
        return from_json(kind, options if part is None else options[part])
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: its options are not those of this script") from None


def require_at_least(name: str, value: float, least: float) -> None:
    """Raise UserError unless `value` is finite and at least `least`."""
    if not (math.isfinite(value) and value >= least):
        raise UserError(f"{name} must be at least {least}, not {value}")


def require_positive(name: str, value: float) -> None:
    """Raise UserError unless `value` is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} must be above 0, not {value}")


def require_share(name: str, value: float) -> None:
    """Raise UserError unless `value` is in [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} must be between 0 and 1, not {value}")
