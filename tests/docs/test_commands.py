"""The commands and the Python of README and of the pages, in their order, on less data and for fewer steps."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import SCRIPTS, run_script
from PIL import Image

ROOT = SCRIPTS.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
CHAINS = {
    "first training": ("docs/start.md", "docs/checks.md", "docs/judge.md", "docs/worlds.md"),
    "in Python, acting": ("README.md", "docs/act.md"),
    "own data": ("docs/data.md",),
    "own model": ("docs/add_a_model.md",),
    "own world": ("docs/add_a_world.md",),
}
"""pages that are followed one after the other, in one folder"""
SLOW = ("own data", "own model", "own world")
"""a minute altogether; that the options of their commands exist is seen in every test"""
EXAMPLES = {"own model": ("my-model", "worldmodel.models"), "own world": ("my-world", "worldmodel.worlds")}
"""what is installed in between, of docs/examples, and the group of its entry point"""
ELSEWHERE = {"play.py", "improve.py"}
"""scripts with tests of their own: one serves until Ctrl-C, one trains again and again"""
PLACEHOLDERS = re.compile(r"\.\.\.|~|[A-Z]{4,}")
"""in a command that nobody can run as it stands"""
SMALLER = {
    "collect.py": "--sequences 12",
    "train.py": "--steps 20",
    "evaluate.py": "--sequences 6",
    "plan.py": "--episodes 1 --steps 6 --no-ceilings",
    "learn_policy.py": "--updates 50",
}
CHECKS = {"--overfit-one-batch": r"pass: ", "--find-lr": r".*--learning-rate \d"}
"""what the checks of a DVBF say"""
SMALLER_IN_PYTHON = {
    "sequences=500": "sequences=24",
    "sequences=100": "sequences=12",
    "steps=2000": "steps=20",
    "sequences=200, frames=30": "sequences=20, frames=20",
}


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of what can be run."""
    return re.findall(r"```(sh|python)\n(.*?)```", PAGES[page], re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each line that begins with python, comments left out."""
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("python ")]


@pytest.mark.parametrize(
    "chain", [pytest.param(chain, marks=pytest.mark.slow if chain in SLOW else ()) for chain in CHAINS]
)
def test_a_page_can_be_followed(chain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("L", (48, 48)).save(tmp_path / "picture.png")
    if chain in EXAMPLES:
        monkeypatch.syspath_prepend(install(tmp_path, *EXAMPLES[chain]))
    ran = 0
    for page in CHAINS[chain]:
        for language, text in blocks(page):
            if language == "python":
                for large, small in SMALLER_IN_PYTHON.items():
                    text = text.replace(large, small)
                assert not re.search(r"(sequences|steps)=\d{3,}", text), text
                with contextlib.chdir(tmp_path):
                    exec(text, {})
                ran += 1
            for words in commands(text) if language == "sh" else ():
                ran += follow(words, tmp_path)
    assert ran >= 4
    made = tmp_path / "runs"
    if chain == "first training":
        for file in ("imagined/film_strip.png", "check/overfit_one_batch.png", "check/find_lr.png", "dvbf/report.html"):
            assert (made / file).exists()
    elif chain == "in Python, acting":
        assert (made / "mine" / "report.html").exists()
        assert (made / "swing" / "acting" / "policy").exists()
    elif chain == "own data":
        for model, data in (("dvbf", "my_data.npz"), ("vae", "my_large_data")):
            result = run_script("train.py", model, "--data", data, "--out", f"{model}-of", "--steps", 5, cwd=tmp_path)
            assert result.returncode == 0, result.stderr


def install(place: Path, name: str, group: str) -> Path:
    """A copy of an example, as its page lets it be made, and what an installed package leaves behind."""
    folder = place / name
    shutil.copytree(ROOT / "docs" / "examples" / name, folder)
    [(entry, value)] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"][group].items()
    notes = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (notes / "entry_points.txt").write_text(f"[{group}]\n{entry} = {value}\n")
    return folder


def follow(words: list[str], place: Path) -> bool:
    """Run a command in a folder, on less; whether it could be."""
    if words[1:3] == ["-m", "pytest"]:
        paths = os.pathsep.join([str(place / words[3]), str(ROOT)])
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", words[3]]
        done = subprocess.run(
            command, cwd=place, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout
        return True
    if words[1] == "-m":
        assert words[2] == "pip"
        return False
    name, arguments = Path(words[1]).name, words[2:]
    if name in ELSEWHERE or PLACEHOLDERS.search(" ".join(words)):
        return False
    shortened = "--help" not in arguments
    for option, value in re.findall(r"(--[a-z-]+)(?: (\d+))?", SMALLER.get(name, "")) if shortened else ():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value] if value else [option]
    result = run_script(name, *arguments, cwd=place)
    assert result.returncode == 0, f"{shlex.join(words)}\n{result.stderr}"
    for check in CHECKS.keys() & set(arguments):
        assert re.match(CHECKS[check], result.stdout, re.DOTALL)
    return True


def test_what_is_followed_is_all_that_there_is():
    """But for the pages whose commands stand for others', of which the options are looked at."""
    with_commands = {page for page in PAGES if any(commands(text) for _, text in blocks(page))}
    assert with_commands - {page for chain in CHAINS.values() for page in chain} <= {
        "docs/play.md",
        "docs/scale.md",
        "docs/logging.md",
        "docs/export.md",
        "docs/figures.md",
    }


def test_the_options_of_all_commands_exist():
    """Of the commands that are not followed, too."""
    told: dict[tuple[str, ...], str] = {}
    looked_at = 0
    for page in PAGES:
        for language, text in blocks(page):
            joined = text.replace("\\\n", " ")
            for words in commands(joined) if language == "sh" and page not in CHAINS["own model"] else ():
                if words[1] == "-m" or "spring" in words:
                    continue
                name = Path(words[1]).name
                assert (SCRIPTS / name).is_file(), words
                given = [word.partition("=")[0] for word in words if word.startswith("--")]
                chosen = words[words.index("--planner") :][:2] if "--planner" in words else words[2:3]
                call = (name, *(chosen if name == "train.py" or "--planner" in words else ()), "--help")
                if "--world" in words:
                    call = (name, *words[words.index("--world") :][:2], "--help")
                if call not in told:
                    told[call] = run_script(*call).stdout
                for option in given:
                    assert re.search(rf"(^|[\s,│]){option}\b", told[call]), f"{page}: {' '.join(words)}: {option}"
                    looked_at += 1
    assert looked_at > 50


def test_commands_stand_in_fences_where_they_are_seen():
    for page, text in PAGES.items():
        assert not re.search(r"^ +(python|make|pip) ", text, re.MULTILINE), page


def test_nothing_is_left_to_be_filled_in():
    for page, text in PAGES.items():
        assert not re.search(r"@[A-Z]+@|TODO|XXX", text), page


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page, text in PAGES.items():
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: {target}"
    assert {"demo", "play"} <= set(re.findall(r"^make ([a-z-]+)", PAGES["README.md"], re.MULTILINE))
