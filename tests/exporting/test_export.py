"""What is written where, what the page of the documentation says of it, and what is refused."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import jax.numpy as jnp
import onnx
import pytest
from conftest import SCRIPTS, SMALL, assert_ok, run_script

import worldmodel as wm
from worldmodel.exporting.onnx_operations import TRANSLATED
from worldmodel.exporting.program import OPERATIONS
from worldmodel.models.dvbf.model import DVBF

DOCS = (SCRIPTS.parent / "docs" / "export.md").read_text()


@pytest.fixture(scope="module")
def folder(dvbf_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robot") / "onnx"
    result = run_script("export.py", "--run", dvbf_run, "--onnx", folder)
    assert_ok(result)
    assert sorted(path.name for path in folder.iterdir()) == [
        "begin.onnx",
        "card.json",
        "decode.onnx",
        "filter_step.onnx",
        "imagine_step.onnx",
        "vector.onnx",
    ]
    for line in result.stdout.splitlines():
        path, _, size = line.partition(": ")
        assert re.fullmatch(r"\d+\.\d kB", size)
        assert float(size[:-3]) == pytest.approx(Path(path).stat().st_size / 1000, abs=0.051)
    assert str(folder / "decode.onnx") in result.stdout
    return folder


def test_the_card_says_what_is_in_the_files(folder: Path, dvbf_run: Path):
    card = json.loads((folder / "card.json").read_text())
    assert card["run"] == dvbf_run.name  # and not where it is kept
    assert (card["model"], card["world"], card["first_frames"]) == ("dvbf", None, 5)
    assert card["files"]["filter_step.onnx"]["inputs"]["action"]["shape"] == [1, 1]
    assert list(card["files"]["imagine_step.onnx"]["outputs"]) == ["next_state"]
    for name, described in card["files"].items():
        model = onnx.load(folder / name)
        assert [each.version for each in model.opset_import] == [card["opset"]] == [18]
        for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            shapes = {each.name: [size.dim_value for size in each.type.tensor_type.shape.dim] for each in values}
            assert shapes == {each: told["shape"] for each, told in described[side].items()}
            assert all(each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for each in values)


def test_the_loop_of_the_documentation_runs(folder: Path):
    [loop] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    printed = io.StringIO()
    with contextlib.chdir(folder.parent), contextlib.redirect_stdout(printed):
        exec(loop, {})
    assert printed.getvalue() == "(1, 16, 16)\n"


def test_the_documentation_says_what_onnx_lacks():
    named = DOCS.partition("ONNX lacks")[2].partition(" of those")[0]
    assert set(re.findall(r"`(\w+)`", named)) == OPERATIONS - TRANSLATED.keys()


def test_the_api_writes_both(dvbf_run: Path, tmp_path: Path):
    written = wm.export(dvbf_run, tmp_path / "dream.html", onnx=tmp_path / "onnx", seed=3)
    assert [path.name for path in written][:2] == ["dream.html", "begin.onnx"]
    assert all(path.stat().st_size > 0 for path in written)


@pytest.fixture(scope="module")
def vae_run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "vae"
    assert_ok(run_script("train.py", "vae", "--data", data_file, "--out", run, *SMALL))
    return run


def refused(*arguments: object) -> str:
    """The one line of a call that ends with status 2."""
    result = run_script("export.py", *arguments)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("kind", ["--out", "--onnx"])
def test_a_model_of_single_frames_is_refused(kind: str, vae_run: Path, tmp_path: Path):
    line = refused("--run", vae_run, kind, tmp_path / "new.html")
    assert "holds a run of vae, a model of single frames, which imagines nothing" in line
    assert not (tmp_path / "new.html").exists()


def test_what_cannot_be_is_one_line(dvbf_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "file"
    file.write_text("")
    run = ("--run", dvbf_run)
    assert "nothing to write" in refused(*run)
    assert "is a folder" in refused(*run, "--out", tmp_path)
    assert "is a folder" in refused(*run, "--out", tmp_path / "new.html", "--onnx", tmp_path / "new.html")
    assert "new.pdf: the page is an .html file" in refused(*run, "--out", tmp_path / "new.pdf")
    for option, value in (("--context", 5), ("--data", "nothing.npz")):
        assert f"{option} is of the page alone" in refused(*run, "--onnx", tmp_path / "new", option, value)
    assert "is a file" in refused(*run, "--onnx", file)
    assert "--onnx takes one run" in refused(*run, *run, "--onnx", tmp_path / "new")
    assert "--context must be at least 5" in refused(*run, "--out", tmp_path / "new.html", "--context", "2")
    assert "nothing.npz: no such file" in refused(*run, "--out", tmp_path / "new.html", "--data", "nothing.npz")
    both = ("--out", tmp_path / "new.html", "--onnx", tmp_path / "new")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "onnx is not installed; to install it: pip install 'worldmodel[onnx]'" in refused(*run, *both)
    assert list(tmp_path.iterdir()) == [file]


def test_both_are_written_or_none(dvbf_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where ONNX lacks an operation, where its checker finds fault, and where one of the places cannot be written."""
    file, page = tmp_path / "file", tmp_path / "new.html"
    file.write_text("")
    with pytest.raises(wm.UserError, match="cannot be written: Not a directory"):
        wm.export(dvbf_run, page, onnx=file / "new")
    with monkeypatch.context() as patch:
        patch.delitem(TRANSLATED, "add")
        with pytest.raises(wm.UserError, match="cannot be written as ONNX: it needs add"):
            wm.export(dvbf_run, page, onnx=tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setitem(TRANSLATED, "add", lambda graph, step: graph.node("Nothing", graph.inputs(step)))
        with pytest.raises(
            wm.UserError, match=r"^begin: cannot be written as ONNX: its checker says: No Op .* Nothing"
        ):
            wm.export(dvbf_run, page, onnx=tmp_path / "new")
    assert list(tmp_path.iterdir()) == [file]


def test_a_model_with_a_primitive_of_its_own_is_told_which(
    dvbf_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = DVBF.imagine_step
    monkeypatch.setattr(DVBF, "imagine_step", lambda self, *given: jnp.sort(step(self, *given)))
    line = refused("--run", dvbf_run, "--out", tmp_path / "new.html")
    assert "cannot be exported: it needs the primitive sort" in line
    assert not (tmp_path / "new.html").exists()
