"""Collecting that is stopped, by whatever, and goes on: the same data, byte for byte."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_ok, run_script

from worldmodel.data.growing import Growing, continued_folder
from worldmodel.data.storage import load_sequences
from worldmodel.support.files import UserError
from worldmodel.worlds import collecting
from worldmodel.worlds.collecting import collect

COMMAND = ("collect.py", "--sequences", 23, "--frames", 4, "--size", 8)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Ctrl-C in the middle of the block after so many sequences; with blocks of five sequences of the pendulum."""
    monkeypatch.setattr(collecting, "CHUNK_PIXELS", 5 * 4 * 8 * 8)
    at: dict[str, int | None] = {"at": None}
    add = Growing.add

    def torn(self: Growing, block: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
        if self.done == at["at"]:
            self._files["frames"].write(b"torn") if self._files else None
            raise KeyboardInterrupt
        add(self, block, notes)

    monkeypatch.setattr(Growing, "add", torn)
    return at


def test_what_was_stopped_goes_on_and_is_the_same(stop: dict[str, int | None], tmp_path: Path):
    assert_ok(run_script(*COMMAND, "--out", tmp_path / "whole"))
    assert_ok(run_script(*COMMAND, "--out", tmp_path / "whole.npz"))
    out, kept = tmp_path / "data", tmp_path / ".unfinished.data"
    for stop["at"], there in ((0, False), (10, True), (20, True)):
        stopped = run_script(*COMMAND, "--out", out)
        assert stopped.returncode == 130
        words = f": {stop['at']} of 23 sequences are kept in {kept}; the same command goes on from there"
        assert stopped.stderr == f"interrupted{words if there else ''}\n"
        assert (out.exists(), kept.exists()) == (False, there)
    stop["at"] = None
    assert_ok(run_script(*COMMAND, "--out", out))
    assert contents(out) == contents(tmp_path / "whole")
    assert load_sequences(out).fingerprint() == load_sequences(tmp_path / "whole.npz").fingerprint()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "whole", "whole.npz"]


def test_other_options_do_not_go_on(stop: dict[str, int | None], tmp_path: Path):
    out, kept = tmp_path / "data", tmp_path / ".unfinished.data"
    stop["at"] = 10
    assert run_script(*COMMAND, "--out", out).returncode == 130
    stop["at"] = None
    before = contents(kept / "data")
    for options, told in {
        ("--seed", 1): "seed 0, not 1",
        ("--sequences", 24, "--noise", 0.1): "sequences 23, not 24, noise_std 0.0, not 0.1",
        ("--world", "ball"): "world pendulum, not ball, arguments {",
    }.items():
        refused = run_script(*COMMAND, *options, "--out", out)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {out}: was begun with other options ({told}")
        assert refused.stderr.endswith(f"; give those, or another --out, or delete {kept}\n")
        assert refused.stderr.count("\n") == 1
    assert contents(kept / "data") == before
    (kept / "data" / "frames.npy").write_bytes(before["frames.npy"][:500])
    refused = run_script(*COMMAND, "--out", out)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"error: {kept}/data/frames.npy: is damaged; delete {kept}\n",
    )


def test_two_processes_do_not_write_one_folder(tmp_path: Path):
    with continued_folder(tmp_path / "data", 3, {}) as growing:
        with (
            pytest.raises(UserError, match="data: is being written by another process"),
            continued_folder(tmp_path / "data", 3, {}),
        ):
            pass
        growing.add({"frames": np.zeros((3, 2, 4, 4), np.uint8), "actions": np.zeros((3, 1, 1), np.float32)}, {})
    assert len(load_sequences(tmp_path / "data")) == 3


KILLED = """
import os, signal
from pathlib import Path
from worldmodel.data.growing import Growing
from worldmodel.worlds.collecting import collect

add = Growing.add

def killed(self, block, notes):
    if self.done > 10:
        self._files["frames"].write(bytes(999))
        self._files["frames"].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, block, notes)

Growing.add = killed
collect("CartPole-v1", 33, 14, 8, seed=3, workers=2, out=Path({out!r}))
"""


def test_what_was_killed_leaves_no_process_and_goes_on(tmp_path: Path):
    """With any number of workers."""
    code = KILLED.format(out=str(tmp_path / "data"))
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    assert process.wait() == -signal.SIGKILL
    group, deadline = process.pid, time.monotonic() + 60
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(group)

    assert [path.name for path in tmp_path.iterdir()] == [".unfinished.data"]
    on = collect("CartPole-v1", 33, 14, 8, seed=3, workers=3, out=tmp_path / "data")
    assert on.ended is not None
    assert on.ended.any()
    collect("CartPole-v1", 33, 14, 8, seed=3, workers=1, out=tmp_path / "whole")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "whole"]


def _alive(group: int) -> bool:
    """Whether a process of a group runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it is gone
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False
