"""Episodes that anybody can play, that end where the environment says so, and that start where they are told."""

import dataclasses
import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TimeLimit

from worldmodel.data.sequences import Sequences, WorldRecord, check_sequences
from worldmodel.data.storage import load_sequences, save_sequences
from worldmodel.support.files import UserError
from worldmodel.worlds.camera import Camera
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.environments import describe, stacked
from worldmodel.worlds.episodes import as_vector, from_vector, open_environment, play_episode
from worldmodel.worlds.pendulum.options import PendulumOptions
from worldmodel.worlds.world import WORLDS


@pytest.fixture(scope="module")
def carts() -> Sequences:
    """Twelve poles, most of which fall."""
    return collect("CartPole-v1", 12, 40, 16, seed=2, workers=1)


def test_episodes_end_where_the_environment_ends_them(carts: Sequences):
    """Played again, in Gymnasium's own environment, from the same seeds."""
    check_sequences(carts, "carts")
    env = gymnasium.make("CartPole-v1")
    lengths = []
    for n in range(12):
        env.reset(seed=int(np.random.default_rng([2, n]).integers(2**31)))
        for t in range(39):
            assert carts.actions[n, t].sum() == 1
            _, reward, end, _, _ = env.step(int(carts.actions[n, t].argmax()))
            assert (end, reward) == (carts.ended[n, t], carts.rewards[n, t])
            if end:
                break
        lengths.append(t + 2)
    np.testing.assert_array_equal(carts.lengths(), lengths)
    assert min(lengths) < 20


def test_what_comes_after_the_end_is_padding(carts: Sequences):
    np.testing.assert_array_equal(carts.ended.sum(axis=1), carts.lengths() < 40)  # at most once
    for n, length in enumerate(carts.lengths()):
        assert (carts.frames[n, length:] == carts.frames[n, length - 1]).all()
        assert not carts.actions[n, length - 1 :].any()
        assert not carts.rewards[n, length - 1 :].any()


def test_an_episode_may_end_in_its_last_frame(carts: Sequences):
    shortest = int(carts.lengths().min())
    again = collect("CartPole-v1", 12, shortest, 16, seed=2, workers=1)
    assert (again.lengths() == shortest).all()
    np.testing.assert_array_equal(again.ended.any(axis=1), carts.lengths() == shortest)


def test_data_in_which_nothing_ended_does_not_say_so(tmp_path: Path):
    """An array that says it of all others is kept, also where whole blocks have no end."""
    few = collect("CartPole-v1", 12, 6, 16, out=tmp_path / "few")
    assert few.ended is None
    assert not (tmp_path / "few" / "ended.npy").exists()
    assert collect("CartPole-v1", 12, 6, 16, out=tmp_path / "few.npz").fingerprint() == few.fingerprint()
    some = collect("CartPole-v1", 21, 12, 16, out=tmp_path / "some")
    assert some.ended.shape == (21, 11)
    assert 0 < some.ended.any(axis=1).sum() < 10
    assert load_sequences(tmp_path / "some").fingerprint() == some.fingerprint()


def test_no_time_limit_cuts_an_episode():
    data = collect("Pendulum-v1", 1, 203, 8, workers=1)
    assert data.ended is None
    assert np.abs(data.rewards[0, -1]) > 0
    env, options = open_environment("Pendulum-v1")
    with pytest.raises(UserError, match="Pendulum-v1: an episode was broken off after 5 steps"):
        play_episode(TimeLimit(env, 5), options, Camera(8), lambda frame, t: np.zeros(1), 9, 0, np.random.default_rng())


def test_whoever_plays_sees_the_frames_that_are_recorded():
    """Played with the actions of collected data, an episode is that data."""
    data = collect("Pendulum-v1", 1, 12, 24, seed=5, noise=0.1, crop=0.5, centre=(0.5, 0.7), workers=1)
    env, options = open_environment(data.world.id, data.world.arguments)
    seen = []

    def act(frame: np.ndarray, t: int) -> np.ndarray:
        assert t == len(seen)
        seen.append(frame)
        return from_vector(data.actions[0, t], env.action_space)

    random = np.random.default_rng([5, 0])
    seed, _ = (int(random.integers(2**31)) for _ in range(2))
    episode = play_episode(env, options, Camera.of(data.world.camera), act, 12, seed, random)
    again = Sequences(**stacked([episode]), **describe(env, options, data.world))
    for name, array in data.arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)
    assert (again.state_names, again.dt, again.world) == (data.state_names, data.dt, data.world)
    np.testing.assert_array_equal(np.stack(seen), data.frames[0, :-1])


def test_a_policy_takes_the_car_to_its_flag():
    """Pushing it the way it moves."""
    env, options = open_environment("MountainCarContinuous-v0")

    def act(frame: np.ndarray, t: int) -> np.ndarray:
        return np.array([1.0 if options.state_of(env)[1] >= 0 else -1.0], np.float32)

    episode = play_episode(env, options, Camera(8), act, 200, 0, np.random.default_rng(0))
    end = int(episode.ended.argmax())
    assert episode.ended.sum() == 1
    assert episode.states[end, 0] < 0.45 <= episode.states[end + 1, 0]
    assert (episode.states[end + 1 :] == episode.states[end + 1]).all()
    assert episode.rewards.sum() == pytest.approx(100 - 0.1 * (end + 1), abs=1e-3)


@pytest.mark.parametrize("space", [Box(-2, 2, (3,), np.float32, seed=0), Discrete(4, start=-1, seed=0)])
def test_actions_become_vectors_and_come_back(space: gymnasium.Space):
    for action in (space.sample() for _ in range(20)):
        np.testing.assert_array_equal(from_vector(as_vector(action, space), space), action)
    assert space.contains(from_vector(np.array([9.0, -9, 3, 0][: 3 + isinstance(space, Discrete)]), space))


def test_what_is_no_environment_of_frames_and_actions_is_refused():
    for name, message in {"pendulum": "cannot be made with rgb_array", "Blackjack-v2": "cannot be made"}.items():
        with pytest.raises(UserError, match=message):
            open_environment(name)
    gymnasium.register("two/Dimensions-v0", Plane)
    with pytest.raises(UserError, match="actions must be vectors"):
        open_environment("two/Dimensions-v0")


class Plane(gymnasium.Env):
    """Its actions are matrices."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    action_space = Box(-1, 1, (2, 2))
    observation_space = Box(-1, 1, (2,))

    def __init__(self, render_mode: str):
        self.render_mode = render_mode


@pytest.mark.parametrize("name", WORLDS.names())
def test_sequences_begin_at_the_place_that_is_named(name: str):
    options = WORLDS.options(name)()
    places = options.build().places
    for place in list(places)[:2]:
        data = collect(options, 3, 5, 16, start=place, workers=1)
        np.testing.assert_allclose(data.states[:, 0], np.tile(places[place], (3, 1)), atol=1e-6)
        assert (data.frames[:, 0] == data.frames[0, 0]).all()
        assert (data.states[0, 1:] != data.states[1, 1:]).any()
        assert data.world.start == place
    free = collect(options, 3, 5, 16, workers=1)
    np.testing.assert_array_equal(free.actions, data.actions)
    assert free.world.start is None
    assert (free.states[0, 0] != free.states[1, 0]).any()


def test_places_that_are_not_there_are_refused():
    for world in (PendulumOptions(), "Pendulum-v1"):
        with pytest.raises(UserError, match=r"--start must be one of 'hanging, at rest', .*, not 'moon'"):
            collect(world, 2, 4, start="moon")
    with pytest.raises(UserError, match="--start: MountainCar-v0 is no world of the catalogue, and has no places"):
        collect("MountainCar-v0", 2, 4, start="upright")


def test_the_record_says_how_data_was_driven(tmp_path: Path):
    paths = tmp_path / "data.npz", tmp_path / "data"
    for path in paths:
        made = collect(PendulumOptions(), 3, 5, actions="mixed", start="upright, at rest", out=path)
        assert (made.world.actions, made.world.start) == ("mixed", "upright, at rest")
        assert load_sequences(path).world == made.world
    usual = dataclasses.replace(made, world=WorldRecord("pendulum", {}, {}))
    save_sequences(tmp_path / "usual.npz", usual)
    with np.load(tmp_path / "usual.npz") as archive:  # as data sets have it that know of no other
        assert json.loads(archive["world"].item()) == {"id": "pendulum", "arguments": {}, "camera": {}}
    assert load_sequences(tmp_path / "usual.npz").world == usual.world
    for name in ("actions", "start"):
        about = json.loads((tmp_path / "data" / "about.json").read_text())
        about["world"][name] = 3
        (tmp_path / "data" / "about.json").write_text(json.dumps(about))
        with pytest.raises(UserError, match="world must be JSON"):
            load_sequences(tmp_path / "data")
