"""A run that is killed at any moment goes on as if nothing had happened."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SCRIPTS, SMALL_DVBF, assert_ok, run_script

KILLS = 10
STEPS = 20_000


@pytest.mark.slow
def test_a_run_killed_ten_times_equals_one_that_was_never_killed(data_file: Path, tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert_ok(run_script("train.py", "dvbf", "--data", data_file, "--out", whole, *SMALL_DVBF, "--steps", STEPS))
    chance = random.Random(0)
    command = [sys.executable, str(SCRIPTS / "train.py"), "dvbf", "--data", str(data_file), "--out", str(killed)]

    def unfinished() -> list[Path]:
        return list(killed.glob("checkpoints/.unfinished.*"))

    def reached(step: int) -> bool:
        lines = killed / "metrics.jsonl"
        return lines.exists() and f'{{"step": {step},' in lines.read_text()

    torn = 0
    for attempt in range(KILLS):
        checkpoints = sorted(killed.glob("checkpoints/step_*.npz"))
        kept = int(checkpoints[-1].stem.removeprefix("step_")) if checkpoints else 0  # where this attempt begins
        begun = (killed / "config.json").exists()
        process = subprocess.Popen(
            [*command, *(["--resume"] if begun else map(str, (*SMALL_DVBF, "--steps", STEPS)))],
            stderr=subprocess.DEVNULL,
        )
        until = kept + 100 * chance.randint(6, 12)  # further than the attempt before can have come
        while process.poll() is None and not reached(until):
            time.sleep(0.001)
        while attempt % 2 and process.poll() is None and not unfinished():
            pass  # until a checkpoint is being written
        process.kill()
        assert process.wait() == -signal.SIGKILL
        torn += bool(unfinished())
    assert torn > 0
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", killed, "--resume")
    assert_ok(result)

    newest = f"checkpoints/step_{STEPS:08d}.npz"
    with np.load(whole / newest, allow_pickle=False) as one, np.load(killed / newest, allow_pickle=False) as other:
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)

    def metrics(run: Path) -> list[dict]:
        found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != "steps_per_second"} for line in found]

    assert [line["step"] for line in metrics(killed)] == list(range(0, STEPS + 1, 100))
    assert metrics(killed) == metrics(whole)
    assert {path.name for path in killed.rglob("*")} == {path.name for path in whole.rglob("*")}


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_the_earlier_checkpoints(
    dvbf_run: Path, data_file: Path, tmp_path: Path
):
    """As on a full disk, which the largest size of a file stands in for here."""
    run = tmp_path / "run"
    shutil.copytree(dvbf_run, run)
    before = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    largest = min(map(len, before.values())) // 2
    arguments = ["train.py", "dvbf", "--data", str(data_file), "--out", str(run), "--resume", "--steps", "150"]
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))\n"
        f"sys.argv = {arguments!r}\n"
        f"runpy.run_path({str(SCRIPTS / 'train.py')!r}, run_name='__main__')"
    )
    own = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}  # its programs would be cut off, too
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=own)
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"error: .*step_00000150\.npz: cannot be written: File too large", last)
    assert {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
