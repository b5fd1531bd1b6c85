"""Episodes in real environments beside floors and ceilings, and the record of what came of them."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import linear
import numpy as np
import pytest
from conftest import model_of

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.planning import trials
from worldmodel.planning.catalogue import PLANNERS
from worldmodel.planning.controller import Controller
from worldmodel.planning.planner import nothing_planned, plan
from worldmodel.planning.record import FILE, Acted, read_acted
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.trials import Arena, TrueReward, floors, plan_with_truth, starts, try_out
from worldmodel.planning.wanted import Goal
from worldmodel.support.files import UserError
from worldmodel.worlds.episodes import from_vector
from worldmodel.worlds.pendulum.world import PendulumWorld

CAMERA = {"size": 8, "crop": 1.0, "noise_std": 0.0, "grey": True}
CEM: Any = PLANNERS.options("cem")


def arena(name: str = "worldmodel/Pendulum-v0", steps: int | None = 5, start: str | None = None) -> Arena:
    return Arena.open(WorldRecord(name, {}, CAMERA), steps, start)


def test_an_episode_is_that_of_its_seed_and_number_whoever_plays_it():
    pendulum = arena("Pendulum-v1")
    begin = starts(pendulum, 7, 3)
    assert begin.shape == (3, 2)
    assert len(np.unique(begin[:, 0])) == 3
    np.testing.assert_array_equal(starts(pendulum, 7, 2), begin[:2])
    assert (starts(pendulum, 8, 3) != begin).all()
    played = [pendulum.play(lambda frame, t: np.zeros(1, np.float32), 7, n) for n in range(3)]
    np.testing.assert_array_equal([episode.states[0] for episode in played], begin)
    assert [len(episode.rewards) for episode in played] == [5, 5, 5]
    found = floors(pendulum, 7, 3)
    assert found["zero actions"] == pytest.approx([float(episode.rewards.sum()) for episode in played], rel=1e-5)

    # by Gymnasium's own environment, from these states
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(7)
    for n, total in enumerate(found["random actions"]):
        env.reset()
        env.unwrapped.state = begin[n].astype(np.float64)
        assert total == pytest.approx(sum(env.step(env.action_space.sample())[1] for _ in range(5)), rel=1e-4)
    assert floors(pendulum, 7, 3) == found


def test_episodes_that_begin_at_a_place():
    hanging = arena("Pendulum-v1", start="hanging, at rest")
    np.testing.assert_allclose(starts(hanging, 7, 2), [[np.pi, 0]] * 2, rtol=1e-6)
    assert floors(hanging, 7, 2)["zero actions"] == pytest.approx([-5 * np.pi**2] * 2, rel=1e-3)
    with pytest.raises(UserError, match=r"^--start must be one of 'hanging, at rest', [^\n]+, not 'nowhere'$"):
        arena("Pendulum-v1", start="nowhere")
    with pytest.raises(UserError, match=r"^--start: MountainCar-v0 is no world of the catalogue[^\n]+$"):
        arena("MountainCar-v0", start="hanging, at rest")


def test_the_best_of_always_the_same_choice_is_a_floor_and_an_end_is_an_end():
    pole = arena("CartPole-v1", steps=30)
    found = floors(pole, 3, 4)
    assert set(found) == {"best constant action", "random actions"}
    constant = []
    for choice in (0, 1):
        episodes = [pole.play(lambda frame, t, choice=choice: choice, 3, n) for n in range(4)]
        assert all(episode.ended.any() for episode in episodes)
        constant.append([float(episode.rewards.sum()) for episode in episodes])
    assert found["best constant action"] == max(constant, key=np.mean)
    assert max(constant[0] + constant[1]) < 15  # it falls in ten steps, and nothing is paid after that


def test_steps_are_the_environments_own_limit_unless_they_are_given():
    assert arena("Pendulum-v1", None).steps == 200
    assert arena("CartPole-v1", None).steps == 500
    assert arena("Pendulum-v1", 12).steps == 12
    assert arena("MountainCar-v0").world is None
    assert isinstance(arena("Pendulum-v1").world, PendulumWorld)


def test_what_was_dreamt_is_beside_what_was_paid():
    pendulum = arena("Pendulum-v1", steps=7)
    random = np.random.default_rng(0)
    made = Sequences(
        random.integers(0, 256, (4, 9, 8, 8), dtype=np.uint8), random.uniform(-2, 2, (4, 8, 1)).astype(np.float32)
    )
    dreamer, planner = Dreamer(model_of(made)), CEM(horizon=3, samples=4, iterations=1)
    goal = Goal.of_frame(made.frames[0, 0] / 255, 1.0)
    controller = Controller(dreamer, planner, pendulum.space, goal)
    trial = try_out(pendulum, controller, goal, 7, 1, keep=True)
    np.testing.assert_array_equal(trial.episode.states[0], starts(pendulum, 7, 2)[1])
    assert trial.length == len(trial.seconds) == 7
    assert trial.total == pytest.approx(trial.episode.rewards.sum())
    apart = ((trial.episode.frames[1:8] / 255.0 - made.frames[0, 0] / 255.0) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(trial.closeness, 1 / (1 + apart), rtol=1e-4)
    np.testing.assert_allclose(trial.real, (trial.closeness - 1)[:6].reshape(2, 3).sum(axis=1), rtol=1e-4)
    assert trial.futures.shape == (7, trials.SHOWN, 8)

    # the same again by hand: what is believed at steps 0 and 3, and the goal's pay for what was done
    model, wanted = dreamer.model, goal.of(dreamer.model)
    for k, first in enumerate((0, 3)):
        seen = np.arange(5)[None] <= first
        frames, between = (
            trial.episode.frames[None, :5],
            np.where(seen[:, 1:, None], trial.episode.actions[None, :4], 0),
        )
        state, total = dreamer.filter(frames, between, seen)[:, first], 0.0
        for t in range(first, first + 3):
            action = jnp.asarray(trial.episode.actions[t][None])
            after = model.imagine_step(state, action)
            total += float(wanted(state, action, after)[0][0])
            state = after
        assert trial.dreamt[k] == pytest.approx(total, rel=1e-4)

    again = try_out(pendulum, controller, goal, 7, 1, keep=False)
    np.testing.assert_array_equal(again.episode.actions, trial.episode.actions)
    assert again.futures is None
    assert from_vector(trial.episode.actions[0], pendulum.env.action_space).shape == (1,)


class Walled:
    """The linear world as a world that pays, in which an episode ends beyond a wall. What planning asks of it alone."""

    wall = 1.6

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        return linear.step(state, action)

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        return 1 + linear.reward(actions, states)

    def terminal(self, states: jax.Array) -> jax.Array:
        return states[..., 0] > self.wall


def test_planning_with_the_truth_is_a_slow_loop_of_plans(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trials, "TOGETHER", 2)  # of three starts
    world: Any = Walled()
    space, planner, steps = ActionSpace((-1.0,), (1.0,)), CEM(horizon=4, samples=8, iterations=1), 6
    begin = np.array([[0.5, -0.5], [1.5, 2.0], [-1.0, 0.3]], np.float32)
    found = plan_with_truth(world, planner, space, begin, steps, jax.random.key(3))
    assert len(found) == 3

    none, keys = jnp.zeros((0, 4, 1)), jax.random.split(jax.random.key(3), 3)
    planned = jax.jit(lambda *arguments: plan(planner, world.step, TrueReward(world), space, *arguments))
    ended = 0
    for start, key, total in zip(begin, keys, found, strict=True):
        state, raw, paid = jnp.asarray(start), nothing_planned(planner, space), 0.0
        for t in range(steps):
            raw, _ = planned(state[None], raw, none, jax.random.fold_in(key, t))
            action = np.asarray(raw[0])  # the space is the raw one
            paid += 1 - float(np.sum(np.asarray(state) ** 2)) - linear.EFFORT * float(action[0]) ** 2
            state = linear.step(state, jnp.asarray(action))
            if state[0] > world.wall:
                ended += 1
                break
        assert total == pytest.approx(paid, rel=1e-4)
    assert ended == 1


def test_how_a_pendulum_was_left():
    """Of the last fifty states: what came before them does not count."""
    swung = np.stack([np.linspace(np.pi, 0, 30), np.full(30, 2.0)], axis=1)
    standing = np.concatenate([swung, np.tile([2 * np.pi + 0.1, 0.0], (50, 1))])
    hanging = np.tile([np.pi, 0.0], (80, 1))
    passing = np.concatenate([standing[:-1], hanging[:1]])
    world = PendulumWorld()
    degrees = float(np.degrees(0.1))
    assert world.outcomes([standing]) == pytest.approx({"upright": 1, "rest_degrees": degrees})
    assert world.outcomes([standing, hanging, hanging, hanging]) == pytest.approx(
        {"upright": 0.25, "rest_degrees": 180}
    )
    assert world.outcomes([passing]) == pytest.approx({"upright": 0, "rest_degrees": degrees})


ACTED = Acted(
    env="Pendulum-v1",
    seed=3,
    start=None,
    steps=200,
    planner="cem",
    options={"horizon": 20, "std": 0.75},
    wanted="the reward",
    policy=False,
    returns=[-100.0, -300.0],
    lengths=[200, 150],
    ended=0.5,
    seconds_per_decision=0.004,
    dreamt=[-1.0, -2.5],
    real=[-1.5, -2.0],
    floors={"zero actions": [-900.0, -1100.0]},
    ceilings={"optimum": [-90.0, -110.0]},
    reward="Reward learnt from 10 steps.",
    warnings=["It is a guess."],
    outcomes={"upright": 0.5, "rest_degrees": 3.25},
)


def test_what_is_written_is_read_back(tmp_path: Path):
    ACTED.write(tmp_path)
    assert read_acted(tmp_path) == ACTED
    assert json.loads((tmp_path / FILE).read_text())["rest_degrees"] == 3.25
    assert [name for name, _ in ACTED.rows()] == ["zero actions", "cem", "optimum"]
    said = ACTED.summary()
    for part in ("this model, cem", "-200.0", "-300.0", "4.0 ms", "50% ended", "rest degrees 3.25", "It is a guess."):
        assert part in said


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: [value],
        lambda value: {name: item for name, item in value.items() if name != "returns"},
        lambda value: value | {"returns": 3},
        lambda value: value | {"lengths": ["long"]},
        lambda value: value | {"upright": "yes"},
        lambda value: None,
    ],
)
def test_a_damaged_record_is_one_line(damage: Any, tmp_path: Path):
    ACTED.write(tmp_path)
    value = damage(json.loads((tmp_path / FILE).read_text()))
    (tmp_path / FILE).write_text("{" if value is None else json.dumps(value))
    with pytest.raises(UserError, match=rf"^{tmp_path / FILE}: [^\n]+$"):
        read_acted(tmp_path)
