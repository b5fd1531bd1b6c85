"""The one imagined score that planners search by, and a step of planning.

raw actions  r_0      r_1      ...  r_{H-1}        what a planner searches (spaces.py)
actions      u_0      u_1      ...  u_{H-1}
states   s ----> s_1 ----> s_2 ...  ----> s_H      imagined along the means
rewards      w_0      w_1      ...  w_{H-1}        by what is wanted (wanted.py)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from worldmodel.imagination.compiled import compiled
from worldmodel.models.protocol import State, swap_time
from worldmodel.planning.catalogue import Planner
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Wanted

Step = Callable[[State, jax.Array], State]
"""a model's imagine_step along its means: states and actions `[S, A]` to states"""


class Future(NamedTuple):
    """H imagined steps from each of S states."""

    states: Any
    """`[S, H, ...]`, each after its action"""
    rewards: jax.Array
    """`[S, H]`"""
    actions: jax.Array
    """`[S, H, A]`"""

    @property
    def returns(self) -> jax.Array:
        """`[S]`."""
        return jnp.sum(self.rewards, axis=1)


def imagined_rewards(step: Step, wanted: Wanted, state: State, actions: jax.Array) -> tuple[State, jax.Array]:
    """The states `[S, H, ...]` that actions `[S, H, A]` lead to from states `[S, ...]`, and the rewards `[S, H]`: what
    comes after an end counts nothing."""

    def imagine(state: State, action: jax.Array) -> tuple[State, State]:
        after = step(state, action)
        return after, after

    _, after = jax.lax.scan(imagine, state, swap_time(actions))
    after = jax.tree.map(swap_time, after)
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[:, None], rest[:, :-1]], axis=1), state, after)
    rewards, ends = wanted(before, actions, after)
    alive = jnp.cumprod(1 - ends, axis=1)
    alive = jnp.concatenate([jnp.ones_like(alive[:, :1]), alive[:, :-1]], axis=1)
    return after, rewards * alive


expected_rewards = compiled(
    lambda model, wish, states, actions: imagined_rewards(model.imagine_step, wish.of(model), states, actions)[1]
)
"""(model, wish, states `[S, ...]`, actions `[S, H, A]`) to the rewards `[S, H]` of dreams from these states"""


def look_ahead(step: Step, wanted: Wanted, space: ActionSpace, state: State, raw: jax.Array) -> Future:
    """What raw actions `[S, H, A]` lead to from one and the same state `[1, ...]`."""
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(raw), *leaf.shape[1:])), state)
    actions = space.action(raw)
    return Future(*imagined_rewards(step, wanted, state, actions), actions)


def plan(
    planner: Planner,
    step: Step,
    wanted: Wanted,
    space: ActionSpace,
    state: State,
    before: jax.Array,
    proposals: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Future]:
    """Raw actions `[H, A]` from a state `[1, ...]` on, and the future `[1, H]` that they are meant to bring.

    `before` `[H, A]` are those of the step before; else as Planner.search. The key is consumed.
    """
    start = jnp.concatenate([before[1:], before[-1:]])

    def score(raw: jax.Array) -> jax.Array:
        return as_bad_as_the_worst(look_ahead(step, wanted, space, state, raw).returns)

    found = planner.search(score, start, space, proposals, key)
    found = jnp.where(jnp.all(jnp.isfinite(found)), found, start)
    return found, look_ahead(step, wanted, space, state, found[None])


def as_bad_as_the_worst(returns: jax.Array) -> jax.Array:
    """Returns `[S]` of which those that are no numbers, of dreams that broke, are as bad as the worst of the others."""
    fine = jnp.isfinite(returns)
    worst = jnp.min(jnp.where(fine, returns, jnp.inf))
    return jnp.where(fine, returns, jax.lax.stop_gradient(jnp.where(jnp.isfinite(worst), worst, 0)))


def nothing_planned(planner: Planner, space: ActionSpace) -> jax.Array:
    """The raw actions `[H, A]` to begin with."""
    return jnp.zeros((planner.horizon, space.size))
