"""The health check names each failure: they are planted, most by training as one should not."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import train_dvbf
from flax import nnx

from worldmodel.data.sequences import Sequences
from worldmodel.evaluation.health import Health, find_problems, frames_foreseen, look_far, measure
from worldmodel.evaluation.record import read_record
from worldmodel.imagination.dreamer import Dreamer, roll_out
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import PLAIN_BOUND, DVBFOptions
from worldmodel.models.networks import MLP
from worldmodel.models.protocol import Diagnosed, Problem, imagine
from worldmodel.support.files import write_json
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum


@pytest.fixture(scope="module")
def training_data() -> Sequences:
    return collect_pendulum(seed=0, sequences=300, length=15, params=PAPER, size=16)


class PlainModel(nnx.Module):
    """What a WorldModel must have of a DVBF, and nothing else."""

    def __init__(self, model: DVBF):
        self.inner, self.scale, self.latent_size, self.context = model, model.scale, model.latent_size, model.context

    def filter(self, frames, actions, valid=None, key=None):
        return self.inner.filter(frames, actions, valid, key)

    def filter_step(self, state, action, frame, key=None):
        return self.inner.filter_step(state, action, frame, key)

    def imagine_step(self, state, action, key=None):
        return self.inner.imagine_step(state, action, key)

    def emission(self, state):
        return self.inner.emission(state)

    def vector(self, state):
        return self.inner.vector(state)

    def loss(self, batch, key, progress):
        return self.inner.loss(batch, key, progress)


@contextlib.contextmanager
def caught_warnings() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("jax").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("jax").removeHandler(handler)


def names(health: Health) -> list[str]:
    return [problem.name for problem in health.problems]


def test_a_good_model_has_no_problem(trained: DVBF, unseen: Sequences):
    health = measure(trained, unseen)
    assert names(health) == []
    assert health.in_words().startswith("Dynamics learnt")


def test_the_measures_are_what_they_say(trained: DVBF, unseen: Sequences):
    """The naive errors by hand, and the growth by a rollout of its own."""
    health = measure(trained, unseen)
    frames = unseen.frames[:, :15].astype(np.float64) / 255
    assert health.figures["repeat_last_frame_mse"] == pytest.approx(
        np.mean((frames[:, 4:5] - frames[:, 5:]) ** 2), rel=1e-3
    )
    mean = frames.mean(axis=(0, 1))
    assert health.figures["mean_frame_mse"] == pytest.approx(np.mean((mean - frames[:, 5:]) ** 2), rel=1e-3)
    assert health.figures["reconstruction_share"] < 0.1
    assert health.figures["open_loop_mse"] < health.figures["shuffled_actions_mse"]
    latents = roll_out(Dreamer(trained), unseen.first_frames(15), 14).latents[:64, :14]
    random = np.random.default_rng(5)
    actions = random.choice(unseen.actions.reshape(-1, 1), (64, 500))
    imagined = imagine(trained, jnp.asarray(latents[:, -1]), jnp.asarray(actions))
    growth = np.sqrt(np.mean(np.asarray(imagined) ** 2) / np.mean(latents**2))
    assert health.figures["latent_growth"] == pytest.approx(growth, rel=0.1)


def test_a_model_that_starts_from_one_frame_is_still_shown_five(trained: DVBF, unseen: Sequences):
    """One frame shows no velocity: no model could foresee from it."""
    model = nnx.clone(trained)
    model.options, model.context = dataclasses.replace(trained.options, initial_frames=1), 1
    model.initial_network = MLP((trained.options.feature_size, 8, 16), nnx.Rngs(params=0))
    name = "repeat_last_frame_mse"
    assert measure(model, unseen).figures[name] == measure(trained, unseen).figures[name]


def test_a_model_that_diverged_is_not_called_healthy(trained: DVBF, unseen: Sequences):
    model = nnx.clone(trained)
    model.transition.state_matrices[...] *= jnp.nan
    assert names(measure(model, unseen)) == ["not a number"]


def test_too_large_an_observation_noise_is_named_kl_collapse(training_data: Sequences, unseen: Sequences):
    model = train_dvbf(training_data, DVBFOptions(observation_std=4.0), steps=300)
    health = measure(model, unseen)
    assert names(health)[0] == "KL collapse"
    assert "--observation-std" in health.in_words()


def test_a_posterior_without_variance_is_named(trained: DVBF, unseen: Sequences):
    model = nnx.clone(trained)
    size = trained.options.latent_size
    # the raw standard deviations come after the means
    model.initial_network.layers[-1].bias[...] -= 20.0 * (jnp.arange(2 * size) >= size)
    health = measure(model, unseen)
    assert names(health) == ["zero variance"]
    assert "raise --observation-std" in health.in_words()


@pytest.mark.usefixtures("optimised")
def test_a_filter_that_reads_positions_only_is_named(training_data: Sequences, unseen: Sequences):
    """The usual failure: nothing is hidden from the decoder, no open loop, no surcharge, no consistency."""
    options = dataclasses.replace(PLAIN_BOUND, latent_size=4, visible_size=4, observation_std=0.05)
    health = measure(train_dvbf(training_data, options, steps=400), unseen)
    assert names(health)[0] == "positions only"
    assert "--open-loop-share" in health.in_words()


def test_a_decoder_that_learnt_nothing_is_told_to_look_at_its_learning_rate(trained: DVBF, unseen: Sequences):
    model = nnx.clone(trained)
    model.decoder = MLP((trained.options.visible_size, 8, trained.scale.pixels), nnx.Rngs(params=0))
    health = measure(model, unseen)
    assert names(health)[0] == "frames not learnt"
    assert "--find-lr" in health.in_words()


def test_a_transition_that_pushes_outwards_is_named(trained: DVBF, unseen: Sequences):
    model = nnx.clone(trained)
    model.transition.state_matrices[...] += 0.05 * jnp.eye(trained.options.latent_size)[None]
    assert "latents grow" in names(measure(model, unseen))


@pytest.mark.usefixtures("optimised")
def test_actions_that_explain_nothing_are_named(training_data: Sequences, unseen: Sequences):
    """Every sequence has the actions of another one, as two files in another order would give."""
    wrong = dataclasses.replace(training_data, actions=np.roll(training_data.actions, 1, axis=0))
    model = train_dvbf(wrong, DVBFOptions(), steps=600)
    unseen = dataclasses.replace(unseen, actions=np.roll(unseen.actions, 1, axis=0))
    assert "actions unused" in names(measure(model, unseen))


def test_still_pictures_hold_no_dynamics(trained: DVBF, unseen: Sequences):
    still = dataclasses.replace(unseen, frames=np.repeat(unseen.frames[:, :1], 40, axis=1))
    assert names(measure(trained, still)) == ["nothing moves"]


def test_half_the_error_of_the_naive_predictors_is_dynamics_in_part(trained: DVBF, unseen: Sequences):
    health = measure(trained, unseen)
    naive = min(health.figures["repeat_last_frame_mse"], health.figures["mean_frame_mse"])
    partly = health.figures | {"open_loop_mse": 0.7 * naive, "shuffled_actions_mse": naive}
    (problem,) = find_problems(trained, partly)
    assert problem.name == "dynamics in part"
    assert "another sequence" not in problem.seen
    (problem,) = find_problems(trained, partly | {"shuffled_actions_mse": 0.7 * naive})
    assert problem.name == "dynamics in part"
    assert problem.seen.endswith("; with the actions of another sequence they do no worse.")


def test_a_model_without_words_of_its_own_is_diagnosed_in_general_ones(trained: DVBF, unseen: Sequences):
    """The same faults, of a model that is a WorldModel and no more."""
    model = PlainModel(trained)
    assert not isinstance(model, Diagnosed)
    health = measure(model, unseen)
    assert health.problems == []
    assert "kl_step" not in health.figures
    assert "KL" not in health.in_words()
    assert "nats in the initial state and" in measure(trained, unseen).in_words()
    blind = health.figures | {"reconstruction_share": 1.0}
    seer = health.figures | {"open_loop_mse": 2 * health.figures["mean_frame_mse"]}
    for figures, name, remedy in ((blind, "frames not learnt", "--find-lr"), (seer, "positions only", "--window")):
        [problem] = find_problems(model, figures)
        assert problem.name == name
        assert remedy in problem.remedy


def test_health_is_written_as_it_is_and_read_back(trained: DVBF, unseen: Sequences, tmp_path: Path):
    health = measure(trained, unseen)
    sick = dataclasses.replace(health, problems=[Problem("latents grow", "they do.", "Stop it.")])
    for each in (health, sick):
        write_json(tmp_path / "health.json", dataclasses.asdict(each))
        assert read_record(Health, tmp_path / "health.json", "") == each


def test_models_of_one_structure_are_measured_by_one_program(trained: DVBF, unseen: Sequences):
    measure(trained, unseen)
    other = nnx.merge(*nnx.split(nnx.clone(trained)))
    with jax.log_compiles(), caught_warnings() as said:
        measure(other, unseen)
    assert not [line for line in said if "Compiling" in line]


def test_how_many_frames_are_foreseen():
    """Windows of ten frames, by hand."""
    naive, other = np.full(40, 2.0), np.full(40, 3.0)
    assert frames_foreseen(np.full(40, 1.7), naive, other) == 40
    assert frames_foreseen(np.full(40, 1.9), naive, other) == 0
    fades = np.where(np.arange(40) < 25, 0.0, 10.0)  # two of them pass 0.9 * 20, three 0.9 * 30
    assert frames_foreseen(fades, naive, other) == 26
    assert frames_foreseen(fades, other, 2 * naive) == 27
    every_second = np.where(np.arange(40) % 2, np.nan, 1.0)  # what no camera saw tells nothing
    assert frames_foreseen(fades * every_second, naive * every_second, other * every_second) == 26
    assert frames_foreseen(1.9 * every_second, 2 * every_second) == 0
    burst = np.where(np.arange(40) == 3, 15.0, 0.0)  # one bad frame is not the end
    assert frames_foreseen(burst, naive, other) == 40


def test_a_model_that_is_lost_later_is_said_to_be(trained: DVBF):
    """Its clock runs slow: near at hand that hardly shows."""
    far = collect_pendulum(seed=8, sequences=40, length=60, params=PAPER, size=16)
    slow = nnx.clone(trained)
    slow.transition.state_matrices[...] *= 0.9
    found = {name: look_far(model, far) for name, model in {"trained": trained, "slow": slow}.items()}
    assert found["trained"] == {"foreseen_frames": 55, "imagined_frames": 55}
    assert 10 < found["slow"]["foreseen_frames"] < 40
    words = {name: Health(measure(trained, far).figures | figures, []).in_words() for name, figures in found.items()}
    assert words["trained"].startswith("Dynamics learnt: ")
    assert words["slow"].startswith(f"Dynamics learnt for {found['slow']['foreseen_frames']:.0f} frames: ")
    assert look_far(trained, far.first_frames(15)) == {}


def test_latents_that_grow_are_no_problem_where_dreams_held_as_long_as_the_data():
    figures = {"open_loop_mse": 0.01, "repeat_last_frame_mse": 0.1, "mean_frame_mse": 0.2, "latent_growth": 3.0}
    grown = Health(figures, [Problem("latents grow", "they do"), Problem("actions unused", "they are")])
    short, lost = {}, {"foreseen_frames": 40.0, "imagined_frames": 95.0}
    for far in (short, lost):
        assert [each.name for each in grown.with_far_look(far).problems] == ["latents grow", "actions unused"]
    held = grown.with_far_look({"foreseen_frames": 95.0, "imagined_frames": 95.0})
    assert [each.name for each in held.problems] == ["actions unused"]
    burst = dataclasses.replace(grown, figures=figures | {"latent_growth": 30.0})
    assert len(burst.with_far_look({"foreseen_frames": 95.0, "imagined_frames": 95.0}).problems) == 2
    assert "grow to 3.0 times the filter's in 500 steps" in dataclasses.replace(held, problems=[]).in_words()


def test_actions_that_never_vary_are_not_said_to_be_unused(training_data: Sequences):
    still = dataclasses.replace(training_data.take(slice(40)), actions=np.zeros_like(training_data.actions[:40]))
    model = train_dvbf(still, DVBFOptions(), steps=3)
    assert measure(model, still).figures["shuffled_actions_mse"] == 0
    acting = dataclasses.replace(still, actions=training_data.actions[:40])
    assert measure(model, acting).figures["shuffled_actions_mse"] > 0
