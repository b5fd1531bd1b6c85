"""A world unlike the project's own, made with NumPy alone: the defaults must learn it, too."""

from pathlib import Path

import numpy as np
import pytest

import worldmodel as wm

RADIUS, DT, GRAVITY, BOUNCE, PUSH = 0.2, 0.05, 2.0, 0.8, 0.2
COLOUR, SKY, GROUND = np.array([0.9, 0.3, 0.1]), np.array([0.2, 0.4, 0.6]), np.array([0.3, 0.5, 0.2])
SIZE, CONTEXT, HORIZON = 24, 10, 10


def roll(random: np.random.Generator, sequences: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Places `[N, T, 2]` of a ball in a box from -1 to 1 m that falls, and loses speed at the walls; the pushes
    `[N, T-1, 2]` that act on it."""
    place = random.uniform(RADIUS - 1, 1 - RADIUS, (sequences, 2))
    velocity = random.uniform(-2, 2, (sequences, 2))
    pushes = random.uniform(-PUSH, PUSH, (sequences, frames - 1, 2))
    places = [place]
    for push in pushes.swapaxes(0, 1):
        velocity = velocity + push
        for _ in range(10):
            velocity = velocity - np.array([0, GRAVITY * DT / 10])
            place = place + velocity * DT / 10
            outside = np.abs(place) > 1 - RADIUS
            velocity = np.where(outside & (velocity * place > 0), -BOUNCE * velocity, velocity)
            place = np.clip(place, RADIUS - 1, 1 - RADIUS)
        places.append(place)
    return np.stack(places, axis=1), pushes.astype(np.float32)


X, Y = np.meshgrid((np.arange(SIZE) + 0.5) * 2 / SIZE - 1, -((np.arange(SIZE) + 0.5) * 2 / SIZE - 1))
BEHIND = np.where((Y > -0.8)[..., None], SKY * (1 + 0.3 * Y[..., None]), GROUND)
"""a sky that is lighter above, and a ground"""


def paint(places: np.ndarray) -> np.ndarray:
    """uint8 `[..., SIZE, SIZE, 3]`: a red ball with soft edges."""
    distance = np.hypot(X - places[..., 0, None, None], Y - places[..., 1, None, None])
    ball = 1 / (1 + np.exp((distance - RADIUS) / 0.04))[..., None]
    return np.round(255 * (ball * COLOUR + (1 - ball) * BEHIND)).astype(np.uint8)


def found(frames: np.ndarray) -> np.ndarray:
    """The places `[..., 2]` of the ball in frames `[..., SIZE, SIZE, 3]` in [0, 1]: the middle of what covers the
    background."""
    contrast = COLOUR - BEHIND
    ball = np.sum((frames - BEHIND) * contrast, axis=-1) / np.sum(contrast**2, axis=-1)
    ball = np.clip(ball - 0.1, 0, 1)
    whole = np.maximum(ball.sum(axis=(-2, -1)), 1e-6)
    return np.stack([(ball * X).sum(axis=(-2, -1)), (ball * Y).sum(axis=(-2, -1))], axis=-1) / whole[..., None]


def make(seed: int, sequences: int, frames: int, missing: float) -> tuple[wm.Sequences, np.ndarray]:
    """A data set of which that share of the frames is missing, and the true places."""
    random = np.random.default_rng(seed)
    places, pushes = roll(random, sequences, frames)
    valid = random.random(places.shape[:2]) >= missing
    pictures = np.where(valid[..., None, None, None], paint(places), 0)
    return wm.Sequences(frames=pictures, actions=pushes, dt=DT, valid=valid), places


def test_the_ball_is_found_where_it_was_painted():
    _, places = make(0, 20, 20, 0.0)
    assert np.abs(found(paint(places) / 255) - places).max() < 0.02


@pytest.mark.slow
def test_the_defaults_dream_it_within_a_tenth_of_a_half_side(tmp_path: Path):
    train, _ = make(1, 2000, 30, 0.1)
    test, places = make(2, 200, CONTEXT + HORIZON, 0.0)
    run = wm.train("dvbf", train, tmp_path / "run")
    belief = run.filter(test.frames[:, :CONTEXT], test.actions[:, : CONTEXT - 1])
    dream = run.decode(run.imagine(run.last(belief), test.actions[:, CONTEXT - 1 :]))
    errors = np.linalg.norm(found(dream) - places[:, CONTEXT:], axis=-1)
    still = np.linalg.norm(places[:, CONTEXT - 1 : CONTEXT] - places[:, CONTEXT:], axis=-1)
    print("median error by horizon", np.round(np.median(errors, axis=0), 4), "of no motion", np.median(still[:, -1]))
    assert np.median(errors[:, HORIZON - 1]) < 0.1 < np.median(still[:, HORIZON - 1])
