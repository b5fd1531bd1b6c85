"""Loggers in tests: what they wrote, read back, and two that are made up."""

import io
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_DVBF, assert_ok, run_script
from PIL import Image

from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
from worldmodel.training.loggers import LOGGERS

STRIP = np.full((30, 50, 3), 200, np.uint8)
"""a film strip that is made up"""


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


def exit_code(run: Path) -> int:
    """Under which its training is shown as finished (0) or failed."""
    [code] = [record.exit.exit_code for record in records(offline_run(run)) if record.HasField("exit")]
    return code


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


class Paper:
    """A logger that keeps what it is told, and fails in what the test says."""

    fails: Callable[[Run, str, int], bool] = staticmethod(lambda run, what, step: False)
    error: type[Exception] = UserError
    told: dict[str, list[tuple[str, int]]]
    """by run folder, methods and steps"""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._note("open", 0)

    @staticmethod
    def check() -> None:
        pass

    def _note(self, what: str, step: int) -> None:
        Paper.told.setdefault(self.run.folder.name, []).append((what, step))
        if Paper.fails(self.run, what, step):
            raise Paper.error(f"the paper is torn: {what} {step}")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._note("scalars", step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._note(name, step)

    def animation(self, step: int, name: str, gif: bytes) -> None:
        self._note(name, step)

    def close(self, failed: bool) -> None:
        self._note("failed" if failed else "finished", 0)


class OtherPaper(Paper):
    """The same again."""


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> type[Paper]:
    """The loggers "paper" and "other", of which nothing fails yet."""
    monkeypatch.setattr(Paper, "told", {}, raising=False)
    monkeypatch.setattr(Paper, "fails", staticmethod(lambda run, what, step: False))
    monkeypatch.setattr(Paper, "error", UserError)
    monkeypatch.setitem(LOGGERS, "paper", Paper)
    monkeypatch.setitem(LOGGERS, "other", OtherPaper)
    return Paper


def vae(data_file: Path, out: Path, *arguments: object) -> CompletedProcess[str]:
    """A training of the quickest model."""
    small = ("--hidden-size", 16, "--steps", 300, "--batch-size", 8)
    new = () if "--resume" in arguments else small
    return run_script("train.py", "vae", "--data", data_file, "--out", out, *new, *arguments)


def assert_failed(result: CompletedProcess[str], line: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == f"error: {line}"
    assert "Traceback" not in result.stderr
