"""Truth and dreams side by side, against the simulator, the model's filter and imagination, each in one go."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, filtered, mean_frames, untrained, untrained_dvbf

from baselines.dkf import DKF
from baselines.options import DKFOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.evaluation.coverage import Coverage
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.dvbf.model import DVBF
from worldmodel.play.live import Dream, Moment, SideBySide, as_pushed
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import PendulumWorld
from worldmodel.worlds.simulator import Simulator
from worldmodel.worlds.world import WORLDS, Reader

CONTEXT = 7  # more than the five frames that the initial state needs
FIRST = np.array([2.5, -1.0], np.float32)
TORQUES = np.random.default_rng(0).uniform(-2, 2, 30).astype(np.float32)


@pytest.fixture(scope="module")
def simulator(unseen: Sequences) -> Simulator:
    return Simulator.of(unseen, "data")


@pytest.fixture(scope="module")
def reader(simulator: Simulator) -> Reader:
    return simulator.reader()


@pytest.fixture(scope="module")
def dream(trained: DVBF, unseen: Sequences) -> Dream:
    return Dream.of("runs/some", "dvbf", Dreamer(trained), unseen)


@pytest.fixture
def worlds(dream: Dream, simulator: Simulator, reader: Reader) -> SideBySide:
    return SideBySide([dream], simulator, reader, CONTEXT)


def latents(moments: list[Moment], number: int = 0) -> list[np.ndarray]:
    """Those of one dream."""
    return [moment.dreams[number].latent for moment in moments]


def last_filtered(model: DVBF, frames: np.ndarray, torques: np.ndarray) -> np.ndarray:
    """The latent of the last of T uint8 frames."""
    return np.asarray(filtered(model, as_unit_frames(frames)[None], torques[None, :, None])[0, -1])


def test_the_truth_is_the_simulator_s(worlds: SideBySide, simulator: Simulator):
    moments = [worlds.start(FIRST), *map(worlds.step, TORQUES)]
    torques = np.concatenate([np.zeros(CONTEXT - 1), TORQUES])
    states = simulator.states(FIRST[None], torques[None, :, None])[0, CONTEXT - 1 :]
    np.testing.assert_allclose([moment.state for moment in moments], states, atol=1e-4)
    frames = np.stack([moment.frame for moment in moments])
    np.testing.assert_array_equal(frames, simulator.frames(np.stack([moment.state for moment in moments])))
    assert [moment.steps for moment in moments] == list(range(31))


def test_a_start_is_a_filter_over_frames_of_the_free_pendulum(trained: DVBF, worlds: SideBySide, simulator: Simulator):
    no_torques = np.zeros(CONTEXT - 1, np.float32)
    states = simulator.states(FIRST[None], no_torques[None, :, None])[0]
    expected = last_filtered(trained, simulator.frames(states), no_torques)
    moment = worlds.start(FIRST)
    np.testing.assert_allclose(moment.dreams[0].latent, expected, atol=1e-5)
    assert moment.steps == moment.steps_dreamt == 0


def test_the_dream_is_the_model_s_imagination_under_all_torques(trained: DVBF, worlds: SideBySide):
    first = worlds.start(FIRST).dreams[0].latent
    moments = [*map(worlds.step, TORQUES)]
    imagined = dreamt(trained, jnp.asarray(first[None]), jnp.asarray(TORQUES[None, :, None]))[0]
    np.testing.assert_allclose(latents(moments), imagined, atol=1e-4)
    frames = np.clip(mean_frames(trained, imagined), 0, 1)
    np.testing.assert_allclose([moment.dreams[0].frame for moment in moments], frames, atol=1e-4)
    assert [moment.steps_dreamt for moment in moments] == list(range(1, 31))


def test_the_dream_does_not_see_a_truth_that_changes(worlds: SideBySide):
    """The planted fault: gravity is turned round after the start."""
    worlds.start(FIRST)
    expected = [*map(worlds.step, TORQUES)]
    worlds.start(FIRST)
    turned = PendulumWorld(dataclasses.replace(PAPER, gravity=-PAPER.gravity))
    worlds.simulator = dataclasses.replace(worlds.simulator, world=turned)
    moments = [*map(worlds.step, TORQUES)]
    np.testing.assert_array_equal(latents(moments), latents(expected))
    assert abs(moments[-1].state[0] - expected[-1].state[0]) > 1
    assert np.abs(worlds.fresh_look().dreams[0].latent - latents(expected)[-1]).max() > 0.1


def test_a_fresh_look_is_the_filter_of_all_true_frames(trained: DVBF, worlds: SideBySide, simulator: Simulator):
    """Filtered a frame at a time, as if in one go."""
    moments = [worlds.start(FIRST), *map(worlds.step, TORQUES)]
    looked = worlds.fresh_look()
    torques = np.concatenate([np.zeros(CONTEXT - 1, np.float32), TORQUES])
    states = simulator.states(FIRST[None], torques[None, :, None])[0]
    expected = last_filtered(trained, simulator.frames(states), torques)
    np.testing.assert_allclose(looked.dreams[0].latent, expected, atol=1e-4)
    np.testing.assert_allclose(moments[-1].dreams[0].seen_latent, expected, atol=1e-4)
    np.testing.assert_array_equal(looked.state, moments[-1].state)
    assert (looked.steps, looked.steps_dreamt) == (30, 0)
    after = trained.imagine_step(jnp.asarray(expected[None]), jnp.full((1, 1), 1.5))[0]
    np.testing.assert_allclose(latents([worlds.step(1.5)]), [after], atol=1e-4)


def test_the_angle_difference_is_what_the_reader_reads(worlds: SideBySide, reader: Reader):
    moments = [worlds.start(FIRST), *map(worlds.step, TORQUES)]
    for moment in moments:
        shown = np.exp(1j * reader(moment.dreams[0].frame.ravel())[0])
        expected = np.rad2deg(np.abs(np.angle(shown * np.exp(-1j * moment.state[0]))))
        assert moment.dreams[0].apart == pytest.approx(expected, abs=1e-3)
    assert np.median([moment.dreams[0].apart for moment in moments]) < 10
    assert worlds.fresh_look().dreams[0].apart < 10


def test_how_far_the_dream_is_from_the_data_is_that_of_its_latent(worlds: SideBySide, dream: Dream, unseen: Sequences):
    assert worlds.start(FIRST).dreams[0].outside is None
    coverage = Coverage.of(dream.dreamer, unseen)
    worlds.dreams = [dataclasses.replace(dream, coverage=coverage)]
    moments = [worlds.start(FIRST), *map(worlds.step, TORQUES)]
    found = [moment.dreams[0].outside for moment in moments]
    np.testing.assert_allclose(found, coverage.latents(np.stack(latents(moments))), rtol=1e-6)
    assert np.mean(np.array(found) < 1) > 0.9
    away = dataclasses.replace(coverage.latents, mean=coverage.latents.mean + 20)
    worlds.dreams = [dataclasses.replace(dream, coverage=dataclasses.replace(coverage, latents=away))]
    assert worlds.fresh_look().dreams[0].outside > 5


@pytest.fixture(scope="module")
def kalman(unseen: Sequences) -> DKF:
    """Untrained; its vector has the recurrent network's state in it, and it needs more frames than CONTEXT."""
    options = DKFOptions(hidden_size=8, initial_frames=CONTEXT + 2)
    return untrained(options, FrameScale.of(unseen, "data"))


def test_each_of_several_dreams_is_what_its_model_alone_makes_of_the_pushes(
    trained: DVBF, kalman: DKF, unseen: Sequences, simulator: Simulator, reader: Reader
):
    """Against each model's own filter and imagination, with a fresh look in the middle."""
    models, context, middle = {"dvbf": trained, "dkf": kalman}, kalman.context, 12
    dreams = []
    for name, model in models.items():
        dreamer = Dreamer(model)
        dreams.append(Dream.of(name, name, dreamer, unseen, Coverage.of(dreamer, unseen)))
    worlds = SideBySide(dreams, simulator, reader, context)
    moments = [worlds.start(FIRST), *map(worlds.step, TORQUES[:middle])]
    moments += [worlds.fresh_look(), *map(worlds.step, TORQUES[middle:])]

    torques = np.concatenate([np.zeros(context - 1, np.float32), TORQUES])
    states = simulator.states(FIRST[None], torques[None, :, None])[0]
    frames, shown = simulator.frames(states), states[context - 1 :]
    shown = np.insert(shown, middle, shown[middle], axis=0)
    np.testing.assert_allclose([moment.state for moment in moments], shown, atol=1e-4)
    for number, (dream, model) in enumerate(zip(dreams, models.values(), strict=True)):
        seen = filtered(model, as_unit_frames(frames)[None], torques[None, :, None])
        parts = []
        for start, stop in ((0, middle), (middle, len(TORQUES))):
            first = jax.tree.map(lambda leaf, at=context - 1 + start: leaf[:, at], seen)
            later = dreamt(model, first, jnp.asarray(TORQUES[None, start:stop, None]))
            parts += [jax.tree.map(lambda leaf: leaf[:, None], first), later]
        states_dreamt = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1)[0], *parts)
        imagined, pictures = model.vector(states_dreamt), np.clip(mean_frames(model, states_dreamt), 0, 1)
        found = [moment.dreams[number] for moment in moments]
        np.testing.assert_allclose([each.latent for each in found], imagined, atol=1e-4)
        np.testing.assert_allclose([each.frame for each in found], pictures, atol=1e-4)
        vectors = np.asarray(model.vector(seen))[0, context - 1 :]
        vectors = np.insert(vectors, middle, vectors[middle], axis=0)
        np.testing.assert_allclose([each.seen_latent for each in found], vectors, atol=1e-4)
        assert dream.coverage is not None
        outside = dream.coverage.latents(np.asarray(imagined))
        np.testing.assert_allclose([each.outside for each in found], outside, rtol=1e-2)
        angles = reader(np.asarray(pictures).reshape(len(pictures), -1))[:, 0]
        apart = np.rad2deg(np.abs(np.angle(np.exp(1j * (angles - shown[:, 0])))))
        np.testing.assert_allclose([each.apart for each in found], apart, atol=0.1)
    assert found[0].latent.shape != moments[0].dreams[0].latent.shape
    expected = [*range(middle + 1), *range(len(TORQUES) - middle + 1)]
    assert [moment.steps_dreamt for moment in moments] == expected


def test_torques_are_clipped_for_both(worlds: SideBySide):
    worlds.start(FIRST)
    largest = worlds.step(2.0)
    worlds.start(FIRST)
    larger = worlds.step(50.0)
    np.testing.assert_array_equal(larger.state, largest.state)
    np.testing.assert_array_equal(latents([larger]), latents([largest]))


def test_a_push_in_a_world_of_choices_is_one_of_them():
    acrobot = WORLDS.options("Acrobot-v1")().build()
    for step in (0, 1):
        pushed = [as_pushed(acrobot, push, step) for push in (-1.0, 0.0, 0.4)]
        np.testing.assert_array_equal(pushed, np.eye(3))  # torques -1, 0 and 1


def test_who_must_choose_between_two_and_pushes_nothing_takes_them_in_turn():
    cart = WORLDS.options("CartPole-v1")().build()
    pushed = [[as_pushed(cart, push, step).argmax() for step in range(4)] for push in (-1.0, 0.0, 1.0)]
    assert pushed == [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("torque", [2.0, -2.0])
def test_a_positive_torque_turns_the_picture_counter_clockwise(worlds: SideBySide, torque: float):
    """A hanging rod's tip goes right when it is turned counter-clockwise, in truth and dream alike."""
    worlds.start(np.array([np.pi, 0.0], np.float32))
    for _ in range(3):
        moment = worlds.step(torque)
    columns = np.linspace(-1, 1, 16)
    for frame in (moment.frame, moment.dreams[0].frame):
        assert np.sign(np.sum(frame.astype(float) * columns)) == np.sign(torque)


def test_colour_frames_are_no_different(unseen: Sequences):
    grey = unseen.take(slice(0, 20)).first_frames(15)
    data = dataclasses.replace(grey, frames=np.stack([grey.frames, 255 - grey.frames, grey.frames], axis=-1))
    simulator = Simulator.of(data, "data")
    reader = simulator.reader()
    dream = Dream.of("runs/some", "dvbf", Dreamer(untrained_dvbf(data)), data)
    worlds = SideBySide([dream], simulator, reader, CONTEXT)
    worlds.start(FIRST)
    moment = worlds.step(1.0)
    assert moment.frame.shape == moment.dreams[0].frame.shape == (16, 16, 3)
    np.testing.assert_array_equal(moment.frame[..., 1], 255 - moment.frame[..., 0])


def test_the_cloud_is_what_the_filter_finds_in_the_data(trained: DVBF, dream: Dream, unseen: Sequences):
    found = np.asarray(filtered(trained, as_unit_frames(unseen.frames), unseen.actions)).reshape(-1, 8)
    assert dream.cloud.shape == (2000, 8)
    np.testing.assert_allclose(dream.cloud[[0, -1]], found[[0, -1]], atol=1e-4)
    np.testing.assert_allclose(dream.view(found).mean(axis=0), 0, atol=1e-3)
