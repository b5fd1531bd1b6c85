"""Strict JAX settings for all tests, and the small data and runs that several of them share."""

import contextlib
import functools
import gc
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What is multiplied here is small: of several threads most would only wait for one another, which costs a processor
# as much as work. Said before NumPy is loaded.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from worldmodel.support.script import set_up_compiler

os.environ |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
os.environ.setdefault("TQDM_DISABLE", "1")
set_up_compiler()

import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_blocks, save_sequences
from worldmodel.data.windows import Batch
from worldmodel.imagination.compiled import compiled
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.models.networks import initialise
from worldmodel.models.protocol import imagine
from worldmodel.runs.folder import Run
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import train_seeds
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def optimise(programs: bool) -> None:
    """Whether the programs that are compiled from now on, here and in processes that are started, are optimised: most
    of a test is compilation."""
    jax.config.update("jax_disable_most_optimizations", not programs)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not programs))


optimise(False)


def pytest_collection_finish() -> None:
    """The collector of garbage need not look again and again at all that was imported, and at what is compiled."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What trains for minutes is worth the compiler's time."""
    optimise(item.get_closest_marker("slow") is not None)


@pytest.fixture
def optimised() -> Iterator[None]:
    """Programs as a user has them: what is promised bit for bit holds of them."""
    optimise(True)
    yield
    optimise(False)


SCRIPTS = Path(__file__).parent.parent / "scripts"


def run_script(script: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A script with these arguments, run in this process, which has loaded and compiled most of what it needs."""
    command = [str(SCRIPTS / script), *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", command)
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=err)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def run_interrupted(step: int, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A training in this process that gets its Ctrl-C when the metrics of this step are written."""
    append = Run.append_metrics

    def append_and_interrupt(run: Run, metrics: dict[str, Any]) -> None:
        append(run, metrics)
        if metrics["step"] == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "append_metrics", append_and_interrupt)
        return run_script(script, *arguments)


def run_process(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A script as a user calls it."""
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def assert_ok(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Not for the whole session: while it is there, an event loop runs in this thread."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next(filter(None, map(shutil.which, (*names, own))), None)
        if found is None:
            pytest.skip(
                "no Chromium or Chrome to look at pages with: install one (apt install chromium), or let"
                " playwright fetch its own (.venv/bin/playwright install chromium)"
            )
        with playwright.chromium.launch(executable_path=found, args=["--no-sandbox"]) as browser:
            yield browser


def width(picture: Path) -> int:
    with Image.open(picture) as image:
        image.load()
        return image.width


@functools.cache
def drawn(options: Any, scale: FrameScale, seed: int) -> tuple[nnx.GraphDef, nnx.State]:
    return initialise(lambda rngs: options.build(scale, rngs), jax.random.key(seed))


def untrained(options: Any, scale: FrameScale, seed: int = 3) -> Any:
    """A model of its own for who asks, of parameters that are drawn once."""
    graphdef, params = drawn(options, scale, seed)
    return nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf, params))


# as one program for all models of one structure: most of a small test is compilation
filtered = compiled(lambda model, *arguments: model.filter(*arguments))
dreamt = compiled(lambda model, *arguments: imagine(model, *arguments))
mean_frames = compiled(lambda model, state: model.emission(state).mean())
infer = compiled(lambda model, *arguments: model.infer(*arguments))
model_loss = compiled(lambda model, batch, key, progress: model.loss(batch, key, progress))


def infer_all(model: Any, batch: tuple[Any, Any], noise: Any = None) -> Any:
    """An inference that observes every frame of (frames, actions), with noise of one seed unless it is given."""
    frames, actions = map(jnp.asarray, batch)
    if noise is None:
        noise = jax.random.normal(jax.random.key(9), (*frames.shape[:2], model.latent_size))
    return infer(model, frames, actions, jnp.ones(actions.shape[:2], bool), noise)


def loss_of(model: Any, batch: tuple[Any, Any], progress: float = 0.0) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss and metrics of (frames, actions), with one key."""
    return model_loss(model, Batch(*map(jnp.asarray, batch)), jax.random.key(0), jnp.asarray(progress))


@pytest.fixture(scope="session")
def pendulum_data() -> Sequences:
    """64 paper-like sequences of 15 frames 16 x 16."""
    return collect_pendulum(seed=0, sequences=64, length=15, params=PAPER, size=16)


@pytest.fixture(scope="session")
def data_file(pendulum_data: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pendulum.npz"
    save_sequences(path, pendulum_data)
    return path


def train_dvbf(data: Sequences, options: DVBFOptions, steps: int) -> DVBF:
    """One DVBF, seed 0, on windows of at most 15 frames; for few steps the learning rate is high."""
    scale, recipe = FrameScale.of(data, "test data"), Recipe(steps=steps, learning_rate=6e-3)
    [model] = train_seeds("dvbf", lambda rngs: options.build(scale, rngs), data, recipe)
    return model


@pytest.fixture(scope="session")
def trained() -> DVBF:
    """A DVBF with default options that has learnt, on 300 sequences of 15 frames."""
    optimise(True)
    model = train_dvbf(collect_pendulum(0, 300, 15, PAPER, 16), DVBFOptions(), 900)
    optimise(False)
    return model


@pytest.fixture(scope="session")
def unseen() -> Sequences:
    """100 sequences of 40 frames that `trained` was not trained on."""
    return collect_pendulum(seed=1, sequences=100, length=40, params=PAPER, size=16)


SMALL = ("--hidden-size", 16, "--steps", 120)
SMALL_DVBF = (*SMALL, "--feature-size", 8, "--base-matrices", 4, "--batch-size", 8)


@pytest.fixture(scope="session")
def data_folder(pendulum_data: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pendulum data in three blocks, in a folder."""
    folder = tmp_path_factory.mktemp("data") / "pendulum"
    save_blocks(folder, (pendulum_data.take(which) for which in np.array_split(np.arange(64), 3)), 64)
    return folder


@pytest.fixture(scope="session")
def dvbf_run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "dvbf"
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", run, *SMALL_DVBF)
    assert_ok(result)
    # a hundred steps teach little, and it must say so
    problems = json.loads((run / "health.json").read_text())["problems"]
    assert problems
    assert all(problem["name"].upper() in result.stdout for problem in problems)
    return run


TINY = {"base_matrices": 3, "hidden_size": 8, "feature_size": 6, "mixture_hidden_size": 5, "initial_frames": 2}


@pytest.fixture(params=["fusion", "noise"])
def tiny_dvbf(request: pytest.FixtureRequest) -> DVBF:
    """An untrained DVBF of 4 x 4 frames and two actions, with either inference."""
    return make_tiny_dvbf(request.param)


def untrained_dvbf(data: Sequences) -> DVBF:
    """A small model of the data's frames and actions."""
    options, scale = DVBFOptions(base_matrices=3, hidden_size=8, feature_size=6), FrameScale.of(data, "test data")
    return untrained(options, scale)


def make_tiny_dvbf(inference: str, **options: object) -> DVBF:
    scale = FrameScale(
        frame_shape=(4, 4), action_size=2, pixel_mean=0.4, pixel_std=0.3, frame_variance=1.2, action_scale=1.5
    )
    model_options = DVBFOptions(**(TINY | {"inference": inference} | options))  # type: ignore[arg-type]
    return untrained(model_options, scale)


@pytest.fixture
def tiny_batch() -> tuple[np.ndarray, np.ndarray]:
    """Frames `[3, 7, 4, 4]` in [0, 1] and actions `[3, 6, 2]`, random."""
    random = np.random.default_rng(0)
    return random.random((3, 7, 4, 4), np.float32), random.standard_normal((3, 6, 2)).astype(np.float32)


def model_of(data: Sequences) -> DVBF:
    """An untrained DVBF for some data."""
    scale = FrameScale.of(data, "test data")
    options = DVBFOptions(base_matrices=3, hidden_size=8, feature_size=6, mixture_hidden_size=5)
    return untrained(options, scale, seed=0)


def colour_data() -> Sequences:
    """Seven sequences of nine small colour frames, with two actions, without states and without a dt."""
    random = np.random.default_rng(10)
    frames = random.integers(0, 256, (7, 9, 6, 8, 3), dtype=np.uint8)
    return Sequences(frames, random.standard_normal((7, 8, 2)).astype(np.float32))
