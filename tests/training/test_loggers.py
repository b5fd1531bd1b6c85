"""What the loggers wrote, read back: TensorBoard's by TensorBoard itself, that of Weights & Biases record by record."""

import io
import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_DVBF, assert_ok, run_interrupted, run_script
from PIL import Image, ImageSequence

import worldmodel as wm
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
from worldmodel.training.loggers import LOGGERS, Logbook

pytest.importorskip("tensorboardX")
pytest.importorskip("wandb")

STRIP = np.full((30, 50, 3), 200, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    """Whatever Weights & Biases are to do elsewhere on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def logged(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a DVBF, trained together, with both loggers."""
    group = tmp_path_factory.mktemp("runs") / "logged"
    loggers = ("--log", "tensorboard", "--log", "wandb")
    assert_ok(run_script("train.py", "dvbf", "--data", data_file, "--out", group, *SMALL_DVBF, "--seeds", 2, *loggers))
    return group


def metrics_of(run: Path) -> dict[int, dict[str, float]]:
    """Metrics by step. Fails where a step is there twice."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    by_step = {line.pop("step"): line for line in lines}
    assert len(by_step) == len(lines)
    return by_step


class Read:
    """What a logger has: scalars by step and name, and the bytes of pictures by name and step."""

    def __init__(self) -> None:
        self.scalars: dict[int, dict[str, float]] = {}
        self.pictures: dict[str, dict[int, bytes]] = {}

    def scalar(self, step: int, name: str, value: float) -> None:
        assert name not in self.scalars.setdefault(step, {}), f"{name} of step {step} twice"
        self.scalars[step][name] = value

    def picture(self, step: int, name: str, encoded: bytes) -> None:
        assert step not in self.pictures.setdefault(name, {}), f"{name} of step {step} twice"
        self.pictures[name][step] = encoded


def read_tensorboard(run: Path) -> Read:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()
    read = Read()
    for name in events.Tags()["scalars"]:
        for scalar in events.Scalars(name):
            read.scalar(scalar.step, name, scalar.value)
    for name in events.Tags()["images"]:
        for image in events.Images(name):
            assert (image.width, image.height) == Image.open(io.BytesIO(image.encoded_image_string)).size
            read.picture(image.step, name, image.encoded_image_string)
    return read


def records(path: Path) -> Iterator[Any]:
    """The records of an offline run. The file is a log of LevelDB's kind, after seven bytes of its own: blocks of
    32 KiB, a record in one piece (kind 1) or in several (2, 3, ..., 4), a head of seven bytes before each. Ends where
    it is not written on yet."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + size > len(data):
            return
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def offline_run(run: Path) -> Path:
    """Its file, once it is written to its end, by a process of its own."""
    [path] = run.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(600):
        if path.stat().st_size > 7 and any(record.HasField("exit") for record in records(path)):
            return path
        time.sleep(0.05)
    raise AssertionError(f"{path} has no end")


def read_wandb(run: Path) -> Read:
    read, path = Read(), offline_run(run)
    for history in (record.history for record in records(path) if record.HasField("history")):
        values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in history.item}
        step = history.step.num
        for name in {name.partition("/")[0] for name in values if not name.startswith("_")}:
            if name in values:
                read.scalar(step, name, values[name])
            else:
                read.picture(step, name, (path.parent / "files" / values[f"{name}/path"]).read_bytes())
    return read


READ = {"tensorboard": read_tensorboard, "wandb": read_wandb}


def assert_logs_what_the_run_has(read: Read, run: Path) -> None:
    """Every figure of metrics.jsonl, at its step, and no other. TensorBoard keeps single precision."""
    metrics = metrics_of(run)
    assert read.scalars.keys() == metrics.keys()
    for step, values in metrics.items():
        assert read.scalars[step] == pytest.approx(values, rel=1e-6, abs=1e-30), step


@pytest.mark.parametrize("logger", LOGGERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_seed_logs_its_own_metrics_at_every_step(logged: Path, seed: int, logger: str):
    read = READ[logger](logged / f"seed_{seed}")
    assert_logs_what_the_run_has(read, logged / f"seed_{seed}")
    assert set(read.scalars) == {0, 100, 120}
    assert read.scalars[100]["loss"] != metrics_of(logged / f"seed_{1 - seed}")[100]["loss"]


@pytest.mark.parametrize("logger", LOGGERS)
def test_the_pictures_are_those_of_the_run(logged: Path, logger: str):
    run = logged / "seed_1"
    pictures = READ[logger](run).pictures
    assert {name: list(steps) for name, steps in pictures.items()} == {
        "film_strip": [0, 120],
        "curves": [120],
        "learning": [120],
    }
    assert pictures["learning"][120] == (run / "learning.gif").read_bytes()
    with Image.open(run / "curves.png") as drawn, Image.open(io.BytesIO(pictures["curves"][120])) as shown:
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(drawn))
    # the GIF of learning shows the film strip of each of these steps at its left
    with Image.open(io.BytesIO(pictures["learning"][120])) as gif:
        assert gif.format == "GIF"
        frames = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) >= 2
    for frame, step in ((frames[0], 0), (frames[-1], 120)):
        with Image.open(io.BytesIO(pictures["film_strip"][step])) as image:
            assert image.format == "PNG"
            strip = np.asarray(image, int)
        assert strip.shape[0] == frame.shape[0]
        assert strip.shape[1] < frame.shape[1]
        assert np.abs(strip - frame[:, : strip.shape[1]]).mean() < 3  # of 255: a GIF has a palette
    first, last = pictures["film_strip"].values()
    assert first != last


def test_a_model_of_single_frames_is_logged_too(data_file: Path, tmp_path: Path):
    run = tmp_path / "vae"
    wm.train("vae", data_file, run, steps=100, hidden_size=16, log="tensorboard")
    read = read_tensorboard(run)
    assert_logs_what_the_run_has(read, run)
    assert read.pictures["latent_walk"][100] == (run / "latent_walk.gif").read_bytes()
    assert set(read.pictures) == {"film_strip", "curves", "learning", "latent_walk", "posterior"}
    with Image.open(io.BytesIO(read.pictures["film_strip"][100])) as strip:
        # eight frames of 16 x 16 pixels, six times as large, 6 pixels apart, two rows between bars of 20 pixels
        assert strip.height == 2 * (96 + 6) + 2 * 20 + 6
        assert 8 * (96 + 6) < strip.width < 8 * (96 + 6) + 80  # and the names of the rows


@pytest.mark.parametrize("logger", LOGGERS)
def test_steps_that_are_taken_twice_are_logged_once(logger: str, tmp_path: Path):
    """A training that is killed has logged more than its last checkpoint knows."""
    run = Run(tmp_path / "run")
    run.folder.mkdir()

    def write(first: int, last: int, value: float) -> None:
        book = Logbook(run, [logger], lambda step, arrays: STRIP)
        (run.folder / "config.json").write_text('{"options": {}}')
        book.begin()
        for step in range(first, last + 1, 100):
            book.write({"step": step, "loss": value}, {"frames": np.zeros(1)} if step % 200 == 0 else None)
        book.close()

    write(0, 400, value=1.0)
    assert max(READ[logger](run.folder).scalars) == 400
    run.forget_after(200)
    (run.folder / "snapshots" / "step_00000400.npz").unlink()
    write(300, 500, value=2.0)
    read = READ[logger](run.folder)
    assert read.scalars == {step: {"loss": 1.0 if step <= 200 else 2.0} for step in range(0, 501, 100)}
    assert sorted(read.pictures["film_strip"]) == [0, 200, 400]
    for encoded in read.pictures["film_strip"].values():
        with Image.open(io.BytesIO(encoded)) as image:
            np.testing.assert_array_equal(np.asarray(image), STRIP)


def test_a_stopped_training_goes_on_in_its_logs(data_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    train = ("train.py", "dvbf", "--data", data_file, "--out", run)
    stopped = run_interrupted(100, *train, *SMALL_DVBF, "--steps", 300, "--log", "wandb")
    assert stopped.returncode == 130
    assert max(read_wandb(run).scalars) < 300
    name = offline_run(run).stem
    # another logger, which learns of what was before it
    assert_ok(run_script(*train, "--resume", "--log", "tensorboard"))
    for read in READ.values():
        assert_logs_what_the_run_has(read(run), run)
        assert max(read(run).scalars) == 300
    assert offline_run(run).stem == name  # under its own id, so that what was sent of it is replaced
    assert json.loads((run / "config.json").read_text())["options"]["log"] == ["wandb", "tensorboard"]


def test_weights_and_biases_know_the_configuration_and_which_seeds_belong_together(logged: Path):
    groups, names = set(), set()
    for seed in (0, 1):
        run = logged / f"seed_{seed}"
        [record] = [record.run for record in records(offline_run(run)) if record.HasField("run")]
        config = {item.key: json.loads(item.value_json) for item in record.config.update}
        assert config["options"] == json.loads((run / "config.json").read_text())["options"]
        assert config["options"]["seed"] == seed
        assert record.project == "worldmodel"
        groups.add(record.run_group)
        names.add(record.display_name)
    assert groups == {str(logged)}
    assert names == {str(logged / "seed_0"), str(logged / "seed_1")}


def refused(data_file: Path, out: Path, *arguments: object) -> str:
    """The one line that says why a training does not begin."""
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", out, *arguments)
    assert result.returncode == 2
    assert not out.exists()
    [line] = result.stderr.splitlines()
    return line


def test_a_logger_that_there_is_not_is_one_line(data_file: Path, tmp_path: Path):
    line = refused(data_file, tmp_path / "run", "--log", "paper")
    assert line == "error: --log: 'paper' is none of tensorboard, wandb"
    with pytest.raises(UserError, match="'paper' is none of"):
        wm.train("dvbf", data_file, tmp_path / "run", log=["tensorboard", "paper"])


@pytest.mark.parametrize(("logger", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_logger_that_is_not_installed_is_one_line_with_its_extra(
    data_file: Path, tmp_path: Path, logger: str, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(data_file, tmp_path / "run", "--log", logger)
    assert line == f"error: {package} is not installed; to install it: pip install 'worldmodel[{logger}]'"


def test_what_has_nothing_to_log_and_a_mode_that_there_is_not_are_refused(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    line = refused(data_file, tmp_path / "run", "--log", "tensorboard", "--find-lr")
    assert "nothing to --log" in line
    monkeypatch.setenv("WANDB_MODE", "loud")
    assert "must be one of offline, online, disabled, not loud" in refused(
        data_file, tmp_path / "run", "--log", "wandb"
    )


def test_a_place_that_cannot_be_written_is_one_line(logged: Path, data_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(logged / "seed_0", run)
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").write_text("a file")
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", run, "--resume", "--steps", 200)
    assert result.returncode == 2
    assert f"error: {run}/tensorboard: cannot be written: File exists" in result.stderr.splitlines()
