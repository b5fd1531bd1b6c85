"""Batches."""

from typing import NamedTuple

import jax


class Batch(NamedTuple):
    """B windows of T frames, as a loss sees them."""

    frames: jax.Array
    """float32 `[B, T, H, W(, C)]` in [0, 1]"""
    actions: jax.Array
    """float32 `[B, T-1, A]`"""
    valid: jax.Array | None = None
    """bool `[B, T]`: False where a frame was not seen"""
    rewards: jax.Array | None = None
    """float32 `[B, T-1]`"""
    ended: jax.Array | None = None
    """bool `[B, T-1]`: whether the episode ended with that action"""
