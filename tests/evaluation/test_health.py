"""The health check names each failure: they are planted, most by training as one should not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import train_dvbf
from flax import nnx
from worldmodel.imagination.rollouts import roll_out

from worldmodel.data.sequences import Sequences
from worldmodel.evaluation.health import Health, measure
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.networks import MLP
from worldmodel.training.options import PLAIN_BOUND, DVBFOptions
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum


@pytest.fixture(scope="module")
def training_data() -> Sequences:
    return collect_pendulum(seed=0, sequences=300, length=15, params=PAPER, size=16)


def names(health: Health) -> list[str]:
    return [problem.name for problem in health.problems()]


def test_a_good_model_has_no_problem(trained: DVBF, unseen: Sequences):
    health = measure(trained, unseen)
    assert names(health) == []
    assert health.in_words().startswith("Dynamics learnt")


def test_the_measures_are_what_they_say(trained: DVBF, unseen: Sequences):
    """The naive errors by hand, and the growth by a rollout of its own."""
    health = measure(trained, unseen)
    frames = unseen.frames[:, :15].astype(np.float64) / 255
    assert health.repeat_last_frame_mse == pytest.approx(np.mean((frames[:, 4:5] - frames[:, 5:]) ** 2), rel=1e-3)
    mean = frames.mean(axis=(0, 1))
    assert health.mean_frame_mse == pytest.approx(np.mean((mean - frames[:, 5:]) ** 2), rel=1e-3)
    assert health.reconstruction_share < 0.1
    assert health.open_loop_mse < health.shuffled_actions_mse
    latents = roll_out(trained, unseen.first_frames(15), 14, jax.random.key(0)).latents[:64, :14]
    random = np.random.default_rng(5)
    actions = random.choice(unseen.actions.reshape(-1, 1), (64, 500))
    imagined = trained.imagine(jnp.asarray(latents[:, -1]), jnp.asarray(actions), jnp.zeros((64, 500, 8)))
    growth = np.sqrt(np.mean(np.asarray(imagined) ** 2) / np.mean(latents**2))
    assert health.latent_growth == pytest.approx(growth, rel=0.1)


def test_a_model_that_starts_from_one_frame_is_still_shown_five(trained: DVBF, unseen: Sequences):
    """One frame shows no velocity: no model could foresee from it."""
    model = nnx.clone(trained)
    model.options = dataclasses.replace(trained.options, initial_frames=1)
    model.initial_network = MLP((trained.options.feature_size, 8, 16), nnx.Rngs(params=0))
    assert measure(model, unseen).repeat_last_frame_mse == measure(trained, unseen).repeat_last_frame_mse


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


def test_a_filter_that_reads_positions_only_is_named(training_data: Sequences, unseen: Sequences):
    """The usual failure: nothing is hidden from the decoder, no open loop, no surcharge, no consistency."""
    options = dataclasses.replace(PLAIN_BOUND, latent_size=4, visible_size=4, observation_std=0.05)
    health = measure(train_dvbf(training_data, options, steps=800), unseen)
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


def test_actions_that_explain_nothing_are_named(training_data: Sequences, unseen: Sequences):
    """Every sequence has the actions of another one, as two files in another order would give."""
    wrong = dataclasses.replace(training_data, actions=np.roll(training_data.actions, 1, axis=0))
    model = train_dvbf(wrong, DVBFOptions(), steps=1500)
    unseen = dataclasses.replace(unseen, actions=np.roll(unseen.actions, 1, axis=0))
    assert "actions unused" in names(measure(model, unseen))


def test_still_pictures_hold_no_dynamics(trained: DVBF, unseen: Sequences):
    still = dataclasses.replace(unseen, frames=np.repeat(unseen.frames[:, :1], 40, axis=1))
    assert names(measure(trained, still)) == ["nothing moves"]


def test_half_the_error_of_the_naive_predictors_is_dynamics_in_part(trained: DVBF, unseen: Sequences):
    health = measure(trained, unseen)
    naive = min(health.repeat_last_frame_mse, health.mean_frame_mse)
    partly = dataclasses.replace(health, open_loop_mse=0.7 * naive, shuffled_actions_mse=naive)
    assert names(partly) == ["dynamics in part"]
