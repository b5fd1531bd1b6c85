"""Data whose actions are choices, and data in which nothing is done: nothing is asked of actions that cannot be."""

import numpy as np
import pytest
from repeating import Repeating

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, are_choices
from worldmodel.evaluation.coverage import Coverage, judge_coverage
from worldmodel.evaluation.health import measure
from worldmodel.evaluation.judge import predict
from worldmodel.imagination.counterfactuals import imagine_counterfactuals, plans
from worldmodel.imagination.dreamer import Dreamer, roll_out
from worldmodel.pictures.figures import drawn_actions

BLIND = {"model", "repeat last frame", "mean frame"}
"""rows that know nothing of other actions"""


def random_data(actions: np.ndarray) -> Sequences:
    """Twelve sequences of ten frames of two pixels."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 10, 1, 2), dtype=np.uint8)
    return Sequences(frames, actions.astype(np.float32), dt=0.1)


CHOICES = random_data(np.eye(3)[np.random.default_rng(1).integers(0, 3, (12, 9))])
NUMBERS = random_data(np.random.default_rng(1).standard_normal((12, 9, 3)))
NOTHING = random_data(np.zeros((12, 9, 3)))


def test_choices_are_told_from_numbers():
    assert are_choices(CHOICES.actions)
    padded = CHOICES.actions.copy()
    padded[:, 5:] = 0
    assert are_choices(padded)
    for actions in (NUMBERS.actions, NOTHING.actions, 2 * padded, padded[..., :1], 1 - padded):
        assert not are_choices(actions)


def test_what_is_planned_of_choices_are_choices():
    own = CHOICES.take(slice(3, 4))
    found = plans(own, 3, np.ones(3), choices=True)
    assert list(found) == ["the data's", "always choice 1", "always choice 3", "choices 1 and 3 in turn"]
    np.testing.assert_array_equal(found["the data's"], own.actions[0, 2:])
    np.testing.assert_array_equal(found["always choice 1"], [[1, 0, 0]] * 7)
    np.testing.assert_array_equal(found["always choice 3"], [[0, 0, 1]] * 7)
    in_turn = found["choices 1 and 3 in turn"].argmax(axis=1)
    np.testing.assert_array_equal(in_turn, [0] * 4 + [2] * 3)  # half a second would be five, and hardly a turn
    assert are_choices(np.stack(list(found.values())))
    futures = imagine_counterfactuals(Dreamer(Repeating(FrameScale.of(CHOICES, "data"))), CHOICES, 3, 3, None)
    assert futures.names == list(found)
    np.testing.assert_array_equal(futures.actions[:, 2:], np.stack(list(found.values())))


@pytest.mark.parametrize(
    ("data", "rows", "pushed"),
    [
        (NUMBERS, {"zero actions", "shuffled actions"}, {"imagined under the largest pushes"}),
        (CHOICES, {"shuffled actions"}, {"imagined under one choice, or two in turn"}),
        (NOTHING, set(), set()),
    ],
    ids=["numbers", "choices", "nothing"],
)
def test_a_model_is_asked_of_actions_that_can_be(data: Sequences, rows: set[str], pushed: set[str]):
    model = Repeating(FrameScale.of(data, "data"))
    dreamer = Dreamer(model)
    rollouts = roll_out(dreamer, data, 3)
    assert set(predict(dreamer, data, 3, rollouts)) == BLIND | rows
    outside = judge_coverage(Coverage.of(dreamer, data), dreamer, data, 3, rollouts, [1, 7])
    assert set(outside.latents) == {"true frames, filtered", "imagined"} | pushed


def test_the_choice_that_was_made_is_drawn_and_not_its_vector():
    name, lines = drawn_actions(CHOICES.actions[2], choices=True)
    assert (name, lines.shape) == ("choice", (1, 9))
    np.testing.assert_array_equal(np.eye(3)[lines[0] - 1], CHOICES.actions[2])
    name, lines = drawn_actions(NUMBERS.actions[2], choices=False)
    assert name == "action"
    np.testing.assert_array_equal(lines, NUMBERS.actions[2].T)


def test_who_never_acts_is_not_said_to_leave_actions_unused():
    """A model that acts on nothing, told to do something and told nothing."""
    model = Repeating(FrameScale.of(NUMBERS, "data"))
    told, untold = measure(model, NUMBERS).figures, measure(model, NOTHING).figures
    assert told["shuffled_actions_mse"] == told["open_loop_mse"] == untold["open_loop_mse"] > 0
    assert untold["shuffled_actions_mse"] == 0
