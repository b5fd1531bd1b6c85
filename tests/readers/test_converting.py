"""What holds of every format: other packages' formats, one episode at a time, sudden ends, missing libraries."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script

import worldmodel as wm
from worldmodel.readers.catalogue import READERS, format_of
from worldmodel.support.extras import library
from worldmodel.support.files import UserError

GUEST = '''"""A guest's format: lines of numbers, of which each is the brightness of a picture."""

import numpy as np

from worldmodel.readers.catalogue import Episode, Source


class Lines:
    """Lines of brightness. And more"""

    read_so_far = []
    stop_at = None

    @staticmethod
    def recognises(source):
        return source.suffix in (".lines", ".h5")

    @staticmethod
    def read(source, keys):
        lines = [line.split() for line in source.read_text().splitlines()]
        return Source([len(line) for line in lines], map(Lines.episode, range(len(lines)), lines), 0.5, ("x",))

    @staticmethod
    def episode(number, line):
        Lines.read_so_far.append(number)
        if number == Lines.stop_at:
            raise KeyboardInterrupt
        pictures = (np.full((5, 7), int(each), np.uint8) for each in line)
        return Episode(f"line {number}", pictures, np.ones((len(line) - 1, 1)), np.ones((len(line), 1)))
'''


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """A package as pip leaves it, which registers a format."""
    info = tmp_path / "packages" / "guest-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[worldmodel.readers]\nlines = guest_lines:Lines\n")
    (tmp_path / "packages" / "guest_lines.py").write_text(GUEST)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield READERS.options("lines")
    sys.modules.pop("guest_lines")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "some.lines"
    path.write_text("1 2 3 4\n5 6\n7 8 9\n")
    return path


def test_a_format_of_another_package_is_read_like_the_own(guest: type, lines: Path, tmp_path: Path):
    assert wm.list_formats()["lines"] == "Lines of brightness"
    data = wm.read(lines, size=4)
    np.testing.assert_array_equal(data.frames[..., 0, 0], [[1, 2, 3, 4], [5, 6, 6, 6], [7, 8, 9, 9]])
    np.testing.assert_array_equal(data.actions[..., 0], [[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(data.lengths(), [4, 2, 3])
    assert (data.dt, data.state_names, data.frame_shape) == (0.5, ("x",), (4, 4))
    for out in ("data", "data.npz"):
        assert wm.read(lines, out=tmp_path / out, size=4).fingerprint() == data.fingerprint()
        assert wm.read(tmp_path / out).fingerprint() == data.fingerprint()
    assert wm.read(lines, fps=4).dt == 0.25


def test_one_episode_at_a_time_is_read(guest: type, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When an episode is checked no later one has been read."""
    import worldmodel.readers.converting as converting

    read: list[list[int]] = []
    check = converting.check_sequences
    monkeypatch.setattr(
        converting, "check_sequences", lambda *given: (read.append([*guest.read_so_far]), check(*given))
    )
    monkeypatch.setattr(guest, "read_so_far", [])
    wm.read(lines, out=tmp_path / "data")
    assert read == [[0], [0, 1], [0, 1, 2]]


def test_ctrl_c_leaves_nothing(guest: type, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guest, "stop_at", 2)
    for out in ("data", "data.npz"):
        result = run_script("convert.py", lines, "--out", tmp_path / out)
        assert (result.returncode, result.stderr) == (130, "interrupted\n")
        assert {path.name for path in tmp_path.iterdir()} == {"packages", "some.lines"}


def test_what_looks_like_two_formats_must_be_told(guest: type, lines: Path, tmp_path: Path):
    both = lines.rename(tmp_path / "both.h5")
    with pytest.raises(UserError, match=r"both.h5: looks like hdf5 and lines; choose one by --format"):
        wm.read(both)
    assert len(wm.read(both, format="lines")) == 3


def test_the_own_data_sets_look_like_no_other_format(data_folder: Path, data_file: Path):
    assert format_of(data_folder) is None
    assert format_of(data_file) is None
    with pytest.raises(UserError, match=r"looks like none of the formats hdf5, lerobot, minari, videos; choose"):
        wm.read(data_folder, size=8)
    with pytest.raises(UserError, match=r"nothing: no such file or folder"):
        wm.read("nothing")


def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(
        UserError, match=r"^no_such_library is not installed; to install it: pip install 'worldmodel\[lerobot\]'"
    ):
        library("no_such_library", "lerobot")


def test_formats_are_told_without_what_reads_them():
    code = (
        "import sys\nfrom worldmodel.readers.catalogue import READERS\nREADERS.table()\n"
        "[READERS.options(name).read for name in READERS.names()]\n"
        "found = {'h5py', 'minari', 'pyarrow', 'av', 'cv2', 'numpy', 'jax', 'gymnasium'} & set(sys.modules)\n"
        "sys.exit(repr(found) if found else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
