"""A policy learnt in the dream: by gradients of the return through imagined roll-outs.

As SVG (Heess et al. 2015) and Dreamer (Hafner et al. 2020) do, without a value function: the horizon is long enough.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from worldmodel.data.sequences import Sequences, spread_within
from worldmodel.imagination.compiled import compiled
from worldmodel.imagination.dreamer import Dreamer, in_batches
from worldmodel.models.networks import MLP, initialise
from worldmodel.models.protocol import State, WorldModel
from worldmodel.planning.options import PolicyOptions
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Wish
from worldmodel.support.progress import progress_bar

LARGEST = 64e6
"""bytes of frames and actions whose filtered states dreams begin from, at most"""
CHUNK = 50
"""updates in one program"""


class LearntPolicy(NamedTuple):
    """What is done in a state, by its vector."""

    network: MLP
    mean: jax.Array
    """`[Z]` of the vectors"""
    std: jax.Array
    """`[Z]`"""

    def raw(self, vectors: jax.Array) -> jax.Array:
        """Raw actions `[..., A]` (spaces.py) for vectors `[..., Z]`."""
        shape = (1,) * (vectors.ndim - 1) + self.mean.shape
        return jnp.tanh(self.network((vectors - self.mean.reshape(shape)) / self.std.reshape(shape)))


def propose(model: WorldModel, space: ActionSpace, policy: LearntPolicy | None, state: State, steps: int) -> jax.Array:
    """What the policy would do from a state `[1, ...]` on, as raw actions `[K, steps, A]`: one or, without a policy,
    none."""
    if policy is None:
        return jnp.zeros((0, steps, space.size))

    def step(state: State, _: None) -> tuple[State, jax.Array]:
        raw = policy.raw(model.vector(state))
        return model.imagine_step(state, space.action(raw)), raw

    _, raw = jax.lax.scan(step, state, length=steps)
    return jnp.swapaxes(raw, 0, 1)


def filtered_states(dreamer: Dreamer, data: Sequences) -> State:
    """The states `[N, ...]` that the filter finds, along its means, at all real steps of the data."""
    real = np.arange(data.length) < data.lengths()[:, None]
    parts, done = [], 0
    for batch, count, _ in in_batches(data):
        states = dreamer.filter(batch.frames, batch.actions, batch.seen())
        keep = real[done : done + count]
        parts.append(jax.tree.map(lambda leaf, count=count, keep=keep: np.asarray(leaf)[:count][keep], states))
        done += count
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def beginnings(dreamer: Dreamer, data: Sequences) -> State:
    """The states `[N, ...]` that the filter finds in data, but for those in which an episode had ended."""
    some = spread_within(data, LARGEST)
    states = filtered_states(dreamer, some)
    if some.ended is None:
        return states
    time, lengths = np.arange(some.length), some.lengths()[:, None]
    over = (time == lengths - 1) & some.ended.any(axis=1, keepdims=True)
    going_on = ~over[time < lengths]
    return jax.tree.map(lambda leaf: leaf[going_on], states)


def learn_policy(
    dreamer: Dreamer, data: Sequences, wish: Wish, space: ActionSpace, options: PolicyOptions
) -> tuple[LearntPolicy, np.ndarray]:
    """A policy, and the mean dreamt return of every update."""
    options.check()
    states = beginnings(dreamer, data)
    vectors = dreamer.vector(states)
    model = dreamer.model
    build = partial(MLP, (model.latent_size, options.hidden_size, options.hidden_size, space.size))
    key, first = jax.random.split(jax.random.key(options.seed))
    graphdef, params = initialise(build, first)
    empty = LearntPolicy(nnx.merge(graphdef, params), vectors.mean(axis=0), vectors.std(axis=0) + 1e-3)
    optimiser = _optimiser(options)
    carry = (params, optimiser.init(params))
    learn, returns = _learns.bind(dreamer), []
    with progress_bar("policy", options.updates, "update") as bar:
        for done in range(0, options.updates, CHUNK):
            carry, found = learn(graphdef, space, options, empty.mean, empty.std, wish, states, carry, done, key)
            returns.append(np.asarray(found))
            bar.update(min(CHUNK, options.updates - done))
            bar.set_postfix_str(f"dreamt return {returns[-1].mean():.4g}", refresh=False)
    return empty._replace(network=nnx.merge(graphdef, carry[0])), np.concatenate(returns)[: options.updates]


def _optimiser(options: PolicyOptions) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(options.learning_rate, options.updates, alpha=0.1)
    # gradients are not clipped to a norm: a policy that swings up is learnt from the largest of them
    return optax.chain(optax.zero_nans(), optax.adam(schedule))


def _learn(
    model: WorldModel,
    graphdef: nnx.GraphDef,
    space: ActionSpace,
    options: PolicyOptions,
    mean: jax.Array,
    std: jax.Array,
    wish: Wish,
    states: State,
    carry: tuple,
    done: jax.Array,
    key: jax.Array,
) -> tuple[tuple, jax.Array]:
    """CHUNK updates; the mean returns `[CHUNK]` before each."""
    wanted, optimiser = wish.of(model), _optimiser(options)
    count = len(jax.tree.leaves(states)[0])

    def dreamt(params: nnx.State, starts: State) -> jax.Array:
        policy = LearntPolicy(nnx.merge(graphdef, params), mean, std)

        def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
            state, alive = carry
            action = space.action(policy.raw(model.vector(state)))
            after = model.imagine_step(state, action)
            reward, ends = wanted(state, action, after)
            return (after, alive * (1 - ends)), alive * reward

        _, rewards = jax.lax.scan(step, (starts, jnp.ones(options.dreams)), length=options.horizon)
        return jnp.mean(jnp.sum(rewards, axis=0))

    def update(carry: tuple, number: jax.Array) -> tuple[tuple, jax.Array]:
        params, state = carry
        which = jax.random.choice(jax.random.fold_in(key, number), count, (options.dreams,))
        starts = jax.tree.map(lambda leaf: leaf[which], states)
        value, slope = jax.value_and_grad(lambda params: -dreamt(params, starts))(params)
        updates, after = optimiser.update(slope, state)
        changed = optax.apply_updates(params, updates), after
        kept = jax.tree.map(lambda new, old: jnp.where(number < options.updates, new, old), changed, carry)
        return kept, -value

    return jax.lax.scan(update, carry, done + jnp.arange(CHUNK))


_learns = compiled(_learn, static_argnums=(1, 2, 3))
