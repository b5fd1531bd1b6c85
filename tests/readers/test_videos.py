"""Folders of videos, which PyAV encodes, with CSV files."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_script
from made import RANDOM, assert_near, smooth, write_video

import worldmodel as wm
from worldmodel.support.files import UserError

pytest.importorskip("av", reason="the extra video is not installed")


def write_csv(path: Path, columns: dict[str, object]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def beside(folder: Path, lengths: tuple[int, ...] = (8, 6)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Videos run_9, run_10, ... with a CSV each, with a line for every frame; the last action is empty."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, length in enumerate(lengths):
        pictures, actions = smooth(length, 0.3 * number), RANDOM.standard_normal((length - 1, 2))
        write_video(folder / f"run_{9 + number}.mp4", pictures)
        columns = {"time": np.arange(length) / 10, "action left": [*actions[:, 0], ""]}
        columns |= {"action right": [*actions[:, 1], ""], "state_angle": np.arange(length) / 4, "note": ["x"] * length}
        write_csv(folder / f"run_{9 + number}.csv", columns)
        made.append((pictures, actions))
    return made


def test_a_csv_beside_each_video(tmp_path: Path):
    made = beside(tmp_path / "runs")
    data = wm.read(tmp_path / "runs", grey=False)
    assert (len(data), data.length, data.dt, data.state_names) == (2, 8, pytest.approx(0.1), ("state_angle",))
    np.testing.assert_array_equal(data.lengths(), [8, 6])
    for n, (pictures, actions) in enumerate(made):
        assert_near(data.frames[n, : len(pictures)], pictures)
        np.testing.assert_array_equal(data.actions[n, : len(actions)], actions.astype(np.float32))
        np.testing.assert_array_equal(data.states[n, : len(pictures), 0], np.arange(len(pictures)) / 4)


def test_one_csv_for_all_and_a_line_less_than_frames(tmp_path: Path):
    made = {"b.mp4": smooth(5), "a.mp4": smooth(5, 0.4)}
    for name, pictures in made.items():
        write_video(tmp_path / "runs" / name, pictures)
    columns = {"video": ["b"] * 4 + ["a.mp4"] * 4, "push": np.arange(8), "reward": np.arange(8) / 2}
    write_csv(tmp_path / "runs" / "all.csv", columns | {"ended": [0, 0, 0, 1, 0, 0, 0, 0]})
    result = run_script("convert.py", tmp_path / "runs", "--out", tmp_path / "data", "--action", "push", "--no-grey")
    assert result.returncode == 0, result.stderr
    data = wm.read(tmp_path / "data")
    assert_near(data.frames[0], made["a.mp4"])
    np.testing.assert_array_equal(data.actions[:, :, 0], [[4, 5, 6, 7], [0, 1, 2, 3]])
    np.testing.assert_array_equal(data.rewards * 2, data.actions[:, :, 0])
    np.testing.assert_array_equal(data.ended, [[0, 0, 0, 0], [0, 0, 0, 1]])
    assert data.states is None


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_that_is_to_be_turned_is_turned(quarters: int, tmp_path: Path):
    """As a telephone says it, in the matrix of the track's header; OpenCV, which turns them by itself, is the truth."""
    write_video(tmp_path / "a.mp4", smooth(4))
    write_csv(tmp_path / "a.csv", {"action": [1, 2, 3]})
    raw = bytearray((tmp_path / "a.mp4").read_bytes())
    at = raw.index(b"tkhd") + 4 + 40
    cosine, sine = ((0, 1), (-1, 0), (0, -1))[quarters - 1]
    matrix = np.array([cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30], ">i4")
    raw[at : at + 36] = matrix.tobytes()
    (tmp_path / "a.mp4").write_bytes(raw)
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    turned = np.stack([video.read()[1][:, :, ::-1] for _ in range(4)])
    assert_near(turned, np.rot90(smooth(4), -quarters, axes=(1, 2)))
    assert_near(wm.read(tmp_path, grey=False).frames[0], turned)


def fault(folder: Path, kind: str) -> None:
    """A good folder, made a bad one."""
    sheet = folder / "run_10.csv"
    lines = sheet.read_text().splitlines()
    if kind == "rate":
        write_video(folder / "run_10.mp4", smooth(6), fps=25)
    elif kind == "number":
        sheet.write_text("\n".join(lines[:4]))
    elif kind == "column":
        sheet.write_text("\n".join([lines[0].replace("action", "torque"), *lines[1:]]))
    elif kind == "text":
        sheet.write_text("\n".join([*lines[:2], lines[2].replace("x", "x").replace(",", ",a", 1), *lines[3:]]))
    elif kind == "ragged":
        sheet.write_text("\n".join([*lines, "1,2"]))
    elif kind == "alone":
        sheet.unlink()
        write_csv(folder / "other.csv", {"action": [1]})
    elif kind == "none":
        (folder / "run_10.mp4").write_bytes(b"hello" * 100)
    elif kind == "empty":
        sheet.write_text(lines[0])
    elif kind == "torn":
        whole = (folder / "run_10.mp4").read_bytes()
        (folder / "run_10.mp4").write_bytes(whole[: len(whole) // 2])
    elif kind == "size":
        write_video(folder / "run_10.mp4", smooth(6, side=48))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rate", r"runs: the videos differ in their frames a second: run_9.mp4 10 and run_10.mp4 25"),
        ("number", r"run_10.csv: has 3 lines for 6 frames of run_10.mp4"),
        ("column", r"run_10.csv: has no column of actions \(action, action_0, ...\); name them: --action"),
        ("text", r"run_10.csv: action must be numbers in every line of a frame"),
        ("ragged", r"run_10.csv: a line has 2 columns, the first 5"),
        ("alone", r"run_10.mp4 has no run_10.csv beside it"),
        ("none", r"run_10.mp4: cannot be read as a video: Invalid data"),
        ("torn", r"run_10.mp4: cannot be read as a video: "),
        ("empty", r"run_10.csv: has no lines below"),
        ("size", r"run_10.mp4: has a picture \[48, 48, 3\]; those before are \[32, 32, 3\]"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(kind: str, message: str, tmp_path: Path):
    beside(tmp_path / "runs")
    fault(tmp_path / "runs", kind)
    with pytest.raises(UserError, match=message) as error:
        wm.read(tmp_path / "runs", out=tmp_path / "data")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_lines_of_videos_that_are_not_there(tmp_path: Path):
    write_video(tmp_path / "a.mp4", smooth(4))
    write_video(tmp_path / "b.mp4", smooth(4))
    for columns, message in (
        ({"action": [1, 2, 3]}, "has no column 'video'"),
        ({"video": ["a", "c"], "action": [1, 2]}, "names the video 'c', which is not in"),
        ({"video": ["a"] * 3, "action": [1, 2, 3]}, "has no line of b.mp4"),
    ):
        write_csv(tmp_path / "all.csv", columns)
        with pytest.raises(UserError, match=message):
            wm.read(tmp_path)
