"""The data of the Recurrent Kalman Networks (Becker et al., ICML 2019): their shaken pendulum in their frames, with
frames missing, or under noise; and what they score a picture by.

Their frames are drawn here as in their published program, since a likelihood of grey pixels depends on every shade at
the rod's edge: a line on a large picture, made small. The pendulum itself is worlds/pendulum/rkn.py.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from worldmodel.data.sequences import Sequences
from worldmodel.worlds.pendulum.rkn import RKNPendulumWorld

SEEDS = {"train": 200, "test": 201}
"""of the data; by the second nothing was chosen"""
SEQUENCES = {"train": 2000, "test": 1000}
LENGTH = 75
"""frames of a sequence"""
FIRST = 5
"""frames that are always shown, and as they are"""
SIZE, LARGE, ROD, WIDTH = 24, 128, 55, 8
"""pixels: side of a frame; side of the picture that it is made of, and the rod in that"""
DRIFT = 0.2
"""how far the walk behind a frame's clearness goes in a step, at most"""
THRESHOLDS = ((0.0, 0.25), (0.75, 1.0))
"""between which those of a sequence are drawn, below and above which a frame is all noise, and clear"""
LEAST = 1e-5
"""probability of a pixel to be white, or black, at least"""
CONTRASTS = np.concatenate([np.linspace(0.8, 0.99, 20), np.linspace(0.992, 1.04, 25)])
"""of pictures, among which the best is taken"""
FUTURES = 100
"""of the true physics, over which its frames are averaged"""
GRID = 3600
"""angles at which frames are drawn, to be looked up"""


Given = Literal["whole", "gaps", "noise"]
"""how sequences are given"""


def data_of(part: str, given: Given, place: Path) -> Sequences:
    """The sequences of a part, "train" or "test", made when they are first asked for; in `path_of`."""
    import worldmodel as wm

    path = path_of(part, given, place)
    if not path.exists():
        if given == "whole":
            data = wm.collect("rkn-pendulum", SEQUENCES[part], LENGTH, SIZE, seed=SEEDS[part])
            angles = data.state("angle")
            assert angles is not None
            # no world is recorded: it would draw its frames otherwise
            data = dataclasses.replace(data, frames=drawn(angles), world=None)
        else:
            data = data_of(part, "whole", place)
            spoil = with_gaps if given == "gaps" else with_noise
            data = spoil(data, np.random.default_rng(SEEDS[part]))
        wm.write(path, data)
    return wm.read(path)


def path_of(part: str, given: Given, place: Path) -> Path:
    return place / "data" / f"{part}_{given}.npz"


def drawn(angles: np.ndarray) -> np.ndarray:
    """uint8 `[..., 24, 24]`: the rod at angles `[...]` in rad, 0 upright and growing counter-clockwise."""
    frames = np.empty((angles.size, SIZE, SIZE), np.uint8)
    middle = LARGE / 2
    for frame, angle in zip(frames, angles.ravel(), strict=True):
        picture = Image.new("F", (LARGE, LARGE))
        tip = middle - ROD * np.sin(angle), middle - ROD * np.cos(angle)
        ImageDraw.Draw(picture).line([(middle, middle), tip], fill=1.0, width=WIDTH)
        small = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
        frame[...] = 255 * np.clip(small, 0, 1)
    return frames.reshape(*angles.shape, SIZE, SIZE)


def with_gaps(data: Sequences, rng: np.random.Generator) -> Sequences:
    """The first five frames of every sequence are shown, of the others each with a probability of one half."""
    shown = rng.random(data.frames.shape[:2]) < 0.5
    shown[:, :FIRST] = True
    return dataclasses.replace(
        data, valid=shown, frames=np.where(shown[..., None, None], data.frames, 0).astype(np.uint8)
    )


def with_noise(data: Sequences, rng: np.random.Generator) -> Sequences:
    """Every frame is mixed with uniform noise, by how clear it is; the first five are as they are."""
    noisy = np.empty_like(data.frames)
    for sequence, clear, frames in zip(noisy, clearness(len(data), data.length, rng), data.frames, strict=True):
        clear = clear[:, None, None]
        sequence[...] = clear * frames + (1 - clear) * rng.uniform(0, 255, frames.shape)
    return dataclasses.replace(data, frames=noisy)


def clearness(count: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """`[count, length]` in [0, 1]: a random walk within [0, 1], whose steps are uniform, of which what lies below one
    threshold of the sequence is 0 and what lies above another is 1; the first five are 1."""
    walk = np.empty((count, length))
    walk[:, 0] = rng.uniform(0, 1, count)
    for t in range(1, length):
        walk[:, t] = np.clip(walk[:, t - 1] + rng.uniform(-DRIFT, DRIFT, count), 0, 1)
    low, high = (rng.uniform(*ends, (count, 1)) for ends in THRESHOLDS)
    clear = np.clip((walk - low) / (high - low), 0, 1)
    clear[:, :FIRST] = 1
    return clear


def last_shown(shown: np.ndarray) -> np.ndarray:
    """int `[N, T]`: the number of the last frame up to each that is `shown` `[N, T]`; the first is."""
    return np.maximum.accumulate(np.where(shown, np.arange(shown.shape[1]), 0), axis=1)


# How a picture is scored


def log_likelihood(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Nats a frame, `[...]`: x log p + (1 - x) log(1 - p), summed over the pixels, of the grey x in frames uint8
    `[..., H, W]` and of what is `said` of them, p within (0, 1)."""
    x = truth / 255.0
    return (x * np.log(said) + (1 - x) * np.log1p(-said)).sum(axis=(-2, -1))


def probabilities(frames: np.ndarray, contrast: float) -> np.ndarray:
    """Of decoded frames `[...]` in [0, 1], the probability of each pixel to be white, by a contrast about medium grey.

    A Gaussian's mean is a little off everywhere, which costs a Gaussian next to nothing; of five hundred black pixels a
    Bernoulli likelihood asks a hundred times more. Above 1 what is nearly black is black; below 1 a wrong pixel costs
    less."""
    return np.clip(0.5 + contrast * (frames.astype(np.float64) - 0.5), LEAST, 1 - LEAST)


def likelihoods(truth: np.ndarray, frames: np.ndarray, contrast: float) -> np.ndarray:
    """Nats a frame, `[N, T]`, of decoded frames `[N, T, H, W]` in [0, 1]; a sequence at a time is in memory."""
    return np.stack([log_likelihood(x, probabilities(p, contrast)) for x, p in zip(truth, frames, strict=True)])


def fitted_contrast(truth: np.ndarray, frames: np.ndarray) -> float:
    """Of CONTRASTS, the one by which decoded frames `[N, T, H, W]` are likeliest."""
    return float(max(CONTRASTS, key=lambda contrast: likelihoods(truth, frames, contrast).mean()))


def informed(states: np.ndarray, shown: np.ndarray, key: jax.Array) -> np.ndarray:
    """float32 `[N, T, H, W]`: what the true physics say who are told the true state `[N, T, 2]` of every frame that is
    `shown` `[N, T]`: that frame, or the mean of a hundred futures of the last one. No filter can know more. The key is
    consumed."""
    grid = 2 * np.pi * np.arange(GRID) / GRID
    pictures = (drawn(grid) / 255).reshape(GRID, -1).astype(np.float32)
    said = np.empty((*shown.shape, SIZE, SIZE), np.float32)
    for number, angles in enumerate(np.asarray(_futures(jnp.asarray(states), jnp.asarray(shown), key))):
        places = np.round(angles * GRID / (2 * np.pi)).astype(int) % GRID  # [T, FUTURES]
        weights = np.stack([np.bincount(each, minlength=GRID) for each in places]).astype(np.float32) / FUTURES
        said[number] = (weights @ pictures).reshape(-1, SIZE, SIZE)
    return said


@jax.jit
def _futures(states: jax.Array, shown: jax.Array, key: jax.Array) -> jax.Array:
    """Angles `[N, T, FUTURES]` of the shaken pendulum from states `[N, T, 2]`, wherever they are `shown`."""
    world = RKNPendulumWorld()
    noise = jax.random.normal(key, (states.shape[1], len(states), FUTURES, 2))
    noise *= jnp.asarray(world.process_noise).reshape(1, 1, 1, 2)

    def step(before: jax.Array, told: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        state, here, noise = told
        after = world.step(before, jnp.zeros((*before.shape[:-1], 1))) + noise
        after = jnp.where(here[:, None, None], state[:, None], after)
        return after, after[..., 0]

    first = jnp.broadcast_to(states[:, :1], (len(states), FUTURES, 2))
    _, angles = jax.lax.scan(step, first, (jnp.moveaxis(states, 1, 0), shown.T, noise))
    return jnp.moveaxis(angles, 0, 1)
