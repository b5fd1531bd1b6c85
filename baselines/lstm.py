"""The long short-term memory that some rivals have."""

import jax
import jax.numpy as jnp
from flax import nnx

FIRST_FORGET = 1.0
"""added to what the forget gate sees: it remembers at first (Jozefowicz, Zaremba, Sutskever 2015)"""


class LSTM(nnx.Module):
    """c' and h', each `[B, H]`, of c, h and inputs `[B, I]` (Hochreiter and Schmidhuber 1997, with the forget gate of
    Gers, Schmidhuber, Cummins 2000)."""

    def __init__(self, input_size: int, size: int, rngs: nnx.Rngs):
        self.gates = nnx.Linear(input_size + size, 4 * size, rngs=rngs)

    def __call__(self, cell: jax.Array, hidden: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        gates = self.gates(jnp.concatenate([inputs, hidden], axis=-1))
        write, forget, read, candidate = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(forget + FIRST_FORGET) * cell + jax.nn.sigmoid(write) * jnp.tanh(candidate)
        return cell, jax.nn.sigmoid(read) * jnp.tanh(cell)
