"""The Kalman Variational Autoencoder (Fraccaro, Kamronn, Paquet, Winther, NIPS 2017, arXiv 1710.05741).

With T frames x_t, T-1 actions u_t (timeline: models/protocol.py), a code a_t of every frame and a latent z_t:

    z_0     ~ N(0, s0^2 I)                                                        initial
    z_{t+1} = A_{t+1} z_t + B_{t+1} u_t + w,   w ~ N(0, Q)                        transition
    a_t     = C_t z_t + v,                     v ~ N(0, R)                        emission of a code
    x_t     ~ N(decoder(a_t), sigma^2 I)                                          emission of a frame
    (A, B, C)_t = sum_k alpha_t^k (A, B, C)^(k),   alpha_t = softmax(LSTM(a_0, ..., a_{t-1}))
    q(a_t | x_t)                                                                  posterior, an encoder's

Given the codes all is linear and Gaussian: a Kalman filter and a smoother say exactly what is known of z. Only the
codes are inferred by a network, each from its own frame. What no frame shows, such as a velocity, is in z, and comes of
the filter.

    belief   N(mean, covariance) over z given all frames so far; a prediction is one before its own frame
    memory   the LSTM's; it has been told of the codes before the present one, and chooses the present matrices
    code     the present code: a frame's, or where there is none the predicted C z, which the LSTM is then told

The bound. The paper's is E_q(a|x) of ln p(x|a) - ln q(a|x) + E_p(z|a,u)[ln p(a|z) p(z|u) / p(z|a,u)], the inner mean
taken by samples of the smoothed z. But p(a|z) p(z|u) = p(a, z|u) = p(a|u) p(z|a,u), so that the inner logarithm is
ln p(a|u), whatever z is. It comes without a sample from the filter, which predicts one code after the other,

    ln p(a|u) = sum_t ln N(a_t; C_t m_t, C_t P_t C_t^T + R)      with the prediction N(m_t, P_t) of z_t,

and the part of every frame that is beside the reconstruction is a Kullback-Leibler divergence in closed form, between
q(a_t | x_t) and that normal distribution, given the sampled codes before.

Where a frame is missing the filter predicts and does not correct, as in the paper. The conditionals of the codes that
are left are normal still, and the bound is one on ln p of the frames that were seen.

Departures from the paper and its code (github.com/simonkamronn/kvae):
- The bound's form, as above. Their code draws every smoothed z_t by itself, which is not a draw of p(z|a,u): what it
  averages is below ln p(a|u).
- Frames are Gaussian, with the project's own networks.
- Means and covariances are kept within a ball far outside what is seen in training, as in the DVBF: a rollout of any
  length stays finite.
- With a key the latent is drawn (`latent`), along a path where it is imagined; the belief beside it is the filter's.
- Samples are as wide as held-out errors say (evaluation/calibration.py); the bound and the training know nothing of it.
- Sixteen base systems, not three, and the project's learning rate and noise of a pixel; the other sizes and noises are
  the published ones. PUBLISHED_KVAE in options.py has them all.
"""

from typing import ClassVar, NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from baselines import kalman
from baselines.kalman import Belief
from baselines.lstm import LSTM
from baselines.rival_options import KVAEOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch, mean_of_seen, per_seen_frame
from worldmodel.models import variational
from worldmodel.models.distributions import MIN_STD, diagonal_normal, from_noise, image_normal
from worldmodel.models.networks import BALL_RADIUS, MLP, into_ball, split_in_two
from worldmodel.models.protocol import Bound, Panel, Problem, swap_time
from worldmodel.models.variational import VariationalFilter, standard_noise
from worldmodel.models.vision.networks import make_decoder, make_encoder


class KVAEState(NamedTuple):
    """What a KVAE believes at one time."""

    mean: jax.Array
    """`[..., Z]` of the belief"""
    covariance: jax.Array
    """`[..., Z, Z]` of the belief"""
    latent: jax.Array
    """`[..., Z]`: drawn, or the mean"""
    cell: jax.Array
    """`[..., H]` of the LSTM"""
    hidden: jax.Array
    """`[..., H]`: what the LSTM says after the codes before this one"""
    code: jax.Array
    """`[..., C]`"""

    @property
    def belief(self) -> Belief:
        """Over z."""
        return Belief(self.mean, self.covariance)


class Matrices(NamedTuple):
    """Of one step, mixed: A `[..., Z, Z]`, B `[..., Z, A]` and C `[..., C, Z]`."""

    state: jax.Array
    action: jax.Array
    emission: jax.Array


class Filtered(NamedTuple):
    """What the filter finds in B sequences, along time."""

    states: KVAEState
    """after each frame"""
    predictions: KVAEState
    """before each frame"""
    transitions: jax.Array
    """`[B, T-1, Z, Z]`: A of each step"""


class MixtureNetwork(nnx.Module):
    """alpha: an LSTM and a softmax."""

    def __init__(self, input_size: int, memory_size: int, count: int, rngs: nnx.Rngs):
        self.memory = LSTM(input_size, memory_size, rngs)
        self.weights = MLP((memory_size, count), rngs)

    def mixture(self, hidden: jax.Array) -> jax.Array:
        """alpha `[..., K]` of what the LSTM says, `[..., H]`."""
        return jax.nn.softmax(self.weights(hidden), axis=-1)


class KVAE(nnx.Module):
    """A Kalman Variational Autoencoder, a WorldModel."""

    context = 1
    panels: ClassVar[tuple[Panel, ...]] = VariationalFilter.panels

    def __init__(self, scale: FrameScale, options: KVAEOptions, rngs: nnx.Rngs):
        self.scale, self.options, self.latent_size = scale, options, options.latent_size
        latent, code, hidden = options.latent_size, options.code_size, options.vision_size
        count, action, key = options.base_matrices, scale.action_size, rngs.params
        self.spread = nnx.Param(jnp.ones(()))
        self.encoder = make_encoder(scale, options, (hidden, options.feature_size), rngs)
        self.posterior_network = MLP((options.feature_size, 2 * code), rngs)
        self.decoder = make_decoder(scale, options, (code, hidden, hidden), rngs)
        self.mixture_network = MixtureNetwork(code, options.memory_size, count, rngs)
        self.first_code = nnx.Param(jnp.zeros(code))  # told before there is one
        small = options.initial_matrix_std
        self.state_matrices = nnx.Param(jnp.tile(jnp.eye(latent)[None], (count, 1, 1)))
        self.action_matrices = nnx.Param(small * jax.random.normal(key(), (count, latent, action)))
        self.emission_matrices = nnx.Param(small * jax.random.normal(key(), (count, code, latent)))

    @property
    def observation_std(self) -> float:
        """sigma of a pixel, in units of full brightness."""
        return self.scale.observation_std(self.options.observation_std)

    @property
    def transition_std(self) -> jax.Array:
        """`[Z]`: the roots of the diagonal of Q."""
        return jnp.full(self.latent_size, self.options.transition_variance**0.5)

    @property
    def emission_std(self) -> jax.Array:
        """`[C]`: the roots of the diagonal of R."""
        return jnp.full(self.options.code_size, self.options.emission_variance**0.5)

    # One step; actions are scaled

    def posterior(self, frames: jax.Array) -> distrax.Independent:
        """q(a | x) of frames `[..., H, W(, C)]`, hardly wider than what the emission of a code allows."""
        features = jax.nn.silu(self.encoder(self.scale.standardise(frames)))
        mean, raw_share = split_in_two(self.posterior_network(features))
        widest = self.emission_std.reshape(*[1] * (mean.ndim - 1), -1)
        return diagonal_normal(mean, widest * jax.nn.sigmoid(raw_share) ** 0.5 + MIN_STD)

    def emit(self, codes: jax.Array) -> distrax.Independent:
        """p(x | a): `[..., C]` to a distribution over frames `[..., H, W(, C)]`."""
        frames = self.scale.restore(self.decoder(codes))
        return image_normal(frames, self.observation_std, len(self.scale.frame_shape))

    def mixed(self, hidden: jax.Array) -> Matrices:
        """The matrices of what the LSTM says, `[..., H]`."""
        alpha = self.mixture_network.mixture(hidden)
        return Matrices(
            *(
                jnp.einsum("...k,kij->...ij", alpha, base[...])
                for base in (self.state_matrices, self.action_matrices, self.emission_matrices)
            )
        )

    def begin(self, batch: int, noise: tuple[jax.Array, jax.Array] | None = None) -> KVAEState:
        """Before the first frame; `noise` as in `predict`."""
        std = self.options.initial_variance**0.5
        mean = jnp.zeros((batch, self.latent_size))
        covariance = jnp.tile(std**2 * jnp.eye(self.latent_size)[None], (batch, 1, 1))
        empty = jnp.zeros((batch, self.options.memory_size))
        memory = self.mixture_network.memory(empty, empty, jnp.tile(self.first_code[...][None], (batch, 1)))
        latent = mean if noise is None else std * noise[0]
        code = self._shown(self.mixed(memory[1]).emission, latent, noise)
        return KVAEState(mean, covariance, latent, *memory, code)

    def predict(
        self, state: KVAEState, action: jax.Array, noise: tuple[jax.Array, jax.Array] | None = None
    ) -> tuple[KVAEState, jax.Array]:
        """What is believed one action `[B, A]` later, before a frame, and A `[B, Z, Z]` of the step.

        The latent and the code follow their means, unless there is standard normal `noise`, `[B, Z]` and `[B, C]`.
        """
        memory = self.mixture_network.memory(state.cell, state.hidden, state.code)
        matrices = self.mixed(memory[1])
        push = kalman.apply(matrices.action, action)
        belief = kalman.predict(state.belief, matrices.state, push, self.transition_std)
        latent = kalman.apply(matrices.state, state.latent) + push
        if noise is not None:
            latent = latent + self.transition_std[None] * noise[0]
        latent = self._bounded(latent)
        code = self._shown(matrices.emission, latent, noise)
        mean, covariance = self._bounded(belief.mean), self._no_wider(belief.covariance)
        return KVAEState(mean, covariance, latent, *memory, code), matrices.state

    def _shown(self, emission: jax.Array, latent: jax.Array, noise: tuple | None) -> jax.Array:
        """The code `[B, C]` of a latent `[B, Z]` without a frame."""
        code = kalman.apply(emission, latent)
        return code if noise is None else code + self.emission_std[None] * noise[1]

    def correct(self, prediction: KVAEState, code: jax.Array, noise: jax.Array | None = None) -> KVAEState:
        """What is believed once the frame of a prediction has come, whose code is `[B, C]`. The latent is the mean, or
        drawn by standard normal `noise` `[B, Z]`."""
        emission = self.mixed(prediction.hidden).emission
        belief = kalman.correct(prediction.belief, emission, self.emission_std, code)
        latent = belief.mean if noise is None else kalman.draw(belief, noise)
        return prediction._replace(mean=belief.mean, covariance=belief.covariance, latent=latent, code=code)

    def _bounded(self, latent: jax.Array) -> jax.Array:
        """`[B, Z]` within the ball, in units of the initial belief."""
        unit = self.options.initial_variance**0.5
        return unit * into_ball(latent / unit)

    def _no_wider(self, covariance: jax.Array) -> jax.Array:
        """`[B, Z, Z]`, shrunk where it is wider than the ball."""
        widest = BALL_RADIUS**2 * self.options.initial_variance * self.latent_size
        trace = jnp.trace(covariance, axis1=-2, axis2=-1)[..., None, None]
        return covariance * jnp.minimum(1, widest / trace)

    # As WorldModel

    def emission(self, state: KVAEState) -> distrax.Independent:
        """As WorldModel.emission: the decoder at the code: a frame's own; without one, C z or a draw."""
        return self.emit(state.code)

    def vector(self, state: KVAEState) -> jax.Array:
        """The latent z."""
        return state.latent

    def filter_step(
        self, state: KVAEState, action: jax.Array, frame: jax.Array, key: jax.Array | None = None
    ) -> KVAEState:
        """As WorldModel.filter_step."""
        code, noise = self.posterior(frame), None
        drawn = code.mean()
        if key is not None:
            code_key, latent_key = jax.random.split(key)
            drawn = drawn + code.stddev() * self._noise(code_key, drawn.shape)
            noise = self._noise(latent_key, state.latent.shape)
        return self.correct(self.predict(state, action / self.scale.action_scale)[0], drawn, noise)

    def imagine_step(self, state: KVAEState, action: jax.Array, key: jax.Array | None = None) -> KVAEState:
        """As WorldModel.imagine_step."""
        noise = None
        if key is not None:
            latent_key, code_key = jax.random.split(key)
            noise = self._noise(latent_key, state.latent.shape), self._noise(code_key, state.code.shape)
        return self.predict(state, action / self.scale.action_scale, noise)[0]

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> KVAEState:
        """As WorldModel.filter."""
        codes, noise = self.posterior(frames), None
        drawn = codes.mean()
        if key is not None:
            keys = jax.random.split(key, 3)
            drawn = drawn + codes.stddev() * self._noise(keys[0], drawn.shape)
            shape = (*frames.shape[:2], self.latent_size)
            noise = self._noise(keys[1], shape), self._noise(keys[2], drawn.shape)
        return self.run(drawn, actions, valid, noise).states

    def _noise(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Normal, as wide as samples are to be; the key is consumed."""
        return self.spread[...] * jax.random.normal(key, shape)

    # Whole sequences

    def run(
        self,
        codes: jax.Array,
        actions: jax.Array,
        valid: jax.Array | None = None,
        noise: tuple[jax.Array, jax.Array] | None = None,
    ) -> Filtered:
        """The Kalman filter on codes `[B, T, C]` and actions `[B, T-1, A]`; where `valid` `[B, T]` is False there is no
        code. Latents are the means, or drawn by standard normal `noise`, `[B, T, Z]` and `[B, T, C]`."""
        seen = jnp.ones(codes.shape[:2], bool) if valid is None else valid

        def look(prediction: KVAEState, code: jax.Array, seen: jax.Array, noise: tuple | None) -> KVAEState:
            corrected = self.correct(prediction, code, None if noise is None else noise[0])
            return jax.tree.map(
                lambda a, b: jnp.where(seen.reshape(-1, *[1] * (a.ndim - 1)), a, b), corrected, prediction
            )

        def step(state: KVAEState, inputs: tuple) -> tuple[KVAEState, tuple]:
            action, code, seen, noise = inputs
            prediction, matrix = self.predict(state, action, noise)
            state = look(prediction, code, seen, noise)
            return state, (state, prediction, matrix)

        noise_at_first = jax.tree.map(lambda each: each[:, 0], noise)
        before = self.begin(len(codes), noise_at_first)
        first = look(before, codes[:, 0], seen[:, 0], noise_at_first)
        later = codes[:, 1:], seen[:, 1:], jax.tree.map(lambda each: each[:, 1:], noise)
        over_time = jax.tree.map(swap_time, (actions / self.scale.action_scale, *later))
        states, predictions, transitions = jax.tree.map(swap_time, jax.lax.scan(step, first, over_time)[1])

        def whole(first: KVAEState, later: KVAEState) -> KVAEState:
            return jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], b], axis=1), first, later)

        return Filtered(whole(first, states), whole(before, predictions), transitions)

    def smooth(self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None) -> KVAEState:
        """The states `[B, T, ...]` in the light of all frames `[B, T, H, W(, C)]`, those later too, by the smoother of
        Rauch, Tung and Striebel (1965); arguments as of `filter`. The matrices stay those that the filter chose.

        `emission` of them shows what stood in the place of a missing frame. Nothing is imagined from them.
        """
        filtered = self.run(self.posterior(frames).mean(), actions, valid)

        def step(later: Belief, inputs: tuple) -> tuple[Belief, Belief]:
            filtered, predicted, matrix = inputs
            found = kalman.smooth(filtered, predicted, matrix, later)
            return found, found

        beliefs, predictions = filtered.states.belief, filtered.predictions.belief
        last = Belief(*(leaf[:, -1] for leaf in beliefs))
        earlier = Belief(*(leaf[:, :-1] for leaf in beliefs)), Belief(*(leaf[:, 1:] for leaf in predictions))
        over_time = jax.tree.map(swap_time, (*earlier, filtered.transitions))
        _, found = jax.lax.scan(step, last, over_time, reverse=True)
        mean, covariance = (
            jnp.concatenate([swap_time(each), end[:, None]], axis=1) for each, end in zip(found, last, strict=True)
        )
        code = kalman.apply(self.mixed(filtered.states.hidden).emission, mean)
        return filtered.states._replace(mean=mean, covariance=covariance, latent=mean, code=code)

    # The bound

    def terms(self, frames: jax.Array, actions: jax.Array, key: jax.Array | None, valid: jax.Array | None) -> "Terms":
        """The parts of the bound at one draw of the codes, or without a key at their means; the key is consumed."""
        posterior = self.posterior(frames)
        mean, std = posterior.mean(), posterior.stddev()
        codes = from_noise(posterior, standard_noise(key, mean.shape))
        filtered = self.run(codes, actions, valid)
        emission = self.mixed(filtered.predictions.hidden).emission
        expected = kalman.expect(filtered.predictions.belief, emission, self.emission_std)
        shown = self.emit(codes)

        def of_seen(values: jax.Array) -> jax.Array:
            return values if valid is None else jnp.where(valid, values, 0)

        return Terms(
            reconstruction=of_seen(shown.log_prob(frames)),
            kl=of_seen(kalman.kl_from_diagonal(mean, std, expected)),
            log_ratio=of_seen(kalman.log_density(expected, codes) - posterior.log_prob(codes)),
            frames=shown.mean(),
            posterior=posterior,
            expected=expected,
            filtered=filtered,
        )

    def bound(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Bound:
        """As Bounded.bound."""
        terms = self.terms(frames, actions, key, valid)
        weight = jnp.sum(terms.reconstruction + terms.log_ratio, axis=1)
        return Bound(terms.reconstruction, terms.kl, weight)

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The negative bound, with the options' weight of the reconstruction. The mixture network waits at first."""
        model = self.with_mixture(jnp.asarray(progress) >= self.options.mixture_from)
        terms = model.terms(batch.frames, batch.actions, key, batch.valid)
        loss = per_seen_frame(terms.kl - self.options.reconstruction_weight * terms.reconstruction, batch.valid)
        error = (terms.frames - batch.frames) ** 2
        seen = len(batch.frames) * (batch.frames.shape[1] - 1) if batch.valid is None else jnp.sum(batch.valid[:, 1:])
        return loss, {
            "loss": loss,
            "elbo": per_seen_frame(terms.reconstruction - terms.kl, batch.valid),
            "reconstruction": per_seen_frame(terms.reconstruction, batch.valid),
            "kl": per_seen_frame(terms.kl, batch.valid),
            "kl_initial": jnp.mean(terms.kl[:, 0]),
            "kl_step": jnp.sum(terms.kl[:, 1:]) / jnp.maximum(seen, 1),
            "frame_mse": mean_of_seen(error, batch.valid),
            "latent_rms": jnp.sqrt(jnp.mean(terms.filtered.states.latent**2)),
        }

    def with_mixture(self, learning: jax.Array) -> "KVAE":
        """The same model, whose mixture network gets a gradient only where `learning`, bool `[]`."""
        graphdef, params = nnx.split(self)
        params["mixture_network"] = jax.tree.map(
            lambda leaf: jnp.where(learning, leaf, jax.lax.stop_gradient(leaf)), params["mixture_network"]
        )
        return nnx.merge(graphdef, params)

    # What it says of itself

    def diagnosis(self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None) -> dict[str, jax.Array]:
        """As VariationalFilter.diagnosis, of codes along their means: "information" is that of the first frame's code,
        where one was seen; "initial_std" is its narrowest, in units of what is expected before the first frame."""
        terms = self.terms(frames, actions, None, valid)
        seen = jnp.ones(len(frames)) if valid is None else valid[:, 0].astype(jnp.float32)

        def average(values: jax.Array) -> jax.Array:
            return seen @ values / jnp.maximum(jnp.sum(seen), 1)

        mean, std = terms.posterior.mean()[:, 0], terms.posterior.stddev()[:, 0]
        prior = jnp.sqrt(jnp.diagonal(terms.expected.covariance[:, 0], axis1=-2, axis2=-1))
        signal = (average(mean**2) - average(mean) ** 2) / jnp.maximum(average(std**2), MIN_STD**2)
        return {
            "kl_initial": jnp.mean(terms.kl[:, 0]),
            "information": jnp.sum(jnp.log1p(jnp.maximum(signal, 0))) / 2,
            "kl_step": mean_of_seen(terms.kl[:, 1:], None if valid is None else valid[:, 1:]),
            "initial_std": jnp.min(jnp.exp(average(jnp.log(std / prior)))),
        }

    def explain(self, figures: dict[str, float], problems: list[Problem]) -> list[Problem]:
        """As Diagnosed.explain."""
        return variational.explain(figures, problems, {})

    def remark(self, figures: dict[str, float]) -> str:
        """As Remarking.remark."""
        return f"KL {figures['kl_initial']:.1f} nats in the first code and {figures['kl_step']:.2f} in a later one."


class Terms(NamedTuple):
    """What the bound is made of, at one draw of the codes; 0 `[B, T]` where a frame was not seen."""

    reconstruction: jax.Array
    """`[B, T]` ln p(x_t | a_t)"""
    kl: jax.Array
    """`[B, T]` KL(q(a_t | x_t) || p(a_t | a_0..a_{t-1}, u)), given the codes before as they were drawn"""
    log_ratio: jax.Array
    """`[B, T]` ln p(a_t | a_0..a_{t-1}, u) - ln q(a_t | x_t) at the draw"""
    frames: jax.Array
    """`[B, T, H, W(, C)]` that the drawn codes show"""
    posterior: distrax.Independent
    """q(a | x), batch shape `[B, T]`"""
    expected: Belief
    """over a, `[B, T]`: p(a_t | a_0..a_{t-1}, u)"""
    filtered: Filtered
