"""The page to drive the dream as one file: what play/serving.py does is done in the browser, and nothing is fetched.

The page is play/play.html with a server of its own (server.js), which runs programs (interpreter.js) of the true world
and of the models. Their steps stand in it as JSON, their constants as the base64 of compressed bytes, each once.
"""

import base64
import dataclasses
import html
import importlib.metadata
import json
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from worldmodel.exporting.models import ModelPrograms
from worldmodel.exporting.program import Program
from worldmodel.exporting.truth import TruthPrograms
from worldmodel.models.protocol import WorldModel
from worldmodel.play.live import Dream
from worldmodel.play.serving import PAGE, Stage, describe_world

HERE = Path(__file__).parent
SCRIPTS = ("interpreter.js", "server.js")
OFFERED = "LocalServer, SideBySide, Program, OPERATIONS, unpacked"
"""what these scripts give the page"""
ALIGNED = 4
"""bytes, at whose multiples arrays begin; and bytes of a float32"""


def page_of(stage: Stage, key: jax.Array) -> bytes:
    """The file of a stage's dreams; the key of the random starts is consumed. Raises UserError where a model or the
    world needs a primitive that no program has."""
    store = Store()
    truth = TruthPrograms.of(stage.simulator, key)
    parts: dict[str, Any] = {
        "world": describe_world(stage),
        "truth": {
            "starts": truth.starts.round(6).tolist(),
            "programs": {
                "step_world": store.program(truth.step),
                "picture": store.program(truth.picture),
                "apart": store.program(truth.apart),
            },
        },
        "dreams": [_dream(dream, store) for dream in stage.dreams],
        "stored": store.places,
    }
    server = (
        f'<script type="application/json" id="programs">{_script_text(parts)}</script>\n'
        f'<script type="text/plain" id="numbers">{store.packed()}</script>\n'
        f"<script>\n{interpreter()}\nconst {{ LocalServer }} = dreaming;\n</script>"
    )
    page = PAGE.read_text()
    for before, after in (
        ("<body>", '<body class="alone">'),
        ("<!-- server -->", server),
        ("<!-- about -->", f'<footer id="about">{_about(stage, truth)}</footer>'),
        ('<figcaption id="drawn">the simulator', '<figcaption id="drawn">its physics, in this page'),
    ):
        assert page.count(before) == 1, before
        page = page.replace(before, after)
    return page.encode()


def interpreter() -> str:
    """JavaScript that makes the object `dreaming` of what runs programs and serves the page."""
    scripts = "\n".join((HERE / name).read_text() for name in SCRIPTS)
    return f'const dreaming = (() => {{\n"use strict";\n{scripts}\nreturn {{ {OFFERED} }};\n}})();'


@dataclasses.dataclass
class Store:
    """The constants of programs, each once."""

    content: bytearray = dataclasses.field(default_factory=bytearray)
    places: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
    """type, first byte and length of each"""
    _numbers: dict[tuple[str, bytes], int] = dataclasses.field(default_factory=dict)

    def program(self, program: Program) -> dict[str, Any]:
        """A program as the interpreter reads it; its constants are numbers of `places`."""
        return {
            "tensors": [[list(tensor.shape), tensor.type] for tensor in program.tensors],
            "constants": {number: self._keep(array) for number, array in program.constants.items()},
            "steps": program.steps,
            "inputs": program.inputs,
            "outputs": program.outputs,
        }

    def _keep(self, array: np.ndarray) -> int:
        found = array.dtype.name, np.ascontiguousarray(array).tobytes()
        if found not in self._numbers:
            self._numbers[found] = len(self.places)
            self.places.append((found[0], len(self.content), array.size))
            self.content += found[1] + b"\0" * (-len(found[1]) % ALIGNED)
        return self._numbers[found]

    def packed(self) -> str:
        """All bytes, compressed, as base64; the first bytes of all numbers come first, then their second ones, and so
        on, which makes a tenth less of them."""
        planes = np.frombuffer(self.content, np.uint8).reshape(-1, ALIGNED).T
        return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def _dream(dream: Dream, store: Store) -> dict[str, Any]:
    model = dream.dreamer.model
    assert isinstance(model, WorldModel)
    programs = ModelPrograms.of(model)
    return {
        "programs": {
            name: store.program(getattr(programs, name))
            for name in ("begin", "filter_step", "imagine_step", "decode", "vector")
        },
        "view": {"mean": dream.view.mean.tolist(), "axes": dream.view.axes[:, :2].tolist()},
        "context": model.context,
    }


def _script_text(value: Any) -> str:
    """JSON that ends no script."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _about(stage: Stage, truth: TruthPrograms) -> str:
    """What the page is made of."""
    models = [f"{html.escape(dream.model)}, {_parameters(dream):,} parameters" for dream in stage.dreams]
    picture = f"the most similar of {truth.pictures} recorded ones" if truth.pictures else "drawn anew"
    return (
        f"This page is one file and asks no network: the model{'s' * (len(models) > 1)} ({'; '.join(models)}) and the"
        f" physics of the true world run in your browser; the true picture is {picture}. A dream follows its model's"
        f" means. Made with worldmodel {importlib.metadata.version('worldmodel')}, scripts/export.py."
    )


def _parameters(dream: Dream) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(dream.dreamer.model, nnx.Param)))
