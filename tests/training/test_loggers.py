"""What the loggers wrote, read back: TensorBoard's by TensorBoard itself, that of Weights & Biases record by record."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_DVBF, assert_ok, run_interrupted, run_script
from logs import (  # noqa: F401 (fixtures)
    READ,
    STRIP,
    Paper,
    assert_failed,
    assert_logs_what_the_run_has,
    exit_code,
    logged,
    metrics_of,
    offline,
    offline_run,
    paper,
    read_tensorboard,
    read_wandb,
    records,
    vae,
)
from PIL import Image, ImageSequence

import worldmodel as wm
from worldmodel import api
from worldmodel.runs.folder import Run
from worldmodel.support.script import INTERRUPTED
from worldmodel.training import session
from worldmodel.training.loggers import LOGGERS, Logbook, WandB

pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
pytest.importorskip("wandb", reason="the extra wandb is not installed")


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
