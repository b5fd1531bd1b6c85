"""Angles on the circle."""

import numpy as np


def degrees_apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The absolute difference in degrees of two angles in rad, the short way round."""
    return np.rad2deg(np.abs(wrap(a - b)))


def wrap(angle: np.ndarray) -> np.ndarray:
    """An angle in rad to (-pi, pi]."""
    return np.pi - (np.pi - angle) % (2 * np.pi)
