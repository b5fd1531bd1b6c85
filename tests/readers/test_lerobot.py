"""LeRobot data sets in the layouts that the lerobot package publishes, written by pyarrow and PyAV."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made import RANDOM, assert_near, noise, smooth, write_video

import worldmodel as wm
from worldmodel.support.files import UserError

pyarrow = pytest.importorskip("pyarrow", reason="the extra lerobot is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra lerobot is not installed")
pytest.importorskip("av", reason="the extra lerobot is not installed")

TOP, WRIST = "observation.images.top", "observation.images.wrist"
LENGTHS = (7, 5, 7)


def numbers(length: int, episode: int) -> dict[str, Any]:
    """The columns of an episode, as lerobot has them."""
    return {
        "action": list(RANDOM.standard_normal((length, 2)).astype(np.float32)),
        "observation.state": list(RANDOM.standard_normal((length, 3)).astype(np.float32)),
        "next.reward": np.arange(length, dtype=np.float32) + episode,
        "timestamp": np.arange(length, dtype=np.float32) / 10,
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
    }


def write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)


def write_info(root: Path, version: str, **more: Any) -> None:
    features = {
        "action": {"dtype": "float32", "shape": [2], "names": ["left", "right"]},
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": ["x", "y", "z"]}},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        TOP: {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channels"]},
        WRIST: {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channels"]},
        "observation.depth": {"dtype": "video", "shape": [32, 32, 1], "info": {"video.is_depth_map": True}},
    }
    old = version != "v3.0"
    chunk = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    info = {
        "codebase_version": version,
        "fps": 10,
        "chunks_size": 2,
        "data_path": chunk if old else "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": video if old else "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    } | more
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def written(root: Path, version: str, codec: str = "libx264") -> list[tuple[np.ndarray, dict[str, Any]]]:
    """A data set of three episodes: a file each, two in a chunk; or, in version 3, the first two in the same file."""
    made = [(smooth(length, 0.25 * n), numbers(length, n)) for n, length in enumerate(LENGTHS)]
    write_info(root, version)
    if version != "v3.0":
        lines = [{"episode_index": n, "tasks": ["push"], "length": length} for n, length in enumerate(LENGTHS)]
        (root / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        for n, (pictures, columns) in enumerate(made):
            write_table(root / f"data/chunk-{n // 2:03d}/episode_{n:06d}.parquet", columns)
            write_video(root / f"videos/chunk-{n // 2:03d}/{TOP}/episode_{n:06d}.mp4", pictures, codec=codec)
        return made
    for number, which in enumerate(([0, 1], [2])):
        columns = {name: np.concatenate([np.array(made[n][1][name]) for n in which]) for name in made[0][1]}
        columns = {name: list(array) if array.ndim > 1 else array for name, array in columns.items()}
        write_table(root / f"data/chunk-000/file-{number:03d}.parquet", columns)
        pictures = np.concatenate([made[n][0] for n in which])
        write_video(root / f"videos/{TOP}/chunk-000/file-{number:03d}.mp4", pictures, codec=codec)
    starts = {"from_timestamp": [0.0, 0.7, 0.0], "to_timestamp": [0.7, 1.2, 0.7]}
    episodes = {"episode_index": [0, 1, 2], "tasks": [["push"]] * 3, "length": list(LENGTHS)}
    episodes |= {"data/chunk_index": [0] * 3, "data/file_index": [0, 0, 1], "dataset_from_index": [0, 7, 12]}
    places = {"chunk_index": [0] * 3, "file_index": [0, 0, 1]} | starts
    for camera in (TOP, WRIST):
        episodes |= {f"videos/{camera}/{name}": value for name, value in places.items()}
    write_table(root / "meta/episodes/chunk-000/file-000.parquet", episodes)
    return made


@pytest.mark.parametrize(("version", "codec"), [("v2.0", "libx264"), ("v2.1", "libsvtav1"), ("v3.0", "libsvtav1")])
def test_what_was_written_is_read(version: str, codec: str, tmp_path: Path):
    made = written(tmp_path, version, codec)
    data = wm.read(tmp_path, grey=False, camera="top")
    assert (len(data), data.length, data.dt, data.state_names) == (3, 7, 0.1, ("x", "y", "z"))
    np.testing.assert_array_equal(data.lengths(), LENGTHS)
    for n, (pictures, columns) in enumerate(made):
        length = LENGTHS[n]
        assert_near(data.frames[n, :length], pictures)
        np.testing.assert_array_equal(data.states[n, :length], columns["observation.state"])
        np.testing.assert_array_equal(data.actions[n, : length - 1], columns["action"][:-1])
        np.testing.assert_array_equal(data.rewards[n, : length - 1], columns["next.reward"][:-1])


def test_images_in_the_rows(tmp_path: Path):
    """PNG in the table, or beside it."""
    feature = {"observation.image": {"dtype": "image", "shape": [16, 16, 3]}}
    features = feature | {"action": {"dtype": "float32", "shape": [1]}}
    write_info(tmp_path, "v2.1", features=features, video_path=None)
    (tmp_path / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 4}\n')
    pictures = noise(4)
    files = [cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes() for picture in pictures]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "3.png").write_bytes(files[3])
    cells = [{"bytes": each, "path": None} for each in files[:3]] + [{"bytes": None, "path": "images/3.png"}]
    columns = {"action": [0.0, 1.0, 2.0, 3.0], "episode_index": [0] * 4, "observation.image": cells}
    write_table(tmp_path / "data/chunk-000/episode_000000.parquet", columns)
    data = wm.read(tmp_path, size=16, grey=False)
    np.testing.assert_array_equal(data.frames[0], pictures)
    np.testing.assert_array_equal(data.actions[0, :, 0], [0, 1, 2])


def change_column(path: Path, name: str, value: Any) -> None:
    columns = parquet.read_table(path).to_pydict()
    columns.pop(name) if value is None else columns.update({name: value})
    write_table(path, columns)


FIRST = Path("data/chunk-000/episode_000000.parquet")
FAULTS = {
    "two cameras": ({}, r"has pictures observation.images.top, observation.images.wrist; choose one by --camera"),
    "no such camera": ({"camera": "depth"}, r"--camera depth is none of what it has"),
    "no such state": ({"state": "force"}, r"--state force is none of what it has: columns of numbers action"),
    "version": ({}, r"info.json: codebase_version is 1.6; 2.0, 2.1 and 3.0 are read"),
    "fps": ({}, r"episode_000000.mp4: has 10 frames a second; meta/info.json says 30"),
    "no fps": ({}, r"info.json: has no fps"),
    "length": ({}, r"episode_000000.parquet: has 7 rows of episode 0, and should have 6"),
    "video": ({}, r"episode_000000.mp4: has 4 pictures for 7 rows"),
    "no column": ({}, r"episode_000000.parquet: has no column action"),
    "ragged": ({}, r"episode_000000.parquet: action must be numbers, of one shape in all rows"),
    "no file": ({}, r"episode_000000.parquet: no such file"),
    "torn": ({}, r"episode_000000.parquet: cannot be read as parquet: "),
    "no episodes": ({}, r"episodes.jsonl: cannot be read: No such file"),
    "path": ({}, r"robot: cannot be read as a LeRobot data set: no 'place'"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(kind: str, tmp_path: Path):
    root = tmp_path / "robot"
    written(root, "v2.1")
    changes = {
        "version": {"codebase_version": "v1.6"},
        "fps": {"fps": 30},
        "no fps": {"fps": None},
        "path": {"data_path": "{place}"},
    }
    if kind in changes:
        write_info(root, **({"version": "v2.1"} | {"codebase_version": "v2.1"} | changes[kind]))
    elif kind == "length":
        (root / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 6}\n')
    elif kind == "video":
        write_video(root / f"videos/chunk-000/{TOP}/episode_000000.mp4", smooth(4))
    elif kind == "no column":
        change_column(root / FIRST, "action", None)
    elif kind == "ragged":
        change_column(root / FIRST, "action", [[1.0]] * 6 + [[1.0, 2.0]])
    elif kind == "no file":
        (root / FIRST).unlink()
    elif kind == "torn":
        (root / FIRST).write_bytes((root / FIRST).read_bytes()[:-20])
    elif kind == "no episodes":
        (root / "meta" / "episodes.jsonl").unlink()
    options, message = FAULTS[kind]
    options = {} if kind == "two cameras" else {"camera": "top"} | options
    with pytest.raises(UserError, match=message) as error:
        wm.read(root, out=tmp_path / "data", **options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["robot"]
