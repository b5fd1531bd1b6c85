"""Programs where they are meant to run: in a browser, and in ONNX Runtime."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from playwright.sync_api import Browser

from worldmodel.exporting.onnx_files import to_onnx
from worldmodel.exporting.page import Store, interpreter
from worldmodel.exporting.program import Program

Arrays = dict[str, np.ndarray]
Loaded = Callable[[Mapping[str, Any]], Arrays]
"""a program that is ready: named arrays to named arrays"""


def with_shapes(program: Program, found: Mapping[str, Any]) -> Arrays:
    """What a browser knows as lists."""
    tensors = {name: program.tensors[number] for name, number in program.outputs.items()}
    return {name: np.array(found[name], each.type).reshape(each.shape) for name, each in tensors.items()}


@pytest.fixture(scope="module")
def in_browser(browser: Browser) -> Iterator[Callable[[Program], Loaded]]:
    """Loads programs into a headless Chromium."""
    with browser.new_page() as page:
        page.add_script_tag(content=interpreter())
        page.evaluate("globalThis.loaded = []")
        load = """async ([described, places, numbers]) => {
            const stored = await dreaming.unpacked(places, numbers);
            return loaded.push(new dreaming.Program(described, stored)) - 1;
        }"""
        run = """([number, given]) => Object.fromEntries(
            Object.entries(loaded[number].run(given)).map(([name, values]) => [name, [...values]])
        )"""

        def loader(program: Program) -> Loaded:
            store = Store()
            number = page.evaluate(load, [store.program(program), store.places, store.packed()])

            def call(given: Mapping[str, Any]) -> Arrays:
                plain = {name: np.ravel(given[name]).tolist() for name in program.inputs}
                return with_shapes(program, page.evaluate(run, [number, plain]))

            return call

        yield loader


def in_onnx(program: Program) -> Loaded:
    """Loads a program into ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        to_onnx(program, "program").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]

    def call(given: Mapping[str, Any]) -> Arrays:
        return dict(zip(outputs, session.run(None, {name: np.asarray(given[name]) for name in inputs}), strict=True))

    return call
