"""Functions of a model as compiled programs, one for all models of one structure.

Parameters are passed as a flat list, which costs a call several times less than a tree of modules.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


class Split:
    """A model taken apart: its structure, which is compiled in, and its parameters."""

    def __init__(self, model: Any):
        self.model = model
        graphdef, params = nnx.split(model)
        self.leaves, tree = jax.tree.flatten(params)
        self.structure = (graphdef, tree)


class compiled:
    """`function(model, *arguments)` as a program. It is called with a model, or with one that is split already."""

    def __init__(self, function: Callable, static_argnums: tuple[int, ...] = ()):
        """The static arguments are counted from the model, which is number 0."""

        @functools.lru_cache(maxsize=64)
        def program(structure: tuple) -> Callable:
            graphdef, tree = structure

            def run(leaves: list[jax.Array], *arguments: Any) -> Any:
                return function(nnx.merge(graphdef, jax.tree.unflatten(tree, leaves)), *arguments)

            return jax.jit(run, static_argnums=static_argnums)

        self._program = program
        functools.update_wrapper(self, function)

    def __call__(self, model: Any, *arguments: Any) -> Any:
        return self.bind(model)(*arguments)

    def bind(self, model: Any) -> Callable:
        """The program for one model, with the least to do at every call."""
        split = model if isinstance(model, Split) else Split(model)
        return functools.partial(self._program(split.structure), split.leaves)
