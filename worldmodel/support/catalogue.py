"""What is registered by packaging entry points: models, worlds and planners, the project's own and those of any
installed package.

An entry point names a dataclass of options; `build` on it makes the thing. The project's own entries are in
pyproject.toml, a guest's in the pyproject.toml of its package:

    [project.entry-points."worldmodel.models"]
    my-model = "my_package.my_model:MyOptions"
"""

import ast
import dataclasses
import importlib
import importlib.util
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from worldmodel.support.files import UserError


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The entries of one group of entry points."""

    group: str
    """such as "worldmodel.models" """
    kind: str
    """what an entry is called in messages"""

    def names(self) -> list[str]:
        """In alphabetical order; nothing is imported."""
        return sorted({entry.name for entry in entry_points(group=self.group)})

    def options(self, name: str) -> type[Any]:
        """The dataclass of options of an entry. Raises UserError when there is none or it cannot be imported."""
        entry = self._entry(name)
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self.kind} {name}: {entry.value} cannot be imported: {error}") from None

    def sentence(self, name: str) -> str:
        """The first sentence of the docstring of an entry's options, read off the source: nothing heavy is imported."""
        module, _, attribute = self._entry(name).value.partition(":")
        try:
            found = importlib.util.find_spec(module)
        except ImportError:
            found = None
        if found is None or found.origin is None:
            return ""
        for node in ast.parse(Path(found.origin).read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name == attribute:
                docstring = " ".join((ast.get_docstring(node) or "").split())
                return re.split(r"(?<!et al)\. ", docstring)[0].rstrip(".")
        return ""

    def table(self) -> str:
        """A line for each entry: its name and its sentence."""
        names = self.names()
        width = max(map(len, names), default=0)
        return "\n".join(f"  {name:<{width}}  {self.sentence(name)}" for name in names)

    def _entry(self, name: str) -> EntryPoint:
        found = tuple(entry_points(group=self.group, name=name))
        if not found:
            raise UserError(f"{name!r} is no {self.kind}; there are {', '.join(self.names())}")
        if len({entry.value for entry in found}) > 1:
            raise UserError(f"{self.kind} {name}: is registered more than once: {', '.join(e.value for e in found)}")
        return found[0]
