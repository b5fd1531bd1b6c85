"""How Sphinx builds the site of docs/*.md; `make docs`.

The tutorial's notebooks are run where WORLDMODEL_DOCS_EXECUTE is "cache", which keeps what they gave, and are shown
without their outputs where it is "off".
"""

import os
import re
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
EXECUTE = os.environ.get("WORLDMODEL_DOCS_EXECUTE", "off")

project, author = "worldmodel", "the worldmodel authors"
version = release = version_of("worldmodel")
project_copyright = "the worldmodel authors"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "examples"]
suppress_warnings = ["toc.empty_glob"]  # pages of which some may not be there
nitpicky = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = EXECUTE
nb_execution_cache_path = str(HERE / "_build" / "jupyter_cache")
nb_execution_timeout = 900
nb_execution_raise_on_error = True

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# other projects' and private names, of whose pages nothing is known without a network
nitpick_ignore_regex = [
    ("py:.*", r"(np|numpy|jax|nnx|flax|distrax|optax|gymnasium|pathlib|collections|os|typing|types|chex|tyro)\b.*"),
    ("py:.*", r"(Path|Any|Self|NoneType|optional|ActType)"),
    ("py:class", r"worldmodel\.models\.networks\.MLP"),
]

html_theme = "sphinx_book_theme"
html_title = "worldmodel"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
}
if (HERE / "_static" / "dream.html").exists():
    tags.add("dream")  # type: ignore[name-defined]  # noqa: F821 (Sphinx gives it)

ELSEWHERE = {
    "../README.md": "index.md",
    "../RESULTS.md": "results/pendulum.md",
    "../ACTING.md": "results/acting.md",
    "../WORLDS.md": "results/worlds.md",
    "../GAPS.md": "results/gaps.md",
    "../RIVALS.md": "results/rivals.md",
    "../SPEED.md": "results/speed.md",
}
"""files above docs/, to which pages link as the repository has them, and the pages of the site that show them"""
SOURCES = r"\[([^\]]+)\]\((?:\.\./)+(?:worldmodel|baselines|scripts|tests)/[^)]*\)"
"""links to code, which the site does not show"""


def link_within(app: Sphinx, page: str, source: list[str]) -> None:
    """Make links to files above docs/ links to the pages that show them, and leave the words of links to code."""
    source[0] = re.sub(SOURCES, r"\1", source[0])
    depth = "../" * page.count("/")
    for file, shown in ELSEWHERE.items():
        source[0] = re.sub(rf"\]\({re.escape(depth + file)}(?=[)#])", f"]({depth}{shown}", source[0])


ATTRIBUTES = ("attribute", "property", "data")
kept: dict[str, list[str]] = {}
"""docstrings of attributes as they are written: napoleon takes what stands before a colon for a type"""


def keep(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Before napoleon."""
    if what in ATTRIBUTES:
        kept[name] = list(lines)


def restore(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """After napoleon."""
    if what in ATTRIBUTES:
        lines[:] = kept.pop(name)


def setup(app: Sphinx) -> None:
    """As Sphinx asks for it."""
    app.connect("source-read", link_within)
    app.connect("autodoc-process-docstring", keep, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
