"""The operations of a program in ONNX's words."""

import string
from collections.abc import Callable
from typing import Any

import numpy as np

from worldmodel.exporting.program import Program, Step
from worldmodel.support.extras import library
from worldmodel.support.files import UserError


def onnx_library() -> Any:
    """The library. Raises UserError where it is not installed."""
    onnx = library("onnx", "onnx")
    for part in ("checker", "helper", "numpy_helper", "shape_inference"):
        library(f"onnx.{part}", "onnx")
    return onnx


class Graph:
    """Nodes, and constants by their names. Names of its own begin with _, which those of inputs and outputs do not."""

    def __init__(self, program: Program):
        self.program, self.onnx = program, onnx_library()
        self.names = {number: f"_t{number}" for number in range(len(program.tensors))}
        self.names |= {number: name for name, number in program.inputs.items()}
        self.nodes: list[Any] = []
        self.stored: dict[str, np.ndarray] = {}

    def shape(self, number: int) -> tuple[int, ...]:
        return self.program.tensors[number].shape

    def type(self, number: int) -> int:
        """As ONNX counts types."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.program.tensors[number].type))

    def constant(self, array: Any, dtype: Any = np.int64) -> str:
        name = f"_c{len(self.stored)}"
        self.stored[name] = np.asarray(array, dtype)
        return name

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Its only output, which is wanted."""
        output = output or f"_n{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def inputs(self, step: Step) -> list[str]:
        return [self.names[number] for number in step.inputs]

    def output(self, step: Step) -> str:
        return self.names[step.outputs[0]]


Translation = Callable[[Graph, Step], None]


def _plain(operator: str, **attributes: Any) -> Translation:
    def translate(graph: Graph, step: Step) -> None:
        graph.node(operator, graph.inputs(step), graph.output(step), **attributes)

    return translate


def _chain(*operators: str) -> Translation:
    """One after the other."""

    def translate(graph: Graph, step: Step) -> None:
        found = graph.inputs(step)
        for operator in operators[:-1]:
            found = [graph.node(operator, found)]
        graph.node(operators[-1], found, graph.output(step))

    return translate


def _log1p(graph: Graph, step: Step) -> None:
    """Its error is that of 1 + x in float32: 6e-8."""
    graph.node("Log", [graph.node("Add", [*graph.inputs(step), graph.constant(1, np.float32)])], graph.output(step))


def _expm1(graph: Graph, step: Step) -> None:
    """Its error is that of a float32 near 1: 6e-8."""
    graph.node("Sub", [graph.node("Exp", graph.inputs(step)), graph.constant(1, np.float32)], graph.output(step))


def _round(graph: Graph, step: Step) -> None:
    if not step.parameters["to_even"]:
        raise UserError("the model cannot be written as ONNX: it rounds halves away from 0, and ONNX to even numbers")
    graph.node("Round", graph.inputs(step), graph.output(step))


def _is_finite(graph: Graph, step: Step) -> None:
    infinite, none = (graph.node(operator, graph.inputs(step)) for operator in ("IsInf", "IsNaN"))
    graph.node("Not", [graph.node("Or", [infinite, none])], graph.output(step))


def _select(graph: Graph, step: Step) -> None:
    which, *cases = graph.inputs(step)
    if len(cases) != 2:
        raise UserError("the model cannot be written as ONNX: it needs select_n of more than two cases")
    graph.node("Where", [graph.node("Cast", [which], to=graph.onnx.TensorProto.BOOL), *cases[::-1]], graph.output(step))


def _cast(graph: Graph, step: Step) -> None:
    graph.node("Cast", graph.inputs(step), graph.output(step), to=graph.type(step.outputs[0]))


def _reshape(graph: Graph, step: Step) -> None:
    shape = graph.constant(graph.shape(step.outputs[0]))
    graph.node("Reshape", [*graph.inputs(step), shape], graph.output(step))


def _broadcast(graph: Graph, step: Step) -> None:
    shape = graph.shape(step.outputs[0])
    thin = [1] * len(shape)
    for axis, size in zip(step.parameters["dimensions"], graph.shape(step.inputs[0]), strict=True):
        thin[axis] = size
    spread = graph.node("Reshape", [*graph.inputs(step), graph.constant(thin)])
    graph.node("Expand", [spread, graph.constant(shape)], graph.output(step))


def _slice(graph: Graph, step: Step) -> None:
    start, strides, shape = step.parameters["start"], step.parameters["strides"], graph.shape(step.outputs[0])
    ends = [a + (n - 1) * stride + 1 for a, n, stride in zip(start, shape, strides, strict=True)]
    numbers = map(graph.constant, (start, ends, range(len(start)), strides))
    graph.node("Slice", [*graph.inputs(step), *numbers], graph.output(step))


def _rev(graph: Graph, step: Step) -> None:
    axes = step.parameters["dimensions"]
    back = [-1] * len(axes)
    numbers = map(graph.constant, (back, [np.iinfo(np.int64).min] * len(axes), axes, back))
    graph.node("Slice", [*graph.inputs(step), *numbers], graph.output(step))


def _pad(graph: Graph, step: Step) -> None:
    """First between the numbers of each axis, then around them; what is negative is cut off."""
    found, value = graph.inputs(step)
    shape, padding = list(graph.shape(step.inputs[0])), step.parameters["padding"]
    for axis, (_, _, between) in enumerate(padding):
        if between and shape[axis] > 1:
            apart = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
            found = graph.node("Reshape", [found, graph.constant(apart)])
            around = [0] * (2 * len(apart))
            around[len(apart) + axis + 1] = between
            found = graph.node("Pad", [found, graph.constant(around), value])
            longer = [*shape[:axis], shape[axis] * (between + 1), *shape[axis + 1 :]]
            found = graph.node("Reshape", [found, graph.constant(longer)])
            shape[axis] = longer[axis] - between
            found = graph.node("Slice", [found, *map(graph.constant, ([0], [shape[axis]], [axis]))])
    low, high = ([max(0, each[side]) for each in padding] for side in (0, 1))
    found = graph.node("Pad", [found, graph.constant(low + high), value])
    cut = [max(0, -each[0]) for each in padding]
    ends = [a + size for a, size in zip(cut, graph.shape(step.outputs[0]), strict=True)]
    graph.node("Slice", [found, *map(graph.constant, (cut, ends))], graph.output(step))


def _concatenate(graph: Graph, step: Step) -> None:
    graph.node("Concat", graph.inputs(step), graph.output(step), axis=step.parameters["dimension"])


def _iota(graph: Graph, step: Step) -> None:
    tensor = graph.program.tensors[step.outputs[0]]
    counted = np.indices(tensor.shape)[step.parameters["dimension"]].astype(tensor.type)
    graph.node("Identity", [graph.constant(counted, counted.dtype)], graph.output(step))


def _dot_general(graph: Graph, step: Step) -> None:
    """A product of matrices, where it is one; else a sum by the letters of the axes."""
    left, right, left_batch, right_batch = (
        step.parameters[name] for name in ("left", "right", "left_batch", "right_batch")
    )
    ranks = [len(graph.shape(number)) for number in step.inputs]
    if (ranks, left, right, left_batch) == ([2, 2], [1], [0], []):
        graph.node("MatMul", graph.inputs(step), graph.output(step))
        return
    letters = iter(string.ascii_letters)
    of_left = [next(letters) for _ in range(ranks[0])]
    of_right = [next(letters) for _ in range(ranks[1])]
    for a, b in zip([*left, *left_batch], [*right, *right_batch], strict=True):
        of_right[b] = of_left[a]
    kept = [of_left[axis] for axis in left_batch]
    kept += [letter for axis, letter in enumerate(of_left) if axis not in [*left, *left_batch]]
    kept += [letter for axis, letter in enumerate(of_right) if axis not in [*right, *right_batch]]
    equation = f"{''.join(of_left)},{''.join(of_right)}->{''.join(kept)}"
    graph.node("Einsum", graph.inputs(step), graph.output(step), equation=equation)


def _reduce(operator: str) -> Translation:
    def translate(graph: Graph, step: Step) -> None:
        axes = graph.constant(step.parameters["axes"])
        graph.node(operator, [*graph.inputs(step), axes], graph.output(step), keepdims=0)

    return translate


def _reduce_bool(operator: str) -> Translation:
    def translate(graph: Graph, step: Step) -> None:
        types = graph.onnx.TensorProto
        counted = graph.node("Cast", graph.inputs(step), to=types.INT32)
        found = graph.node(operator, [counted, graph.constant(step.parameters["axes"])], keepdims=0)
        graph.node("Cast", [found], graph.output(step), to=types.BOOL)

    return translate


def _arg(operator: str) -> Translation:
    def translate(graph: Graph, step: Step) -> None:
        found = graph.node(operator, graph.inputs(step), axis=step.parameters["axes"][0], keepdims=0)
        graph.node("Cast", [found], graph.output(step), to=graph.type(step.outputs[0]))

    return translate


TRANSLATED: dict[str, Translation] = {
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "div": _plain("Div"),
    "rem": _plain("Mod", fmod=1),
    "max": _plain("Max"),
    "min": _plain("Min"),
    "pow": _plain("Pow"),
    "and": _plain("And"),
    "or": _plain("Or"),
    "not": _plain("Not"),
    "xor": _plain("Xor"),
    "eq": _plain("Equal"),
    "ne": _chain("Equal", "Not"),
    "lt": _plain("Less"),
    "le": _plain("LessOrEqual"),
    "gt": _plain("Greater"),
    "ge": _plain("GreaterOrEqual"),
    "neg": _plain("Neg"),
    "abs": _plain("Abs"),
    "sign": _plain("Sign"),
    "floor": _plain("Floor"),
    "ceil": _plain("Ceil"),
    "round": _round,
    "sqrt": _plain("Sqrt"),
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "exp": _plain("Exp"),
    "expm1": _expm1,
    "log": _plain("Log"),
    "log1p": _log1p,
    "logistic": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "sin": _plain("Sin"),
    "cos": _plain("Cos"),
    "is_finite": _is_finite,
    "select_n": _select,
    "convert_element_type": _cast,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": lambda graph, step: _plain("Transpose", perm=step.parameters["permutation"])(graph, step),
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "rev": _rev,
    "iota": _iota,
    "dot_general": _dot_general,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_and": _reduce_bool("ReduceMin"),
    "reduce_or": _reduce_bool("ReduceMax"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
}
