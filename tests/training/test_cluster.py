"""Training over several processes of one machine, which share nothing but files and a loopback connection."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SCRIPTS, SMALL_DVBF, assert_ok, run_script


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_on_two(*arguments: object) -> list[subprocess.CompletedProcess[str]]:
    """A DVBF's training in two processes, one device each."""
    command = [sys.executable, str(SCRIPTS / "train.py"), "dvbf", *map(str, arguments)]
    joined = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process-id")
    processes = [
        subprocess.Popen([*command, *joined, str(index)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        results.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return results


def curve(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def parameters(run: Path, step: int) -> dict[str, np.ndarray]:
    with np.load(run / "checkpoints" / f"step_{step:08d}.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive if name.startswith("params/")}


def assert_close(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    assert some.keys() == others.keys()
    for name, value in some.items():
        np.testing.assert_allclose(others[name], value, rtol=2e-2, atol=2e-3, err_msg=name)


def test_two_processes_train_one_run_and_one_process_goes_on_with_it(data_file: Path, tmp_path: Path):
    """For few steps: at each of them one process waits for the other."""
    one, two = tmp_path / "one", tmp_path / "two"
    few = ("--data", data_file, *SMALL_DVBF, "--steps", 20)
    assert_ok(run_script("train.py", "dvbf", "--out", one, *few))
    first, second = train_on_two("--out", two, *few)
    assert_ok(first)
    assert_ok(second)
    assert "trained" in first.stdout
    assert "trained" not in second.stdout  # one process writes
    # the same curve, without doubled lines
    assert [line["step"] for line in curve(two)] == [line["step"] for line in curve(one)] == [0, 20]
    assert_close(parameters(one, 20), parameters(two, 20))
    for a, b in zip(curve(one)[1:], curve(two)[1:], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-3)
    assert (two / "learning.gif").exists()

    # one process goes on with what two began
    for run in (one, two):
        assert_ok(run_script("train.py", "dvbf", "--data", data_file, "--out", run, "--resume", "--steps", 30))
    assert [line["step"] for line in curve(two)] == [0, 20, 30]
    assert_close(parameters(one, 30), parameters(two, 30))


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_began_and_stream(dvbf_run: Path, data_file: Path, tmp_path: Path):
    """One process has the data set on its device; of two, each reads its half of every batch."""
    one, two = tmp_path / "one", tmp_path / "two"
    for run in (one, two):
        shutil.copytree(dvbf_run, run)
    resume = ("--data", data_file, "--resume", "--steps", 150)
    assert_ok(run_script("train.py", "dvbf", "--out", one, *resume))
    for result in train_on_two("--out", two, *resume, "--memory-budget", 1e-4):
        assert_ok(result)
    assert [line["step"] for line in curve(two)] == [0, 100, 120, 150]
    assert curve(two)[-1]["loss"] == pytest.approx(curve(one)[-1]["loss"], rel=2e-3)
    assert_close(parameters(one, 150), parameters(two, 150))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--processes", 2), "--processes and --process-id go with a --coordinator"),
        (("--coordinator", "127.0.0.1:1", "--processes", 2, "--process-id", 2), "--process-id must be between 0 and 1"),
        (("--coordinator", "auto", "--find-lr"), "run in one process"),
        (("--coordinator", "auto"), "--coordinator auto: cannot be joined"),
    ],
)
def test_processes_that_do_not_fit_together(arguments: tuple, message: str, data_file: Path, tmp_path: Path):
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", tmp_path / "run", *arguments)
    assert result.returncode == 2
    assert message in result.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_process_that_would_stay_idle_is_refused(data_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    for result in train_on_two("--data", data_file, "--out", run, *SMALL_DVBF, "--batch-size", 9):
        assert result.returncode == 2
        assert "--batch-size 9 cannot be shared evenly by the 2 devices" in result.stderr
    assert not run.exists()
