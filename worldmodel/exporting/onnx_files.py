"""A trained model as ONNX, for programs that do not run Python: one file for each of ModelPrograms and a card.

    begin.onnx         frames [1, K, H, W(, C)], actions [1, K-1, A]     ->  next_STATE
    filter_step.onnx   STATE, action [1, A], frame [1, H, W(, C)]        ->  next_STATE
    imagine_step.onnx  STATE, action                                     ->  next_STATE
    decode.onnx        STATE                                             ->  frame
    vector.onnx        STATE                                             ->  vector [1, Z]

All numbers are float32, frames are brightness in [0, 1], actions keep the unit of the data. STATE stands for one or
more tensors, whose names and shapes are the model's own; card.json has them. Nothing is random: the means are followed.
"""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np

from worldmodel.exporting.models import ModelPrograms
from worldmodel.exporting.onnx_operations import TRANSLATED, Graph, onnx_library
from worldmodel.exporting.program import Program
from worldmodel.models.protocol import WorldModel
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, json_bytes

OPSET, FORMAT = 18, 10
"""of ONNX's operators, and of its files (IR version); by its own table ONNX Runtime reads both from 1.18 on"""
FILES = {
    "begin": "the state at the last of the first frames",
    "filter_step": "the state after an action and the frame that came of it",
    "imagine_step": "the state after an action whose frame did not come, or is yet to come",
    "decode": "the mean frame that a state shows",
    "vector": "a state as numbers, for probes and policies",
}
MEANINGS = {
    "frames": "the first frames, brightness in [0, 1]",
    "actions": "those between the first frames, in the unit of the data",
    "action": "that led from the state to the next, in the unit of the data",
    "frame": "brightness in [0, 1]",
    "vector": "of the state",
}


def onnx_files(run: Run, model: WorldModel) -> dict[str, bytes]:
    """The files of a run's model, by their names, as ONNX's own checker accepts them. Raises UserError where ONNX is
    not installed, or the model needs what ONNX cannot express."""
    programs = ModelPrograms.of(model)
    made = {f"{name}.onnx": _checked(to_onnx(getattr(programs, name), name), name) for name in FILES}
    return made | {"card.json": json_bytes(_card(run, model, programs))}


def _checked(proto: Any, name: str) -> bytes:
    onnx = onnx_library()
    # a ValueError says that it is too large
    wrong = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError)
    content: bytes = proto.SerializeToString()
    try:
        onnx.checker.check_model(content, full_check=True)
    except wrong as error:
        raise UserError(
            f"{name}: cannot be written as ONNX: its checker says: {' '.join(str(error).split())}"
        ) from None
    return content


def to_onnx(program: Program, name: str) -> Any:
    """An onnx.ModelProto of a program. Raises UserError as `onnx_files`."""
    onnx = onnx_library()
    graph = Graph(program)
    for step in program.steps:
        translate = TRANSLATED.get(step.operation)
        if translate is None:
            raise UserError(
                f"{name}: cannot be written as ONNX: it needs {step.operation}, which has no translation"
                " (exporting/onnx_operations.py)"
            )
        translate(graph, step)
    for output, number in program.outputs.items():
        graph.node("Identity", [graph.names[number]], output)
    for number, array in program.constants.items():
        graph.stored[graph.names[number]] = array

    def described(numbers: Mapping[str, int]) -> list[Any]:
        return [
            onnx.helper.make_tensor_value_info(each, graph.type(number), program.tensors[number].shape)
            for each, number in numbers.items()
        ]

    used = {number: each for each, number in program.inputs.items() if 0 not in program.tensors[number].shape}
    body = onnx.helper.make_graph(
        graph.nodes,
        name,
        described({each: number for number, each in used.items()}),
        described(program.outputs),
        [onnx.numpy_helper.from_array(np.asarray(array), each) for each, array in graph.stored.items()],
    )
    version = importlib.metadata.version("worldmodel")
    opset = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(
        body, opset_imports=[opset], ir_version=FORMAT, producer_name="worldmodel", producer_version=version
    )


def _card(run: Run, model: WorldModel, programs: ModelPrograms) -> dict[str, Any]:
    """What the files are, for those who read them."""

    def described(program: Program, numbers: Mapping[str, int]) -> dict[str, Any]:
        return {
            name: {
                "shape": list(program.tensors[number].shape),
                "type": program.tensors[number].type,
                "meaning": MEANINGS.get(
                    name, "part of the state" if name in programs.state else "part of the next state"
                ),
            }
            for name, number in numbers.items()
            if 0 not in program.tensors[number].shape
        }

    files = {}
    for name, meaning in FILES.items():
        program = getattr(programs, name)
        inputs, outputs = described(program, program.inputs), described(program, program.outputs)
        files[f"{name}.onnx"] = {"gives": meaning, "inputs": inputs, "outputs": outputs}
    card = run.card
    return {
        "model": run.model,
        "run": run.folder.resolve().name,
        "world": None if card.world is None else card.world.id,
        "seconds_between_frames": card.dt,
        "first_frames": model.context,
        "opset": OPSET,
        "ir_version": FORMAT,
        "written_by": f"worldmodel {importlib.metadata.version('worldmodel')}",
        "files": files,
    }
