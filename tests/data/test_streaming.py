"""Data sets in folders, and training on data that is larger than the memory it may take."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SCRIPTS, SMALL_DVBF, TINY, assert_ok, run_script
from flax import nnx

from baselines.options import StaticVAEOptions
from baselines.static_vae import StaticVAE
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, hold_out, in_blocks, join, spread_within
from worldmodel.data.storage import load_sequences, save_blocks
from worldmodel.data.windows import Batch, sample_windows, to_device
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.support.files import UserError
from worldmodel.training.feed import Windows
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import Trainings, split_seed
from worldmodel.training.step import update_keys

# Folders


@pytest.fixture(scope="session")
def data_folder(pendulum_data: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pendulum data in three blocks, in a folder."""
    folder = tmp_path_factory.mktemp("data") / "pendulum"
    save_blocks(folder, (pendulum_data.take(which) for which in np.array_split(np.arange(64), 3)), 64)
    return folder


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


# Batches


def test_windows_cut_on_the_host_are_those_of_the_compiled_program(data_folder: Path, pendulum_data: Sequences):
    seeds, steps = (3, 8), 130
    keys = np.stack([jax.random.key_data(split_seed(seed)[1]) for seed in seeds])
    windows = Windows(load_sequences(data_folder), Recipe(seeds, steps, batch_size=5, window=6), keys)
    assert len(windows) == steps
    device = to_device(pendulum_data)
    for update in (0, 1, 99, 100, 129):  # within and beyond what is drawn at once
        frames, actions, *_ = windows[update]
        assert frames.shape == (2, 5, 6, 16, 16)
        assert frames.dtype == np.uint8
        for index in range(len(seeds)):
            window_key, _ = update_keys(keys[index], np.int32(update))
            expected = sample_windows(device, window_key, 5, 6)
            np.testing.assert_array_equal((255 * expected[0]).round(), frames[index])
            np.testing.assert_array_equal(expected[1], actions[index])


def test_windows_are_pieces_of_sequences_with_the_actions_between():
    """Looked for in the data, one by one."""
    number = 10 * np.arange(6)[:, None] + np.arange(10)[None, :]  # 10 n + t
    frames = np.broadcast_to(number[..., None, None], (6, 10, 2, 2)).astype(np.uint8)
    data = Sequences(frames, number[:, :-1, None].astype(np.float32))
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), 3)))
    recipe = Recipe((0, 1, 2), steps=50, batch_size=8, window=4)
    part = Windows(data, recipe, keys, seeds=slice(1, 3), batch=slice(4, 8))
    everything = Windows(data, recipe, keys)
    starts = set()
    for update in range(50):
        for seed_frames, seed_actions in zip(part[update].frames, part[update].actions, strict=True):
            for window_frames, window_actions in zip(seed_frames, seed_actions, strict=True):
                n, t = divmod(int(window_frames[0, 0, 0]), 10)
                starts.add((n, t))
                np.testing.assert_array_equal(window_frames, frames[n, t : t + 4])
                np.testing.assert_array_equal(window_actions, data.actions[n, t : t + 3])
        np.testing.assert_array_equal(part[update][0], everything[update][0][1:3, 4:8])
    assert starts == {(n, t) for n in range(6) for t in range(7)}


# Training


def test_blocks_that_do_not_fit_each_other_are_not_written(tmp_path: Path, pendulum_data: Sequences):
    smaller = dataclasses.replace(pendulum_data, frames=pendulum_data.frames[:, :, :8])
    for blocks, count in (([pendulum_data], 100), ([pendulum_data, smaller], 2 * len(pendulum_data))):
        with pytest.raises(ValueError, match=r"came, not 100 of each|a block of frames is"):
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


def trainings(
    data: Sequences, seeds: tuple[int, ...], memory_budget: float, static: bool = False, vae: type = StaticVAE
) -> Trainings:
    scale = FrameScale.of(data, "data")
    build: Callable[[nnx.Rngs], nnx.Module] = (
        (lambda rngs: vae(scale, StaticVAEOptions(hidden_size=8), rngs))
        if static
        else (lambda rngs: DVBF(scale, DVBFOptions(**TINY), rngs))  # type: ignore[arg-type]
    )
    return Trainings(build, data, Recipe(seeds, 60, 4, 1e-3, 1 if static else 8, memory_budget))


def assert_same_states(some: Trainings, others: Trainings) -> None:
    for one, other in zip(some.states(), others.states(), strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)


WHOLE = 1e9
"""bytes, more than the data has"""


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    ("seeds", "static", "budget"),
    [((0,), False, 1e5), ((0,), True, 1e4), ((0, 5), True, 1.0)],
    ids=["dvbf", "static vae", "two seeds, two updates at a time"],
)
def test_streamed_training_is_training_in_memory(
    seeds: tuple[int, ...], static: bool, budget: float, data_folder: Path, pendulum_data: Sequences
):
    whole = trainings(pendulum_data, seeds, WHOLE, static)
    streamed = trainings(load_sequences(data_folder), seeds, budget, static)
    for updates in (25, 35):
        for one, other in zip(streamed.train(updates), whole.train(updates), strict=True):
            assert one == pytest.approx(other, rel=1e-5)
    streamed.close()
    assert_same_states(streamed, whole)


def test_the_first_update_that_is_no_number_is_counted_in_both_ways(pendulum_data: Sequences):
    """Update 3 has a gradient whose square is infinite; clipped it is none, and training goes on as before."""

    class Faulty(StaticVAE):
        def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            value, metrics = super().loss(batch, key, progress)
            return value * jnp.where(jnp.abs(60 * progress - 3) < 0.5, 1e25, 1.0), metrics

    for budget in (WHOLE, 1.0):
        training = trainings(pendulum_data, (0,), budget, static=True, vae=Faulty)
        [metrics] = training.train(20)
        training.close()
        assert 20 * metrics["finite_gradient"] == pytest.approx(3), budget
        assert metrics["finite_loss"] == 1


@pytest.mark.usefixtures("optimised")
def test_training_goes_on_from_either_way_to_the_other(data_folder: Path, pendulum_data: Sequences):
    whole = trainings(pendulum_data, (2, 3), WHOLE, static=True)
    whole.train(30)
    before = whole.states()
    whole.train(30)
    streamed = trainings(load_sequences(data_folder), (2, 3), 1e4, static=True)
    streamed.train(10)  # elsewhere
    streamed.load(before)
    streamed.train(30)
    assert_same_states(streamed, whole)
    streamed.load(before)
    streamed.train(7)
    back = trainings(pendulum_data, (2, 3), WHOLE, static=True)
    back.load(streamed.states())
    back.train(23)
    assert_same_states(back, whole)
    streamed.close()


def test_no_reader_is_left_when_training_ends(data_folder: Path):
    def readers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("grain")]

    streamed = trainings(load_sequences(data_folder), (0,), 1e4, static=True)
    streamed.train(5)
    assert readers()
    streamed.close()
    for thread in readers():
        thread.join(timeout=60)
    assert not readers()


@pytest.mark.usefixtures("optimised")
def test_a_stopped_stream_goes_on_in_memory_as_if_nothing_had_happened(
    data_file: Path, data_folder: Path, tmp_path: Path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    small = ("--hidden-size", 16, "--batch-size", 8, "--steps", 2000)
    assert_ok(run_script("train.py", "vae", "--data", data_file, "--out", whole, *small))
    command = ("--data", data_folder, "--out", parts, *small, "--memory-budget", 1e-4)
    process = subprocess.Popen([sys.executable, str(SCRIPTS / "train.py"), "vae", *map(str, command)])
    while not list(parts.glob("checkpoints/step_*.npz")):
        assert process.poll() is None, "the training ended before it could be interrupted"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (parts / "checkpoints" / "step_00002000.npz").exists()
    assert "memory_budget" not in json.loads((parts / "config.json").read_text())["options"]
    assert_ok(run_script("train.py", "vae", "--data", data_file, "--out", parts, "--resume"))
    newest = "checkpoints/step_00002000.npz"
    with np.load(whole / newest, allow_pickle=False) as one, np.load(parts / newest, allow_pickle=False) as other:
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_scripts_take_a_folder(dvbf_run: Path, data_file: Path, data_folder: Path, tmp_path: Path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    few = ("--data", data_folder, "--memory-budget", 1e-4)
    for out, data in ((run, few), (whole, ("--data", data_file))):
        shutil.copytree(dvbf_run, out)  # trained in memory, from a file of the same sequences
        assert_ok(run_script("train.py", "dvbf", "--out", out, "--resume", "--steps", 130, *data))
    newest = "checkpoints/step_00000130.npz"
    with np.load(run / newest, allow_pickle=False) as one, np.load(whole / newest, allow_pickle=False) as other:
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-7, err_msg=name)
    assert_ok(run_script("train.py", "vae", "--out", tmp_path / "find", "--find-lr", *few))
    assert_ok(run_script("imagine.py", "--run", run, "--data", data_folder, "--out", tmp_path / "imagined"))


# Memory

LIMITED = """
import re, resource, sys
from pathlib import Path
import jax
import numpy as np
from flax import nnx

def limit(room: float) -> None:
    "From now on so many bytes more; what is mapped from files is not counted."
    used = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    resource.setrlimit(resource.RLIMIT_DATA, (int(used + room), int(used + room)))
"""


def make_large(folder: Path, gigabytes: float) -> None:
    """Sequences of 16 frames 100 x 100; most of them black, which takes no room on the disk."""
    folder.mkdir()
    sequences = int(gigabytes * 1e9 / 160_000)
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (sequences, 16, 100, 100))
    random = np.random.default_rng(0)
    for n in range(0, sequences, 100):
        frames[n] = random.integers(0, 256, frames.shape[1:], dtype=np.uint8)
    frames.flush()
    np.save(folder / "actions.npy", random.standard_normal((sequences, 15, 1)).astype(np.float32))


def test_data_larger_than_the_memory_there_is_can_be_trained_on(tmp_path: Path):
    make_large(tmp_path / "large", 1.2)
    code = LIMITED + textwrap.dedent(f"""
        from baselines.options import StaticVAEOptions
        from worldmodel.training.fit import load_training_data
        from worldmodel.training.options import Recipe, TrainingOptions
        from worldmodel.training.seeds import train_seeds

        folder = Path({str(tmp_path / "large")!r})
        jax.jit(lambda x: x + 1)(1.0)
        limit(900e6)
        data, validation, card = load_training_data(TrainingOptions(folder, folder))
        build = lambda rngs: StaticVAEOptions(hidden_size=8).build(card.scale, rngs)
        train_seeds("vae", build, data, Recipe((0,), 60, 32, 1e-3, 1, memory_budget=20e6))
        print("trained on", data.nbytes)
        try:
            np.array(data.frames)
        except MemoryError:
            print("more than there is")
    """)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    trained, refused = result.stdout.splitlines()
    assert int(trained.split()[-1]) > 1e9
    assert refused == "more than there is"


@pytest.mark.slow
def test_a_whole_run_on_data_larger_than_the_memory_there_is(tmp_path: Path):
    make_large(tmp_path / "large", 4)
    script = str(SCRIPTS / "train.py")
    arguments = [
        script,
        "dvbf",
        "--data",
        str(tmp_path / "large"),
        "--out",
        str(tmp_path / "run"),
        *map(str, SMALL_DVBF),
    ]
    code = LIMITED + f"import runpy\nlimit(3e9)\nsys.argv = {[*map(str, arguments)]!r} + sys.argv[1:]\n"
    code += f"runpy.run_path({script!r}, run_name='__main__')"

    def train(*budget: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *budget], capture_output=True, text=True, check=False)

    assert_ok(train("--memory-budget", "0.5"))
    assert (tmp_path / "run" / "learning.gif").exists()
    shutil.rmtree(tmp_path / "run")
    assert "Out of memory" in train("--memory-budget", "100").stderr  # the limit is one
