"""How a model is judged: probes from latents to true states, errors of imagined frames, angles read off frames.

NumPy in and out; true states score a model here and are seen nowhere else.
"""

import itertools
import math

import numpy as np

from worldmodel.sequences import spread_over

ANGLE_NAMES = ("angle", "theta", "phi")
LARGEST_READER = 20_000
"""frames that an AngleReader's templates are made of, at most"""


def linear_features(latents: np.ndarray) -> np.ndarray:
    """`[M, Z]` to `[M, Z + 1]`: the latents and a constant."""
    return np.concatenate([np.ones((len(latents), 1)), latents], axis=1)


def polynomial_features(latents: np.ndarray, degree: int = 4) -> np.ndarray:
    """All monomials of the standardised latents up to `degree`: `[M, Z]` to `[M, features]`."""
    spread = latents.std(axis=0)
    x = (latents - latents.mean(axis=0)) / np.where(spread > 0, spread, 1)
    columns = [np.ones(len(x))]
    for order in range(1, degree + 1):
        for which in itertools.combinations_with_replacement(range(x.shape[1]), order):
            columns.append(np.prod(x[:, which], axis=1))
    return np.stack(columns, axis=1)


def affordable_degree(sequences: int, length: int, latent_size: int, largest: int = 4) -> int:
    """The highest degree, up to `largest`, whose monomials have at least 20 frames each to be fitted on; else 1."""
    frames = sequences * length / 2
    degrees = [d for d in range(1, largest + 1) if 20 * math.comb(latent_size + d, d) <= frames]
    return max(degrees, default=1)


def r_squared(features: np.ndarray, target: np.ndarray, groups: np.ndarray) -> float:
    """R^2 of a least-squares fit from `features` `[M, F]` to `target` `[M]`, on sequences it was not fitted on.

    `groups` `[M]` numbers the sequence of each row: the fit on the even ones is scored on the odd ones and the
    other way round.
    """
    even = groups % 2 == 0
    if not np.isfinite(features).all() or target.std() < 1e-8 or even.all() or not even.any():
        return float("nan")
    residual = np.empty_like(target, dtype=np.float64)
    for fit in (even, ~even):
        weights, *_ = np.linalg.lstsq(features[fit], target[fit], rcond=1e-10)
        residual[~fit] = target[~fit] - features[~fit] @ weights
    return float(1 - np.sum(residual**2) / np.sum((target - target.mean()) ** 2))


def probe_targets(states: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What a probe must find: the sine and cosine of an angle, and every other state as it is; each `[N, T]`."""
    targets: dict[str, np.ndarray] = {}
    for index, name in enumerate(names):
        value = states[..., index].astype(np.float64)
        if name in ANGLE_NAMES:
            targets |= {f"sin {name}": np.sin(value), f"cos {name}": np.cos(value)}
        else:
            targets[name] = value
    return targets


def probe_r2(latents: np.ndarray, states: np.ndarray, names: tuple[str, ...], degree: int) -> dict[str, float]:
    """R^2 of a polynomial probe (degree 1 is OLS) from latents `[N, T, Z]` to the true states `[N, T, S]`."""
    flat = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
    features = linear_features(flat) if degree == 1 else polynomial_features(flat, degree)
    groups = np.repeat(np.arange(latents.shape[0]), latents.shape[1])
    targets = probe_targets(states, names)
    return {name: r_squared(features, target.ravel(), groups) for name, target in targets.items()}


class AngleReader:
    """Reads a pendulum's angle off a frame by comparing it with true frames of known angle.

    One template for every degree is a local average of the true frames; a frame's angle is that of the
    template with the highest correlation, refined by a parabola through its neighbours.
    """

    def __init__(self, frames: np.ndarray, angles: np.ndarray, width_degrees: float = 1.5):
        """`frames` `[M, P]` in [0, 1] and their `angles` `[M]` in rad."""
        grid = np.deg2rad(np.arange(360.0))
        apart = np.rad2deg(np.abs(wrap(grid[:, None] - angles[None, :])))
        # Where no true frame is near, there is no template: an angle is never read where none was seen.
        seen = apart.min(axis=1) < max(2 * width_degrees, 1.01 * np.sort(apart.min(axis=1))[0])
        self.grid, apart = grid[seen], apart[seen]
        nearest = apart.min(axis=1, keepdims=True)
        weights = np.exp(-(apart**2 - nearest**2) / (2 * width_degrees**2))
        templates = weights @ frames / weights.sum(axis=1, keepdims=True)
        self.mean = templates.mean(axis=0)
        templates = templates - self.mean
        self.templates = (templates / np.linalg.norm(templates, axis=1, keepdims=True)).astype(np.float32)

    @staticmethod
    def of(frames: np.ndarray, angles: np.ndarray) -> "AngleReader":
        """A reader with templates of sequences: frames `[N, T, ...]` in [0, 1] and their `angles` `[N, T]` in rad."""
        keep = spread_over(np.arange(angles.size), LARGEST_READER)
        return AngleReader(frames.reshape(angles.size, -1)[keep], angles.ravel()[keep])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """`[..., P]` frames to `[...]` angles in rad, in (-pi, pi]."""
        match = (frames - self.mean).astype(np.float32) @ self.templates.T
        best = match.argmax(axis=-1)
        below, at, above = (
            np.take_along_axis(match, ((best + step) % len(self.grid))[..., None], axis=-1)[..., 0]
            for step in (-1, 0, 1)
        )
        curvature = below - 2 * at + above
        shift = np.where(curvature < 0, 0.5 * (below - above) / np.where(curvature < 0, curvature, 1), 0)
        return wrap(self.grid[best] + np.deg2rad(np.clip(shift, -0.5, 0.5)))


def degrees_apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The absolute difference in degrees of two angles in rad, the short way round."""
    return np.rad2deg(np.abs(wrap(a - b)))


def wrap(angle: np.ndarray) -> np.ndarray:
    """An angle in rad to (-pi, pi]."""
    return np.pi - (np.pi - angle) % (2 * np.pi)
