"""A reward learnt from data: a small network on the states that a trained model's filter finds.

It is fitted to y = ln(1 + (best - r) / scale), scale = (best - worst) / 800 of the data: near the best rewards a fit of
r itself has false maxima, since an error of a hundredth of the range costs it nothing there. Where the data hardly ever
is near the best, as with a prize at a goal that few reach, such a y would know nothing of all the other rewards: there
it is fitted to (best - r) / scale, with their standard deviation as the scale.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from worldmodel.data.sequences import Sequences, hold_out, spread_within
from worldmodel.imagination.dreamer import Dreamer, in_batches
from worldmodel.models.networks import MLP, initialise
from worldmodel.models.protocol import State, WorldModel
from worldmodel.planning.planner import expected_rewards
from worldmodel.planning.wanted import Rewards, Wanted
from worldmodel.support.files import UserError

SHARPNESS = 800.0
HIDDEN, STEPS, BATCH, LEARNING_RATE = 64, 6000, 256, 3e-3
HELD_OUT = 0.1
NEAR = 0.02
"""of the range of rewards: what is as good as the best"""
SELDOM = 0.005
"""share of the data near the best below which a learnt reward is a guess"""
BALANCE = 0.5
"""share of what it is fitted to that comes of the best tenth of the data: where plans end, and must tell apart"""
KNOWN = 0.9
"""R^2 below which plans are not to be trusted"""
DREAMT = 20
"""steps of the dreams that a reward is tried in"""
LARGEST = 64e6
"""bytes of frames and actions that are filtered to fit a reward, at most"""


def reward_network(inputs: int, rngs: nnx.Rngs) -> MLP:
    """Small, and of an activation without an exponential: a plan asks it a few thousand times."""
    return MLP((inputs, HIDDEN, HIDDEN, 2), rngs, jax.nn.hard_silu)


class LearntReward(NamedTuple):
    """A Wish (wanted.py)."""

    network: MLP
    """of both vectors and the action: y and the logit of an end"""
    mean: jax.Array
    """`[2 Z + A]` of its input"""
    std: jax.Array
    """`[2 Z + A]`"""
    best: jax.Array
    """`[]` the highest reward of the data"""
    worst: jax.Array
    """`[]` the lowest"""
    scale: jax.Array
    """`[]`"""
    sharp: jax.Array
    """`[]` 1 where y is a logarithm, else 0"""
    ends: jax.Array
    """`[]` 1 where episodes of the data end, else 0"""

    def of(self, model: WorldModel) -> Wanted:
        def wanted(before: State, actions: jax.Array, after: State) -> Rewards:
            return self(jnp.concatenate([model.vector(before), actions, model.vector(after)], axis=-1))

        return wanted

    def __call__(self, inputs: jax.Array) -> Rewards:
        """Of vectors before, actions and vectors after, `[..., 2 Z + A]`."""
        y, logit = self.outputs(inputs)
        y = jnp.clip(y, 0, self.y(self.worst))  # as good or bad as what was seen
        behind = jnp.where(self.sharp > 0, jnp.expm1(jnp.where(self.sharp > 0, y, 0)), y)
        return self.best - self.scale * behind, self.ends * jax.nn.sigmoid(logit)

    def y(self, rewards: jax.Array) -> jax.Array:
        """What the network is to say of rewards."""
        behind = (self.best - rewards) / self.scale
        return jnp.where(self.sharp > 0, jnp.log1p(behind), behind)

    def outputs(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """y and the logit of an end."""
        shape = (1,) * (inputs.ndim - 1) + self.mean.shape
        out = self.network((inputs - self.mean.reshape(shape)) / self.std.reshape(shape))
        return out[..., 0], out[..., 1]


@dataclasses.dataclass(frozen=True)
class RewardQuality:
    """How well a learnt reward is known, on sequences that it was not fitted to."""

    r2: float
    """share of the rewards' variance that it explains, on states that the filter finds"""
    r2_dreamt: float
    """the same on states of dreams of 20 steps with the data's actions: where this is worse, the model is to blame; NaN
    where the data has no such stretches"""
    error: float
    """mean absolute error, in the reward's unit"""
    error_near_best: float
    """the same where the true reward is within 2% of its range of the best; NaN where that never was"""
    share_near_best: float
    """of all steps of the data, how many are there"""
    best: float
    worst: float
    steps: int
    """of the data"""

    def sentence(self) -> str:
        """In words."""
        dreamt = "not known, of shorter sequences" if np.isnan(self.r2_dreamt) else f"{self.r2_dreamt:.3f}"
        near = "never" if np.isnan(self.error_near_best) else f"{self.error_near_best:.2g}"
        return (
            f"Reward learnt from {self.steps} steps ({self.worst:.3g} to {self.best:.3g}): R^2 {self.r2:.3f}, in"
            f" dreams of {DREAMT} steps {dreamt}; mean error {self.error:.2g}, near the best {near};"
            f" {self.share_near_best:.1%} of the data are near the best."
        )

    def warning(self) -> str | None:
        """What a planner should not be asked with such a reward, or None."""
        if self.best == self.worst:
            return "All rewards of the data are the same: there is nothing to want in them."
        if self.share_near_best < SELDOM:
            return (
                f"Only {self.share_near_best:.2%} of the data are near the best reward: the model and the reward are"
                " guesses there. Collect where it is good (scripts/improve.py), or name a goal (--goal)."
            )
        if self.r2 < KNOWN:
            return f"The reward is not well known (R^2 {self.r2:.2f}): plans may chase what is not there."
        if self.r2_dreamt < KNOWN:
            return (
                f"The reward is known (R^2 {self.r2:.2f}), but not in dreams of {DREAMT} steps ({self.r2_dreamt:.2f}):"
                " the model goes astray, and plans with it. More data, or a longer training, may help."
            )
        return None


class Steps(NamedTuple):
    """What a reward is fitted to, of N steps."""

    inputs: Any
    """`[N, 2 Z + A]`"""
    rewards: Any
    """`[N]`"""
    ends: Any
    """`[N]` 1 where the episode ended with the step"""


def filtered_steps(dreamer: Dreamer, data: Sequences) -> Steps:
    """All real steps of a data set, with the filter's vectors along its means; those of frames that are missing are
    imagined."""
    vectors = []
    for batch, count, _ in in_batches(data):
        vectors.append(dreamer.vector(dreamer.filter(batch.frames, batch.actions, batch.seen()))[:count])
    v = np.concatenate(vectors)
    inputs = np.concatenate([v[:, :-1], data.actions, v[:, 1:]], axis=-1)
    real = data.acted()
    ends = np.zeros(real.shape, np.float32) if data.ended is None else data.ended.astype(np.float32)
    assert data.rewards is not None
    return Steps(inputs[real], data.rewards[real], ends[real])


def learn_reward(dreamer: Dreamer, data: Sequences, source: str, seed: int = 0) -> tuple[LearntReward, RewardQuality]:
    """A reward for the states of a trained model, and how good it is on the tenth of the sequences that it is not
    fitted to. Raises UserError, beginning with `source`, where the data has no rewards."""
    if data.rewards is None:
        raise UserError(f"{source}: has no rewards to learn what is wanted; scripts/plan.py takes a goal instead")
    parts = hold_out(spread_within(data, LARGEST), HELD_OUT, source)
    fitted, held_out = (filtered_steps(dreamer, part) for part in parts)
    every = np.concatenate([fitted.rewards, held_out.rewards])
    best, worst = float(every.max()), float(every.min())
    share = float(np.mean(every >= best - NEAR * (best - worst)))
    sharp = share >= SELDOM
    scale = max((best - worst) / SHARPNESS if sharp else float(every.std()), 1e-6)
    mean, std = fitted.inputs.mean(axis=0), fitted.inputs.std(axis=0) + 1e-3
    build = partial(reward_network, fitted.inputs.shape[1])
    graphdef, params = initialise(build, jax.random.key(seed))
    empty = LearntReward(
        nnx.merge(graphdef, params),
        jnp.asarray(mean),
        jnp.asarray(std),
        jnp.asarray(best, jnp.float32),
        jnp.asarray(worst, jnp.float32),
        jnp.asarray(scale, jnp.float32),
        jnp.asarray(float(sharp)),
        jnp.asarray(float(fitted.ends.any()), jnp.float32),
    )
    reward = empty._replace(
        network=nnx.merge(graphdef, _fit(graphdef, params, empty, Steps(*map(jnp.asarray, fitted))))
    )
    found = np.asarray(jax.jit(lambda reward, inputs: reward(inputs)[0])(reward, held_out.inputs))
    error, near = np.abs(found - held_out.rewards), held_out.rewards >= best - NEAR * (best - worst)
    quality = RewardQuality(
        r2=_r2(found, held_out.rewards, every),
        r2_dreamt=_r2(*dreamt_rewards(dreamer, parts[1], reward), every),
        error=float(error.mean()),
        error_near_best=float(error[near].mean()) if near.any() else float("nan"),
        share_near_best=share,
        best=best,
        worst=worst,
        steps=len(every),
    )
    return reward, quality


def dreamt_rewards(dreamer: Dreamer, data: Sequences, reward: LearntReward) -> tuple[np.ndarray, np.ndarray]:
    """Rewards `[K, 20]` that dreams of 20 steps expect under the data's actions, and what was paid; from each state
    that the filter finds at the end of the model's context, and every 20 frames later. There may be none."""
    context = dreamer.model.context
    whole = data.whole()
    first = range(context - 1, whole.length - DREAMT, DREAMT)
    none = np.zeros((0, DREAMT), np.float32)
    found, paid = [none], [none]
    for batch, count, _ in in_batches(whole) if len(whole) and len(first) else ():
        assert batch.rewards is not None
        states = dreamer.filter(batch.frames, batch.actions, batch.valid)
        for t in first:
            now = jax.tree.map(lambda leaf, t=t: leaf[:, t], states)
            expected = expected_rewards(dreamer, reward, now, batch.actions[:, t : t + DREAMT])
            found.append(np.asarray(expected)[:count])
            paid.append(batch.rewards[:count, t : t + DREAMT])
    return np.concatenate(found), np.concatenate(paid)


def _r2(found: np.ndarray, truth: np.ndarray, every: np.ndarray) -> float:
    """1 - squared error / variance of `every` reward; NaN of nothing."""
    return float(1 - np.mean((found - truth) ** 2) / max(every.var(), 1e-12)) if truth.size else float("nan")


def _fit(graphdef: nnx.GraphDef, params: nnx.State, empty: LearntReward, steps: Steps) -> nnx.State:
    """The parameters that explain the steps."""
    optimiser = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, STEPS))

    def loss(params: nnx.State, steps: Steps) -> jax.Array:
        y, logit = empty._replace(network=nnx.merge(graphdef, params)).outputs(steps.inputs)
        ends = optax.sigmoid_binary_cross_entropy(logit, steps.ends)
        return jnp.mean((y - empty.y(steps.rewards)) ** 2 + empty.ends * ends)

    @jax.jit
    def run(params: nnx.State, steps: Steps, key: jax.Array) -> nnx.State:
        best = jnp.argsort(-steps.rewards)[: max(1, len(steps.rewards) // 10)]

        def update(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
            params, state = carry
            anywhere, among, which_key = jax.random.split(key, 3)
            which = jax.random.choice(anywhere, len(steps.rewards), (BATCH,))
            good = best[jax.random.choice(among, len(best), (BATCH,))]
            which = jnp.where(jax.random.bernoulli(which_key, BALANCE, (BATCH,)), good, which)
            slope = jax.grad(loss)(params, jax.tree.map(lambda x: x[which], steps))
            updates, state = optimiser.update(slope, state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(update, (params, optimiser.init(params)), jax.random.split(key, STEPS))
        return params

    return run(params, steps, jax.random.key(1))
