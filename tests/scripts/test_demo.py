"""The demo's stages, of scripts that are made up."""

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import SCRIPTS

from worldmodel.support.files import UserError

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x'); print('wrote', sys.argv[1])"
FAIL = "import sys; print('first words'); sys.exit('error: last words')"
WAIT = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background may not have
pathlib.Path(sys.argv[1] + ".begun").write_text("")
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1] + ".saved").write_text("")
    sys.exit(130)
"""


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, with other scripts to call."""
    spec = importlib.util.spec_from_file_location("demo", SCRIPTS / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    for name, text in (("write.py", WRITE), ("fail.py", FAIL), ("wait.py", WAIT)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "SCRIPTS", tmp_path)
    return module


def test_stages_beside_the_shown_one_speak_when_they_are_done(demo: Any, tmp_path: Path, capfd: pytest.CaptureFixture):
    one, two, three = (demo.Stage(name, tmp_path / name, ("write.py", tmp_path / name)) for name in ("1", "2", "3"))
    three.run(quiet=True)
    meanwhile = demo.Meanwhile(one, two, three)
    meanwhile.finish()
    said = capfd.readouterr().out
    assert f"== 3: {tmp_path / '3'} is there already and is kept" in said
    assert said.index(f"== 1: done\nwrote {tmp_path / '1'}") < said.index(f"== 2: done\nwrote {tmp_path / '2'}")
    assert "== 3: done" not in said


def test_a_stage_that_fails_beside_the_shown_one_is_told_with_its_last_words(demo: Any, tmp_path: Path):
    meanwhile = demo.Meanwhile(demo.Stage("broken", tmp_path / "never", ("fail.py",)))
    with pytest.raises(UserError, match=r"stopped at 'broken' \(exit status 1\): error: last words; make demo goes on"):
        meanwhile.finish()


def test_when_the_shown_stage_fails_what_runs_is_interrupted_and_nothing_more_begins(demo: Any, tmp_path: Path):
    waiting, after = tmp_path / "waiting", tmp_path / "after"
    meanwhile = demo.Meanwhile(
        demo.Stage("waiting", waiting, ("wait.py", waiting)), demo.Stage("after", after, ("write.py", after))
    )
    while not (tmp_path / "waiting.begun").exists():
        time.sleep(0.05)
    with pytest.raises(UserError, match=r"stopped at 'shown' \(exit status 1\)"):
        demo.Stage("shown", tmp_path / "never", ("fail.py",)).run(quiet=True)
    meanwhile.stop()
    assert (tmp_path / "waiting.saved").exists()
    assert not after.exists()
