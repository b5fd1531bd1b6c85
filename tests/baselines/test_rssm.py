"""PlaNet's and DreamerV3's recurrent state-space models against slow loops, closed forms and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_tiny_dvbf, untrained
from flax import nnx
from scipy.special import log_softmax

from baselines.rival_options import CategoricalRSSMOptions, RSSMOptions
from baselines.rssm import RSSM, GaussianRSSM, RSSMState
from baselines.rssm_categorical import BlockGRU, CategoricalRSSM
from worldmodel.data.windows import Batch
from worldmodel.models.networks import initialise

Arrays = tuple[np.ndarray, np.ndarray]
SMALL = {"hidden_size": 7, "vision_size": 8, "feature_size": 5}
OPTIONS: dict[str, Any] = {
    "rssm": RSSMOptions(belief_size=6, stochastic_size=4, **SMALL),
    "rssm-categorical": CategoricalRSSMOptions(belief_size=6, blocks=2, variables=3, classes=4, **SMALL),
}


def make(name: str, **changes: Any) -> RSSM:
    options, scale = type(OPTIONS[name])(**(vars(OPTIONS[name]) | changes)), make_tiny_dvbf("fusion").scale
    return untrained(options, scale)


@pytest.fixture(params=OPTIONS)
def model(request: pytest.FixtureRequest) -> RSSM:
    return make(request.param)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_filter_equals_a_loop_of_its_steps_with_the_gru_written_out(tiny_batch: Arrays):
    """The first belief comes of nothing; afterwards the reset, update and candidate of Cho et al. 2014."""
    model = make("rssm")
    assert isinstance(model, GaussianRSSM)
    frames, actions = tiny_batch
    filtered = jax.jit(model.filter)(jnp.asarray(frames), jnp.asarray(actions))
    features = np.asarray(model.encode(jnp.asarray(frames)))
    weights = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model.cell)))
    belief, stochastic = np.zeros((3, 6)), np.zeros((3, 4))
    for t in range(frames.shape[1]):
        action = np.zeros((3, 2)) if t == 0 else actions[:, t - 1] / model.scale.action_scale
        joined = np.maximum(np.asarray(model.join(jnp.asarray(np.concatenate([stochastic, action], 1)))), 0)
        told = joined @ weights["dense_i"]["kernel"] + weights["dense_i"]["bias"]
        before = belief @ weights["dense_h"]["kernel"]
        reset, update = (sigmoid(told[:, part] + before[:, part]) for part in (slice(0, 6), slice(6, 12)))
        candidate = np.tanh(told[:, 12:] + reset * before[:, 12:])
        belief = (1 - update) * candidate + update * belief
        seen = jnp.asarray(np.concatenate([belief, features[:, t]], 1), jnp.float32)
        stochastic = np.asarray(model.posterior_network(seen))[:, :4]
        np.testing.assert_allclose(filtered.belief[:, t], belief, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(filtered.stochastic[:, t], stochastic, rtol=1e-3, atol=1e-5)


def test_the_block_gru_equals_a_loop_over_its_blocks():
    cell = nnx.merge(*initialise(lambda rngs: BlockGRU(6, 5, 2, rngs), jax.random.key(0)))
    belief, told = (np.asarray(jax.random.normal(jax.random.key(i), (3, size))) for i, size in ((1, 6), (2, 5)))
    kernels, biases = np.asarray(cell.hidden.kernel[...]), np.asarray(cell.hidden.bias[...])
    halves = [np.concatenate([belief[:, 3 * g : 3 * g + 3], told], 1) @ kernels[g] + biases[g] for g in range(2)]
    hidden = np.concatenate(halves, 1)
    hidden = hidden / np.sqrt((hidden**2).mean(1, keepdims=True) + 1e-4) * np.asarray(cell.norm.scale[...])
    hidden = hidden * sigmoid(hidden)
    expected = []
    for g in range(2):
        own = slice(3 * g, 3 * g + 3)
        gates = hidden[:, own] @ np.asarray(cell.gates.kernel[...])[g] + np.asarray(cell.gates.bias[...])[g]
        update = sigmoid(gates[:, 6:] - 1)
        candidate = np.tanh(sigmoid(gates[:, :3]) * gates[:, 3:6])
        expected.append(update * candidate + (1 - update) * belief[:, own])
    np.testing.assert_allclose(cell(belief, told), np.concatenate(expected, 1), rtol=1e-4, atol=1e-6)


def test_no_later_frame_and_no_later_action_leaks_into_a_state(model: RSSM, tiny_batch: Arrays):
    """Of beliefs: the categorical state's gradient is one of probabilities, and passes likewise."""
    frames, actions = map(jnp.asarray, tiny_batch)

    def means(frames: jax.Array, actions: jax.Array) -> jax.Array:
        return model.vector(model.filter(frames, actions)).sum(axis=0) ** 2

    slopes = map(np.abs, jax.jit(jax.jacobian(means, (0, 1)))(frames, actions))
    of_frames, of_actions = (
        slope.sum(axis=axes) for slope, axes in zip(slopes, ((1, 2, 4, 5), (1, 2, 4)), strict=True)
    )
    for t in range(7):
        assert (of_frames[t, t + 1 :] == 0).all()
        assert (of_frames[t, : t + 1] > 0).all()
        assert (of_actions[t, t:] == 0).all()
        assert (of_actions[t, :t] > 0).all()


def test_the_loss_reaches_every_parameter(tiny_batch: Arrays):
    """Beyond the free nats, where the KL teaches."""
    for name in OPTIONS:
        model = make(name, free_nats=0.0)
        graphdef, params = nnx.split(model)

        def loss(params: nnx.State, graphdef: nnx.GraphDef = graphdef) -> jax.Array:
            batch = Batch(*map(jnp.asarray, tiny_batch))
            return nnx.merge(graphdef, params).loss(batch, jax.random.key(1), jnp.asarray(0.5))[0]

        gradients = nnx.to_pure_dict(jax.jit(jax.grad(loss))(params))
        assert gradients.pop("spread", 0) == 0  # it is fitted afterwards
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
            assert np.abs(leaf).max() > 0, f"{name}: {path}"


def test_below_the_free_nats_the_kl_costs_the_same_and_teaches_nothing(tiny_batch: Arrays):
    model = make("rssm", free_nats=1e6)
    graphdef, params = nnx.split(model)

    def cost(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return jnp.sum(model.kl_cost(model.infer(*map(jnp.asarray, tiny_batch), None, None)))

    value, gradients = jax.jit(jax.value_and_grad(cost))(params)
    assert value == pytest.approx(1e6 * 3 * 7)
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradients))


def test_the_mean_log_weight_is_the_bound_and_the_bound_is_the_plain_one(model: RSSM, tiny_batch: Arrays):
    """E_q[ln p(x, s) - ln q(s)]: over many samples the densities come to the closed form of the KL."""
    frames, actions = map(jnp.asarray, tiny_batch)
    bound = jax.jit(model.bound)
    every = [bound(frames, actions, key) for key in jax.random.split(jax.random.key(0), 400)]
    found = jax.tree.map(lambda *leaves: np.stack(leaves), *every)
    assert (np.asarray(found.kl) >= 0).all()
    elbo = np.sum(np.asarray(found.reconstruction - found.kl), axis=-1)
    difference = np.asarray(found.log_weight) - elbo
    error = difference.std(axis=0) / 20
    assert (np.abs(difference.mean(axis=0)) < 4 * error + 1e-3).all()
    assert np.isfinite(elbo).all()


def test_the_categorical_kl_and_its_weights_are_the_closed_form(tiny_batch: Arrays):
    model = make("rssm-categorical", free_nats=0.0)
    inferred = model.infer(*map(jnp.asarray, tiny_batch), None, jax.random.key(0))
    q, p = (np.asarray(each.distribution.logits, float) for each in (inferred.posterior, inferred.prior))
    for logits in (q, p):
        np.testing.assert_allclose(np.exp(logits).sum(-1), 1, rtol=1e-5)
        assert np.exp(logits).min() >= 0.01 / 4  # a hundredth is uniform
    kl = (np.exp(q) * (log_softmax(q, -1) - log_softmax(p, -1))).sum(axis=(-2, -1))
    np.testing.assert_allclose(model.kl(inferred, None), kl, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.kl_cost(inferred), 1.1 * kl, rtol=1e-3, atol=1e-5)


def test_the_dynamics_loss_moves_the_prior_alone_and_the_representation_loss_the_posterior_alone():
    """At given logits: d/dp of KL(q || p) is p - q in the logits; the stopped side gets nothing."""
    model = make("rssm-categorical", free_nats=0.0, uniform_share=1e-6)
    q, p = jax.random.normal(jax.random.key(0), (2, 1, 1, 12))

    def cost(q: jax.Array, p: jax.Array) -> jax.Array:
        state = RSSMState(jnp.zeros((1, 1, 6)), jnp.zeros((1, 1, 12)))
        return jnp.sum(model.kl_cost(type(inferred)(state, model._categorical(q), model._categorical(p))))

    inferred = model.infer(jnp.zeros((1, 1, *model.scale.frame_shape)), jnp.zeros((1, 0, 2)), None, None)
    of_q, of_p = jax.jit(jax.grad(cost, (0, 1)))(q, p)
    soft_q, soft_p = (jax.nn.softmax(each.reshape(3, 4)) for each in (q, p))
    np.testing.assert_allclose(of_p.reshape(3, 4), soft_p - soft_q, atol=1e-4)  # weight 1
    ratio = jnp.log(soft_q) - jnp.log(soft_p)
    inner = soft_q * (ratio - jnp.sum(soft_q * ratio, axis=-1, keepdims=True))
    np.testing.assert_allclose(of_q.reshape(3, 4), 0.1 * inner, atol=1e-4)  # weight 0.1


def test_gradients_pass_a_one_hot_sample_as_if_it_were_the_probabilities():
    model = make("rssm-categorical", uniform_share=1e-6)
    assert isinstance(model, CategoricalRSSM)
    logits, weights = jax.random.normal(jax.random.key(0), (2, 1, 12))

    def through(logits: jax.Array) -> jax.Array:
        return jnp.sum(weights * model.choose(model._categorical(logits), jax.random.key(1)))

    def probabilities(logits: jax.Array) -> jax.Array:
        return jnp.sum(weights.reshape(3, 4) * jax.nn.softmax(logits.reshape(3, 4)))

    sample = np.asarray(model.choose(model._categorical(logits), jax.random.key(1))).reshape(3, 4)
    np.testing.assert_allclose(np.sort(sample, axis=1), [[0, 0, 0, 1]] * 3, atol=1e-6)
    np.testing.assert_allclose(jax.grad(through)(logits), jax.grad(probabilities)(logits), rtol=1e-4, atol=1e-6)


def test_samples_come_as_often_as_their_probabilities_say():
    model = make("rssm-categorical")
    distribution = model._categorical(jnp.log(jnp.asarray([[0.7, 0.1, 0.1, 0.1] * 3])))
    keys = jax.random.split(jax.random.key(0), 4000)
    share = np.asarray(jax.vmap(lambda key: model.choose(distribution, key))(keys)).mean(axis=0).reshape(3, 4)
    expected = 0.99 * np.array([0.7, 0.1, 0.1, 0.1]) + 0.01 / 4
    np.testing.assert_allclose(share, np.broadcast_to(expected, (3, 4)), atol=0.04)


def test_the_gaussian_kl_is_the_closed_form_and_a_spread_widens_samples_but_not_the_loss(tiny_batch: Arrays):
    model = make("rssm", free_nats=0.0)
    assert isinstance(model, GaussianRSSM)
    inferred = model.infer(*map(jnp.asarray, tiny_batch), None, None)
    (m, s), (n, r) = ((each.mean(), each.stddev()) for each in (inferred.posterior, inferred.prior))
    kl = jnp.sum(jnp.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5, axis=-1)
    np.testing.assert_allclose(model.kl_cost(inferred), kl, rtol=1e-3, atol=1e-4)
    assert float(min(s.min(), r.min())) >= 0.1
    batch, state = Batch(*map(jnp.asarray, tiny_batch)), jax.tree.map(lambda leaf: leaf[:, -1], inferred.state)

    def loss() -> jax.Array:
        return model.loss(batch, jax.random.key(5), jnp.zeros(()))[0]

    def noise() -> jax.Array:
        drawn = model.imagine_step(state, batch.actions[:, 0], jax.random.key(6))
        return drawn.stochastic - model.imagine_step(state, batch.actions[:, 0]).stochastic

    narrow, plain = noise(), loss()
    model.spread[...] = jnp.asarray(3.0)
    np.testing.assert_allclose(noise(), 3 * narrow, rtol=1e-4, atol=1e-5)
    assert loss() == plain


def test_every_action_is_told_apart_however_large(model: RSSM):
    """Actions are scaled by their root mean square, beyond which many lie. Of an action's size the norm after
    DreamerV3's first layer leaves what its bias shows, which begins at 0."""
    if isinstance(model, CategoricalRSSM):
        bias = model.of_action.layers[0].bias
        bias[...] = jax.random.normal(jax.random.key(0), bias[...].shape)
    state = RSSMState(jnp.zeros((1, model.belief_size)), jnp.zeros((1, model.stochastic_size)))
    beliefs = [model.believe(state, jnp.full((1, 2), size)) for size in (1.2, 1.7)]
    assert np.abs(beliefs[0] - beliefs[1]).max() > 1e-3
