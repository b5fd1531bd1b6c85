import dataclasses
import hashlib
import io
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from worldmodel.data.sequences import Sequences, WorldRecord, batches, hold_out, join, spread_over
from worldmodel.data.storage import load_sequences, save_blocks, save_sequences
from worldmodel.support.files import UserError
from worldmodel.worlds.pendulum.physics import PAPER, simulate

WORLD = "world must be JSON of an object with id, arguments and camera"


def arrays(**changes) -> dict[str, np.ndarray]:
    """A data file as a user makes it, with numpy alone."""
    random = np.random.default_rng(0)
    valid = {
        "frames": random.integers(0, 256, (4, 6, 8, 8)).astype(np.uint8),
        "actions": random.standard_normal((4, 5, 2)).astype(np.float32),
        "states": random.standard_normal((4, 6, 3)).astype(np.float32),
        "state_names": np.array(["x", "y", "z"]),
        "dt": np.float32(0.1),
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


def test_a_file_made_by_numpy_alone_is_read(tmp_path: Path):
    made = arrays()
    np.savez(tmp_path / "data.npz", **made)
    data = load_sequences(tmp_path / "data.npz")
    np.testing.assert_array_equal(data.frames, made["frames"])
    np.testing.assert_array_equal(data.actions, made["actions"])
    np.testing.assert_array_equal(data.states, made["states"])
    assert data.state_names == ("x", "y", "z")
    assert data.dt == pytest.approx(0.1)


def test_frames_and_actions_are_all_that_a_file_needs(tmp_path: Path):
    np.savez(tmp_path / "data.npz", **arrays(states=None, state_names=None, dt=None))
    data = load_sequences(tmp_path / "data.npz")
    assert (data.states, data.state_names, data.dt) == (None, (), None)


def test_states_without_names_are_numbered(tmp_path: Path):
    np.savez(tmp_path / "data.npz", **arrays(states=np.zeros((4, 6, 2), np.float32), state_names=None))
    assert load_sequences(tmp_path / "data.npz").state_names == ("state_0", "state_1")


@pytest.fixture
def full() -> Sequences:
    """Six sequences of five frames that tell n and t, of all lengths, with everything that a record can hold."""
    number = (10 * np.arange(6)[:, None] + np.arange(5)[None, :]).astype(np.float32)
    ended = np.zeros((6, 4), bool)
    ended[[1, 2, 3], [0, 1, 3]] = True  # 2, 3 and all 5 frames; in padding the flag means nothing
    ended[1, 2] = True
    valid = np.ones((6, 5), bool)
    valid[4, 3] = False
    return Sequences(
        frames=np.broadcast_to(number[..., None, None], (6, 5, 2, 2)).astype(np.uint8),
        actions=number[:, :-1, None] + 0.5,
        states=number[..., None],
        state_names=("number",),
        dt=0.5,
        rewards=-number[:, :-1],
        ended=ended,
        valid=valid,
        world=WorldRecord("box", {"size": 2, "walls": None}, {"size": 2, "noise_std": 0.5}),
    )


@pytest.mark.parametrize("name", ["data.npz", "data"])
def test_everything_that_is_saved_comes_back(tmp_path: Path, full: Sequences, name: str):
    save_blocks(tmp_path / name, [full.take(slice(0, 2)), full.take(slice(2, 6))], 6)
    back = load_sequences(tmp_path / name)
    for array in ("frames", "actions", "states", "rewards", "ended", "valid"):
        kept, given = getattr(back, array), getattr(full, array)
        np.testing.assert_array_equal(kept, given, err_msg=array)
        assert kept.dtype == given.dtype, array
    assert (back.world, back.state_names, back.dt) == (full.world, ("number",), 0.5)
    assert back.fingerprint() == full.fingerprint()


def test_lengths_count_the_frames_before_the_padding(full: Sequences):
    assert full.lengths().tolist() == [5, 2, 3, 5, 5, 5]
    assert dataclasses.replace(full, ended=None).lengths().tolist() == [5] * 6


def test_whole_sequences_are_unbroken(full: Sequences):
    def which(length: int | None) -> list[int]:
        found = full.whole(length)
        assert found.length == (length or 5)
        assert found.actions.shape[1] == found.rewards.shape[1] == found.length - 1
        return (found.frames[:, 0, 0, 0] // 10).tolist()

    assert which(2) == [0, 1, 2, 3, 4, 5]
    assert which(3) == [0, 2, 3, 4, 5]
    assert which(None) == which(5) == [0, 3, 4, 5]
    assert len(full.whole(6)) == 0


def test_what_is_seen_is_neither_missing_nor_padding(full: Sequences):
    seen = full.seen()
    assert seen is not None
    assert ["".join("-x"[int(each)] for each in row) for row in seen] == [
        "xxxxx",
        "xx---",
        "xxx--",
        "xxxxx",
        "xxx-x",
        "xxxxx",
    ]
    assert full.acted().sum(axis=1).tolist() == [4, 1, 2, 4, 4, 4]
    assert full.missing_share() == pytest.approx(1 / 25)
    assert full.in_words() == "4.0% of the frames are missing; sequences have 2 to 5 frames"
    plain = dataclasses.replace(full, ended=None, valid=None)
    assert (plain.seen(), plain.missing_share(), plain.in_words()) == (None, 0, "")


def test_only_sequences_with_a_frame_to_foresee_are_judged(full: Sequences):
    def which(data: Sequences, context: int) -> tuple[list[int], int]:
        found = data.to_foresee(context)
        return (found.frames[:, 0, 0, 0] // 10).tolist(), found.length

    assert which(full, 1) == ([0, 1, 2, 3, 4, 5], 5)
    assert which(full, 2) == ([0, 2, 3, 4, 5], 5)
    assert which(full.take(np.array([1, 2])), 1) == ([1, 2], 3)
    assert which(full.take(np.array([1, 2])), 2) == ([2], 3)
    assert which(full.take(np.array([1])), 3) == ([], 5)


def test_parts_carry_everything_along(full: Sequences):
    short = full.take(np.array([4, 1])).first_frames(3)
    number = np.array([[40, 41, 42], [10, 11, 12]])
    np.testing.assert_array_equal(short.frames[..., 0, 0], number)
    np.testing.assert_array_equal(short.actions[..., 0], number[:, :2] + 0.5)
    np.testing.assert_array_equal(short.rewards, -number[:, :2])
    np.testing.assert_array_equal(short.ended, [[False, False], [True, False]])
    assert short.valid.all()
    assert not full.take(np.array([4])).first_frames(4).valid.all()
    again = join([full.take(slice(0, 1)), full.take(slice(1, 6))])
    np.testing.assert_array_equal(again.ended, full.ended)
    assert (short.world, again.world) == (full.world, full.world)
    [(batch, count)] = batches(full, 8)
    assert count == 6
    np.testing.assert_array_equal(batch.rewards[6:], full.rewards[:2])


def test_the_fingerprint_of_frames_and_actions_alone_stays_what_runs_were_started_with():
    """The SHA-256 of the shapes, the types and the bytes, by hashlib alone."""
    made = arrays()
    digest = hashlib.sha256()
    for name in ("frames", "actions"):
        digest.update(repr((made[name].shape, made[name].dtype.str)).encode() + made[name].tobytes())
    data = Sequences(made["frames"], made["actions"])
    assert data.fingerprint() == digest.hexdigest()
    assert dataclasses.replace(data, rewards=np.ones((4, 5), np.float32)).fingerprint() == digest.hexdigest()
    unlike = [np.zeros((4, 5), bool), np.ones((4, 5), bool)]
    prints = {dataclasses.replace(data, ended=ended).fingerprint() for ended in unlike}
    prints |= {dataclasses.replace(data, valid=np.ones((4, 6), bool)).fingerprint(), digest.hexdigest()}
    assert len(prints) == 4


def test_what_is_saved_comes_back(tmp_path: Path, pendulum_data: Sequences):
    save_sequences(tmp_path / "data.npz", pendulum_data)
    back = load_sequences(tmp_path / "data.npz")
    np.testing.assert_array_equal(back.frames, pendulum_data.frames)
    np.testing.assert_array_equal(back.states, pendulum_data.states)
    assert back.fingerprint() == pendulum_data.fingerprint()
    assert back.state_names == pendulum_data.state_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": None}, "has no array 'frames'"),
        ({"actions": None}, "has no array 'actions'"),
        ({"frames": np.zeros((4, 6, 8, 8), np.float32)}, "frames must be uint8, not float32"),
        ({"frames": np.zeros((4, 6, 3, 8, 8), np.uint8)}, "channels come last, [N, T, H, W, C]"),
        ({"frames": np.zeros((4, 6, 64), np.uint8)}, "frames must be [N, T, H, W] or [N, T, H, W, C]"),
        ({"frames": np.zeros((0, 6, 8, 8), np.uint8)}, "frames must be [N, T, H, W]"),
        ({"frames": np.zeros((4, 1, 8, 8), np.uint8)}, "T >= 2"),
        ({"actions": np.zeros((4, 5, 2))}, "actions must be float32, not float64"),
        ({"actions": np.zeros((4, 5), np.float32)}, "actions must be [N, T-1, A]"),
        ({"actions": np.zeros((4, 6, 2), np.float32)}, "6 frames need 5 actions (T-1), not 6"),
        ({"actions": np.zeros((3, 5, 2), np.float32)}, "4 sequences of frames but 3 of actions"),
        ({"actions": np.full((4, 5, 2), np.nan, np.float32)}, "actions hold NaN or infinite"),
        ({"actions": np.array([[None]], dtype=object)}, "array 'actions' holds pickled objects"),
        ({"states": np.zeros((4, 5, 3), np.float32)}, "states must be [N, T, S] = [4, 6, S]"),
        ({"states": np.full((4, 6, 3), np.inf, np.float32)}, "states hold NaN or infinite"),
        ({"state_names": np.array(["x"])}, "3 states but 1 state_names"),
        ({"dt": np.float32(0)}, "dt must be positive seconds"),
        ({"dt": np.zeros(3)}, "dt must be one number"),
        ({"rewards": np.zeros((4, 5))}, "rewards must be float32, not float64"),
        ({"rewards": np.zeros((4, 6), np.float32)}, "rewards must be [N, T-1] = [4, 5], not [4, 6]"),
        ({"rewards": np.full((4, 5), np.nan, np.float32)}, "rewards hold NaN or infinite"),
        ({"ended": np.zeros((4, 5), np.uint8)}, "ended must be bool, not uint8"),
        ({"ended": np.zeros((4, 6), bool)}, "ended must be [N, T-1] = [4, 5], not [4, 6]"),
        ({"valid": np.zeros((4, 5), bool)}, "valid must be [N, T] = [4, 6], not [4, 5]"),
        ({"valid": np.array([None])}, "array 'valid' holds pickled objects"),
        ({"world": np.array(1.0)}, WORLD),
        ({"world": np.array(["{}", "{}"])}, WORLD),
        ({"world": np.array("hello")}, WORLD),
        ({"world": np.array("[" * 100_000)}, WORLD),
        ({"world": np.array("[1, 2]")}, WORLD),
        ({"world": np.array('{"id": "box"}')}, WORLD),
        ({"world": np.array('{"id": "box", "arguments": [], "camera": {}}')}, WORLD),
        ({"world": np.array('{"id": "box", "arguments": {}, "camera": {}, "more": 1}')}, WORLD),
        ({"world": np.array([{"id": "box"}])}, "array 'world' holds pickled objects"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, changes: dict, message: str):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(UserError) as raised:
        load_sequences(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_archives_are_refused(tmp_path: Path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = io.BytesIO()
    np.savez(whole, **arrays())
    (tmp_path / "torn.npz").write_bytes(whole.getvalue()[:2000])
    for name, message in (
        ("one.npy", "not an .npz file"),
        ("text.npz", "not an .npz file"),
        ("empty.npz", "not an .npz file"),
        ("torn.npz", "not an .npz file"),
        ("missing.npz", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            load_sequences(tmp_path / name)


def test_a_damaged_array_is_named(tmp_path: Path):
    path = tmp_path / "damaged.npz"
    np.savez(path, **arrays())
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("frames.npy").header_offset
    raw[offset + 500] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(UserError, match="array 'frames' is damaged"):
        load_sequences(path)


def test_no_corrupted_byte_escapes_as_a_traceback(tmp_path: Path):
    path, random = tmp_path / "data.npz", np.random.default_rng(0)
    frames = random.integers(0, 256, (2, 3, 2, 2)).astype(np.uint8)
    more = {"ended": np.zeros((2, 2), bool), "world": np.array('{"id": "box", "arguments": {}, "camera": {}}')}
    shapes = {"frames": frames, "actions": np.zeros((2, 2, 1), np.float32), "states": None, "state_names": None}
    np.savez(path, **arrays(**shapes, **more))
    whole = path.read_bytes()
    messages = []
    for position in random.integers(0, len(whole), 500):
        raw = bytearray(whole)
        raw[position] ^= 1 << int(random.integers(8))
        path.write_bytes(raw)
        try:
            load_sequences(path)  # a flipped bit in a date, say, does no harm
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith(str(path)) for message in messages)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays(frames=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("frames", b"these are not frames")
    with pytest.raises(UserError, match="'frames' is not an array"):
        load_sequences(path)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, pendulum_data: Sequences):
    save_sequences(tmp_path / "data.npz", pendulum_data)
    before = (tmp_path / "data.npz").read_bytes()
    bad = Sequences(pendulum_data.frames, pendulum_data.actions[:, :-1])
    with pytest.raises(UserError, match="15 frames need 14 actions"):
        save_sequences(tmp_path / "data.npz", bad)
    assert (tmp_path / "data.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_the_timeline_an_impulse_at_t_moves_the_frames_from_t_plus_1_on():
    impulse_at = 6
    torques = np.zeros((1, 14), np.float32)
    torques[0, impulse_at] = 2.0
    rest = jnp.array([[np.pi, 0.0]])
    pushed = np.asarray(simulate(rest, jnp.asarray(torques), PAPER))[0, :, 0]
    moved = np.abs(pushed - np.pi) > 1e-4
    assert not moved[: impulse_at + 1].any()
    assert moved[impulse_at + 1 :].any()
    assert moved[impulse_at + 1]


def test_the_timeline_true_physics_explain_collected_data_with_the_right_actions_only(pendulum_data: Sequences):
    states = pendulum_data.states

    def error(actions: np.ndarray) -> float:
        """Of predicting the next velocity from the state and the action that is said to act there."""
        now, following = states[:, :-1].reshape(-1, 2), states[:, 1:, 1].ravel()
        predicted = simulate(jnp.asarray(now), jnp.asarray(actions.reshape(-1, 1)), PAPER)[:, 1, 1]
        return float(np.abs(predicted - following).max())

    right = pendulum_data.actions[..., 0]
    assert error(right) < 1e-3
    assert error(np.roll(right, 1, axis=1)) > 0.1
    assert error(np.roll(right, -1, axis=1)) > 0.1


def test_held_out_sequences_are_the_last_ones(pendulum_data: Sequences):
    training, validation = hold_out(pendulum_data, 0.25, "data.npz")
    assert (len(training), len(validation)) == (48, 16)
    np.testing.assert_array_equal(validation.frames, pendulum_data.frames[48:])
    with pytest.raises(UserError, match=r"data\.npz: 1 sequence\(s\), of which 1 would be held out"):
        hold_out(pendulum_data.take(slice(0, 1)), 0.1, "data.npz")


def test_batches_cover_every_sequence_once(pendulum_data: Sequences):
    parts = [(batch, count) for batch, count in batches(pendulum_data.take(slice(0, 10)), 4)]
    assert [len(batch) for batch, _ in parts] == [4, 4, 4]
    together = np.concatenate([batch.frames[:count] for batch, count in parts])
    np.testing.assert_array_equal(together, pendulum_data.frames[:10])


def test_spread_over_keeps_the_ends():
    assert spread_over(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert spread_over(np.arange(3), 8).tolist() == [0, 1, 2]


def test_first_frames_keep_the_actions_between_them(pendulum_data: Sequences):
    short = pendulum_data.first_frames(5)
    assert short.frames.shape[1] == short.states.shape[1] == 5
    np.testing.assert_array_equal(short.actions, pendulum_data.actions[:, :4])
