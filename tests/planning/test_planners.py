"""Every planner there is against problems whose best plan is known, and the score that they search by."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import linear
import numpy as np
import pytest

from worldmodel.planning.catalogue import PLANNERS, Planner
from worldmodel.planning.planner import imagined_rewards, look_ahead, nothing_planned, plan
from worldmodel.planning.sampling import correlated_noise
from worldmodel.planning.spaces import ActionSpace
from worldmodel.support.files import UserError

NAMES = PLANNERS.names()
SEARCHING = [name for name in NAMES if name != "policy"]
SPACE = ActionSpace((-4.0,), (2.0,))
"""lopsided: 0 is not the middle"""
HORIZON, STEPS = 10, 20


def planner(name: str, horizon: int = HORIZON) -> Planner:
    made = PLANNERS.options(name)(horizon=horizon)
    made.check()
    return made


def raw(actions: np.ndarray) -> np.ndarray:
    """What SPACE makes these actions of."""
    return (actions - SPACE.low[0]) / (SPACE.high[0] - SPACE.low[0]) * 2 - 1


def drive(
    search: Planner, moves: jax.Array, start: jax.Array, proposals: jax.Array, key: jax.Array
) -> tuple[jax.Array, ...]:
    """STEPS times the first of a plan is done that goes on from the last one; or else, where the world does not move,
    it is planned STEPS times for the same moment. `proposals` `[STEPS, K, H, 1]` are made one after the other.

    Gives the states after each, the actions, the raw plans and their returns.
    """

    def act(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        state, before = carry
        found, future = plan(search, linear.step, linear.wanted, SPACE, state[None], before, *inputs)
        action = SPACE.action(found[0])
        after = jnp.where(moves, linear.step(state, action), state)
        before = jnp.where(moves, found, a_step_ago(found))
        return (after, before), (after, action, found, future.returns[0])

    inputs = (proposals, jax.random.split(key, STEPS))
    return jax.lax.scan(act, (start, nothing_planned(search, SPACE)), inputs)[1]


def a_step_ago(found: jax.Array) -> jax.Array:
    """The plan `[H, A]` that, moved on by a step, is the one that was found, but for its last action."""
    return jnp.concatenate([found[:1], found[:-1]])


driven = jax.jit(drive, static_argnums=0)


def steered(
    name: str, start: np.ndarray, seed: int = 0, moves: bool = True, proposals: np.ndarray | None = None
) -> list[np.ndarray]:
    made = np.zeros((STEPS, 0, HORIZON, 1)) if proposals is None else proposals
    found = driven(
        planner(name), moves, jnp.asarray(start, jnp.float32), jnp.asarray(made, jnp.float32), jax.random.key(seed)
    )
    return [np.asarray(each) for each in found]


START = np.array([2.0, 0.0])


def loss(paid: float, steps: int) -> float:
    """What is lost against the best plan from START, as a share of the best return."""
    best, most = linear.best_plan(START, steps)
    assert np.abs(raw(best)).max() < 1, "the bounds must not be in the way of the best"
    return (paid - most) / most


@pytest.mark.parametrize("name", SEARCHING)
def test_plans_that_go_on_from_the_last_ones_come_near_the_best(name: str):
    *_, plans, returns = steered(name, START, moves=False)
    assert -1e-5 < loss(returns[-1], HORIZON) < 0.04
    assert loss(returns[-1], HORIZON) < 0.5 * loss(returns[0], HORIZON)
    *_, again, _ = steered(name, START, moves=False)
    np.testing.assert_array_equal(again, plans)
    *_, other, _ = steered(name, START, seed=1, moves=False)
    assert (other != plans).any()

    # a return of a plan is what the world pays for it
    state, paid = START, 0.0
    for action in np.asarray(SPACE.action(jnp.asarray(plans[-1]))):
        state = linear.step(state, action)
        paid += linear.reward(action, state)
    assert paid == pytest.approx(returns[-1], rel=1e-5)


@pytest.mark.parametrize("name", SEARCHING)
def test_it_drives_a_linear_world_and_stays_within_the_bounds(name: str):
    states, actions, _, _ = steered(name, START)
    resting = np.stack([np.linalg.matrix_power(linear.A, t) @ START for t in range(1, STEPS + 1)])
    lost = loss(linear.reward(actions, states).sum(), STEPS)
    assert -1e-5 < lost < 0.1 * loss(linear.reward(np.zeros((STEPS, 1)), resting).sum(), STEPS)

    _, actions, plans, _ = steered(name, 20 * START)  # as much is done as is allowed, and no more
    assert SPACE.low[0] <= actions.min() < SPACE.low[0] + 0.1
    assert 0.98 < np.abs(plans).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_proposal_that_is_best_is_not_thrown_away(name: str):
    """It is made at every step anew, of the state that the world is then in if it was followed."""
    best, _ = linear.best_plan(START, STEPS + HORIZON)
    ahead = raw(np.stack([best[t : t + HORIZON] for t in range(STEPS)]))
    states, actions, _, _ = steered(name, START, proposals=ahead[:, None])
    np.testing.assert_allclose(actions[:5], best[:5], atol=5e-3)
    assert loss(linear.reward(actions, states).sum(), STEPS) < 1e-3


def test_without_a_policy_there_is_none_to_follow():
    with pytest.raises(UserError, match=r"^--planner policy: [^\n]*scripts/learn_policy.py(\n|$)"):
        steered("policy", START)


@pytest.mark.parametrize("name", SEARCHING)
def test_of_all_sequences_of_choices_the_best_is_found(name: str):
    """Where the nearest way is none: what is won at the end is lost by who takes the best step first."""
    moves = np.array([[1.0, 0.0], [-0.5, 1.0], [0.0, -0.7]], np.float32)
    there, choices, horizon = np.array([-0.2, 1.6], np.float32), ActionSpace.of_choices(3), 4

    def step(state: Any, action: Any) -> Any:
        return 0.9 * state + action @ moves

    def wanted(before: jax.Array, actions: jax.Array, after: jax.Array) -> tuple[jax.Array, jax.Array]:
        apart = after - jnp.broadcast_to(there, after.shape)
        return -jnp.sum(apart**2, axis=-1), jnp.zeros(after.shape[:-1])

    every = {}
    for sequence in itertools.product(range(3), repeat=horizon):
        state, paid = np.zeros(2), 0.0
        for choice in sequence:
            state = step(state, np.eye(3)[choice])
            paid -= np.sum((state - there) ** 2)
        every[sequence] = paid
    best = max(every, key=lambda sequence: every[sequence])

    search = planner(name, horizon)
    none = jnp.zeros((0, horizon, 3))

    def again(before: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple]:
        found, future = plan(search, step, wanted, choices, jnp.zeros((1, 2)), before, none, key)
        return a_step_ago(found), (found, future.actions[0], future.returns[0])

    keys = jax.random.split(jax.random.key(0), 16)
    found, actions, returns = jax.lax.scan(again, nothing_planned(search, choices), keys)[1]
    chosen = np.argmax(found, axis=-1)
    np.testing.assert_allclose(actions, np.eye(3)[chosen], atol=1e-6)
    np.testing.assert_allclose(returns, [every[tuple(each)] for each in chosen.tolist()], rtol=1e-4)
    assert tuple(chosen[np.argmax(returns)].tolist()) == best


class Counted(NamedTuple):
    """A state of two parts."""

    x: Any
    age: Any


def slow_step(state: Counted, action: np.ndarray) -> Counted:
    return Counted(np.sin(state.x + action @ MIXED), state.age + 1)


MIXED = np.array([[0.3, -1.0, 0.5], [1.0, 0.2, 0.7]], np.float32)


def step(state: Counted, action: jax.Array) -> Counted:
    return Counted(jnp.sin(state.x + action @ MIXED), state.age + 1)


def chancy(before: Counted, actions: jax.Array, after: Counted) -> tuple[jax.Array, jax.Array]:
    """Paid by all three and by the time; the end is likely, at the third step of half of them certain."""
    ends = jnp.where((after.age == 3) & (after.x[..., 0] > 0), 1.0, jax.nn.sigmoid(after.x[..., 1]) / 2)
    return before.x[..., 2] * (1 + before.age) + 3 * actions[..., 0] + 0.1 * after.x[..., 0], ends


def test_imagined_rewards_are_those_of_a_slow_loop():
    """Action t is paid in state t, and what comes after an end counts nothing."""
    random = np.random.default_rng(0)
    x, actions = random.standard_normal((5, 3)).astype(np.float32), random.standard_normal((5, 6, 2)).astype(np.float32)
    states, rewards = imagined_rewards(step, chancy, Counted(jnp.asarray(x), jnp.zeros(5)), jnp.asarray(actions))
    certain = 0
    for row in range(5):
        state, alive = Counted(x[row], 0.0), 1.0
        for t in range(6):
            after = slow_step(state, actions[row, t])
            np.testing.assert_allclose(states.x[row, t], after.x, atol=1e-5)
            assert states.age[row, t] == t + 1
            paid = state.x[2] * (1 + t) + 3 * actions[row, t, 0] + 0.1 * after.x[0]
            assert rewards[row, t] == pytest.approx(alive * paid, abs=1e-5)
            over = t == 2 and after.x[0] > 0
            certain += over
            alive *= 0.0 if over else 1 - 0.5 / (1 + np.exp(-after.x[1]))
            state = after
    assert 0 < certain < 5

    # one state, looked ahead from with three plans
    space = ActionSpace((-2.0, 0.0), (2.0, 1.0))
    plans = jnp.asarray(random.uniform(-1, 1, (3, 6, 2)), jnp.float32)
    future = look_ahead(step, chancy, space, Counted(jnp.asarray(x[:1]), jnp.zeros(1)), plans)
    np.testing.assert_allclose(future.actions, np.asarray(plans) * [2, 0.5] + [0, 0.5], atol=1e-6)
    alone = imagined_rewards(step, chancy, Counted(jnp.asarray(x[[0, 0, 0]]), jnp.zeros(3)), future.actions)
    np.testing.assert_array_equal(future.rewards, alone[1])
    np.testing.assert_allclose(future.returns, np.asarray(alone[1]).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
def test_noise_is_as_correlated_as_is_said(correlation: float):
    noise = np.asarray(correlated_noise(jax.random.key(0), 4000, jnp.zeros((8, 2)), correlation))
    assert noise.shape == (4000, 8, 2)
    assert noise.mean() == pytest.approx(0, abs=0.05)
    flat = noise.transpose(0, 2, 1).reshape(8000, 8)
    apart = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    np.testing.assert_allclose(flat.T @ flat / 8000, correlation**apart, atol=0.05)  # sampling: 0.016, 3 sigma
    np.testing.assert_allclose(np.mean(noise[..., 0] * noise[..., 1], axis=0), 0, atol=0.06)
