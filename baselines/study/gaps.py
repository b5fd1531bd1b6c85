"""The benchmark of gaps: the image imputation and the filtering under noise of the Recurrent Kalman Networks (Becker et
al., ICML 2019), with a model that learns from frames alone.

Data. Their pendulum (worlds/pendulum/rkn.py), 2,000 sequences of 75 frames to learn from and 1,000 to be tested on. The
frames are drawn as in their published program, since a likelihood of grey pixels depends on every shade at the rod's
edge: a line on a large picture, made small.

Imputation. Each frame after the first five is missing with a probability of one half. A filter (not a smoother) says
every frame, in order, and is scored as in their program: x log p + (1 - x) log(1 - p), summed over the pixels, averaged
over all frames and sequences, with x in [0, 1] the true frame, whether it was shown or not.

One task is one training and its judgement, in a process of its own. What is finished is kept.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from worldmodel.data.sequences import Sequences

TRAINING_SEED, TEST_SEED = 200, 201
"""of the data; by the second nothing was chosen"""
SEQUENCES = {"train": 2000, "test": 1000}
LENGTH = 75
"""frames of a sequence"""
FIRST = 5
"""frames that are always shown, and shown as they are"""
SIZE, LARGE, ROD, WIDTH = 24, 128, 55, 8
"""pixels: side of a frame; side of the picture that it is made of, and the rod in that"""


# The data


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


def some_missing(count: int, length: int, seed: int) -> np.ndarray:
    """bool `[count, length]`, whether a frame is shown: the first five are, of the others each with a probability of one
    half."""
    shown = np.random.default_rng(seed).random((count, length)) < 0.5
    shown[:, :FIRST] = True
    return shown


def whole_data(part: str, place: Path) -> Sequences:
    """All frames of the sequences of a part, collected when it is first asked for."""
    import worldmodel as wm

    path = place / "data" / f"{part}.npz"
    if not path.exists():
        seed = {"train": TRAINING_SEED, "test": TEST_SEED}[part]
        data = wm.collect("rkn-pendulum", SEQUENCES[part], LENGTH, SIZE, seed=seed)
        angles = data.state("angle")
        assert angles is not None
        # no world is recorded: it would draw its frames otherwise
        wm.write(path, dataclasses.replace(data, frames=drawn(angles), world=None))
    return wm.read(path)
