import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import make_tiny_dvbf
from flax import nnx

from worldmodel.data.windows import Batch, DeviceData, sample_windows
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.networks import initialise
from worldmodel.pictures.curves import panels_for
from worldmodel.training.fit import Warnings
from worldmodel.training.step import (
    TrainState,
    initial_state,
    make_optimiser,
    make_train_chunk,
    make_train_step,
    warm_up_and_cosine,
)

ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def tiny_data() -> DeviceData:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (5, 9, 4, 4)).astype(np.uint8)
    return DeviceData(jnp.asarray(frames), jnp.asarray(random.standard_normal((5, 8, 2)), jnp.float32))


def four_windows(data: DeviceData, key: jax.Array, index: jax.Array) -> Batch:
    return sample_windows(data, key, batch_size=4, window=6)


def tiny_chunk():
    graphdef, params = nnx.split(make_tiny_dvbf("fusion"))
    optimiser = make_optimiser(1e-3)
    chunk = make_train_chunk(make_train_step(graphdef, optimiser, 10), four_windows, ONE_DEVICE)
    return chunk, lambda: initial_state(jax.tree.map(jnp.copy, params), optimiser, jax.random.key(7))


def assert_same(one: TrainState, other: TrainState) -> None:
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(one.optimiser), jax.tree.leaves(other.optimiser), strict=True):
        np.testing.assert_array_equal(a, b)


def test_chunks_of_any_length_give_the_same_parameters_from_one_trace():
    chunk, start = tiny_chunk()
    traced = jax.jit(chex.assert_max_traces(chunk, n=1), donate_argnums=0)
    data = tiny_data()
    whole, _ = traced(start(), data, jnp.asarray(7))
    parts = start()
    for updates in (3, 1, 3):
        parts, _ = traced(parts, data, jnp.asarray(updates))
    assert int(whole.step) == int(parts.step) == 7
    assert_same(whole, parts)


def test_a_chunk_equals_a_plain_loop_of_optax_updates():
    graphdef, params = nnx.split(make_tiny_dvbf("fusion"))
    optimiser, data, key = optax.sgd(0.01), tiny_data(), jax.random.key(7)
    chunk = make_train_chunk(make_train_step(graphdef, optimiser, 10), four_windows, ONE_DEVICE)
    state, metrics = jax.jit(chunk)(initial_state(params, optimiser, key), data, 3)

    @jax.jit
    @jax.value_and_grad
    def objective(params: nnx.State, batch: Batch, loss_key: jax.Array, progress: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params).loss(batch, loss_key, progress)[0]

    losses = []
    for step in range(3):
        window_key, loss_key = jax.random.split(jax.random.fold_in(key, step))
        value, gradients = objective(params, sample_windows(data, window_key, 4, 6), loss_key, jnp.asarray(step / 10))
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradients)
        losses.append(float(value))
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert metrics["finite_loss"] == metrics["finite_gradient"] == 1


@pytest.mark.parametrize(("metric", "well"), [("loss", (0.3, 0.3)), ("gradient", (0.4, 0.3))])
def test_the_first_update_that_is_no_number_is_counted(metric: str, well: tuple[float, float]):
    """Planted in update 3 (of 0 to 9) into the loss, or into its gradient alone, from which the next loss suffers."""

    class Faulty(DVBF):
        def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            value, metrics = super().loss(batch, key, progress)
            planted = jnp.where(jnp.abs(progress - 0.3) < 0.01, 0.0, 1.0)
            if metric == "loss":
                value = value / planted
            else:  # the square root of 0 is a number, its slope is none
                value += jnp.sqrt(planted * value**2)
            return value, metrics | {"loss": value}

    tiny = make_tiny_dvbf("fusion")
    graphdef, params = initialise(lambda rngs: Faulty(tiny.scale, tiny.options, rngs), jax.random.key(3))
    optimiser = make_optimiser(1e-3)
    chunk = make_train_chunk(make_train_step(graphdef, optimiser, 10), four_windows, ONE_DEVICE)
    _, metrics = jax.jit(chunk)(initial_state(params, optimiser, jax.random.key(7)), tiny_data(), 10)
    assert (metrics["finite_loss"], metrics["finite_gradient"]) == pytest.approx(well)


def test_windows_are_cut_anywhere_and_keep_frames_and_actions_together():
    number = 10 * np.arange(6)[:, None] + np.arange(10)[None, :]  # 10 n + t
    data = DeviceData(
        jnp.asarray(np.broadcast_to(number[..., None, None], (6, 10, 2, 2)), jnp.uint8),
        jnp.asarray(number[:, :-1, None], jnp.float32),
    )
    frames, actions, *_ = sample_windows(data, jax.random.key(0), 500, 4)
    assert frames.shape == (500, 4, 2, 2)
    assert actions.shape == (500, 3, 1)
    seen = np.round(np.asarray(frames)[..., 0, 0] * 255).astype(int)
    assert (np.diff(seen, axis=1) == 1).all()  # consecutive frames of one sequence
    np.testing.assert_array_equal(seen[:, :-1], np.asarray(actions)[..., 0])  # action t beside frame t
    assert set(seen[:, 0] % 10) == set(range(7))  # every start that fits
    assert set(seen[:, 0] // 10) == set(range(6))  # every sequence


def test_the_learning_rate_warms_up_and_decays():
    schedule = warm_up_and_cosine(1e-3, 1000)
    assert float(schedule(0)) == 0
    assert float(schedule(100)) == pytest.approx(1e-3)
    assert float(schedule(550)) == pytest.approx(0.505e-3, rel=1e-3)
    assert float(schedule(1000)) == pytest.approx(1e-5, rel=1e-3)
    assert np.isfinite(float(warm_up_and_cosine(1e-3, 1)(1)))


def test_a_model_draws_its_own_panel_where_it_has_the_metrics():
    model = make_tiny_dvbf("fusion")
    both, total, neither = (
        panels_for(model, {"loss", *names}) for names in (("kl", "kl_step", "kl_initial"), ("kl",), ())
    )
    assert [list(panel.lines) for panel in both if panel.title == "KL"] == [["kl_initial", "kl_step"]]
    assert [list(panel.lines) for panel in total if panel.title == "KL"] == [["kl"]]
    assert [panel.title for panel in neither] == ["Loss"]


def test_a_warning_is_said_when_it_comes_up_and_when_it_is_gone():
    warnings = Warnings()
    assert warnings.news([]) == []
    assert warnings.news(["LATENTS GROW: by 1.6.", "ACTIONS UNUSED: at all."]) == [
        "LATENTS GROW: by 1.6.",
        "ACTIONS UNUSED: at all.",
    ]
    assert warnings.news(["LATENTS GROW: by 1.7.", "ACTIONS UNUSED: at all."]) == []
    assert warnings.news(["LATENTS GROW: by 1.8."]) == ["no longer: ACTIONS UNUSED"]
    assert warnings.news([]) == ["no longer: LATENTS GROW"]
    assert warnings.news(["LATENTS GROW: by 1.9."]) == ["LATENTS GROW: by 1.9."]
