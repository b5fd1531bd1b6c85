"""A world of which all is known: z' = A z + B u, paid for being near the origin at little effort, and a model that
knows it. What is best is a least-squares problem."""

from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.models.distributions import image_normal
from worldmodel.planning.wanted import Rewards, Wanted

A, B = np.array([[1.0, 0.3], [0.0, 0.9]]), np.array([[0.0], [0.4]])
EFFORT = 0.05
"""what an action costs, squared; a state costs its squared length"""
FARTHEST = 4.0
"""|z| that a frame can show"""


def step(state: Any, action: Any) -> Any:
    """`[..., 2]` and `[..., 1]` to `[..., 2]`; of NumPy or JAX."""
    return state @ A.T.astype(np.float32) + action @ B.T.astype(np.float32)


def reward(action: Any, after: Any) -> Any:
    """`[...]` of an action and the state after it."""
    return -(after**2).sum(axis=-1) - EFFORT * (action**2).sum(axis=-1)


def wanted(before: jax.Array, actions: jax.Array, after: jax.Array) -> Rewards:
    paid = reward(actions, after)
    return paid, jnp.zeros_like(paid)


class Near(NamedTuple):
    """The wish for that reward."""

    def of(self, model: Any) -> Wanted:
        return wanted


def best_plan(start: np.ndarray, horizon: int) -> tuple[np.ndarray, float]:
    """The actions `[H, 1]` with the highest return from a state `[2]` where no bound is in the way, and that return."""
    free, moved = [], []
    for t in range(1, horizon + 1):
        free.append(np.linalg.matrix_power(A, t) @ start)
        powers = [np.linalg.matrix_power(A, t - 1 - s) @ B if s < t else np.zeros((2, 1)) for s in range(horizon)]
        moved.append(np.concatenate(powers, axis=1))
    costs = np.concatenate([*moved, np.sqrt(EFFORT) * np.eye(horizon)])
    target = -np.concatenate([*free, np.zeros(horizon)])
    actions, *_ = np.linalg.lstsq(costs, target, rcond=None)
    return actions[:, None], -float(np.sum((costs @ actions - target) ** 2))


class Linear(nnx.Module):
    """A WorldModel whose state is z `[..., 2]`; a frame's two pixels show it."""

    context, latent_size = 1, 2

    def __init__(self) -> None:
        self.scale = FrameScale((1, 2), 1, pixel_mean=0.5, pixel_std=0.2, frame_variance=0.1, action_scale=1.0)
        self.a = nnx.Param(jnp.asarray(A, jnp.float32))
        self.b = nnx.Param(jnp.asarray(B, jnp.float32))

    def filter(self, frames: jax.Array, actions: jax.Array, valid: Any = None, key: Any = None) -> jax.Array:
        return seen(frames)

    def filter_step(self, state: jax.Array, action: jax.Array, frame: jax.Array, key: Any = None) -> jax.Array:
        return seen(frame)

    def imagine_step(self, state: jax.Array, action: jax.Array, key: Any = None) -> jax.Array:
        return state @ self.a[...].T + action @ self.b[...].T

    def emission(self, state: jax.Array) -> distrax.Distribution:
        return image_normal(state[..., None, :] / (2 * FARTHEST) + 0.5, 0.1, 2)

    def vector(self, state: jax.Array) -> jax.Array:
        return state

    def loss(self, batch: Any, key: Any, progress: Any) -> Any:
        raise NotImplementedError


def seen(frames: Any) -> Any:
    """The states `[..., 2]` in frames `[..., 1, 2]` with brightness in [0, 1]."""
    return (frames[..., 0, :] - 0.5) * 2 * FARTHEST


def shown(states: np.ndarray) -> np.ndarray:
    """The frames, uint8."""
    return np.round(255 * np.clip(states[..., None, :] / (2 * FARTHEST) + 0.5, 0, 1)).astype(np.uint8)


def scattered(sequences: int, length: int, widest: float = 2.0, largest: float = 1.0) -> Sequences:
    """Frames at random places and random actions between them, without rewards."""
    random = np.random.default_rng(0)
    states = random.uniform(-widest, widest, (sequences, length, 2))
    return Sequences(shown(states), random.uniform(-largest, largest, (sequences, length - 1, 1)).astype(np.float32))


def played(sequences: int, length: int, widest: float = 1.5, largest: float = 1.0, seed: int = 0) -> Sequences:
    """The same of the world itself: random starts, and where random actions lead from there."""
    random = np.random.default_rng(seed)
    actions = random.uniform(-largest, largest, (sequences, length - 1, 1)).astype(np.float32)
    states = [random.uniform(-widest, widest, (sequences, 2))]
    for t in range(length - 1):
        states.append(step(states[-1], actions[:, t]))
    return Sequences(shown(np.stack(states, axis=1)), actions)
