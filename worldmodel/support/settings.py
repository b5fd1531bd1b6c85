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
    """A dataclass from a JSON object; fields may be dataclasses, paths, lists and dictionaries of these, and tuples.

    Fields that are not there keep their defaults, or have the value that stands for them in the class's ADDED. A name
    in its RETIRED is passed over if it has the value that stands there. Raises TypeError for another name that `kind`
    does not have, and for a wrong type.
    """
    types = typing.get_type_hints(kind)
    retired = getattr(kind, "RETIRED", {})
    kept = {name: item for name, item in value.items() if name not in retired or retired[name] != item}
    kept = getattr(kind, "ADDED", {}) | kept
    return kind(**{name: _convert(types.get(name), item) for name, item in kept.items()})


def _convert(expected: Any, item: Any) -> Any:
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return from_json(expected, item)
    if expected is Path:
        return Path(item)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple:
        return tuple(item)
    if origin is list:
        if not isinstance(item, list):
            raise TypeError(f"{item!r} is no list")
        return [_convert(arguments[0], each) for each in item]
    if origin is dict:
        return {key: _convert(arguments[1], each) for key, each in item.items()}
    if origin is types.UnionType:
        return None if item is None else _convert(arguments[0], item)
    if expected is float and item is None:
        return math.nan  # as JSON has what is no number
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
        raise UserError(f"{path}: its options are not those of this model") from None


def flag(name: str) -> str:
    """An option's name as it is on the command line."""
    return "--" + name.replace("_", "-")


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
