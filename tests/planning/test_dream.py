"""The dream as Gymnasium environments, against the model's own roll-out and rewards by hand."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import colour_data, untrained_dvbf
from flax import nnx
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.protocol import State, WorldModel
from worldmodel.planning import dream, reward
from worldmodel.planning.dream import DreamEnv, DreamVectorEnv, beginnings
from worldmodel.planning.policy import filtered_states
from worldmodel.planning.saved import saved_reward
from worldmodel.planning.wanted import Rewards, Wanted
from worldmodel.runs.folder import DataCard, Run
from worldmodel.support.files import UserError

DREAM = "worldmodel/Dream-v0"
OPTIONS = {"base_matrices": 3, "hidden_size": 8, "feature_size": 6}


class Planted(NamedTuple):
    """A Wish that is paid the first latent and twice the first action; the chance of an end grows with the second."""

    steepness: jax.Array

    def of(self, model: WorldModel) -> Wanted:
        def wanted(before: State, actions: jax.Array, after: State) -> Rewards:
            vectors = model.vector(after)
            return vectors[..., 0] + 2 * actions[..., 0], jax.nn.sigmoid(self.steepness * (vectors[..., 1] - 0.1))

        return wanted


def write_run(folder: Path, data: Sequences) -> tuple[Path, Dreamer]:
    """A run of an untrained model, in `folder`/run, and its data in `folder`/data.npz."""
    path, model = folder / "data.npz", untrained_dvbf(data)
    save_sequences(path, data)
    run = Run.create(folder / "run", "dvbf", {"model": OPTIONS}, DataCard.of(path, data))
    run.save_checkpoint(1, {"params": nnx.state(model, nnx.Param)})
    return run.folder, Dreamer(model)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pendulum_data: Sequences) -> tuple[Path, Dreamer]:
    return write_run(tmp_path_factory.mktemp("dream"), pendulum_data.take(slice(16)))


@pytest.fixture(scope="module")
def run(made: tuple[Path, Dreamer]) -> Path:
    return made[0]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """In place of what the run has learnt."""
    wish = Planted(jnp.asarray(4.0))
    monkeypatch.setattr(dream, "saved_reward", lambda run, dreamer: (wish, None))
    return wish


def test_an_episode_is_what_the_model_imagines_and_is_paid_from_a_state_of_the_data(
    made: tuple[Path, Dreamer], pendulum_data: Sequences
):
    run, dreamer = made
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 12, 1)).astype(np.float32)
    row = int(seeding.np_random(3)[0].integers(16 * 15))
    start = jax.tree.map(lambda leaf: leaf[row : row + 1], filtered_states(dreamer, pendulum_data.take(slice(16))))
    dreamt = dreamer.imagine(start, actions)
    path = jax.tree.map(lambda first, rest: np.concatenate([first[:, None], rest], axis=1), start, dreamt)
    vectors, frames = dreamer.vector(path)[0], dreamer.decode(path)[0] * 255
    reward, _ = saved_reward(Run.open(run), dreamer)
    inputs = np.concatenate([vectors[:-1], actions[0], vectors[1:]], axis=-1)
    paid = np.asarray(jax.jit(lambda reward, inputs: reward(inputs)[0])(reward, inputs))

    for observation, expected, within in (("latents", vectors, 1e-5), ("frames", frames, 0.51)):
        env = gymnasium.make(DREAM, run=str(run), observation=observation, horizon=12)
        seen, _ = env.reset(seed=3)
        assert seen in env.observation_space
        np.testing.assert_allclose(seen, expected[0], atol=within)
        for t, action in enumerate(actions[0]):
            seen, got, ended, cut, _ = env.step(action)
            assert seen in env.observation_space
            np.testing.assert_allclose(seen, expected[t + 1], atol=within)
            assert got == pytest.approx(paid[t], abs=1e-3)
            assert (ended, cut) == (False, t == 11)
        env.close()


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("sampled", [False, True])
def test_a_vector_of_dreams_is_gymnasiums_own_vector_of_single_ones(run: Path, sampled: bool):
    how: dict[str, Any] = {"run": run, "observation": "latents", "horizon": 9, "sampled": sampled}
    ours, theirs = (gymnasium.make_vec(DREAM, 3, mode, **how) for mode in (None, "sync"))
    assert isinstance(ours, DreamVectorEnv)
    assert isinstance(theirs, gymnasium.vector.SyncVectorEnv)
    for name in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.metadata == theirs.metadata
    ours.action_space.seed(1)
    ended = cut = 0
    for seed in (5, None, [7, None, 2]):
        np.testing.assert_allclose(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0], atol=1e-6)
        for _ in range(25):
            actions = ours.action_space.sample()
            steps = ours.step(actions), theirs.step(actions)
            for found, expected in zip(*(step[:4] for step in steps), strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-5)
            ended, cut = ended + steps[0][2].sum(), cut + steps[0][3].sum()
    assert min(ended, cut) > 3
    gymnasium.wrappers.vector.NormalizeObservation(gymnasium.wrappers.vector.RecordEpisodeStatistics(ours)).reset()


@pytest.mark.usefixtures("planted")
def test_an_episode_ends_where_an_end_is_likelier_than_not(made: tuple[Path, Dreamer]):
    env = DreamEnv(made[0], observation="latents")
    ends = []
    for seed in range(12):
        env.reset(seed=seed)
        for _ in range(8):
            seen, paid, ended, _, _ = env.step(np.array([0.5], np.float32))
            assert paid == pytest.approx(seen[0] + 1.0, abs=1e-5)
            assert ended == (seen[1] > 0.1)
            ends.append(ended)
    assert 0 < np.mean(ends) < 1


def test_the_seed_and_the_actions_decide_an_episode_and_its_noise(run: Path):
    env = DreamEnv(run, observation="latents", sampled=True)

    def play(seed: int | None) -> np.ndarray:
        first, _ = env.reset(seed=seed)
        return np.stack([first, *(env.step(np.array([0.3], np.float32))[0] for _ in range(4))])

    once, other, again, next_one = play(1), play(2), play(1), play(None)
    np.testing.assert_array_equal(once, again)
    for unlike in (other, next_one):
        assert not np.allclose(once[0], unlike[0])
    quiet = DreamEnv(run, observation="latents")
    np.testing.assert_array_equal(quiet.reset(seed=1)[0], once[0])
    assert not np.allclose(quiet.step(np.array([0.3], np.float32))[0], once[1])


def test_sampled_noise_is_the_models(made: tuple[Path, Dreamer]):
    """The spread of one step from one state, over many dreams, against that of imagine_step."""
    run, dreamer = made
    many = DreamVectorEnv(500, run, observation="latents", sampled=True)
    many.reset(seed=0)
    state = jax.tree.map(lambda leaf: leaf[:1], many._dreams._states)
    many._dreams._states = jax.tree.map(lambda leaf: jnp.repeat(leaf, 500, axis=0), state)
    dreamt = many.step(np.zeros((500, 1), np.float32))[0]
    same = jax.tree.map(lambda leaf: jnp.repeat(leaf, 500, axis=0), state)
    truth = dreamer.vector(dreamer.imagine(same, np.zeros((500, 1, 1), np.float32), jax.random.key(1)))[:, 0]
    np.testing.assert_allclose(dreamt.std(axis=0), truth.std(axis=0), rtol=0.15)
    assert np.all(np.abs(dreamt.mean(axis=0) - truth.mean(axis=0)) < 5 * truth.std(axis=0) / np.sqrt(250))


KNOWN = ("For Box action spaces, we recommend using a symmetric and normalized space",)
"""what the checker says of torques in N m"""
OF_LATENTS = ("A Box observation space minimum value", "A Box observation space maximum value")


@pytest.mark.parametrize(
    ("observation", "sampled", "known"), [("frames", True, KNOWN), ("latents", False, KNOWN + OF_LATENTS)]
)
def test_gymnasiums_checker_finds_nothing_else(run: Path, observation: str, sampled: bool, known: tuple[str, ...]):
    env = gymnasium.make(DREAM, run=run, observation=observation, sampled=sampled, render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    for warning in said:
        assert any(part in str(warning.message) for part in known), warning.message


def test_a_picture_is_the_frame_enlarged(run: Path):
    many = DreamVectorEnv(2, run, render_mode="rgb_array")
    many.reset(seed=0)
    frames, *_ = many.step(np.zeros((2, 1), np.float32))
    for picture, frame in zip(many.render(), frames, strict=True):
        assert picture.shape == (256, 256, 3)
        np.testing.assert_array_equal(picture[::16, ::16], np.repeat(frame[..., None], 3, axis=-1))
        np.testing.assert_array_equal(picture[15::16, 15::16], picture[::16, ::16])
    assert DreamEnv(run).render() is None


@pytest.mark.usefixtures("planted")
def test_choices_and_colours(tmp_path: Path):
    data = colour_data()
    choices = np.eye(2, dtype=np.float32)[np.random.default_rng(0).integers(2, size=(7, 8))]
    data = dataclasses.replace(data, actions=choices, rewards=np.zeros((7, 8), np.float32))
    run, dreamer = write_run(tmp_path, data)
    env = DreamEnv(run, observation="frames")
    assert env.action_space == gymnasium.spaces.Discrete(2)
    env.reset(seed=0)
    start = env._dreams._states
    for choice in (0, 1):
        env._dreams._states = start
        seen = env.step(choice)[0]
        after = dreamer.imagine(start, np.eye(2, dtype=np.float32)[None, [choice]])
        assert seen.shape == (6, 8, 3)
        np.testing.assert_allclose(seen, dreamer.decode(after)[0, 0] * 255, atol=0.51)


def test_beyond_the_bounds_actions_are_clipped(run: Path):
    env = DreamEnv(run, observation="latents")
    high = env.action_space.high
    env.reset(seed=0)
    at_most = env.step(high)[0]
    env.reset(seed=0)
    np.testing.assert_array_equal(env.step(high + 7)[0], at_most)


def test_no_episode_begins_where_one_has_ended(made: tuple[Path, Dreamer], pendulum_data: Sequences):
    _, dreamer = made
    ended = np.zeros((16, 14), bool)
    ended[3, 5] = ended[7, 13] = True
    data = dataclasses.replace(pendulum_data.take(slice(16)), ended=ended)
    states = dreamer.filter(data.frames, data.actions, data.valid)
    keep = np.ones((16, 15), bool)
    keep[3, 6:], keep[7, 14] = False, False
    np.testing.assert_allclose(dreamer.vector(beginnings(dreamer, data)), dreamer.vector(states)[keep], atol=1e-5)


def test_what_cannot_be_dreamt_is_said_in_one_line(run: Path, tmp_path: Path, pendulum_data: Sequences):
    for arguments, says in (
        ({"run": tmp_path}, "not a run folder"),
        ({"run": run, "observation": "states"}, "observation must be frames or latents"),
        ({"run": run, "horizon": 0}, "horizon must be at least 1"),
        ({"run": run, "data": tmp_path / "none.npz"}, "none.npz"),
    ):
        for make in (gymnasium.make, gymnasium.make_vec):
            with pytest.raises(UserError, match=says):
                make(DREAM, **arguments)
    unpaid, _ = write_run(tmp_path, dataclasses.replace(pendulum_data.take(slice(16)), rewards=None))
    with pytest.raises(UserError, match="has no rewards"):
        DreamEnv(unpaid)


def test_a_kept_reward_is_that_of_the_rewards_which_the_data_has_now(
    tmp_path: Path, pendulum_data: Sequences, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reward, "STEPS", 20)
    data = pendulum_data.take(slice(16))
    folder, dreamer = write_run(tmp_path, data)
    run, kept = Run.open(folder), folder / "acting" / "reward.npz"
    _, quality = saved_reward(run, dreamer)
    first = kept.stat().st_mtime_ns
    assert saved_reward(run, dreamer)[1].best == quality.best
    assert kept.stat().st_mtime_ns == first
    save_sequences(tmp_path / "data.npz", dataclasses.replace(data, rewards=data.rewards + 7))
    assert saved_reward(run, dreamer)[1].best == pytest.approx(quality.best + 7, abs=1e-5)
    (tmp_path / "data.npz").unlink()  # and where the data is gone, the one that was kept
    assert saved_reward(run, dreamer)[1].best == pytest.approx(quality.best + 7, abs=1e-5)
