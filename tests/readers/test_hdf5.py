"""HDF5 files as h5py, robomimic and ALOHA lay them out, read back as they were written."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_script
from made import FRAMES, RANDOM, noise

import worldmodel as wm
from worldmodel.support.files import UserError

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")


def robomimic(path: Path, lengths: tuple[int, ...] = (7, 5), **changes: object) -> dict[str, list[np.ndarray]]:
    """A file of demonstrations, of which one that is numbered 10 is the last."""
    made: dict[str, list[np.ndarray]] = {"frames": [], "actions": [], "rewards": [], "states": []}
    with h5py.File(path, "w") as file:
        for number, length in zip((2, 10, 11), lengths, strict=False):
            group = file.create_group(f"data/demo_{number}")
            arrays = {
                "actions": RANDOM.standard_normal((length, 2)),
                "rewards": RANDOM.standard_normal(length),
                "states": RANDOM.standard_normal((length, 3)),
                "obs/agentview_image": noise(length),
                "obs/wrist_image": noise(length),
                "obs/joints": RANDOM.standard_normal((length, 4)),
            } | changes
            for name, array in arrays.items():
                if array is not None:
                    group[name] = array
            made["frames"].append(arrays["obs/agentview_image"])
            for name in ("actions", "rewards", "states"):
                made[name].append(arrays[name])
    return made


def test_episodes_come_in_order_whole_and_padded(tmp_path: Path):
    made = robomimic(tmp_path / "demos.hdf5")
    data = wm.read(tmp_path / "demos.hdf5", size=16, grey=False, camera="agentview_image", fps=20)
    assert (len(data), data.length, data.frame_shape, data.dt) == (2, 7, (16, 16, 3), 0.05)
    np.testing.assert_array_equal(data.lengths(), [7, 5])
    for n, length in enumerate((7, 5)):
        np.testing.assert_array_equal(data.frames[n, :length], made["frames"][n])
        np.testing.assert_array_equal(data.states[n, :length], made["states"][n].astype(np.float32))
        for name in ("actions", "rewards"):  # the last leads to no frame
            np.testing.assert_array_equal(getattr(data, name)[n, : length - 1], made[name][n][:-1].astype(np.float32))
    assert data.ended.sum(axis=1).tolist() == [0, 1]  # the longest was broken off where its frames end
    np.testing.assert_array_equal(data.frames[1, 5:], np.repeat(data.frames[1, 4:5], 2, axis=0))
    np.testing.assert_array_equal(data.states[1, 5:], np.repeat(data.states[1, 4:5], 2, axis=0))
    assert not data.actions[1, 4:].any()
    assert not data.rewards[1, 4:].any()


def test_a_converted_folder_is_what_is_read_and_can_be_trained_on(tmp_path: Path):
    robomimic(tmp_path / "demos.h5")
    options = ("--camera", "wrist_image", "--state", "obs/joints", "--size", 8, "--crop", 0.5)
    result = run_script("convert.py", tmp_path / "demos.h5", "--out", tmp_path / "data", *options)
    assert result.returncode == 0, result.stderr
    assert "2 sequences of 7 frames [8, 8], actions of size 2" in result.stdout
    assert "padded: 1; 14% is padding" in result.stdout
    there = wm.read(tmp_path / "data")
    data = wm.read(tmp_path / "demos.h5", camera="wrist_image", state="obs/joints", size=8, crop=0.5)
    assert there.fingerprint() == data.fingerprint()
    assert there.state_names == ("state_0", "state_1", "state_2", "state_3")
    with h5py.File(tmp_path / "demos.h5") as file:  # the middle of 16 pixels is 8, grey by the weights of BT.601
        middle = file["data/demo_2/obs/wrist_image"][:, 4:12, 4:12] @ np.array([0.299, 0.587, 0.114])
    assert abs(there.frames[0] - middle).max() <= 1
    run = wm.train("vae", tmp_path / "data", tmp_path / "run", steps=2, batch_size=1, hidden_size=4)
    assert run.encode(there.frames[:1, :1]) is not None


def test_area_resampling_is_the_mean_of_blocks(tmp_path: Path):
    robomimic(tmp_path / "demos.h5", (5,))
    data = wm.read(tmp_path / "demos.h5", size=4, grey=False, camera="wrist_image")
    with h5py.File(tmp_path / "demos.h5") as file:
        pictures = file["data/demo_2/obs/wrist_image"][()]
    mean = pictures.reshape(5, 4, 4, 4, 4, 3).mean(axis=(2, 4))
    assert abs(data.frames[0] - mean).max() <= 0.51


def test_a_file_an_episode_with_compressed_pictures(tmp_path: Path):
    """As ALOHA has them; PNG, so that nothing is lost."""
    made = [noise(5), noise(5)]
    (tmp_path / "raw").mkdir()
    for number, pictures in enumerate(made):
        files = [cv2.imencode(".png", picture[:, :, ::-1])[1].ravel() for picture in pictures]
        longest = max(map(len, files))
        with h5py.File(tmp_path / "raw" / f"episode_{number}.hdf5", "w") as file:
            file["action"] = np.zeros((5, 14))
            file["observations/qpos"] = RANDOM.standard_normal((5, 14))
            file["observations/images/top"] = np.stack([np.pad(each, (0, longest - len(each))) for each in files])
            file["observations/images/left"] = noise(5)
    data = wm.read(tmp_path / "raw", size=16, grey=False, camera="top", state="observations/qpos")
    np.testing.assert_array_equal(data.frames, np.stack(made))
    assert data.ended is None
    assert data.states.shape == (2, 5, 14)


def test_arrays_of_many_episodes(tmp_path: Path):
    frames, actions = RANDOM.integers(0, 256, (3, 6, 16, 16), np.uint8), RANDOM.standard_normal((3, 5, 2))
    ended, valid = np.zeros((3, 5), bool), np.ones((3, 6), bool)
    ended[1, 2], valid[0, 3] = True, False
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_dataset("frames", data=frames, chunks=(1, 2, 16, 16), compression="gzip")
        file["actions"], file["ended"], file["valid"] = actions, ended, valid[:, :, None]
    for grey in (True, False):
        data = wm.read(tmp_path / "all.h5", size=16, grey=grey)
        np.testing.assert_array_equal(data.frames, frames)
        np.testing.assert_array_equal(data.actions, actions.astype(np.float32))
        np.testing.assert_array_equal(data.ended, ended)
        np.testing.assert_array_equal(data.valid, valid)


def test_colours_first_and_an_alpha_channel_are_pictures_too(tmp_path: Path):
    pictures = noise(FRAMES)
    with_alpha = np.concatenate([pictures, np.full((*pictures.shape[:3], 1), 9, np.uint8)], axis=3)
    for name, array in (("first", np.moveaxis(pictures, 3, 1)), ("alpha", with_alpha)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["action"], file["images"] = np.zeros((FRAMES, 1)), array
        data = wm.read(tmp_path / f"{name}.h5", size=16, grey=False)
        np.testing.assert_array_equal(data.frames[0], pictures)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {}, r"demos.h5: /data/demo_2: has pictures \(uint8\) obs/agentview_image, obs/wrist_image; choose one by"),
        ({}, {"camera": "side"}, r"--camera side is none of what it has: pictures \(uint8\) obs/agentview_image, obs"),
        ({}, {"camera": "wrist_image", "action": "torque"}, r"demos.h5: no group has actions \(torque\)"),
        ({}, {"camera": "wrist_image", "state": "torque"}, r"demos.h5: /data/demo_2: has no torque"),
        ({"actions": np.zeros((4, 2))}, {"camera": "wrist_image"}, r"data/demo_2: has 7 frames and 4 actions; 6 or 7"),
        ({"actions": np.full((7, 2), np.nan)}, {"camera": "wrist_image"}, r"data/demo_2: actions hold NaN"),
        ({"rewards": np.zeros(3)}, {"camera": "wrist_image"}, r"data/demo_2: has 3 rewards for 7 actions"),
        ({"states": np.zeros((6, 1))}, {"camera": "wrist_image"}, r"data/demo_2: has 6 states for 7 frames"),
        ({"actions": np.array([b"a"] * 7)}, {"camera": "wrist_image"}, r"actions: must be numbers, not \|S1"),
        ({"obs/wrist_image": np.zeros((7, 16, 16, 2), np.uint8)}, {"camera": "wrist_image"}, r"pictures must be uint8"),
        ({}, {"camera": "wrist_image", "size": 3}, r"--size must be at least 4"),
        ({}, {"camera": "wrist_image", "crop": 2}, r"--crop must be between 0 and 1"),
        ({}, {"camera": "wrist_image", "fps": 0}, r"--fps must be above 0"),
        ({}, {"camera": "wrist_image", "format": "none"}, r"'none' is no format; there are hdf5, lerobot, minari"),
        ({}, {"camera": "wrist_image", "side": 3}, r"side"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(changes: dict, options: dict, message: str, tmp_path: Path):
    robomimic(tmp_path / "demos.h5", (7,), **changes)
    with pytest.raises(UserError, match=message) as error:
        wm.read(tmp_path / "demos.h5", out=tmp_path / "data", **options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["demos.h5"]


def test_episodes_that_differ_are_named(tmp_path: Path):
    for name, change, message in (
        ("size", noise(7)[:, :8], r"data/demo_10: has a picture \[8, 16, 3\]; those before are \[16, 16, 3\]"),
        ("short", noise(1), r"data/demo_10: has 1 frame\(s\), and needs 2 at least"),
    ):
        path = tmp_path / f"{name}.h5"
        robomimic(path, (7, 7))
        with h5py.File(path, "a") as file:
            del file["data/demo_10/obs/wrist_image"]
            file["data/demo_10/obs/wrist_image"] = change
        with pytest.raises(UserError, match=message):
            wm.read(path, camera="wrist_image")
    robomimic(tmp_path / "missing.h5", (7, 7))
    with h5py.File(tmp_path / "missing.h5", "a") as file:
        del file["data/demo_10/rewards"]
    with pytest.raises(UserError, match=r"data/demo_10: has frames .* those before have .*rewards"):
        wm.read(tmp_path / "missing.h5", camera="wrist_image")


def test_bytes_that_are_no_hdf5(tmp_path: Path):
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(UserError, match=r"text.h5: cannot be read as HDF5: "):
        wm.read(tmp_path / "text.h5")


def test_no_corrupted_byte_escapes_as_a_traceback(tmp_path: Path):
    path, random, refused = tmp_path / "demos.h5", np.random.default_rng(1), 0
    robomimic(path)
    whole = path.read_bytes()
    for position in random.integers(0, 1000, 60):
        raw = bytearray(whole)
        raw[position] ^= 1 << random.integers(8)
        path.write_bytes(raw)
        try:
            wm.read(path, camera="wrist_image", size=4)  # where nothing lies it does no harm
        except UserError as error:
            refused += str(error).startswith(str(tmp_path)) and "\n" not in str(error)
    assert refused > 5
