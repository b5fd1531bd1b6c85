"""LeRobot data sets, by pyarrow and PyAV; the lerobot package is not needed. These layouts are read, as the package
publishes them (codebase_version in meta/info.json, which also has the paths):

    v2.0, v2.1   meta/episodes.jsonl                         a line an episode: episode_index, length
                 data/chunk-000/episode_000000.parquet       a row a frame
                 videos/chunk-000/KEY/episode_000000.mp4
    v3.0         meta/episodes/chunk-000/file-000.parquet    a row an episode: its files, its seconds in them
                 data/chunk-000/file-000.parquet             the rows of many episodes
                 videos/KEY/chunk-000/file-000.mp4           their pictures, one after the other

Pictures are a feature of dtype video or image (image files in the rows), --camera where there are several; depth maps
are none. Actions are `action` (--action), states `observation.state` (--state), where it is there, rewards
`next.reward`. Row t has frame t and the action that was taken on it, so that the last row's action is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from worldmodel.readers.catalogue import Episode, Keys, Source, chosen, reading
from worldmodel.support.extras import library
from worldmodel.support.files import UserError, read_json

if TYPE_CHECKING:
    import numpy as np

    from worldmodel.readers.pictures import Video

INFO = Path("meta") / "info.json"
ACTION, STATE, REWARD, EPISODE = "action", "observation.state", "next.reward", "episode_index"
DATA_PATH = {
    2: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    3: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
VIDEO_PATH = {
    2: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    3: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


class LeRobot:
    """LeRobot data sets of versions 2.0, 2.1 and 3.0: parquet and mp4"""

    @staticmethod
    def recognises(source: Path) -> bool:
        return (source / INFO).is_file()

    @staticmethod
    def read(source: Path, keys: Keys) -> Source:
        library("pyarrow", "lerobot")
        with reading(source, "a LeRobot data set"):
            meta = _Meta.of(source, keys)
            places = meta.places()
        if meta.in_video:
            library("av", "lerobot")  # say it now, not at the first episode
        return Source([place.length for place in places], _episodes(meta, places), 1 / meta.fps, meta.state_names())


class _Place(NamedTuple):
    """Where an episode is."""

    number: int
    length: int
    data: Path
    video: Path | None
    """None: its pictures are in the data"""
    first: int
    """number of its first picture in the video"""


class _Meta(NamedTuple):
    """What meta/info.json says, and what was chosen of it."""

    source: Path
    version: int
    info: dict[str, Any]
    fps: float
    camera: str
    action: str
    state: str | None

    @staticmethod
    def of(source: Path, keys: Keys) -> _Meta:
        info = read_json(source / INFO)
        features = info.get("features") if isinstance(info, dict) else None
        if not isinstance(features, dict) or not all(isinstance(each, dict) for each in features.values()):
            raise UserError(f"{source / INFO}: has no features")
        version = str(info.get("codebase_version")).removeprefix("v")
        if version not in ("2.0", "2.1", "3.0"):
            raise UserError(f"{source / INFO}: codebase_version is {version}; 2.0, 2.1 and 3.0 are read")
        fps = info.get("fps")
        if not isinstance(fps, int | float) or not fps > 0:
            raise UserError(f"{source / INFO}: has no fps")
        cameras = [
            name for name, each in features.items() if each.get("dtype") in ("video", "image") and not _depth(each)
        ]
        numbers = [name for name, each in features.items() if str(each.get("dtype")).startswith(("float", "int"))]
        camera = chosen(keys.camera, cameras, "pictures", "--camera", source)
        action = chosen(keys.action or ACTION, numbers, "columns of numbers", "--action", source)
        wanted = keys.state or (STATE if STATE in numbers else None)
        state = None if wanted is None else chosen(wanted, numbers, "columns of numbers", "--state", source)
        return _Meta(source, int(version[0]), info, float(fps), camera, action, state)

    @property
    def in_video(self) -> bool:
        return self.info["features"][self.camera]["dtype"] == "video"

    def state_names(self) -> tuple[str, ...]:
        """A list, or one in a dictionary by what has them ({"motors": [...]}), or nothing."""
        names = self.info["features"][self.state].get("names") if self.state else None
        if isinstance(names, dict):
            names = [name for each in names.values() if isinstance(each, list) for name in each]
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def places(self) -> list[_Place]:
        """The episodes in their order."""
        rows = self._rows_of_lines() if self.version == 2 else self._rows_of_tables()
        return [self._place(row) for row in sorted(rows, key=lambda row: row[EPISODE])]

    def _rows_of_lines(self) -> list[dict[str, Any]]:
        path = self.source / "meta" / "episodes.jsonl"
        try:
            return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise UserError(f"{path}: not lines of JSON") from None

    def _rows_of_tables(self) -> list[dict[str, Any]]:
        columns = [EPISODE, "length", "data/chunk_index", "data/file_index"]
        if self.in_video:
            columns += [f"videos/{self.camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        paths = sorted((self.source / "meta" / "episodes").glob("*/*.parquet"))
        return [row for path in paths for row in _table(path, columns).to_pylist()]

    def _place(self, row: dict[str, Any]) -> _Place:
        number, length = int(row[EPISODE]), int(row["length"])
        names: dict[str, Any] = {"video_key": self.camera, "episode_index": number}
        names["episode_chunk"] = number // int(self.info.get("chunks_size", 1000))

        def path(kind: str, usual: dict[int, str], prefix: str) -> Path:
            if self.version == 3:
                names.update({name: int(row[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")})
            return self.source / (self.info.get(kind) or usual[self.version]).format(**names)

        data, video, first = path("data_path", DATA_PATH, "data"), None, 0
        if self.in_video:
            video = path("video_path", VIDEO_PATH, f"videos/{self.camera}")
            if self.version == 3:
                first = round(float(row[f"videos/{self.camera}/from_timestamp"]) * self.fps)
        return _Place(number, length, data, video, first)


def _depth(feature: dict[str, Any]) -> bool:
    info = (feature.get("info") or {}) | (feature.get("video_info") or {})
    return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))


def _table(path: Path, columns: list[str], episode: int | None = None) -> Any:
    """Columns of a parquet file, or of the rows of one episode in it."""
    import pyarrow.parquet

    rows = None if episode is None else [(EPISODE, "=", episode)]
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with reading(path, "parquet"):
        there = pyarrow.parquet.read_schema(path).names
        missing = [name for name in columns if name not in there]
        if missing:
            raise UserError(f"{path}: has no column {', '.join(missing)}")
        return pyarrow.parquet.read_table(path, columns=columns, filters=rows, partitioning=None)


def _episodes(meta: _Meta, places: list[_Place]) -> Iterator[Episode]:
    from worldmodel.readers.pictures import Video

    rewarded = REWARD in meta.info["features"]
    columns = [EPISODE, *{meta.action, meta.state or meta.action}, *([REWARD] if rewarded else [])]
    video: Video | None = None
    for place in places:
        table = _table(place.data, columns + ([] if meta.in_video else [meta.camera]), place.number)
        if len(table) != place.length:
            raise UserError(
                f"{place.data}: has {len(table)} rows of episode {place.number}, and should have {place.length}"
            )
        if place.video is None:
            pictures = _images(meta, place, table)
        else:
            if video is None or video.path != place.video:
                video = Video(place.video)
                _check(meta, place, video)
            pictures = video.pictures(place.first, place.first + place.length)
        yield Episode(
            f"episode {place.number}",
            pictures,
            _vectors(table, meta.action, place.data),
            None if meta.state is None else _vectors(table, meta.state, place.data),
            _vectors(table, REWARD, place.data)[:, 0] if rewarded else None,
        )


def _check(meta: _Meta, place: _Place, video: Video) -> None:
    """Raise UserError for a video that is not what the metadata says."""
    if video.fps is not None and abs(video.fps - meta.fps) > 0.01 * meta.fps:
        raise UserError(f"{video.path}: has {video.fps:g} frames a second; meta/info.json says {meta.fps:g}")
    if meta.version == 2 and video.count != place.length:
        raise UserError(f"{video.path}: has {video.count} pictures for {place.length} rows")


def _vectors(table: Any, name: str, path: Path) -> np.ndarray:
    """A column of numbers or of lists of them, `[T, A]`."""
    import numpy as np

    try:
        array = np.array(table[name].to_pylist(), np.float64)
    except (ValueError, TypeError):  # lists of different lengths, or no numbers
        raise UserError(f"{path}: {name} must be numbers, of one shape in all rows") from None
    return array.reshape(len(array), -1)


def _images(meta: _Meta, place: _Place, table: Any) -> Iterator[np.ndarray]:
    """Of image files in the rows, or beside them."""
    from worldmodel.readers.pictures import image

    for cell in table[meta.camera]:
        found = cell.as_py() or {}
        data, path = (found.get("bytes"), found.get("path")) if isinstance(found, dict) else (None, None)
        if data is None and path is not None and (meta.source / path).is_file():
            data = (meta.source / path).read_bytes()
        yield image(data or b"", f"{place.data}: {meta.camera}")
