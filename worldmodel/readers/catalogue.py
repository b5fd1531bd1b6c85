"""The formats that data sets are read from, and what an entry point of theirs must name.

A format is one file and one entry point in the group "worldmodel.readers", which names a Reader. It gives pictures as
they lie in the source; converting.py makes frames of them, pads episodes and writes the data set. Nothing heavy is
imported here, nor on top of a reader's file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from worldmodel.support.catalogue import Catalogue
from worldmodel.support.files import UserError

if TYPE_CHECKING:
    import numpy as np

READERS = Catalogue("worldmodel.readers", "format")


@dataclasses.dataclass(frozen=True)
class Keys:
    """What a user says of a source that does not speak for itself; None: what the format calls it, or all that there
    is."""

    camera: str | None = None
    """name of the pictures, or the end of it"""
    action: str | None = None
    state: str | None = None


class Episode(NamedTuple):
    """One episode of T frames, as it lies in the source. A T-th action, which leads to no frame, is passed over."""

    name: str
    """what messages call it, such as "demo_3" """
    pictures: Iterable[np.ndarray]
    """T of them, uint8 `[H, W]` or `[H, W, C]` (grey, RGB or RGBA), read when they are asked for"""
    actions: np.ndarray
    """numbers `[T, A]` or `[T-1, A]`; the t-th leads from picture t to picture t+1"""
    states: np.ndarray | None = None
    """numbers `[T, S]`"""
    rewards: np.ndarray | None = None
    """numbers `[T]` or `[T-1]`; what each action was paid"""
    ended: np.ndarray | None = None
    """`[T]` or `[T-1]`: whether the episode ended with this action, by itself; None: it did not"""
    valid: np.ndarray | None = None
    """`[T]`: whether the picture was seen; None: all were"""


class Source(NamedTuple):
    """An opened source of N episodes."""

    lengths: Sequence[int]
    """T of each episode, known before any picture is read"""
    episodes: Iterable[Episode]
    """in the same order, each read when it is reached"""
    dt: float | None = None
    """seconds between two pictures, where the source tells"""
    state_names: tuple[str, ...] = ()
    """S names, where the source has them"""


class Reader(Protocol):
    """A format. The first sentence of its docstring stands in the list of formats."""

    @staticmethod
    def recognises(source: Path) -> bool:
        """Whether a file or folder looks like this format, by the names in it alone."""
        ...

    @staticmethod
    def read(source: Path, keys: Keys) -> Source:
        """Open a source. Raises UserError for what does not fit, then or while the episodes are read."""
        ...


def format_of(source: Path) -> str | None:
    """The format that a file or folder looks like; None: no known one. Raises UserError when it looks like several."""
    found = [name for name in READERS.names() if READERS.options(name).recognises(source)]
    if len(found) > 1:
        raise UserError(f"{source}: looks like {' and '.join(found)}; choose one by --format")
    return found[0] if found else None


@contextlib.contextmanager
def reading(place: object, kind: str) -> Iterator[None]:
    """Whatever a library raises within the block becomes one line that begins with `place`, which cannot be read as
    `kind`: damaged files make libraries fail in more ways than can be listed."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = getattr(error, "strerror", None) or (f"no {error}" if isinstance(error, KeyError) else str(error))
        raise UserError(f"{place}: cannot be read as {kind}: {' '.join(what.split())}") from None


def chosen(wanted: str | None, names: Collection[str], what: str, option: str, place: object) -> str:
    """The one of the names that is wanted, by its whole or by its last parts, or the only one that there is.

    Raises UserError, beginning with `place`, when it is none or not one alone; `what` there are, in the plural.
    """
    among = f"{what} {', '.join(sorted(names, key=in_order))}" if names else f"no {what}"
    if wanted is None and len(names) == 1:
        return next(iter(names))
    if wanted is None:
        raise UserError(f"{place}: has {among}" + (f"; choose one by {option}" if names else ""))
    found = [name for name in names if name == wanted] or [
        name for name in names if name.endswith(("/" + wanted, "." + wanted))
    ]
    if len(found) != 1:
        raise UserError(f"{place}: {option} {wanted} is {'several' if found else 'none'} of what it has: {among}")
    return found[0]


def in_order(name: str) -> list[tuple[int, str]]:
    """A key to sort names by in which demo_10 comes after demo_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
