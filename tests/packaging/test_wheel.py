"""The wheel: what is in it, and that it does its work where there is no checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git knows, so that nothing which is only on this machine comes with it."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    place = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def test_it_holds_the_packages_with_their_pages_and_weights(unpacked: Path):
    inside = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    known = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    packages = {name for name in known.splitlines() if name.startswith(("worldmodel/", "baselines/"))}
    missing = {name for name in packages if (REPOSITORY / name).exists()} - inside
    assert not missing
    others = {name.partition("/")[0] for name in inside} - {"worldmodel", "baselines"}
    assert len(others) == 1
    assert others.pop().endswith(".dist-info")


def test_it_says_what_it_is(unpacked: Path):
    (info,) = unpacked.glob("*.dist-info")
    wheel = PathDistribution(info)
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert "the worldmodel authors" in (info / "licenses" / "LICENSE").read_text()
    assert f"## {wheel.version} " in (REPOSITORY / "CHANGELOG.md").read_text()
    assert {entry.name for entry in wheel.entry_points if entry.group == "worldmodel.models"} >= {"dvbf", "vae", "rssm"}


def test_it_works_without_the_checkout(unpacked: Path, tmp_path: Path):
    """On this environment's dependencies; `make package` installs them anew."""
    command = [sys.executable, str(Path(__file__).with_name("use.py")), str(unpacked)]
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("works\n")
