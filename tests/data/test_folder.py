"""Data sets in folders of plain arrays: what they need, what is refused, what is written."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_ok, run_script

from worldmodel.data.sequences import Sequences, hold_out, in_blocks, join, spread_within
from worldmodel.data.storage import load_sequences, save_blocks
from worldmodel.support.files import UserError


def assert_equal(one: Sequences, other: Sequences) -> None:
    for name in ("frames", "actions", "states"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.state_names, one.dt) == (other.state_names, other.dt)
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "arguments",
    [("--sequences", 1200, "--noise", 0.05), ("--sequences", 23, "--frames", 5, "--env", "Pendulum-v1")],
    ids=["own pendulum", "gymnasium"],
)
def test_what_is_collected_into_a_folder_is_what_is_collected_into_a_file(arguments: tuple, tmp_path: Path):
    """Both in several blocks."""
    for out in ("data", "data.npz"):
        assert_ok(run_script("collect.py", "--out", tmp_path / out, *arguments))
    assert_equal(load_sequences(tmp_path / "data"), load_sequences(tmp_path / "data.npz"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.npz"]


def test_the_arrays_of_a_folder_stay_in_their_files(data_folder: Path, pendulum_data: Sequences):
    data = load_sequences(data_folder)
    training, _ = hold_out(data, 0.1, "data")
    for array in (data.frames, data.actions, data.states, training.frames, training.first_frames(5).frames):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    np.testing.assert_array_equal(data.take(np.array([40, 3])).frames, pendulum_data.frames[[40, 3]])


def make_folder(folder: Path, **changes: Any) -> None:
    """A folder as a user makes it, with numpy alone."""
    random = np.random.default_rng(0)
    arrays = {
        "frames": random.integers(0, 256, (4, 6, 8, 8)).astype(np.uint8),
        "actions": random.standard_normal((4, 5, 2)).astype(np.float32),
        "states": random.standard_normal((4, 6, 3)).astype(np.float32),
        "about": {"state_names": ["x", "y", "z"], "dt": 0.1},
    } | changes
    folder.mkdir()
    for name, value in arrays.items():
        if isinstance(value, np.ndarray):
            np.save(folder / f"{name}.npy", value)
        elif value is not None:
            (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_frames_and_actions_are_all_that_a_folder_needs(tmp_path: Path):
    make_folder(tmp_path / "data", states=None, about=None)
    data = load_sequences(tmp_path / "data")
    assert (data.frames.shape, data.states, data.state_names, data.dt) == ((4, 6, 8, 8), None, (), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": None}, "has no array 'frames'"),
        ({"actions": None}, "has no array 'actions'"),
        ({"frames": None, "actions": None, "states": None}, "is a folder without frames.npy and actions.npy"),
        ({"frames": np.zeros((4, 6, 8, 8), np.float32)}, "frames must be uint8, not float32"),
        ({"frames": np.zeros((0, 6, 8, 8), np.uint8)}, "frames must be [N, T, H, W]"),
        ({"frames": np.asfortranarray(np.zeros((4, 6, 8, 8), np.uint8))}, "array 'frames' is in Fortran order"),
        ({"actions": np.zeros((4, 6, 2), np.float32)}, "6 frames need 5 actions (T-1), not 6"),
        ({"actions": np.full((4, 5, 2), np.nan, np.float32)}, "actions hold NaN or infinite"),
        ({"actions": np.array([[[None]]], dtype=object)}, "array 'actions' holds pickled objects"),
        ({"states": np.zeros((4, 5, 3), np.float32)}, "states must be [N, T, S] = [4, 6, S]"),
        ({"states": np.full((4, 6, 3), np.inf, np.float32)}, "states hold NaN or infinite"),
        ({"about": "hello"}, "about.json: not JSON"),
        ({"about": [0.1]}, "about.json: must be an object with state_names, dt, world, and nothing else"),
        ({"about": {"dT": 0.1}}, "about.json: must be an object with state_names, dt, world, and nothing else"),
        ({"about": {"state_names": ["x", ["y"]]}}, "about.json: state_names must be a list of strings"),
        ({"about": {"state_names": [1, 2, 3]}}, "state_names must be a list of strings, not int64 [3]"),
        ({"about": {"state_names": ["x"]}}, "3 states but 1 state_names"),
        ({"about": {"dt": 0}}, "dt must be positive seconds"),
        ({"about": {"dt": "0.1"}}, "dt must be one number (seconds)"),
        ({"about": {"world": "box"}}, "world must be JSON of an object with id, arguments and camera"),
        ({"about": {"world": {"id": 1, "arguments": {}, "camera": {}}}}, "world must be JSON of an object"),
        ({"about": "[" * 100_000}, "about.json: not JSON"),
        ({"rewards": np.zeros((4, 5))}, "rewards must be float32, not float64"),
        ({"ended": np.zeros((4, 6), bool)}, "ended must be [N, T-1] = [4, 5], not [4, 6]"),
        ({"valid": np.array([[None]])}, "array 'valid' holds pickled objects"),
    ],
)
def test_a_bad_folder_is_refused_by_name(tmp_path: Path, changes: dict, message: str):
    folder = tmp_path / "bad"
    make_folder(folder, **changes)
    with pytest.raises(UserError) as raised:
        load_sequences(folder)
    assert str(raised.value).startswith(str(folder))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_array_that_is_torn_or_no_array_is_named(tmp_path: Path):
    make_folder(tmp_path / "data")
    frames = tmp_path / "data" / "frames.npy"
    whole = frames.read_bytes()
    for torn in (b"", b"hello", whole[:5], whole[:60], whole[:128], whole[:-1]):
        frames.write_bytes(torn)
        with pytest.raises(UserError, match="array 'frames' is damaged"):
            load_sequences(tmp_path / "data")
    frames.unlink()
    np.savez(frames.with_suffix(".npz"), whole)
    frames.with_suffix(".npz").rename(frames)
    with pytest.raises(UserError, match="array 'frames' is damaged"):
        load_sequences(tmp_path / "data")


def test_no_corrupted_byte_of_a_header_escapes_as_a_traceback(tmp_path: Path):
    make_folder(tmp_path / "data")
    frames = tmp_path / "data" / "frames.npy"
    whole, refused = frames.read_bytes(), 0
    for position in range(128):
        for bit in range(8):
            raw = bytearray(whole)
            raw[position] ^= 1 << bit
            frames.write_bytes(raw)
            try:
                load_sequences(tmp_path / "data")  # a space for a space, say, does no harm
            except UserError as error:
                refused += str(error).startswith(str(tmp_path))
    assert refused > 200


def test_a_failed_save_leaves_nothing(tmp_path: Path, pendulum_data: Sequences):
    def blocks(last: Sequences | Exception):
        yield pendulum_data
        if isinstance(last, Exception):
            raise last
        yield last

    unfit = Sequences(pendulum_data.frames, pendulum_data.actions[:, :-1])
    for last, error in ((unfit, UserError), (RuntimeError("the world ended"), RuntimeError)):
        with pytest.raises(error):
            save_blocks(tmp_path / "data", blocks(last), 128)
        assert list(tmp_path.iterdir()) == []


def test_blocks_are_all_of_an_array_in_order():
    array = np.zeros((1000, 70_001), np.uint8)
    array[:, 0] = np.arange(1000) % 251
    blocks = list(in_blocks(array))
    assert len(blocks) > 3
    assert max(block.size for block in blocks) <= 2**24
    np.testing.assert_array_equal(np.concatenate([block[:, 0] for block in blocks]), array[:, 0])
    assert [len(block) for block in in_blocks(np.zeros((2, 2**25), bool))] == [1, 1]


def test_a_sample_within_a_size_is_spread_over_all(pendulum_data: Sequences):
    assert spread_within(pendulum_data, pendulum_data.nbytes) is pendulum_data
    sample = spread_within(pendulum_data, pendulum_data.nbytes / 4)
    assert len(sample) == 16
    assert sample.nbytes <= pendulum_data.nbytes / 4
    np.testing.assert_array_equal(sample.frames[[0, -1]], pendulum_data.frames[[0, -1]])
    assert len(spread_within(pendulum_data, 1)) == 1


def test_joined_parts_are_the_whole(pendulum_data: Sequences):
    parts = [pendulum_data.take(which) for which in np.array_split(np.arange(64), 5)]
    assert_equal(join(parts), pendulum_data)


def test_blocks_that_do_not_fit_each_other_are_not_written(tmp_path: Path, pendulum_data: Sequences):
    smaller = dataclasses.replace(pendulum_data, frames=pendulum_data.frames[:, :, :8])
    for blocks, count in (([pendulum_data], 100), ([pendulum_data, smaller], 2 * len(pendulum_data))):
        with pytest.raises(ValueError, match=r"64 sequences came, not 100|a block of frames is"):
            save_blocks(tmp_path / "data", blocks, count)
        assert not list(tmp_path.iterdir())


def test_a_folder_on_a_full_disk_is_one_line(tmp_path: Path):
    """The largest size of a file stands in for the disk's."""
    code = f"""
import resource
from pathlib import Path
from worldmodel.worlds.pendulum.world import collect_pendulum
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.support.files import UserError
from worldmodel.data.storage import save_blocks

blocks = [collect_pendulum(seed, 2, 5, PAPER, 16) for seed in range(9)]
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    save_blocks(Path({str(tmp_path / "data")!r}), blocks, 18)
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == f"{tmp_path / 'data'}: cannot be written: File too large\n", result.stderr
    assert not list(tmp_path.iterdir())
