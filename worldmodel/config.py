"""Dataclasses from the JSON of a run's config.json. Imports nothing heavy."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.files import UserError, read_json

T = TypeVar("T")


def from_json(kind: type[T], value: dict[str, Any]) -> T:
    """A dataclass from a JSON object; fields may be dataclasses, paths and tuples of numbers, and fields that
    are not there keep their defaults. Raises TypeError for a name that `kind` does not have."""
    types = typing.get_type_hints(kind)
    return kind(**{name: _convert(types.get(name), item) for name, item in value.items()})


def _convert(expected: Any, item: Any) -> Any:
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return from_json(expected, item)
    if expected is Path:
        return Path(item)
    if typing.get_origin(expected) is tuple:
        return tuple(item)
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
