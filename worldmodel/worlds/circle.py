"""Angles on the circle."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import jax

Angle = TypeVar("Angle", np.ndarray, "jax.Array")


def degrees_apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The absolute difference in degrees of two angles in rad, the short way round."""
    return np.rad2deg(np.abs(wrap(a - b)))


def wrap(angle: Angle) -> Angle:
    """An angle in rad to (-pi, pi]."""
    return np.pi - (np.pi - angle) % (2 * np.pi)
