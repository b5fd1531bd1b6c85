import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import make_tiny_dvbf
from flax import nnx

from baselines.options import StaticVAEOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.models.catalogue import MODELS
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.runs.folder import KEPT_CHECKPOINTS, DataCard, Run, load_tree, save_tree
from worldmodel.runs.metrics import training_seconds
from worldmodel.support.files import DamagedError, UserError, atomic_folder, atomic_write, read_json, write_json
from worldmodel.support.settings import from_json, read_options
from worldmodel.training.options import training_options
from worldmodel.training.step import TrainState, initial_state


@pytest.fixture
def run(tmp_path: Path, pendulum_data: Sequences) -> Run:
    card = DataCard.of(Path("pendulum.npz"), pendulum_data)
    return Run.create(tmp_path / "run", "dvbf", {"steps": 10, "model": {"latent_size": 5}}, card)


@pytest.fixture
def tiny_run(tmp_path: Path, pendulum_data: Sequences) -> Run:
    """Its config describes the model of `tiny_state`."""
    tiny = make_tiny_dvbf("fusion")
    card = dataclasses.replace(DataCard.of(Path("pendulum.npz"), pendulum_data), scale=tiny.scale)
    return Run.create(tmp_path / "tiny", "dvbf", {"model": dataclasses.asdict(tiny.options)}, card)


def tiny_state(seed: int = 0) -> TrainState:
    _, params = nnx.split(make_tiny_dvbf("fusion"))
    params = jax.tree.map(lambda x: x + seed, params)
    return initial_state(params, optax.adam(1e-3), jax.random.key(seed))


def test_a_run_comes_back_from_its_config(run: Run, pendulum_data: Sequences):
    again = Run.open(run.folder)
    assert again.model == "dvbf"
    assert again.card == DataCard.of(Path("pendulum.npz"), pendulum_data)
    assert again.model_options() == DVBFOptions(latent_size=5, networks="dense")
    assert set(again.config["versions"]) >= {"jax", "flax", "distrax"}


def test_the_card_measures_the_data(run: Run, pendulum_data: Sequences):
    scale, frames = run.card.scale, pendulum_data.frames / 255
    assert scale.pixel_mean == pytest.approx(frames.mean(), rel=1e-6)
    assert scale.pixel_std == pytest.approx(frames.std(), rel=1e-6)
    assert scale.frame_variance == pytest.approx(frames.reshape(-1, 256).var(axis=0).sum(), rel=1e-6)
    assert scale.action_scale == pytest.approx(np.sqrt((pendulum_data.actions**2).mean()), rel=1e-5)


@pytest.mark.parametrize(("contrast", "taken_away"), [(0.0, False), (60.0, True)])
def test_what_stands_still_is_taken_away_where_it_is_more_than_what_moves(contrast: float, taken_away: bool):
    random = np.random.default_rng(0)
    landscape = 120 + contrast * random.standard_normal((6, 5, 3)).clip(-1.5, 1.5)
    frames = np.round(landscape + random.uniform(-20, 20, (50, 4, 6, 5, 3))).astype(np.uint8)
    scale = FrameScale.of(Sequences(frames, np.zeros((50, 3, 1), np.float32)), "landscape")
    assert bool(scale.background) == taken_away
    pixels = scale.standardise(frames / 255)
    assert pixels.std() == pytest.approx(1, rel=1e-3)
    assert pixels.mean() == pytest.approx(0, abs=0.01)
    if taken_away:
        assert np.abs(pixels.mean(axis=(0, 1))).max() < 0.05  # a 510th is what rounding costs
    np.testing.assert_allclose(scale.restore(pixels), frames / 255, atol=1e-6)
    assert from_json(FrameScale, json.loads(json.dumps(dataclasses.asdict(scale)))) == scale


def test_data_that_never_changes_is_refused():
    still = Sequences(np.full((3, 4, 8, 8), 7, np.uint8), np.zeros((3, 3, 1), np.float32))
    with pytest.raises(UserError, match=r"still\.npz: all frames are the same"):
        DataCard.of(Path("still.npz"), still)


def test_a_folder_that_holds_a_run_is_not_written_over(run: Run):
    before = (run.folder / "config.json").read_bytes()
    with pytest.raises(UserError, match="holds a run already"):
        Run.create(run.folder, "dvbf", {}, run.card)
    assert (run.folder / "config.json").read_bytes() == before


def test_only_a_run_of_a_registered_model_is_opened(run: Run, tmp_path: Path):
    with pytest.raises(UserError, match="not a run folder"):
        Run.open(tmp_path / "nothing")
    write_json(run.folder / "config.json", run.config | {"model": "nobody's"})
    with pytest.raises(UserError, match=f"holds a run of nobody's, which is none of {', '.join(MODELS.names())}"):
        Run.open(run.folder)


def test_of_a_folder_of_seeds_the_runs_in_it_are_named(run: Run, tmp_path: Path):
    run.folder.rename(tmp_path / "seed_3")
    with pytest.raises(UserError, match=r"no config\.json in it; the runs of its seeds are seed_3\)"):
        Run.open(tmp_path)


def test_a_run_of_an_earlier_version_opens(run: Run):
    """Its model had another name, its options one that is gone at a value that says nothing, and fewer than now."""
    write_json(
        run.folder / "config.json", run.config | {"model": "static_vae", "options": {"model": {"latent_size": 3}}}
    )
    again = Run.open(run.folder)
    assert again.model == "vae"
    assert again.model_options() == StaticVAEOptions(latent_size=3, networks="dense")

    kept = {"data": "a.npz", "out": "b", "steps": 10, "model": {"latent_size": 5, "annealing_steps": 0}}
    write_json(run.folder / "config.json", run.config | {"model": "dvbf", "options": kept})
    assert Run.open(run.folder).model_options() == DVBFOptions(latent_size=5, networks="dense")
    options = read_options(run.folder, training_options("dvbf"))
    assert (options.window, options.steps, options.model) == (None, 10, DVBFOptions(latent_size=5, networks="dense"))
    kept["model"]["annealing_steps"] = 100  # means something, and cannot be had
    write_json(run.folder / "config.json", run.config | {"options": kept})
    with pytest.raises(UserError, match="its options are not those of this model"):
        Run.open(run.folder).model_options()


def test_a_damaged_config_is_one_line(run: Run):
    path = run.folder / "config.json"
    for damage in (
        "{",
        "[]",
        '{"model": "dvbf"}',
        '{"model": "dvbf", "options": {"model": {"latent_size": "4"}}, "data": {"a": 1}}',
    ):
        path.write_text(damage)
        with pytest.raises(UserError, match=r"config\.json"):
            _ = Run(run.folder).card
        with pytest.raises(UserError, match=r"config\.json"):
            Run(run.folder).model_options()


def test_data_that_does_not_fit_a_run_is_refused(run: Run, pendulum_data: Sequences):
    larger = Sequences(np.zeros((2, 3, 20, 20), np.uint8), np.zeros((2, 2, 1), np.float32))
    with pytest.raises(UserError, match=r"frames are \[20, 20\], but .* was trained on \[16, 16\]"):
        run.check_fits(larger, Path("larger.npz"))
    pushed = Sequences(pendulum_data.frames, np.zeros((64, 14, 3), np.float32))
    with pytest.raises(UserError, match=r"actions have size 3, but .* was trained on size 1"):
        run.check_fits(pushed, Path("pushed.npz"))


def test_a_checkpoint_comes_back_bit_for_bit(tiny_run: Run):
    run = tiny_run
    state = tiny_state(seed=3)._replace(step=jnp.asarray(40, jnp.int32))
    run.save_checkpoint(40, state)
    back = run.load_checkpoint(40, tiny_state())
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(nnx.split(run.load())[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_the_last_checkpoints_are_kept(run: Run):
    for step in range(1, 7):
        run.save_checkpoint(step, {"w": np.zeros(3)})
    assert run.checkpoint_steps() == [4, 5, 6][-KEPT_CHECKPOINTS:]


def test_of_a_damaged_checkpoint_the_one_before_is_used(tiny_run: Run, capsys: pytest.CaptureFixture):
    run = tiny_run
    for step in (10, 20):
        run.save_checkpoint(step, tiny_state(seed=step))
    first, newest = sorted((run.folder / "checkpoints").iterdir())
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damage in (b"", whole[: len(whole) // 2], b"x" * 100, bytes(flipped)):
        newest.write_bytes(damage)
        with pytest.raises(DamagedError, match="damaged"):
            run.load_checkpoint(20, tiny_state())
        model = run.load()
        expected = jax.tree.leaves(tiny_state(seed=10).params)[0]
        np.testing.assert_array_equal(jax.tree.leaves(nnx.split(model)[1])[0], expected)
        assert "step_00000020.npz: the checkpoint is damaged; the one before is used" in capsys.readouterr().err
    first.write_bytes(b"")
    with pytest.raises(UserError, match="has no whole checkpoint"):
        run.load()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    save_tree(tmp_path / "a.npz", {"w": jnp.zeros((2, 3))})
    with pytest.raises(UserError, match="belongs to another model: 'w' is"):
        load_tree(tmp_path / "a.npz", {"w": jnp.zeros((3, 2))})
    with pytest.raises(UserError, match="belongs to another model: v"):
        load_tree(tmp_path / "a.npz", {"v": jnp.zeros((2, 3))})


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "a.npz", w=np.array([Hostile()], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        load_tree(tmp_path / "a.npz", {"w": jnp.zeros(1)})
    assert not (tmp_path / "ran").exists()


def test_snapshots_come_back_in_order(run: Run):
    kept = {step: {"frames": np.full((2, 3), step / 7, np.float32), "latents": np.arange(step)} for step in (500, 0)}
    for step, arrays in kept.items():
        run.save_snapshot(step, arrays)
    back = run.snapshots()
    assert list(back) == [0, 500]
    for step, arrays in kept.items():
        assert set(back[step]) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[step][name], array)


def test_a_damaged_snapshot_is_one_line(run: Run):
    run.save_snapshot(500, {"frames": np.zeros((2, 3))})
    [path] = (run.folder / "snapshots").iterdir()
    whole = path.read_bytes()
    for damage in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"step_00000500\.npz: the snapshot is damaged"):
            run.snapshots()
    np.savez(path, frames=np.array([run], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        run.snapshots()


def test_metrics_after_the_checkpoint_and_torn_lines_are_dropped(run: Run):
    for step in (100, 200, 300):
        run.append_metrics({"step": step, "elbo": 1.0})
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')
    run.forget_after(200)
    assert [line["step"] for line in run.metrics()] == [100, 200]
    assert all(json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines())


def test_metrics_are_read_while_their_last_line_is_written(run: Run):
    path = run.folder / "metrics.jsonl"
    assert run.metrics() == []
    lines = [{"step": 100, "elbo": -1.5}, {"step": 200, "elbo": 2.0}]
    for line in lines:
        run.append_metrics(line)
    whole, third = path.read_bytes(), b'{"step": 300, "elbo": 3.0}'
    for end in range(len(third)):
        path.write_bytes(whole + third[:end])
        assert run.metrics() == lines
    path.write_bytes(whole + third)  # all but the end of the line
    assert run.metrics() == [*lines, {"step": 300, "elbo": 3.0}]
    path.write_bytes(whole + b"\xff\0")
    assert run.metrics() == lines


@pytest.mark.parametrize(
    "bad", [b'{"step": 2', b"", b"[200]", b'{"elbo": 1.0}', b'{"step": "200"}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_line_of_metrics_is_one_line_and_nothing_is_forgotten(run: Run, bad: bytes):
    run.save_checkpoint(300, {"w": jnp.zeros(1)})
    path = run.folder / "metrics.jsonl"
    path.write_bytes(b'{"step": 100}\n' + bad + b'\n{"step": 300}\n')
    before = path.read_bytes()
    for use in (run.metrics, lambda: run.forget_after(200)):
        with pytest.raises(DamagedError, match=r"metrics\.jsonl: line 2 is damaged$"):
            use()
    assert path.read_bytes() == before
    assert run.checkpoint_steps() == [300]


def test_the_time_of_the_updates_is_that_of_their_rates():
    lines = [{"step": 0}, {"step": 100, "steps_per_second": 50.0}, {"step": 130, "steps_per_second": 10.0}]
    assert training_seconds(lines) == pytest.approx(100 / 50 + 30 / 10)
    assert training_seconds([*lines, {"step": 200, "steps_per_second": 0.0}]) == pytest.approx(5)
    assert math.isnan(training_seconds([{"step": 0}]))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("before")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path):
    def fail() -> None:
        with atomic_folder(tmp_path / "out") as out:
            (out / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "out") as out:
        (out / "whole").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_what_is_no_number_is_null_in_json(tmp_path: Path):
    write_json(tmp_path / "a.json", {"r2": float("nan"), "list": [1.5, float("inf")]})
    assert read_json(tmp_path / "a.json") == {"r2": None, "list": [1.5, None]}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), atomic_write(tmp_path / "file" / "inside"):
        pass
