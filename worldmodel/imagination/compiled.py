"""Functions of a model, compiled once for all models of one structure."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


def compiled(function: Callable, static_argnums: tuple[int, ...] = ()) -> Callable:
    """`function(model, *arguments)` as one program. The model comes first and counts as argument 0."""

    # a model is split into its structure, which is static, and its parameters
    @functools.partial(jax.jit, static_argnums=(0, *(number + 1 for number in static_argnums)))
    def program(graphdef: nnx.GraphDef, params: nnx.State, *arguments: Any) -> Any:
        return function(nnx.merge(graphdef, params), *arguments)

    @functools.wraps(function)
    def call(model: Any, *arguments: Any) -> Any:
        return program(*nnx.split(model), *arguments)

    return call
