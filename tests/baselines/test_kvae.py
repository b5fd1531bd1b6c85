"""The Kalman Variational Autoencoder against filters, smoothers and densities that are computed otherwise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, filtered, make_tiny_dvbf, untrained
from flax import nnx
from scipy.stats import multivariate_normal

from baselines.kvae import KVAE, KVAEState
from baselines.rival_options import PUBLISHED_KVAE, KVAEOptions
from worldmodel.data.windows import Batch
from worldmodel.imagination.compiled import compiled
from worldmodel.models.protocol import Bounded, Diagnosed, LocallyLinear, Sampled, WorldModel, imagine
from worldmodel.support.files import UserError

Frames = tuple[np.ndarray, np.ndarray]
B, T, Z, C = 3, 7, 4, 2

run = compiled(lambda model, *arguments: model.run(*arguments))
smooth = compiled(lambda model, *arguments: model.smooth(*arguments))
terms_of = compiled(lambda model, *arguments: model.terms(*arguments))


@pytest.fixture(scope="module")
def kvae() -> KVAE:
    """An untrained model of 4 x 4 frames and two actions, whose linear systems differ."""
    options = KVAEOptions(vision_size=8, feature_size=6, memory_size=5, initial_variance=2.0)
    scale = make_tiny_dvbf("fusion").scale
    model = untrained(options, scale)
    keys = iter(jax.random.split(jax.random.key(4), 5))
    bases = (model.state_matrices, 0.15), (model.action_matrices, 0.4), (model.emission_matrices, 0.4)
    for base, width in bases:  # so that no latent comes near the ball
        base[...] = base[...] + width * jax.random.normal(next(keys), base[...].shape)
    network = model.mixture_network
    for layer in (network.memory.gates, network.weights.layers[0]):
        kernel = layer.kernel
        kernel[...] = 3 * kernel[...] + jax.random.normal(next(keys), kernel[...].shape)
    model.first_code[...] = jnp.array([0.3, -0.2])
    return model


@pytest.fixture
def codes() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((B, T, C)).astype(np.float32)


@pytest.fixture
def valid() -> np.ndarray:
    valid = np.ones((B, T), bool)
    valid[1, 2:4] = valid[2, [0, 5, 6]] = False
    return valid


# The slow truth: one sequence at a time, in float64, from the parameters alone


def numbers(variable: nnx.Param) -> np.ndarray:
    return np.asarray(variable[...], np.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Systems(NamedTuple):
    """Of one sequence: the matrices that lead into each of T times, `[T, ...]`."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


class Found(NamedTuple):
    predicted: list
    """(mean, covariance) before each frame"""
    filtered: list
    systems: Systems
    nats: np.ndarray
    """ln p(a_t | a_0..a_{t-1}) `[T]`"""


def kalman(model: KVAE, codes: np.ndarray, actions: np.ndarray, valid: np.ndarray) -> Found:
    """Codes `[T, C]`, scaled actions `[T-1, A]`, valid `[T]`."""
    q = model.options.transition_variance * np.eye(Z)
    r = model.options.emission_variance * np.eye(C)
    gates, weights = model.mixture_network.memory.gates, model.mixture_network.weights.layers[0]
    size = model.options.memory_size
    hidden, cell, told = np.zeros(size), np.zeros(size), numbers(model.first_code)
    mean, covariance = np.zeros(Z), model.options.initial_variance * np.eye(Z)
    predicted, filtered, systems, nats = [], [], [], []
    for t in range(len(codes)):
        raw = np.concatenate([told, hidden]) @ numbers(gates.kernel) + numbers(gates.bias)
        entry, forget, output, candidate = raw.reshape(4, size)
        cell = sigmoid(forget + 1) * cell + sigmoid(entry) * np.tanh(candidate)
        hidden = sigmoid(output) * np.tanh(cell)
        logits = hidden @ numbers(weights.kernel) + numbers(weights.bias)
        alpha = np.exp(logits) / np.exp(logits).sum()
        a, b, c = (
            sum(alpha[k] * numbers(base)[k] for k in range(len(alpha)))
            for base in (model.state_matrices, model.action_matrices, model.emission_matrices)
        )
        systems.append((a, b, c))
        if t > 0:
            mean, covariance = a @ mean + b @ actions[t - 1], a @ covariance @ a.T + q
        predicted.append((mean, covariance))
        told = c @ mean
        nats.append(0.0)
        if valid[t]:
            spread = c @ covariance @ c.T + r
            nats[-1] = multivariate_normal(c @ mean, spread).logpdf(codes[t])
            # the information form, unlike the gain of the model
            precision = np.linalg.inv(covariance) + c.T @ np.linalg.inv(r) @ c
            information = np.linalg.inv(covariance) @ mean + c.T @ np.linalg.inv(r) @ codes[t]
            covariance = np.linalg.inv(precision)
            mean = covariance @ information
            told = codes[t]
        filtered.append((mean, covariance))
    return Found(predicted, filtered, Systems(*map(np.array, zip(*systems, strict=True))), np.array(nats))


def joint(model: KVAE, systems: Systems, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and covariance of all latents z_0..z_{T-1}, stacked, and the matrix that makes stacked codes of them."""
    steps = len(systems.a)
    mean, lower = np.zeros((steps, Z)), np.zeros((steps, Z, steps, Z))  # z = mean + lower (z_0 and the noises)
    for t in range(steps):
        if t > 0:
            mean[t] = systems.a[t] @ mean[t - 1] + systems.b[t] @ actions[t - 1]
            lower[t] = np.einsum("ij,jsk->isk", systems.a[t], lower[t - 1])
        lower[t, :, t] = np.eye(Z)
    variances = np.full((steps, Z), model.options.transition_variance)
    variances[0] = model.options.initial_variance
    lower = lower.reshape(steps * Z, steps * Z)
    emission = np.zeros((steps, C, steps, Z))
    for t in range(steps):
        emission[t, :, t] = systems.c[t]
    return mean.ravel(), lower * variances.ravel() @ lower.T, emission.reshape(steps * C, steps * Z)


def scaled(model: KVAE, actions: np.ndarray) -> np.ndarray:
    return actions.astype(np.float64) / model.scale.action_scale


def test_the_filter_is_kalmans_with_the_mixed_matrices(kvae, codes, valid, tiny_batch):
    found = run(kvae, codes, tiny_batch[1], valid)
    for n in range(B):
        truth = kalman(kvae, codes[n], scaled(kvae, tiny_batch[1][n]), valid[n])
        np.testing.assert_allclose(found.transitions[n], truth.systems.a[1:], rtol=1e-4, atol=1e-5)
        for states, beliefs in ((found.predictions, truth.predicted), (found.states, truth.filtered)):
            means, covariances = map(np.array, zip(*beliefs, strict=True))
            np.testing.assert_allclose(states.mean[n], means, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(states.covariance[n], covariances, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(states.latent[n], states.mean[n])
        # the systems do change over time
        assert np.abs(np.diff(truth.systems.a, axis=0)).max() > 0.05
        told = np.einsum("tij,tj->ti", truth.systems.c, np.array([mean for mean, _ in truth.predicted]))
        np.testing.assert_allclose(
            found.states.code[n], np.where(valid[n][:, None], codes[n], told), rtol=1e-3, atol=1e-4
        )


def test_the_smoother_conditions_the_joint_normal_distribution(kvae, valid, tiny_batch):
    """Of all latents and codes at once, without recursion."""
    frames, actions = tiny_batch
    codes = np.asarray(jax.jit(kvae.posterior)(frames).mean(), np.float64)
    states = smooth(kvae, frames, actions, valid)
    filtered = run(kvae, codes.astype(np.float32), actions, valid).states
    for n in range(B):
        action = scaled(kvae, actions[n])
        systems = kalman(kvae, codes[n], action, valid[n]).systems
        mean, covariance, emission = joint(kvae, systems, action)
        seen = np.repeat(valid[n], C)
        emission = emission[seen]
        spread = emission @ covariance @ emission.T + kvae.options.emission_variance * np.eye(seen.sum())
        gain = covariance @ emission.T @ np.linalg.inv(spread)
        mean = mean + gain @ (codes[n].ravel()[seen] - emission @ mean)
        covariance = covariance - gain @ emission @ covariance
        blocks = covariance.reshape(T, Z, T, Z)[np.arange(T), :, np.arange(T)]
        np.testing.assert_allclose(states.mean[n], mean.reshape(T, Z), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(states.covariance[n], blocks, rtol=1e-3, atol=1e-3)
        shown = np.einsum("tij,tj->ti", systems.c, mean.reshape(T, Z))
        np.testing.assert_allclose(states.code[n], shown, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(states.mean[:, -1], filtered.mean[:, -1])
    volumes = [np.linalg.slogdet(np.asarray(each.covariance))[1] for each in (states, filtered)]
    later = valid[:, ::-1].cumsum(axis=1)[:, ::-1] - valid > 0
    assert (volumes[0] < volumes[1])[later].all()  # whoever sees what comes later knows more
    np.testing.assert_allclose(volumes[0][~later], volumes[1][~later], rtol=1e-4)
    assert np.asarray(kvae.emission(states).mean()).shape == frames.shape


def test_the_bound_has_the_joint_density_of_the_codes(kvae, valid, tiny_batch):
    """ln p(a | u), which the filter sums up frame by frame, is that of the stacked codes that were seen."""
    frames, actions = map(jnp.asarray, tiny_batch)
    for shown in (np.ones((B, T), bool), valid):
        terms = terms_of(kvae, frames, actions, jax.random.key(7), shown)
        noise = jax.random.normal(jax.random.key(7), (B, T, C))
        posterior = jax.jit(kvae.posterior)(frames)
        codes = np.asarray(posterior.mean() + posterior.stddev() * noise, np.float64)
        density = np.asarray(terms.log_ratio) + np.where(shown, posterior.log_prob(codes.astype(np.float32)), 0)
        for n in range(B):
            action = scaled(kvae, tiny_batch[1][n])
            found = kalman(kvae, codes[n], action, shown[n])
            np.testing.assert_allclose(density[n], found.nats, rtol=1e-3, atol=2e-3)
            mean, covariance, emission = joint(kvae, found.systems, action)
            spread = emission @ covariance @ emission.T + kvae.options.emission_variance * np.eye(T * C)
            seen = np.repeat(shown[n], C)
            exact = multivariate_normal((emission @ mean)[seen], spread[np.ix_(seen, seen)], allow_singular=False)
            assert density[n].sum() == pytest.approx(exact.logpdf(codes[n].ravel()[seen]), rel=1e-3, abs=5e-3)


def test_the_papers_integrand_is_the_density_whatever_the_latents_are(kvae, codes, tiny_batch):
    """ln p(a|z) + ln p(z|u) - ln p(z|a,u) at any z, in place of which the bound has ln p(a|u)."""
    action = scaled(kvae, tiny_batch[1][0])
    found = kalman(kvae, codes[0], action, np.ones(T, bool))
    mean, covariance, emission = joint(kvae, found.systems, action)
    r = kvae.options.emission_variance
    gain = covariance @ emission.T @ np.linalg.inv(emission @ covariance @ emission.T + r * np.eye(T * C))
    posterior_covariance = covariance - gain @ emission @ covariance
    posterior = multivariate_normal(
        mean + gain @ (codes[0].ravel() - emission @ mean), (posterior_covariance + posterior_covariance.T) / 2
    )
    for seed in range(3):
        z = mean + np.random.default_rng(seed).standard_normal(T * Z)
        inner = multivariate_normal(emission @ z, r * np.eye(T * C)).logpdf(codes[0].ravel())
        inner += multivariate_normal(mean, (covariance + covariance.T) / 2).logpdf(z) - posterior.logpdf(z)
        assert inner == pytest.approx(found.nats.sum(), rel=1e-6)


def test_each_kl_is_its_own_mean_and_positive(kvae, tiny_batch):
    """In closed form, and as the mean over draws of a frame's code with those before held fast."""
    frames, actions = map(jnp.asarray, tiny_batch)
    terms = terms_of(kvae, frames, actions, jax.random.key(1), None)
    assert (np.asarray(terms.kl) > 0).all()
    mean, std = np.asarray(terms.posterior.mean(), np.float64), np.asarray(terms.posterior.stddev(), np.float64)
    for t in (0, 4):
        draws = mean[0, t] + std[0, t] * np.random.default_rng(t).standard_normal((100_000, C))
        prior = multivariate_normal(terms.expected.mean[0, t], terms.expected.covariance[0, t])
        ratio = multivariate_normal(mean[0, t], np.diag(std[0, t] ** 2)).logpdf(draws) - prior.logpdf(draws)
        assert terms.kl[0, t] == pytest.approx(ratio.mean(), abs=5 * ratio.std() / 100_000**0.5)


def test_the_bounds_parts_agree(kvae, tiny_batch):
    """Over many draws the mean of the log weight is the bound."""
    frames, actions = map(jnp.asarray, tiny_batch)

    @jax.jit
    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        bound = kvae.bound(frames, actions, key)
        return jnp.sum(bound.reconstruction - bound.kl, axis=1), bound.log_weight

    elbo, weight = map(np.asarray, jax.lax.map(sample, jax.random.split(jax.random.key(0), 3000)))
    difference = elbo - weight
    assert (np.abs(difference.mean(axis=0)) < 5 * difference.std(axis=0) / 3000**0.5).all()
    # the closed form spares some of the variance
    assert elbo.std(axis=0).mean() < weight.std(axis=0).mean()


def test_no_later_frame_leaks_into_a_state(kvae, tiny_batch):
    frames, actions = map(jnp.asarray, tiny_batch)

    def seen(frames: jax.Array) -> jax.Array:
        states = kvae.filter(frames, actions)
        return jnp.stack([states.mean.sum((0, 2)), states.covariance.sum((0, 2, 3)), states.cell.sum((0, 2))])

    influence = np.abs(np.asarray(jax.jit(jax.jacobian(seen))(frames))).sum(axis=(2, 4, 5))  # [3, T, T]
    for t in range(T):
        assert (influence[:, t, t + 1 :] == 0).all()
        assert (influence[0, t, : t + 1] > 0).all()
    # a frame chooses the matrices of the next step, not of its own: the memory lags behind by one
    assert (np.diagonal(influence[2]) == 0).all()
    assert (np.diagonal(influence[2], offset=-1) > 0).all()


def test_an_action_moves_the_state_after_it_and_none_before(kvae, tiny_batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    influence = jax.jit(jax.jacobian(lambda u: kvae.filter(frames, u).mean.sum(axis=(0, 2))))(actions)
    influence = np.abs(np.asarray(influence)).sum(axis=(1, 3))  # [T, T-1]
    for t in range(T):
        assert (influence[t, t:] == 0).all()
        assert (influence[t, :t] > 0).all()


def test_gradients_reach_every_parameter(kvae, tiny_batch):
    graphdef, params = nnx.split(kvae)

    @jax.jit
    def slope(params: nnx.State, progress: jax.Array) -> nnx.State:
        batch = Batch(*map(jnp.asarray, tiny_batch))
        return jax.grad(lambda p: nnx.merge(graphdef, p).loss(batch, jax.random.key(0), progress)[0])(params)

    gradients = slope(params, jnp.asarray(1.0))
    for path, leaf in jax.tree.leaves_with_path(gradients):
        reached = np.abs(np.asarray(leaf)).max() > 0
        assert reached != ("spread" in str(path)), path  # that is fitted after training
    early = slope(params, jnp.asarray(0.0))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(early["mixture_network"]))
    assert np.abs(early["state_matrices"][...]).max() > 0


def test_imagining_is_filtering_with_the_frames_missing(kvae, tiny_batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    valid = jnp.arange(T)[None] < jnp.array([[3]] * B)
    states = filtered(kvae, frames, actions, valid)
    imagined = dreamt(kvae, jax.tree.map(lambda leaf: leaf[:, 2], states), actions[:, 2:])
    for leaf, whole in zip(imagined, states, strict=True):
        np.testing.assert_allclose(leaf, whole[:, 3:], rtol=1e-4, atol=1e-5)
    # the belief widens while nothing is seen
    volumes = np.linalg.slogdet(np.asarray(imagined.covariance))[1]
    assert (volumes > np.linalg.slogdet(np.asarray(states.covariance[:, 2]))[1][:, None]).all()


def test_sampled_latents_are_drawn_from_the_belief(kvae, tiny_batch):
    """In the filter, and one step ahead from a drawn latent: mean and covariance of many draws, twice as wide where the
    spread is 2."""
    count, state = 20_000, jax.tree.map(lambda leaf: leaf[:1, 3], filtered(kvae, *map(jnp.asarray, tiny_batch)))
    many = jax.tree.map(lambda leaf: jnp.tile(leaf, (count, *[1] * (leaf.ndim - 1))), state)
    action = jnp.tile(jnp.asarray(tiny_batch[1][:1, 3]), (count, 1))
    frame = jnp.tile(jnp.asarray(tiny_batch[0][:1, 4]), (count, 1, 1))
    plain = jax.jit(kvae.imagine_step)(state, action[:1])
    for spread in (1.0, 2.0):
        graphdef, params = nnx.split(kvae)
        wide = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf, params))
        wide.spread[...] = jnp.asarray(spread)
        dreamt = jax.jit(wide.imagine_step)(many, action, jax.random.key(2))
        q = spread**2 * kvae.options.transition_variance
        np.testing.assert_allclose(np.cov(dreamt.latent.T), q * np.eye(Z), atol=0.05 * q)
        np.testing.assert_allclose(dreamt.latent.mean(axis=0), plain.latent[0], atol=5 * (q / count) ** 0.5)
        np.testing.assert_allclose(dreamt.mean, np.broadcast_to(plain.mean, dreamt.mean.shape), rtol=1e-5)
        seen = jax.jit(wide.filter_step)(many, action, frame, jax.random.key(2))
        apart = np.asarray(seen.latent - seen.mean)
        np.testing.assert_allclose(np.cov(apart.T), spread**2 * seen.covariance[0], atol=0.05 * spread**2)
        assert np.std(seen.code[:, 0]) > 0.01


def test_the_first_frame_may_be_missing(kvae, valid, tiny_batch):
    """Then the belief is the initial one; with a key its latent is drawn from that."""
    frames, actions = (jnp.asarray(each[2:3]) for each in tiny_batch)
    states = filtered(kvae, frames, actions, jnp.asarray(valid[2:3]))
    np.testing.assert_array_equal(states.mean[0, 0], np.zeros(Z))
    np.testing.assert_allclose(states.covariance[0, 0], 2 * np.eye(Z))
    drawn = [filtered(kvae, frames, actions, jnp.asarray(valid[2:3]), jax.random.key(seed)) for seed in range(2)]
    assert np.abs(drawn[0].latent - drawn[1].latent)[0, 0].max() > 0.1
    np.testing.assert_array_equal(drawn[0].mean[0, 0], np.zeros(Z))


def test_what_it_says_of_itself_is_of_frames_that_were_seen(kvae, valid, tiny_batch):
    frames, actions = tiny_batch
    diagnose = jax.jit(kvae.diagnosis)
    figures, again = (
        diagnose(np.where(valid[..., None, None], frames, other).astype(np.float32), actions, valid) for other in (0, 1)
    )
    assert figures == again
    assert all(np.isfinite(figure) for figure in figures.values())
    whole, first = diagnose(frames, actions), kvae.posterior(frames[:, 0])
    signal = np.var(first.mean(), axis=0) / np.mean(first.variance(), axis=0)
    assert whole["information"] == pytest.approx(np.log1p(signal).sum() / 2, rel=1e-3)
    assert 0 < whole["initial_std"] < 1
    assert all(np.isfinite(figure) for figure in diagnose(frames, actions, np.zeros((B, T), bool)).values())


def test_a_system_that_explodes_stays_finite(kvae):
    graphdef, params = nnx.split(kvae)
    wild = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf, params))
    wild.state_matrices[...] = 3 * wild.state_matrices[...]
    start = jax.tree.map(lambda leaf: leaf, wild.begin(2))
    states = jax.jit(lambda state: imagine(wild, state, jnp.ones((2, 600, 2)), jax.random.key(0)))(start)
    assert all(np.isfinite(leaf).all() for leaf in states)
    assert np.isfinite(wild.emission(states).mean()).all()


def test_it_is_what_it_should_be(kvae):
    assert isinstance(kvae, WorldModel)
    assert isinstance(kvae, Bounded)
    assert isinstance(kvae, Diagnosed)
    assert isinstance(kvae, Sampled)
    assert not isinstance(kvae, LocallyLinear)  # its matrices follow from its memory, not from the latent
    assert KVAEState._fields[2] == "latent"


def test_options_that_no_model_can_have_are_refused():
    PUBLISHED_KVAE.check()
    for options in ({"code_size": 0}, {"transition_variance": 0.0}, {"mixture_from": 1.5}, {"observation_std": -1.0}):
        with pytest.raises(UserError, match=f"--{next(iter(options)).replace('_', '-')}"):
            KVAEOptions(**options).check()
