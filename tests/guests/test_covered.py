"""What data cover, for a guest whose latent is the frame itself, so that every latent is known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from repeating import Repeating

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.data.storage import save_sequences
from worldmodel.evaluation.coverage import Coverage, judge_coverage
from worldmodel.imagination.dreamer import Dreamer, roll_out
from worldmodel.reporting.evaluating import Dreaming, find_outside
from worldmodel.runs.folder import DataCard, Run
from worldmodel.support.files import UserError

MIDDLE = np.array([0.5, 0.5])
"""of the ring"""


def ring_data(sequences: int, length: int, seed: int = 0, width: float = 0.02) -> Sequences:
    """Frames of two pixels, their brightnesses a place on a ring around the middle of their range."""
    random = np.random.default_rng(seed)
    angle, radius = random.uniform(-np.pi, np.pi, (sequences, length)), random.normal(1, width, (sequences, length))
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)[:, :, None]
    frames = np.round(255 * (0.5 + 0.3 * places)).astype(np.uint8)
    return Sequences(frames, random.uniform(-1, 1, (sequences, length - 1, 1)).astype(np.float32))


@pytest.fixture
def data() -> Sequences:
    return ring_data(80, 20)


@pytest.fixture
def dreamer(data: Sequences) -> Dreamer:
    return Dreamer(Repeating(FrameScale.of(data, "test data")))


def test_data_cover_what_was_seen_and_neither_padding_nor_gaps(dreamer: Dreamer, data: Sequences):
    plain = Coverage.of(dreamer, data)
    assert plain.latents(MIDDLE) > 3
    assert np.mean(plain.latents(as_unit_frames(ring_data(50, 20, seed=1).frames).reshape(50, 20, 2)) < 1) > 0.97
    frames, actions = data.frames.copy(), data.actions.copy()
    frames[:, 15:], actions[:, 14:] = 128, 50
    ended = np.zeros(actions.shape[:2], bool)
    ended[:, 13] = True  # frame 14 is the last one
    padded = Coverage.of(dreamer, dataclasses.replace(data, frames=frames, actions=actions, ended=ended))
    unseen = dataclasses.replace(data, frames=frames, valid=np.arange(20) < np.full((80, 1), 15))
    for coverage in (padded, Coverage.of(dreamer, unseen)):
        assert coverage.latents(MIDDLE) > 3
        assert coverage.outside_actions(np.array([50.0]))
    assert Coverage.of(dreamer, dataclasses.replace(data, frames=frames)).latents(MIDDLE) < 1
    with pytest.raises(UserError, match="too few sequences"):
        Coverage.of(dreamer, data.take(slice(0, 1)))


def test_the_shares_are_those_of_sequences_that_were_made_to_leave(dreamer: Dreamer, data: Sequences):
    asked = ring_data(10, 20, seed=2, width=0)
    frames, actions = asked.frames.copy(), asked.actions.copy()
    frames[:4, 12:] = 128  # four of ten are in the middle from the tenth frame after the context on
    frames[:1, 2] = 128  # one is last seen there: it is imagined there for ever
    actions[:, :19:2] = np.where(np.arange(10) % 2, 3, 0.5)[None, :, None]
    asked = dataclasses.replace(asked, frames=frames, actions=actions)
    rollouts = roll_out(dreamer, asked, 3)
    found = judge_coverage(Coverage.of(dreamer, data), dreamer, asked, 3, rollouts, [1, 9, 10, 17])
    assert found.latents["true frames, filtered"] == [0.0, 0.0, 0.4, 0.4]
    assert found.latents["imagined"] == found.latents["imagined under the largest pushes"] == [0.1] * 4
    assert found.actions == pytest.approx(5 / 19)
    assert found.frames == pytest.approx((4 * 8 + 1) / 200)
    assert found.warning() == (
        "BEYOND THE TRAINING DATA: 16% of the frames and 20% of the latents and 26% of the actions of these sequences"
        " are unlike all that was trained on: what is dreamt there is a guess."
    )
    fresh = ring_data(10, 20, seed=3)
    found = judge_coverage(Coverage.of(dreamer, data), dreamer, fresh, 3, roll_out(dreamer, fresh, 3), [9])
    assert found.warning() is None


def test_the_training_data_must_still_be_there(dreamer: Dreamer, data: Sequences, tmp_path: Path):
    path = tmp_path / "train.npz"
    run = Run.create(tmp_path / "run", "dvbf", {}, DataCard.of(path, data))
    task = Dreaming(run, dreamer, ring_data(5, 20, seed=3), tmp_path / "test.npz", 3, None, [])
    rollouts = roll_out(dreamer, task.data, 3)

    def left_out() -> str:
        outside, [line] = find_outside(task, rollouts, [1, 17])
        assert outside is None
        return line

    unknown = "left out: what is beyond the training data"
    assert left_out() == f"{unknown} ({path}: is not there any more; {run.folder} was trained on it)"
    save_sequences(path, dataclasses.replace(data, actions=2 * data.actions))
    assert left_out() == f"{unknown} ({path}: is not what {run.folder} was trained on any more)"
    save_sequences(path, data)
    outside, lines = find_outside(task, rollouts, [1, 17])
    assert lines == []
    assert outside is not None
    assert len(outside.latents["imagined"]) == 2
