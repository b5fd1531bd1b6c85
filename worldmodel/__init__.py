"""World models learnt from images and actions: collect, train, imagine, judge, act.

    import worldmodel as wm

The names below are all of the public Python API. They are loaded when they are first used: importing this package is
light, and needs no JAX.

Where things live, the top first; imports only run downwards:

    api            what this file exports
    training       from options to a trained run, its checks and its seeds
    exporting      dreams without Python: one page, or ONNX
    play           truth and dream in a browser
    reporting      evaluations with pictures, the HTML report
    pictures       every figure, in one style
    evaluation     how good dreams are, and whether anything was learnt
    planning       acting: planners over any model, policies learnt in the dream, the dream as an environment
    imagination    trained models, compiled
    runs           run folders, checkpoints
    models         the interface, the DVBF
    readers        data sets in the formats of other libraries
    worlds         true worlds, collecting from them
    data           sequences, files, windows
    support        files, options, progress
"""

import importlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldmodel.api import (
        Sequences,
        Trained,
        UserError,
        collect,
        export,
        list_formats,
        list_models,
        list_pretrained,
        list_worlds,
        load,
        read,
        report,
        train,
        write,
    )

__version__: str
__all__ = [
    "Sequences",
    "Trained",
    "UserError",
    "collect",
    "export",
    "list_formats",
    "list_models",
    "list_pretrained",
    "list_worlds",
    "load",
    "read",
    "report",
    "train",
    "write",
]

if "gymnasium" in sys.modules:  # else api.py does it: this import stays light
    importlib.import_module("worldmodel.worlds.registered")


def __getattr__(name: str) -> Any:
    if name == "__version__":  # its one place is pyproject.toml
        return importlib.metadata.version(__name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("worldmodel.api"), name)


def __dir__() -> list[str]:
    return __all__
