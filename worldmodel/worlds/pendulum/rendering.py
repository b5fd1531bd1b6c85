"""The pendulum's picture as a pure, differentiable function of its angle."""

import jax
import jax.numpy as jnp

ROD_LENGTH = 0.8
"""Length of the rod, in half frame widths."""
ROD_RADIUS = 0.14
"""Half the thickness of the rod, in half frame widths."""


def render_pendulum(angle: jax.Array, size: int, length: float = ROD_LENGTH, radius: float = ROD_RADIUS) -> jax.Array:
    """An anti-aliased white rod on black, hung at the centre of the frame.

    Args:
        angle: `[...]` rad, 0 upright and growing counter-clockwise, as Gymnasium draws it.
        size: side of the square frame in pixels.
        length, radius: of the rod, and half its thickness, in half frame widths.

    Returns:
        `[..., size, size]` brightness in [0, 1], row 0 at the top: how much of each pixel the rod covers,
        taken from the signed distance between the pixel's centre and the rod's edge.
    """
    centres = (jnp.arange(size) + 0.5) * 2 / size - 1
    pixels = (*angle.shape, size, size)
    x, y = jnp.broadcast_to(centres, pixels), jnp.broadcast_to(-centres[:, None], pixels)
    angle = jnp.broadcast_to(angle[..., None, None], pixels)
    tip_x, tip_y = -jnp.sin(angle), jnp.cos(angle)
    along = jnp.clip(x * tip_x + y * tip_y, 0, length)
    distance = jnp.sqrt((x - along * tip_x) ** 2 + (y - along * tip_y) ** 2 + 1e-12)
    pixel = 2 / size
    return jnp.clip((radius - distance) / pixel + 0.5, 0, 1)
