"""The pages: their links lead somewhere, each says what comes next, and Sphinx makes a site of them without warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if not {"_build", "examples", "_runs"} & set(path.relative_to(DOCS).parts)
]
SITE = (
    "index",
    "start",
    "data",
    "add_a_model",
    "add_a_world",
    "scale",
    "recipe",
    "model",
    "api",
    "comparison",
    "figures",
)


def anchors(path: Path) -> set[str]:
    """What the headings of a page are linked by."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_pictures_are_there(page: Path):
    text = re.sub(r"^```(?!\{).*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_page_says_what_comes_next(page: Path):
    [next_steps] = re.findall(r"^\*\*Next:\*\*(.*?)(?:\n\n|\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    assert re.search(r"\]\([^)]+\)", next_steps)


def test_the_pages_that_are_promised_are_there():
    assert {DOCS / f"{name}.md" for name in SITE} <= set(PAGES)
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 100
    for name in ("start", "data", "add_a_model", "add_a_world", "scale", "model", "comparison"):
        assert f"(docs/{name}.md)" in readme


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    """The notebooks are not run, of which tests of their own take care."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    command += ["-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")]
    environment = os.environ | {"WORLDMODEL_DOCS_EXECUTE": "off", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for name in SITE:
        assert (tmp_path / "html" / f"{name}.html").is_file()
    api = (tmp_path / "html" / "api.html").read_text()
    for name in (
        "worldmodel.collect",
        "worldmodel.Trained.imagine",
        "worldmodel.models.protocol.WorldModel.filter_step",
    ):
        assert f'id="{name}"' in api
    model = (tmp_path / "html" / "model.html").read_text()
    assert model.count('class="math') > 10
    assert "MathJax" in model or "mathjax" in model
