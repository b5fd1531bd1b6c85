"""The Python of README and docs/data.md, and README's commands, in their order, on less data and for fewer steps."""

import contextlib
import re
import shlex
from pathlib import Path

from conftest import SCRIPTS, run_script
from PIL import Image

README = (SCRIPTS.parent / "README.md").read_text()
PAGES = [README, (SCRIPTS.parent / "docs" / "data.md").read_text()]
ELSEWHERE = {"play.py", "improve.py", "convert.py"}
"""scripts with tests of their own: one serves until Ctrl-C, one trains again and again, one takes a user's data"""
SMALLER = {
    "collect.py": "--sequences 12",
    "train.py": "--steps 20",
    "evaluate.py": "--sequences 6",
    "plan.py": "--episodes 1 --steps 6 --no-ceilings",
    "learn_policy.py": "--updates 50",
}
CHECKS = {"--overfit-one-batch": r"pass: ", "--find-lr": r".*--learning-rate \d"}
"""what the checks of a DVBF say"""
SMALLER_IN_PYTHON = (("sequences=500", "sequences=24"), ("sequences=100", "sequences=12"), ("steps=2000", "steps=20"))


def blocks(language: str) -> list[str]:
    return [block for page in PAGES for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)]


def test_the_commands_of_the_readme_work(tmp_path: Path):
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("python ")]
    assert len(commands) >= 8
    Image.new("L", (48, 48)).save(tmp_path / "picture.png")
    for command in commands:
        _, script, *arguments = shlex.split(command, comments=True)
        name = Path(script).name
        if name in ELSEWHERE:
            continue
        for option, value in re.findall(r"(--[a-z-]+)(?: (\d+))?", SMALLER.get(name, "")):
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
            else:
                arguments += [option, value] if value else [option]
        result = run_script(name, *arguments, cwd=tmp_path)
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        for check in CHECKS.keys() & set(arguments):
            assert re.match(CHECKS[check], result.stdout, re.DOTALL)
    for picture in ("imagined/film_strip.png", "check/overfit_one_batch.png", "check/find_lr.png"):
        assert (tmp_path / "runs" / picture).exists()
    assert (tmp_path / "runs" / "dvbf" / "report.html").exists()


def test_nothing_is_left_to_be_filled_in():
    assert not re.search(r"@[A-Z]+@|TODO|XXX", README)


def test_the_python_of_the_readme_works(tmp_path: Path):
    """With fewer sequences and steps, in one process, as in a notebook; what it makes can be learnt from."""
    code = "\n".join(blocks("python"))
    assert "import worldmodel as wm" in code
    for large, small in SMALLER_IN_PYTHON:
        assert large in code
        code = code.replace(large, small)
    with contextlib.chdir(tmp_path):
        exec(code, {})
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
    for model, data in (("dvbf", "my_data.npz"), ("vae", "my_large_data")):
        out = f"{model}-{data}"
        result = run_script("train.py", model, "--data", data, "--out", out, "--steps", 5, cwd=tmp_path)
        assert result.returncode == 0, result.stderr


def test_every_make_target_of_the_readme_exists():
    makefile = (SCRIPTS.parent / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_picture_of_the_readme_exists():
    pictures = re.findall(r"\]\((docs/[^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (SCRIPTS.parent / picture).is_file(), picture
