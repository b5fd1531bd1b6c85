"""Packages that not everybody needs: the extras of pyproject.toml. Nothing is imported before it is asked for."""

import importlib
from typing import Any

from worldmodel.support.files import UserError


def library(name: str, extra: str) -> Any:
    """A module of an extra's package. Raises UserError, which names the extra to install, when it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise UserError(f"{package} is not installed; to install it: pip install 'worldmodel[{extra}]'") from None
