"""The PyTorch twin is the same model, with the same objective and the same updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mean_frames
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.data.windows import Batch, below
from worldmodel.models.distributions import from_noise
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import early, noise_scale, open_loop_tails
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.models.networks import initialise
from worldmodel.training.options import Recipe
from worldmodel.training.step import initial_state, make_optimiser, make_train_step, warm_up_and_cosine

torch = pytest.importorskip("torch", reason="the twin needs the optional group: pip install -e '.[bench]'")

from baselines.speed.torch_dvbf import TorchDVBF, TorchTraining

STEPS = 100


@pytest.fixture(scope="module")
def model(pendulum_data: Sequences) -> DVBF:
    """Untrained, with every parameter moved off its initial value: a gain of zero would hide what it multiplies."""
    scale = FrameScale.of(pendulum_data, "test data")
    graphdef, params = initialise(
        lambda rngs: DVBF(scale, DVBFOptions(hidden_size=24, glimpse_weight=0.0), rngs), jax.random.key(0)
    )
    random = np.random.default_rng(0)
    moved = jax.tree.map(lambda x: x + 0.05 * random.standard_normal(x.shape).astype(np.float32), params)
    return nnx.merge(graphdef, moved)


@pytest.fixture
def batch(pendulum_data: Sequences) -> tuple[np.ndarray, np.ndarray]:
    some = pendulum_data.take(slice(0, 8))
    return as_unit_frames(some.frames), some.actions


def draw(model: DVBF, seed: int, step: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The mask `[8, 14]`, the noise `[8, 15, Z]` and the starts `[8]` that the loss draws from the key of that seed."""
    options = model.options

    @jax.jit
    def drawn(key: jax.Array, progress: float) -> tuple[jax.Array, jax.Array, jax.Array]:
        mask_key, noise_key, start_key = jax.random.split(key, 3)
        share = early(progress, options.help_ends) * options.open_loop_share
        noise = jax.random.normal(noise_key, (8, 15, options.latent_size))
        starts = below(jax.random.bits(start_key, (8,)), 15 - options.initial_frames + 1)
        return open_loop_tails(mask_key, 8, 14, share), noise, starts

    return drawn(jax.random.key(seed), step / STEPS)


def tensors(*arrays: jax.Array | np.ndarray) -> list:
    return [torch.from_numpy(np.array(array)) for array in arrays]


def assert_same(model: DVBF, other: dict, rtol: float, atol: float) -> None:
    """Every parameter of a DVBF (or its gradient, in a DVBF's place) beside PyTorch's of the same name."""
    arrays = dict(TorchDVBF(model).named_parameters())
    assert arrays.keys() == other.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(other[name], array.detach().numpy(), rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("step", [0, 50, 99])
def test_loss_and_gradients_are_those_of_the_dvbf(model: DVBF, batch: tuple, step: int):
    """At the beginning, halfway and at the end of the schedules."""
    graphdef, params = nnx.split(model)
    observed, noise, starts = draw(model, 1, step)
    if step == 0:
        assert 0 < observed.mean() < 1  # some steps are not observed, so that both branches are compared

    def loss(params: nnx.State) -> jax.Array:
        progress = jnp.asarray(step / STEPS)
        return nnx.merge(graphdef, params).loss(Batch(*map(jnp.asarray, batch)), jax.random.key(1), progress)[0]

    value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    other = TorchDVBF(model)
    progress = jnp.asarray(step / STEPS)
    scheduled = (
        float(early(progress, model.options.help_ends)),
        float(noise_scale(progress, model.options.final_noise_scale)),
    )
    others = other.loss(*tensors(*batch, observed, noise, starts), *scheduled)
    others.backward()
    assert others.item() == pytest.approx(float(value), rel=1e-5)
    largest = max(float(np.abs(x).max()) for x in jax.tree.leaves(gradients))
    assert_same(
        nnx.merge(graphdef, gradients),
        {name: p.grad.numpy() for name, p in other.named_parameters()},
        1e-3,
        1e-5 * largest,
    )


def test_three_updates_end_at_the_same_parameters(model: DVBF, batch: tuple, pendulum_data: Sequences):
    graphdef, params = nnx.split(model)
    optimiser = make_optimiser(warm_up_and_cosine(1e-2, STEPS))
    update = jax.jit(make_train_step(graphdef, optimiser, STEPS))
    state = initial_state(params, optimiser, jax.random.key(2))
    other = TorchDVBF(model)
    training = TorchTraining(other, pendulum_data, Recipe((0,), STEPS, 8, 1e-2, 15))
    for step in range(3):
        observed, noise, starts = draw(model, step, step)
        state, metrics = update(state, Batch(*map(jnp.asarray, batch)), jax.random.key(step))
        loss = training.update(*tensors(*batch, observed, noise, starts))
        assert float(loss) == pytest.approx(float(metrics["loss"]), rel=1e-4)
    moved = jax.tree.map(lambda now, before: np.sum((now - np.asarray(before)) ** 2), state.params, params)
    assert sum(jax.tree.leaves(moved)) ** 0.5 > 0.05
    assert_same(
        nnx.merge(graphdef, state.params),
        {name: p.detach().numpy() for name, p in other.named_parameters()},
        1e-3,
        1e-4,
    )


def test_the_schedules_are_those_of_the_training(model: DVBF, pendulum_data: Sequences):
    training = TorchTraining(TorchDVBF(model), pendulum_data, Recipe((0,), STEPS, 8, 2e-3, 15))
    schedule = warm_up_and_cosine(2e-3, STEPS)
    for step in (0, 3, 10, 11, 50, 99):
        progress = jnp.asarray(step / STEPS)
        assert training.rates[step] == pytest.approx(float(schedule(step)), abs=1e-9)
        assert training.early[step] == pytest.approx(float(early(progress, model.options.help_ends)), abs=1e-6)
        expected = float(noise_scale(progress, model.options.final_noise_scale))
        assert training.noise_scales[step] == pytest.approx(expected, abs=1e-6)


def test_imagined_frames_are_those_of_the_dvbf(model: DVBF):
    random = np.random.default_rng(4)
    latent, actions, noise = (random.standard_normal(shape, np.float32) for shape in ((8, 8), (8, 12, 1), (8, 12, 8)))
    latent *= 5  # some leave the ball

    @jax.jit
    def follow(latent: jax.Array, action: jax.Array, noise: jax.Array) -> jax.Array:
        prior, _ = model.prior(latent, action / model.scale.action_scale, model.options.final_noise_scale)
        return from_noise(prior, noise)

    latents = [latent]
    for t in range(12):
        latents.append(follow(latents[-1], actions[:, t], noise[:, t]))
    frames = mean_frames(model, np.stack(latents[1:], axis=1))
    other = TorchDVBF(model)
    with torch.inference_mode():
        others = other.decode(other.imagine(*tensors(latent, actions, noise)))
    np.testing.assert_allclose(others, frames, atol=1e-4)
    assert np.std(others.numpy(), axis=1).max() > 1e-3


def test_training_lowers_the_loss(model: DVBF, pendulum_data: Sequences):
    training = TorchTraining(TorchDVBF(model), pendulum_data, Recipe((0,), STEPS, 8, 2e-3, 10))
    first = training.train(10)
    training.train(60)
    assert training.train(10) < first - 10
