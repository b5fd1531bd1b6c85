"""The catalogue of entry points, and a guest's entry that a *.dist-info folder on sys.path brings."""

import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.models.catalogue import MODELS
from worldmodel.support.catalogue import Catalogue
from worldmodel.support.files import UserError

ENTRIES = """[a.group]
good = guest_room:Options
odd = guest_room:NotThere
gone = no_such_room:Options
"""


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """A package as pip leaves it: its module would raise if it were imported."""
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "guest_room.py").write_text(
        '"""A module."""\nclass Options:\n    """A guest by Somebody et al. 2020, on\n    two lines. And more."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "guest_room", raising=False)
    return Catalogue("a.group", "room")


def test_a_guest_is_found_and_told_of_without_importing_it(guests: Catalogue):
    assert guests.names() == ["gone", "good", "odd"]
    assert guests.sentence("good") == "A guest by Somebody et al. 2020, on two lines"
    assert guests.sentence("odd") == ""
    assert guests.sentence("gone") == ""
    assert "guest_room" not in sys.modules
    assert guests.table().splitlines()[1] == "  good  A guest by Somebody et al. 2020, on two lines"
    assert guests.options("good").__name__ == "Options"
    assert "guest_room" in sys.modules


def test_what_is_not_there_is_one_line(guests: Catalogue):
    for ask in (guests.options, guests.sentence):
        with pytest.raises(UserError, match=r"^'none' is no room; there are gone, good, odd$"):
            ask("none")
    with pytest.raises(UserError, match=r"^room gone: no_such_room:Options cannot be imported: [^\n]+$"):
        guests.options("gone")
    with pytest.raises(UserError, match=r"^room odd: guest_room:NotThere cannot be imported: [^\n]+$"):
        guests.options("odd")


def test_an_empty_group_has_no_names_and_an_empty_table():
    empty = Catalogue("no.such.group", "thing")
    assert (empty.names(), empty.table()) == ([], "")


def test_the_projects_own_models_are_there_and_their_options_import_nothing_heavy():
    rivals = {"dvbf-mlp", "kvae", "rssm", "rssm-categorical", "world-models"}
    assert {"vae", "dvbf", "dkf", "paper-dvbf"} | rivals <= set(MODELS.names())
    assert MODELS.sentence("vae").startswith("The static VAE (Kingma and Welling 2014)")
    code = (
        "import sys\nfrom worldmodel.models.catalogue import MODELS\nMODELS.table()\n"
        "[MODELS.options(name).build for name in MODELS.names()]\n"
        "sys.exit(repr({'jax', 'flax', 'numpy'} & set(sys.modules)) if {'jax', 'numpy'} & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
