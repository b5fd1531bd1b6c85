"""One prefix, several futures: equal until the actions part ways, and true where the simulator says so."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from PIL import Image

from worldmodel.data.sequences import Sequences
from worldmodel.imagination.counterfactuals import imagine_counterfactuals, plans, push_latents, with_actions
from worldmodel.imagination.dreamer import Dreamer, roll_out
from worldmodel.models.dvbf.model import DVBF
from worldmodel.pictures.forecasts import animate_counterfactuals, draw_counterfactuals
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.pendulum.world import PendulumWorld
from worldmodel.worlds.simulator import Simulator, simulate


def test_five_plans_of_the_right_size(pendulum_data: Sequences):
    found = plans(pendulum_data.take(slice(2, 3)), 6, np.array([2.0]))
    assert len(found) == 5
    assert {plan.shape for plan in found.values()} == {(9, 1)}
    np.testing.assert_array_equal(found["the data's"], pendulum_data.actions[2, 5:])
    assert not found["none"].any()
    assert np.all(found["constant push, plus"] == 2)
    assert np.all(found["constant push, minus"] == -2)
    assert found["bang-bang"][:, 0].tolist() == [2] * 5 + [-2] * 4  # half a second at 0.1 s a frame


def test_futures_share_their_past_and_follow_their_own_actions(trained: DVBF, unseen: Sequences):
    simulator = Simulator.of(unseen, "data")
    found = imagine_counterfactuals(Dreamer(trained), unseen, 4, 10, simulator)
    assert found.imagined.shape == found.true.shape == (5, 40, 16, 16)
    for one in range(1, 5):
        np.testing.assert_allclose(found.imagined[one, :10], found.imagined[0, :10], atol=1e-5)
        np.testing.assert_allclose(found.true[one, :10], found.true[0, :10], atol=1e-6)
    own = roll_out(Dreamer(trained), unseen.take(slice(4, 5)), 10).frames[0]
    np.testing.assert_allclose(found.imagined[0], own, atol=1e-4)

    start = jnp.asarray(unseen.states[4:5, 0])
    pushed = jnp.asarray(np.concatenate([unseen.actions[4, :9, 0], np.full(30, np.abs(unseen.actions).max())]))
    truth = np.asarray(simulate(PendulumWorld().step, start, pushed[None, :, None]))[0, :, 0]
    np.testing.assert_allclose(found.true_shown[found.names.index("constant push, plus"), :, 0], truth, atol=1e-4)
    # different actions, different futures; and the model knows it
    assert degrees_apart(found.true_shown[2, -1, 0], found.true_shown[3, -1, 0]) > 10
    errors = degrees_apart(found.imagined_shown, found.true_shown)[..., 0]
    assert np.median(errors[:, 10:]) < 10


def test_every_sequence_is_pushed_as_the_plans_push_one(trained: DVBF, unseen: Sequences):
    some = unseen.take(slice(0, 3))
    found = push_latents(Dreamer(trained), some, 10)
    assert found.shape == (9, 30, 8)
    largest = np.abs(some.actions).max(axis=(0, 1))
    for number, name in enumerate(("constant push, plus", "constant push, minus", "bang-bang")):
        for sequence in range(3):
            one = some.take(slice(sequence, sequence + 1))
            pushed = with_actions(one, 10, plans(one, 10, largest)[name][None])
            expected = roll_out(Dreamer(trained), pushed, 10).latents[0, 10:]
            np.testing.assert_allclose(found[3 * number + sequence], expected, atol=1e-4)


def test_pictures_with_and_without_a_simulator(trained: DVBF, unseen: Sequences, tmp_path):
    blind = dataclasses.replace(unseen, states=None, state_names=(), dt=None)
    for name, data, simulator in (("true", unseen, Simulator.of(unseen, "data")), ("blind", blind, None)):
        found = imagine_counterfactuals(Dreamer(trained), data, 0, 10, simulator)
        assert (found.true is None) == (simulator is None)
        draw_counterfactuals(tmp_path / f"{name}.png", found, simulator and simulator.world.variables[0], data.dt)
        animate_counterfactuals(tmp_path / f"{name}.gif", found, data.dt)
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 1000
        with Image.open(tmp_path / f"{name}.gif") as image:
            total = 0
            for frame in range(image.n_frames):
                image.seek(frame)
                total += image.info["duration"]
        assert total == 4000
