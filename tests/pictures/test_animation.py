"""The animation of learning: what is kept of a model, and what is drawn of it."""

from pathlib import Path

import numpy as np
import pytest
from conftest import colour_data, model_of
from PIL import Image, ImageSequence

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.imagination.dreamer import Dreamer, reconstruct, roll_out
from worldmodel.pictures.learning import Watched


def test_a_snapshot_shows_what_the_model_makes_of_held_out_sequences(pendulum_data: Sequences):
    model = model_of(pendulum_data)
    watched = Watched.of(pendulum_data, model.options.initial_frames)
    snapshot = watched.snapshot(model)
    assert (watched.context, watched.data.length) == (5, 15)
    assert snapshot["latents"].shape == (64, 15, 8)
    first, last = watched.sequences
    assert (first, last) == (0, 63)
    seen = pendulum_data.first_frames(5)
    reconstructed = reconstruct(model, as_unit_frames(seen.frames), seen.actions)
    np.testing.assert_allclose(snapshot["frames"][:, :5], reconstructed[[first, last]], atol=1e-4)
    imagined = roll_out(Dreamer(model), pendulum_data, 5).frames
    np.testing.assert_allclose(snapshot["frames"][:, 5:], imagined[[first, last], 5:], atol=1e-4)


@pytest.mark.parametrize("states", [True, False])
def test_learning_is_animated_step_by_step(states: bool, pendulum_data: Sequences, tmp_path: Path):
    data = pendulum_data if states else colour_data()
    model = model_of(data)
    watched = Watched.of(data, model.options.initial_frames)
    snapshot = watched.snapshot(model)
    grown = {name: array * 1.5 for name, array in snapshot.items()}
    path = tmp_path / "learning.gif"
    watched.animate(path, {0: snapshot, 500: grown, 700: snapshot})
    with Image.open(path) as image:
        pictures = [np.asarray(picture.convert("RGB")) for picture in ImageSequence.Iterator(image)]
    assert len(pictures) == 3
    height, wide, _ = pictures[0].shape
    assert wide > height > 300
    # what the model made of the frames, and the cloud, have changed; the truth has not
    changed = (pictures[0] != pictures[1]).any(axis=-1)
    assert changed[:, :500].any()
    assert changed[:, -320:].any()
    assert not changed[20:100, 60:500].any()


def test_a_long_training_is_not_animated_at_every_step(tmp_path: Path):
    data = colour_data()
    model = model_of(data)
    watched = Watched.of(data, model.options.initial_frames)
    snapshot = watched.snapshot(model)
    # each with a cloud of its own, since pictures that are the same are shown as one
    watched.animate(
        tmp_path / "learning.gif",
        {500 * i: snapshot | {"latents": snapshot["latents"] * (1 + 0.01 * i)} for i in range(120)},
    )
    with Image.open(tmp_path / "learning.gif") as image:
        assert len(list(ImageSequence.Iterator(image))) == 40
    assert (tmp_path / "learning.gif").stat().st_size < 2_000_000


def test_sequences_with_hardly_more_frames_than_the_initial_state_needs_are_watched():
    data = colour_data().first_frames(6)
    watched = Watched.of(data, 5)
    assert (watched.observed.tolist(), watched.imagined.tolist()) == ([0, 4], [5])
