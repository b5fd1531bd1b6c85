"""The autopilot: a planner in a person's place, from what the filter makes of the true frames."""

import dataclasses
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dreamt, filtered, mean_frames, untrained_dvbf

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.imagination.dreamer import Dreamer, last
from worldmodel.models.dvbf.model import DVBF
from worldmodel.pictures.figures import ORANGE
from worldmodel.planning.cem import CEM
from worldmodel.planning.controller import Decider
from worldmodel.planning.spaces import ActionSpace
from worldmodel.planning.wanted import Rewards, Wanted
from worldmodel.play.autopilot import Autopilot, Plan, steps_shown
from worldmodel.play.ghosts import STRENGTHS, Backdrop
from worldmodel.play.live import Dream, SideBySide
from worldmodel.play.serving import Player, Stage, describe_autopilot, describe_moment
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError
from worldmodel.worlds.simulator import Simulator
from worldmodel.worlds.world import Reader

CONTEXT, TORQUE = 5, 1.25
FIRST = np.array([2.5, -1.0], np.float32)


class Torque(NamedTuple):
    """A wish for one torque, now and always."""

    value: jax.Array

    def of(self, model: Any) -> Wanted:
        def wanted(before: Any, actions: jax.Array, after: Any) -> Rewards:
            paid = -((actions[..., 0] - self.value) ** 2)
            return paid, jnp.zeros_like(paid)

        return wanted


class Planted:
    """Plans something else every time, and remembers what it was asked from."""

    def __init__(self) -> None:
        self.states: list[np.ndarray] = []

    def plan(self, state: Any) -> Plan:
        self.states.append(np.asarray(state)[0])
        action = np.array([np.sin(len(self.states))], np.float32)
        return Plan(action, np.zeros((4, 16, 16)), np.zeros((20, 8)), np.zeros(20))


@pytest.fixture(scope="module")
def simulator(unseen: Sequences) -> Simulator:
    return Simulator.of(unseen, "data")


@pytest.fixture
def worlds(dream: Dream, simulator: Simulator, reader: Reader) -> SideBySide:
    return SideBySide([dream], simulator, reader, CONTEXT)


@pytest.fixture(scope="module")
def reader(simulator: Simulator) -> Reader:
    return simulator.reader()


@pytest.fixture(scope="module")
def stage(autopilot: Autopilot, dream: Dream, simulator: Simulator, reader: Reader) -> Stage:
    made = Future[Autopilot]()
    made.set_result(autopilot)
    return Stage([dream], simulator, reader, CONTEXT, made)


@pytest.fixture(scope="module")
def dreamer(trained: DVBF) -> Dreamer:
    return Dreamer(trained)


@pytest.fixture(scope="module")
def dream(dreamer: Dreamer, unseen: Sequences) -> Dream:
    return Dream.of("runs/some", "dvbf", dreamer, unseen)


@pytest.fixture(scope="module")
def autopilot(dreamer: Dreamer) -> Autopilot:
    planner, space = CEM(horizon=8, samples=64, iterations=3), ActionSpace((-2.0,), (2.0,))
    return Autopilot(dreamer, planner, space, Torque(jnp.asarray(TORQUE)), None, best=0.0, worst=-4.0, warning=None)


def test_it_plans_from_all_true_frames_and_a_push_comes_first(
    worlds: SideBySide, dreamer: Dreamer, simulator: Simulator
):
    """A planted pilot, against the simulator and the filter in one go."""
    pilot = Planted()
    worlds.hand_over(pilot)  # type: ignore[arg-type]
    pushes = np.zeros(20, np.float32)
    pushes[8:11] = -2.0, 1.5, 9.0
    moments = [worlds.start(FIRST), *map(worlds.step, pushes)]
    done = np.where(pushes == 0, np.sin(1 + np.arange(20)), np.clip(pushes, -2, 2)).astype(np.float32)
    np.testing.assert_allclose([moment.action[0] for moment in moments[1:]], done, atol=1e-6)
    torques = np.concatenate([np.zeros(CONTEXT - 1, np.float32), done])
    states = simulator.states(FIRST[None], torques[None, :, None])[0]
    np.testing.assert_allclose([moment.state for moment in moments], states[CONTEXT - 1 :], atol=1e-4)
    frames = as_unit_frames(simulator.frames(states))
    seen = filtered(dreamer.model, frames[None], torques[None, :, None])[0, CONTEXT - 1 :]
    np.testing.assert_allclose(pilot.states, seen, atol=1e-4)
    np.testing.assert_allclose([moment.dreams[0].latent for moment in moments], seen, atol=1e-4)
    assert all(moment.plan is not None and moment.steps_dreamt == 0 for moment in moments)

    worlds.hand_over(None)
    alone = [worlds.step(push) for push in (0.0, 1.0)]
    assert [(moment.action[0], moment.plan, moment.steps_dreamt) for moment in alone] == [(0, None, 1), (1, None, 2)]
    assert len(pilot.states) == len(moments)
    imagined = dreamt(dreamer.model, seen[-1:], jnp.array([[[0.0], [1.0]]]))[0]
    np.testing.assert_allclose([moment.dreams[0].latent for moment in alone], imagined, atol=1e-4)


def test_it_plans_in_the_first_dream_and_all_of_them_look(
    worlds: SideBySide, dream: Dream, unseen: Sequences, simulator: Simulator, reader: Reader
):
    other = Dream.of("runs/other", "dvbf", Dreamer(untrained_dvbf(unseen)), unseen)
    pilot, worlds = Planted(), SideBySide([other, dream], simulator, reader, CONTEXT)
    worlds.hand_over(pilot)  # type: ignore[arg-type]
    moments = [worlds.start(FIRST), *map(worlds.step, np.zeros(5))]
    np.testing.assert_array_equal(pilot.states, [moment.dreams[0].seen_latent for moment in moments])
    for moment in moments:
        for shown in moment.dreams:
            np.testing.assert_array_equal(shown.latent, shown.seen_latent)


def test_a_look_between_two_steps_keeps_the_plan(worlds: SideBySide):
    pilot = Planted()
    worlds.start(FIRST)
    worlds.hand_over(pilot)  # type: ignore[arg-type]
    assert worlds.step(0).action[0] == 0  # what was decided before
    looked = worlds.fresh_look()
    assert len(pilot.states) == 1
    np.testing.assert_array_equal(looked.plan.action, worlds.step(0).action)


def test_a_plan_is_the_planner_s_and_shows_what_the_model_imagines_of_it(autopilot: Autopilot, dreamer: Dreamer):
    actions = np.zeros((1, 4, 1), np.float32)
    state = last(dreamer.filter(np.zeros((1, 5, 16, 16), np.uint8), actions))
    plan = autopilot.pilot(jax.random.key(1)).plan(state)
    decider = Decider(dreamer, autopilot.planner, autopilot.space, autopilot.wish)
    decider.reset(jax.random.key(1))
    decision = decider.decide(state)
    np.testing.assert_array_equal(plan.action, decision.action)
    assert plan.action[0] == pytest.approx(TORQUE, abs=0.3)
    planned = np.asarray(decision.future.actions)
    np.testing.assert_allclose(plan.rewards, -((planned[0, :, 0] - TORQUE) ** 2), atol=1e-5)
    imagined = dreamt(dreamer.model, state, jnp.asarray(planned))[0]
    np.testing.assert_allclose(plan.latents, imagined, atol=1e-4)
    assert steps_shown(8) == [2, 4, 6, 8]
    frames = np.clip(mean_frames(dreamer.model, imagined[np.array([1, 3, 5, 7])]), 0, 1)
    np.testing.assert_allclose(plan.frames, frames, atol=1e-4)


def test_a_player_switches_it_on_and_off(stage: Stage):
    player = Player(stage, jax.random.key(0))
    assert player.next_moment().plan is None
    player.hear("autopilot on")
    moments = [player.next_moment() for _ in range(12)]
    assert all(moment.plan is not None for moment in moments)
    assert np.mean([moment.action[0] for moment in moments[3:]]) == pytest.approx(TORQUE, abs=0.2)
    sent = describe_moment(stage, moments[-1])["plan"]
    assert (np.shape(sent["at"]), len(sent["rewards"])) == ((8, 2), 2)
    player.hear("reset")
    assert player.next_moment().steps == 0
    assert player.next_moment().action[0] != 0
    player.hear("-2")
    assert player.next_moment().action[0] == -2
    player.hear("0")
    assert player.next_moment().action[0] == pytest.approx(TORQUE, abs=0.5)
    player.hear("autopilot off")
    assert player.next_moment().action[0] == 0
    assert player.next_moment().plan is None


def test_it_waits_until_it_is_made_and_does_without_where_it_cannot_be(stage: Stage, autopilot: Autopilot):
    later: Future[Autopilot] = Future()
    stage = dataclasses.replace(stage, autopilot=later)
    player = Player(stage, jax.random.key(0))
    player.hear("autopilot on")
    assert [player.next_moment().plan for _ in range(3)] == [None] * 3
    later.set_result(dataclasses.replace(autopilot, warning="beware"))
    assert player.next_moment().action[0] == 0
    assert player.next_moment().action[0] != 0
    told = describe_autopilot(stage)
    assert (told["missing"], told["warning"], told["best"], told["worst"]) == (None, "beware", 0.0, -4.0)
    np.testing.assert_allclose(told["seconds"], [0.2, 0.4, 0.6, 0.8])

    never: Future[Autopilot] = Future()
    never.set_exception(UserError("some.npz: has no rewards"))
    stage = dataclasses.replace(stage, autopilot=never)
    player = Player(stage, jax.random.key(0))
    player.hear("autopilot on")
    player.hear("1")
    player.next_moment()
    assert [player.next_moment().plan, player.next_moment().action[0]] == [None, 1]
    assert describe_autopilot(stage) == {"missing": "some.npz: has no rewards"}


def test_a_run_without_rewards_has_none(
    dvbf_run: Path, pendulum_data: Sequences, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    run = Run.open(dvbf_run)
    monkeypatch.setattr("worldmodel.planning.saved._note", lambda place, step: None)
    monkeypatch.setattr(Run, "data", lambda run: dataclasses.replace(pendulum_data, rewards=None))
    with pytest.raises(UserError, match=r"pendulum\.npz: has no rewards"):
        Autopilot.of_run(run, Dreamer(run.load()), simulator.world)


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 3)])
def test_ghosts_are_orange_behind_what_is_now(shape: tuple[int, ...]):
    """A dark square that has been everywhere, and a wall that stands."""
    empty = np.full(shape, 0.9)
    empty[:, 0] = 0.2
    frames = np.repeat(empty[None], 5, axis=0)
    for place in range(1, 6):
        frames[place - 1, 2, place] = 0.1
    backdrop = Backdrop.of(frames)
    np.testing.assert_array_equal(backdrop.frame, empty)
    picture = backdrop.with_ghosts(frames[0], np.concatenate([frames[1:4], frames[:1]]))
    orange = np.array([int(ORANGE[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    for place, strength in zip((2, 3, 4), STRENGTHS, strict=False):
        np.testing.assert_allclose(picture[2, place], 0.9 + strength * (orange - 0.9), atol=1e-6)
    np.testing.assert_allclose(picture[2, 1], 0.1, atol=1e-6)
    rest = np.ones((6, 6), bool)
    rest[2, 1:5] = False
    np.testing.assert_allclose(picture[rest], np.repeat(empty.reshape(6, 6, -1)[..., :1], 3, axis=-1)[rest])


def test_what_stands_still_everywhere_is_no_ghost():
    empty = np.full((4, 4), 0.5)
    backdrop = Backdrop.of(np.repeat(empty[None], 3, axis=0))
    np.testing.assert_allclose(backdrop.with_ghosts(empty, np.repeat(empty[None], 4, axis=0)), 0.5)
