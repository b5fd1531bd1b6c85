"""The runs that come with the package: loaded by name, copied once, worth what their cards say."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import worldmodel as wm
from baselines.study.pretrained import ENTRIES, KEPT_BITS, card_page, rounded
from worldmodel.runs import pretrained
from worldmodel.runs.folder import Run
from worldmodel.runs.pretrained import SHIPPED, pretrained_names, run_folder, shown_data
from worldmodel.support.files import UserError

NAMES = pretrained_names()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def card(name: str) -> dict:
    return json.loads((SHIPPED / name / "card.json").read_text())


def test_what_comes_is_what_the_script_makes():
    assert set(NAMES) == set(ENTRIES)
    assert wm.list_pretrained() == {name: entry.about for name, entry in sorted(ENTRIES.items())}
    for name, entry in ENTRIES.items():
        config = json.loads((SHIPPED / name / "config.json").read_text())
        assert config["model"] == card(name)["model"] == entry.model
        options = config["options"] | config["options"].get("model", {})
        for key, value in (entry.options | {"seed": 0}).items():
            assert options[key] == value
        assert (SHIPPED / name / "CARD.md").read_text() == card_page(name, card(name))


def test_they_are_small_and_hold_no_pickle():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".md", ".npz"}
    assert sum(path.stat().st_size for path in files) < 3e6
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:  # raises where there is an object
                assert all(archive[name].dtype != object for name in archive)
        else:
            assert str(Path.home()) + "/" not in path.read_text()


@pytest.mark.parametrize("name", [name for name in NAMES if ENTRIES[name].of_sequences])
def test_a_card_s_figures_are_those_of_its_run_in_its_world(name: str, elsewhere: Path):
    """Pixel errors ten frames ahead, by hand, on fewer sequences of another seed: so within a factor."""
    said = card(name)["figures"]["pixel_mse"]
    of_world = card(name)["collect"] | {"sequences": 50, "frames": 20, "seed": 7}
    data = wm.collect(card(name)["world"], out="fresh.npz", **of_world)
    run, frames = wm.load(name), data.frames / np.float32(255)
    last = run.last(run.filter(data.frames[:, :10], data.actions[:, :9]))
    imagined = run.decode(run.imagine(last, data.actions[:, 9:]))
    assert imagined.shape == frames[:, 10:].shape
    errors = {"model": imagined[:, -1], "repeat last frame": frames[:, 9], "mean frame": frames.mean(axis=(0, 1))}
    found = {row: ((shown - frames[:, -1]) ** 2).mean() for row, shown in errors.items()}
    for row, error in found.items():
        assert 0.4 < error / said[row]["10"] < 2.5, (row, error, said[row])
    assert found["model"] < 0.2 * found["mean frame"]


def test_the_static_vae_s_figure_is_that_of_its_frames(elsewhere: Path):
    run, sample = wm.load("swing-up-vae"), wm.read(SHIPPED / "swing-up-vae" / "sample.npz")
    frames = sample.frames[:, ::10].reshape(-1, *sample.frame_shape)
    error = ((run.decode(run.encode(frames)) - frames / np.float32(255)) ** 2).mean()
    assert 0.5 < error / card("swing-up-vae")["figures"]["pixel_mse"]["model"] < 2


def test_what_its_check_said(elsewhere: Path):
    run = wm.load("swing-up")
    assert run.verdict.startswith("Dynamics learnt: ")
    (run.folder / "health.json").unlink()
    with pytest.raises(UserError, match="its training is not finished"):
        _ = run.verdict
    assert "error" in wm.load("swing-up-vae").verdict


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_copy_of_the_user_s_own(name: str, elsewhere: Path):
    run = wm.load(name)
    assert run.folder == Path("runs/pretrained") / name
    mark = elsewhere / "runs/pretrained" / name / "mark"
    mark.touch()
    wm.load(name)
    assert mark.exists()
    assert not (SHIPPED / name / "mark").exists()


def test_a_folder_of_that_name_goes_before(elsewhere: Path):
    Path("ball").mkdir()
    assert run_folder(Path("ball")) == Path("ball")
    with pytest.raises(UserError, match=r"^ball: "):
        wm.load("ball")


def test_two_that_ask_at_once_have_one_copy(elsewhere: Path, monkeypatch: pytest.MonkeyPatch):
    def slowly(source: Path, folder: Path, dirs_exist_ok: bool) -> None:
        monkeypatch.undo()
        monkeypatch.chdir(elsewhere)
        assert run_folder(Path("ball")) == Path("runs/pretrained/ball")  # the other one is quicker
        shutil.copytree(source, folder, dirs_exist_ok=dirs_exist_ok)

    monkeypatch.setattr(pretrained.shutil, "copytree", slowly)
    assert wm.load(run_folder(Path("ball"))).run.model == "dvbf"
    assert os.listdir("runs/pretrained") == ["ball"]


def test_a_copy_that_cannot_be_made_or_is_another_is_said(elsewhere: Path):
    place = Path("runs/pretrained/ball")
    place.mkdir(parents=True)
    (place / "mine").touch()
    with pytest.raises(UserError, match=r"^runs/pretrained/ball: cannot be written: Directory not empty$"):
        wm.load("ball")
    assert os.listdir("runs/pretrained") == ["ball"]
    (place / "card.json").write_text(json.dumps(card("ball") | {"machine": "another"}))
    with pytest.raises(UserError, match="is not the run ball that comes with this version"):
        wm.load("ball")


def test_an_unknown_name_is_no_run(elsewhere: Path):
    with pytest.raises(UserError, match=r"^pendulums: "):
        wm.load("pendulums")
    assert not os.listdir(elsewhere)


def test_the_sample_shows_the_world_where_the_data_is_gone(elsewhere: Path):
    folder = run_folder(Path("pendulum"))
    path, data = shown_data(Run.open(folder))
    assert path == folder / "sample.npz"
    assert data.world is not None
    path.unlink()
    with pytest.raises(UserError, match="is not there any more"):
        shown_data(Run.open(folder))


def test_rounding_takes_the_nearest_of_fewer_bits():
    numbers = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    step = 2.0 ** (np.floor(np.log2(np.abs(numbers))) - KEPT_BITS)
    np.testing.assert_array_equal(rounded(numbers), np.round(numbers / step) * step)
    np.testing.assert_array_equal(rounded(np.arange(3)), np.arange(3))
