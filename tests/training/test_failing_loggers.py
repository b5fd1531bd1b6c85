"""Loggers that are not there, cannot be opened, or fail on the way: no run loses anything."""

import shutil
import sys
from pathlib import Path

import pytest
from conftest import assert_ok, run_script
from logs import STRIP, Paper, assert_failed, logged, metrics_of, offline, paper, vae  # noqa: F401 (fixtures)

import worldmodel as wm
from worldmodel.runs.folder import Run
from worldmodel.support.files import Diverged, UserError
from worldmodel.training.loggers import logbooks

pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
pytest.importorskip("wandb", reason="the extra wandb is not installed")


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
