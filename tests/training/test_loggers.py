"""What the loggers wrote, read back: TensorBoard's by TensorBoard itself, that of Weights & Biases record by record."""

import io
import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_DVBF, assert_ok, run_interrupted, run_script
from PIL import Image, ImageSequence

import worldmodel as wm
from worldmodel import api
from worldmodel.runs.folder import Run
from worldmodel.support.files import Diverged, UserError
from worldmodel.support.script import INTERRUPTED
from worldmodel.training import session
from worldmodel.training.loggers import LOGGERS, Logbook, WandB, logbooks

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
    assert exit_code(run) == 1
    # another logger, which learns of what was before it
    assert_ok(run_script(*train, "--resume", "--log", "wandb", "--log", "tensorboard"))
    for read in READ.values():
        assert_logs_what_the_run_has(read(run), run)
        assert max(read(run).scalars) == 300
    assert exit_code(run) == 0
    assert offline_run(run).stem == name  # under its own id, so that what was sent of it is replaced
    assert json.loads((run / "config.json").read_text())["options"]["log"] == ["wandb", "tensorboard"]


def test_the_loggers_of_a_resumed_run_can_be_replaced_and_dropped(
    data_file: Path, tmp_path: Path, paper: type[Paper], monkeypatch: pytest.MonkeyPatch
):
    """As where what it was begun with is not installed."""
    run = tmp_path / "run"
    assert_ok(vae(data_file, run, "--steps", 10, "--log", "paper", "--log", "other"))
    del LOGGERS["paper"], LOGGERS["other"]
    assert_failed(vae(data_file, run, "--resume"), "--log: 'paper' is none of tensorboard, wandb")
    line = "--log: none goes with no other"
    assert_failed(vae(data_file, run, "--resume", "--log", "none", "--log", "tensorboard"), line)
    told = {name: list(calls) for name, calls in paper.told.items()}
    assert_ok(vae(data_file, run, "--resume", "--log", "none", "--steps", 20))
    assert paper.told == told
    assert json.loads((run / "config.json").read_text())["options"]["log"] == []

    def logs(*arguments: object) -> list[tuple[str, ...]]:
        """With what the training would go on from a command line, and from Python."""
        found: list[tuple[str, ...]] = []
        monkeypatch.setattr(session, "train", lambda name, options: found.append(options.log))
        monkeypatch.setattr(api, "train_session", session.train)
        assert vae(data_file, run, "--resume", *arguments).returncode == INTERRUPTED
        return found

    Run(run).change_options(log=["wandb"])
    assert logs() == [("wandb",)]
    assert logs("--log", "tensorboard") == [("tensorboard",)]
    assert logs("--log=tensorboard", "--log", "wandb") == [("tensorboard", "wandb")]
    assert logs("--log=none") == [()]
    for given in ((), "none", ["none"]):
        found = logs()
        with pytest.raises(KeyboardInterrupt):
            wm.train("vae", data_file, run, resume=True, log=given)
        assert found == [("wandb",), ()]


def test_seeds_have_ids_of_their_own_and_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An id that is not told to wandb is that of $WANDB_RUN_ID, the same for all."""
    import wandb

    def init(dir: Path, id: str | None, **options: Any) -> None:
        told.append(id)
        (dir / "wandb" / f"offline-run-20260101_000000-{id or 'given'}").mkdir(parents=True)

    monkeypatch.setattr(wandb, "init", init)
    rounds: list[list[str | None]] = []
    for _ in range(2):
        told: list[str | None] = []
        for name in ("seed_0", "seed_1", "alone"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "config.json").write_text("{}")
            WandB(Run(tmp_path / name))
        rounds.append(told)
    [one, other, alone], again = rounds
    assert alone is None
    assert one is not None
    assert other is not None
    assert one != other
    assert again == [one, other, "given"]


@pytest.mark.parametrize(
    ("mode", "given", "within"),
    [("offline", None, "false"), ("offline", "true", "true"), ("disabled", None, None), ("online", None, None)],
)
def test_only_what_is_offline_keeps_its_errors_to_itself(
    tmp_path: Path, mode: str, given: str | None, within: str | None, monkeypatch: pytest.MonkeyPatch
):
    """And nothing else in this process is told to."""
    import wandb

    name, seen = "WANDB_ERROR_REPORTING", []
    monkeypatch.setenv("WANDB_MODE", mode)
    if given is not None:
        monkeypatch.setenv(name, given)
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    monkeypatch.setattr(wandb, "init", lambda **options: seen.append(os.environ.get(name)))
    (tmp_path / "config.json").write_text("{}")
    WandB.check()
    assert os.environ.get(name) == given
    WandB(Run(tmp_path))
    assert seen == [within]
    assert os.environ.get(name) == given


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


@pytest.mark.parametrize("there", [True, False])
def test_a_logger_that_cannot_be_opened_leaves_no_run_behind(
    data_file: Path, tmp_path: Path, there: bool, paper: type[Paper]
):
    out = tmp_path / "runs"
    if there:
        (out / "seed_1").mkdir(parents=True)
        (out / "seed_1" / "note.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    paper.fails = lambda run, what, step: (run.folder.name, what) == ("seed_1", "open")
    loggers = ("--log", "tensorboard", "--log", "paper", "--seeds", 2)
    assert_failed(vae(data_file, out, *loggers), "the paper is torn: open 0")
    assert sorted(tmp_path.rglob("*")) == before
    assert paper.told == {"seed_0": [("open", 0), ("failed", 0)], "seed_1": [("open", 0)]}
    paper.fails = lambda run, what, step: False
    assert_ok(vae(data_file, out, *loggers, "--steps", 10))
    assert (out / "seed_1" / "posterior.json").exists()


def test_a_logger_that_cannot_be_opened_leaves_a_resumed_run_as_it_was(
    data_file: Path, tmp_path: Path, paper: type[Paper]
):
    run = tmp_path / "run"
    assert_ok(vae(data_file, run, "--steps", 10))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "config.json"}
    paper.fails = lambda run, what, step: what == "open"
    assert_failed(vae(data_file, run, "--resume", "--log", "paper"), "the paper is torn: open 0")
    assert all(path.read_bytes() == was for path, was in before.items())


def test_a_logger_that_fails_stops_all_seeds_with_what_they_have_learnt_saved(
    data_file: Path, tmp_path: Path, paper: type[Paper]
):
    out = tmp_path / "runs"
    paper.fails = lambda run, what, step: run.folder.name == "seed_0" and what == "scalars" and step == 200
    stopped = vae(data_file, out, "--log", "paper", "--log", "other", "--seeds", 2)
    assert_failed(stopped, "the paper is torn: scalars 200")
    assert "stopped and saved; --resume goes on from here" in stopped.stdout
    for seed in (0, 1):
        run = Run(out / f"seed_{seed}")
        assert run.checkpoint_steps() == [200]
        assert set(metrics_of(run.folder)) == {0, 100, 200}
        assert paper.told[f"seed_{seed}"].count(("scalars", 200)) == 2  # the other logger was told as well
        assert paper.told[f"seed_{seed}"][-2:] == [("failed", 0)] * 2
    paper.fails = lambda run, what, step: False
    assert_ok(vae(data_file, out, "--resume"))
    assert set(metrics_of(out / "seed_0")) == {0, 100, 200, 300}
    assert paper.told["seed_1"][-2:] == [("finished", 0)] * 2


@pytest.mark.parametrize("fails", ["scalars", "curves"])
def test_a_logger_that_fails_at_the_end_takes_nothing_from_any_run(
    data_file: Path, tmp_path: Path, fails: str, paper: type[Paper]
):
    """Not from its own either, whatever it raises."""
    out = tmp_path / "runs"
    paper.fails = lambda run, what, step: run.folder.name == "seed_0" and what == fails and step == 100
    result = vae(data_file, out, "--log", "paper", "--seeds", 2, "--steps", 100)
    assert_failed(result, f"the paper is torn: {fails} 100")
    for seed in (0, 1):
        assert f"seed_{seed}: trained; pictures: curves.png" in result.stdout
        assert (out / f"seed_{seed}" / "posterior.json").exists()
        assert Run(out / f"seed_{seed}").checkpoint_steps() == [100]
    assert ("curves", 100) in paper.told["seed_1"]
    assert paper.told["seed_1"][-1] == ("finished", 0)


def test_a_training_that_did_not_end_well_is_closed_as_failed_and_says_why(
    data_file: Path, tmp_path: Path, paper: type[Paper]
):
    """Although closing fails, too."""
    paper.fails = lambda run, what, step: what == "failed"
    with pytest.raises(Diverged, match="no longer a finite number"):
        wm.train("vae", data_file, tmp_path / "run", steps=300, learning_rate=1e30, log=["paper", "other"])
    assert paper.told["run"].count(("failed", 0)) == 2
    assert (tmp_path / "run" / "config.json").exists()


def test_every_logger_is_closed_and_the_first_that_fails_is_told(tmp_path: Path, paper: type[Paper]):
    runs = [Run(tmp_path / name) for name in ("one", "two")]
    paper.fails = lambda run, what, step: what == "finished" and run.folder.name == "one"
    paper.error = RuntimeError

    def finish() -> None:
        with logbooks(runs, ["paper", "other"], lambda step, arrays: STRIP) as books:
            for book in books:
                book.begin()
                book.finish(0, [])

    with pytest.raises(RuntimeError, match="the paper is torn: finished 0"):
        finish()
    assert paper.told == {name: [("open", 0)] * 2 + [("finished", 0)] * 2 for name in ("one", "two")}
