import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import infer, infer_all, loss_of, make_tiny_dvbf

from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import early, noise_scale, open_loop_tails, restart_distance
from worldmodel.models.variational import annealed, bound_terms, temperature

Batch = tuple[np.ndarray, np.ndarray]


def test_a_share_of_the_sequences_ends_in_open_loop():
    mask = np.asarray(open_loop_tails(jax.random.key(0), 4000, 10, 0.5))
    # once a sequence is not observed, it stays so
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()
    assert (~mask[:, -1]).mean() == pytest.approx(0.5, abs=0.03)
    starts = 10 - (~mask[~mask[:, -1]]).sum(axis=1)
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    np.testing.assert_allclose(counts / counts.sum(), np.full(10, 0.1), atol=0.03)


def test_no_open_loop_when_the_share_is_zero():
    assert open_loop_tails(jax.random.key(0), 100, 10, 0.0).all()


def test_the_terms_of_the_bound(tiny_dvbf: DVBF, tiny_batch: Batch):
    frames, actions = map(jnp.asarray, tiny_batch)
    observed = jnp.asarray(np.random.default_rng(0).random((3, 6)) < 0.5)
    noise = jax.random.normal(jax.random.key(0), (3, 7, tiny_dvbf.options.latent_size))
    filtered = infer(tiny_dvbf, frames, actions, observed, noise)
    terms = bound_terms(tiny_dvbf, frames, filtered, observed)

    mean = np.asarray(tiny_dvbf.emission(filtered.latents).mean(), np.float64)
    std = tiny_dvbf.observation_std
    log_density = -0.5 * ((frames - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(terms.reconstruction, log_density.sum(axis=(2, 3)), rtol=1e-4)

    assert (np.asarray(terms.kl)[:, 1:] == 0)[~np.asarray(observed)].all()
    assert (np.asarray(terms.kl)[:, 1:] > 0)[np.asarray(observed)].all()
    m, s = np.asarray(filtered.initial.mean()), np.asarray(filtered.initial.stddev())
    np.testing.assert_allclose(terms.kl[:, 0], np.sum(0.5 * (m**2 + s**2 - 1) - np.log(s), axis=-1), rtol=1e-4)


def test_the_annealed_objective_is_the_papers(tiny_batch: Batch):
    """c ln p(x|z) - ln q(w) + c ln p(w), with ln q and ln p averaged over many samples of w."""
    frames, actions = map(jnp.asarray, tiny_batch)
    model = make_tiny_dvbf("noise", annealing_share=0.5, transition_kl_weight=1.0, open_loop_share=0.0)
    noise = jax.random.normal(jax.random.key(0), (3, 7, model.options.latent_size))
    observed = jnp.ones((3, 6), bool)
    filtered = infer(model, frames, actions, observed, noise)
    terms = bound_terms(model, frames, filtered, observed)
    c = float(temperature(jnp.asarray(0.2), 0.5))
    assert c == pytest.approx(0.41)

    prior_mean, prior_std = filtered.prior.mean(), filtered.prior.stddev()
    w_mean = np.asarray((filtered.posterior.mean() - prior_mean) / prior_std, np.float64)
    w_std = np.asarray(filtered.posterior.stddev() / prior_std, np.float64)
    eps = np.random.default_rng(0).standard_normal((20_000, *w_mean.shape))
    w = w_mean + w_std * eps
    log_q = np.sum(-0.5 * eps**2 - np.log(w_std) - 0.5 * np.log(2 * np.pi), axis=-1).mean(axis=0)
    log_p = np.sum(-0.5 * w**2 - 0.5 * np.log(2 * np.pi), axis=-1).mean(axis=0)
    np.testing.assert_allclose(annealed(terms, jnp.asarray(c))[:, 1:], log_q - c * log_p, atol=0.05)


def test_without_schedules_and_penalty_the_loss_is_the_negative_elbo(tiny_batch: Batch):
    plain = {"transition_kl_weight": 1.0, "consistency_weight": 0.0, "glimpse_weight": 0.0}
    model = make_tiny_dvbf("fusion", **plain)
    loss, metrics = loss_of(model, tiny_batch, 0.3)
    assert float(loss) == pytest.approx(-float(metrics["elbo"]), rel=1e-5)
    consistent = make_tiny_dvbf("fusion", **(plain | {"consistency_weight": 30.0}))
    larger, metrics = loss_of(consistent, tiny_batch, 0.3)
    assert float(larger - loss) == pytest.approx(30 * float(metrics["restart_distance"]), rel=1e-4)


def test_the_help_of_the_beginning_ends(tiny_batch: Batch):
    """Early the KL is dear and windows end in open loop; late the same loss is the plain bound."""
    model = make_tiny_dvbf(
        "fusion", transition_kl_weight=5.0, consistency_weight=0.0, glimpse_weight=0.0, open_loop_share=0.0
    )
    for progress, weight in ((0, 5), (0.3, 3), (0.9, 1)):
        loss, metrics = loss_of(model, tiny_batch, progress)
        kl_of_steps = float(metrics["kl"]) - float(metrics["kl_initial"]) / 7
        assert float(loss) == pytest.approx(-float(metrics["elbo"]) + (weight - 1) * kl_of_steps, rel=1e-4)
    blind = make_tiny_dvbf(
        "fusion", transition_kl_weight=1.0, consistency_weight=0.0, glimpse_weight=0.0, open_loop_share=1.0
    )
    seeing = make_tiny_dvbf(
        "fusion", transition_kl_weight=1.0, consistency_weight=0.0, glimpse_weight=0.0, open_loop_share=0.0
    )
    for progress, equal in ((0, False), (0.9, True)):
        losses = [float(loss_of(model, tiny_batch, progress)[0]) for model in (blind, seeing)]
        assert (losses[0] == pytest.approx(losses[1], rel=1e-6)) == equal


def test_the_distance_to_a_restart_is_that_of_a_slow_loop(tiny_dvbf: DVBF, tiny_batch: Batch):
    """Each latent against the initial state of the sequence that begins there."""
    actions = jnp.asarray(tiny_batch[1])
    latents = jax.random.normal(jax.random.key(0), (3, 7, tiny_dvbf.options.latent_size))
    filtered = infer_all(tiny_dvbf, tiny_batch, jnp.zeros_like(latents))
    initial = jax.jit(lambda frames, actions: tiny_dvbf.initial(tiny_dvbf.encode(frames), actions).mean())
    measured = jax.jit(lambda starts: restart_distance(tiny_dvbf, filtered._replace(latents=latents), actions, starts))
    for start in range(6):  # the initial state sees two frames: the last latent has too few
        starts = (start + np.arange(3)) % 6  # another in each sequence
        distance = measured(starts)
        for i, t in enumerate(starts.tolist()):
            scaled = tiny_batch[1][i : i + 1, t:] / tiny_dvbf.scale.action_scale
            expected = np.mean((np.asarray(latents)[i, t] - initial(tiny_batch[0][i : i + 1, t:], scaled)[0]) ** 2)
            np.testing.assert_allclose(distance[i], expected, rtol=1e-4)


def test_schedules():
    helped = early(jnp.array([0, 0.15, 0.3, 0.45, 1]), 0.45)
    np.testing.assert_allclose(helped, [1, 1, 0.5, 0, 0], atol=1e-6)
    scales = jax.vmap(lambda progress: noise_scale(progress, 0.01))(jnp.array([0, 0.2, 0.45, 0.7, 1]))
    np.testing.assert_allclose(scales, [1, 1, 0.1, 0.01, 0.01], rtol=1e-5)
    temperatures = jax.vmap(lambda progress: temperature(progress, 0.5))(jnp.array([0, 0.25, 0.495, 1]))
    np.testing.assert_allclose(temperatures, [0.01, 0.51, 1, 1], rtol=1e-5)
    assert float(temperature(jnp.asarray(0.0), 0)) == 1
