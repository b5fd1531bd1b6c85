"""The tutorial's notebooks: quickly, whether they could run; slowly, whether they do, and their prose holds."""

import ast
import re
import shutil
from pathlib import Path

import pytest

import worldmodel as wm

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
NOTEBOOKS = sorted(TUTORIAL.glob("[0-9]_*.md"))
LONGEST = 600
"""seconds that a cell may take before it is taken to hang"""


def cells(notebook: Path) -> list[str]:
    """The code of each cell of a MyST notebook, without its tags."""
    fenced = re.findall(
        r"^```\{code-cell\} ipython3\n(?::[^\n]*\n)*(.*?)^```$", notebook.read_text(), re.DOTALL | re.MULTILINE
    )
    return [cell.strip() for cell in fenced]


def test_there_are_seven_and_the_index_names_all():
    toctree = re.search(r"```\{toctree\}\n(?::.*\n)*\n(.*?)```", (TUTORIAL / "index.md").read_text(), re.DOTALL)
    assert toctree is not None
    assert toctree[1].split() == [notebook.stem for notebook in NOTEBOOKS]
    assert len(NOTEBOOKS) == 7


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_compiles_and_names_only_what_there_is(notebook: Path):
    code = cells(notebook)
    assert len(code) == notebook.read_text().count("{code-cell}") > 3
    assert notebook.read_text().startswith("---\njupytext:\n")
    trees = [ast.parse(cell) for cell in code]
    names = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "wm"
    }
    assert names <= set(wm.__all__)
    assert "collect" in names
    modules = {
        module.partition(".")[0]
        for tree in trees
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= {
        "worldmodel",
        "numpy",
        "matplotlib",
        "common",
        "json",
        "dataclasses",
        "pathlib",
        "tempfile",
        "IPython",
    }
    assert any(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree)), "prose that nothing holds"


@pytest.mark.parametrize("page", [*NOTEBOOKS, TUTORIAL / "index.md"], ids=lambda path: path.stem)
def test_its_links_lead_somewhere(page: Path):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("http")]
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        assert (page.parent / path).is_file(), link
        headings = re.findall(r"^#+ (.*)$", (page.parent / path).read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    following = next((each for each in NOTEBOOKS if each.name > page.name), NOTEBOOKS[0])
    if page.name == "index.md":
        following = NOTEBOOKS[0]
    assert text.rstrip().splitlines()[-1].startswith("**Next:** ")
    assert following.name in text.rstrip().splitlines()[-1]


@pytest.mark.slow
def test_all_run_from_nothing_in_order(tmp_path: Path):
    """Each with what those before it left, as the site's build runs them; what cells assert is what the prose says."""
    import nbclient  # here: the quick tests need none of it
    from nbformat import v4

    folder = tmp_path / "tutorial"
    shutil.copytree(TUTORIAL, folder, ignore=shutil.ignore_patterns("_runs"))
    for notebook in NOTEBOOKS:
        client = nbclient.NotebookClient(
            v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells(notebook)]),
            timeout=LONGEST,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
        errors = [
            output.text
            for cell in client.nb.cells
            for output in cell.get("outputs", [])
            if output.output_type == "stream" and output.name == "stderr"
        ]
        assert not errors, f"{notebook.name}: {errors}"
