"""Training on data that is larger than the memory it may take: the batches, the training, the memory."""

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

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SCRIPTS, SMALL_DVBF, TINY, assert_ok, run_script
from flax import nnx

from baselines.options import StaticVAEOptions
from baselines.static_vae import StaticVAE
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import load_sequences
from worldmodel.data.windows import Batch, sample_windows, to_device
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.training.feed import Windows
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import Trainings, split_key
from worldmodel.training.step import update_keys

# Batches


def test_windows_cut_on_the_host_are_those_of_the_compiled_program(data_folder: Path, pendulum_data: Sequences):
    seeds, steps = (3, 8), 130
    keys = np.stack([jax.random.key_data(split_key(jax.random.key(seed))[1]) for seed in seeds])
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
