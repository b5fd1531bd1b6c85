"""A folder of videos, by PyAV, with the actions in CSV files: beside each video one of the same name (run_1.mp4,
run_1.csv), or one for all, whose column `video` names the file; with a single video it needs none.

The first line names the columns, every further line is a frame, in order; the last frame of a video may have no line,
or an empty action. Columns belong together by how their names begin: action, action_0, action.x, action left, ... are
the actions (--action), those of state the states (--state), where there are any; reward and ended are of the action,
valid is of the frame (0 or 1). Other columns are passed over.

A video has all its frames at one distance: what its file says is its rate, and all must have the same.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from worldmodel.readers.catalogue import Episode, Keys, Source, in_order
from worldmodel.support.files import UserError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
NAME = "video"
ACTION, STATE = "action", "state"


class Videos:
    """A folder of videos with the actions in CSV files"""

    @staticmethod
    def recognises(source: Path) -> bool:
        return bool(_files(source, *SUFFIXES) and _files(source, ".csv"))

    @staticmethod
    def read(source: Path, keys: Keys) -> Source:
        from worldmodel.readers.pictures import Video

        if keys.camera is not None:
            raise UserError("--camera: a video has one; keep the videos of each camera in a folder of their own")
        found = _found(source)
        if not found:
            raise UserError(f"{source}: has no videos ({', '.join(SUFFIXES)}) with CSV files")
        action, state = keys.action or ACTION, keys.state or STATE
        lengths, rates = [], {}
        for path, table in found:
            video = Video(path)
            lengths.append(video.count)
            rates[video.fps] = path
            if not table.columns(action):
                raise UserError(
                    f"{table.path}: has no column of actions ({action}, {action}_0, ...); name them: --action"
                )
            if keys.state and not table.columns(state):
                raise UserError(f"{table.path}: has no column {state}")
            if len(table.rows) not in (video.count, video.count - 1):
                raise UserError(f"{table.path}: has {len(table.rows)} lines for {video.count} frames of {path.name}")
        if len(rates) > 1:
            told = " and ".join(f"{path.name} {rate or 0:g}" for rate, path in list(rates.items())[:2])
            raise UserError(f"{source}: the videos differ in their frames a second: {told}")
        [rate] = rates
        names = [found[0][1].header[column] for column in found[0][1].columns(state)]
        return Source(lengths, _episodes(found, action, state), 1 / rate if rate else None, tuple(names))


class _Table(NamedTuple):
    """The lines of a video."""

    path: Path
    header: list[str]
    rows: list[list[str]]

    def columns(self, name: str) -> list[int]:
        """The numbers of those columns that are called so, or begin so."""
        return [at for at, other in enumerate(self.header) if re.match(rf"{re.escape(name)}s?([_. \[\d]|$)", other)]

    def numbers(self, name: str, rows: int) -> np.ndarray | None:
        """`[rows, columns]` of a name; None where there are no such columns. Raises UserError for what is no number."""
        import numpy as np

        columns = self.columns(name)
        try:
            found = [[float(row[column]) for column in columns] for row in self.rows[:rows]]
        except (ValueError, IndexError):
            raise UserError(f"{self.path}: {name} must be numbers in every line of a frame") from None
        return np.array(found) if columns else None


def _files(source: Path, *suffixes: str) -> list[Path]:
    inside = source.iterdir() if source.is_dir() else []
    found = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
    return sorted(found, key=lambda path: in_order(path.name))


def _found(source: Path) -> list[tuple[Path, _Table]]:
    """Each video and its lines."""
    videos, sheets = _files(source, *SUFFIXES), _files(source, ".csv")
    if not videos or not sheets:
        return []
    if all(path.with_suffix(".csv") in sheets for path in videos):
        return [(path, _read(path.with_suffix(".csv"))) for path in videos]
    if len(sheets) > 1:
        alone = next(path for path in videos if path.with_suffix(".csv") not in sheets)
        raise UserError(f"{source}: {alone.name} has no {alone.stem}.csv beside it")
    table = _read(sheets[0])
    if NAME not in table.header:
        if len(videos) > 1:
            raise UserError(f"{table.path}: has no column '{NAME}' that says to which video a line belongs")
        return [(videos[0], table)]
    of: dict[str, list[list[str]]] = {}
    for row in table.rows:
        of.setdefault(row[table.header.index(NAME)].strip(), []).append(row)
    named = {name: path for path in videos for name in (path.stem, path.name)}
    for name in of:
        if name not in named:
            raise UserError(f"{table.path}: names the video '{name}', which is not in {source}")
    lines = {named[name]: table._replace(rows=rows) for name, rows in of.items()}
    for path in videos:
        if path not in lines:
            raise UserError(f"{table.path}: has no line of {path.name}")
    return [(path, lines[path]) for path in videos]


def _read(path: Path) -> _Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{path}: is no CSV file") from None
    if len(rows) < 2:
        raise UserError(f"{path}: has no lines below the names of its columns")
    header = [name.strip() for name in rows[0]]
    for row in rows[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}: a line has {len(row)} columns, the first {len(header)}")
    return _Table(path, header, rows[1:])


def _episodes(found: list[tuple[Path, _Table]], action: str, state: str) -> Iterator[Episode]:
    from worldmodel.readers.pictures import Video

    for path, table in found:
        video = Video(path)
        acted = video.count - 1
        actions, rewards, ended = (table.numbers(name, acted) for name in (action, "reward", "ended"))
        states, valid = (table.numbers(name, video.count) for name in (state, "valid"))
        assert actions is not None
        yield Episode(
            path.name,
            video.pictures(0, video.count + 1),
            actions,
            states,
            *(None if each is None else each[:, 0] for each in (rewards, ended, valid)),
        )
