"""Every script as a user calls it, on small data: what it writes, and how it resumes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SCRIPTS, SMALL, SMALL_DVBF, assert_ok, run_interrupted, run_script, width
from PIL import Image, ImageSequence


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def parameters(run: Path, step: int) -> dict[str, np.ndarray]:
    with np.load(run / "checkpoints" / f"step_{step:08d}.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive}


def frame_times(animation: Path) -> list[int]:
    """How long each frame of a GIF is shown, in milliseconds."""
    with Image.open(animation) as image:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(image)]


SCRIPT_NAMES = [path.name for path in sorted(SCRIPTS.glob("*.py"))]


HELP = """
import contextlib, io, json, runpy, sys
found = {}
for command in json.loads(sys.argv[1]):
    sys.argv, out = [*command, "--help"], io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code
    found[" ".join(command)] = out.getvalue()
    heavy = {"jax", "flax", "matplotlib", "gymnasium", "numpy"} & set(sys.modules)
    assert not heavy, (command, heavy)
print(json.dumps(found))
"""


def test_help_explains_every_option_without_loading_jax():
    own = ("dkf", "dvbf", "dvbf-mlp", "kvae", "paper-dvbf", "rssm", "rssm-categorical", "vae", "world-models")
    train = str(SCRIPTS / "train.py")
    commands = [[str(SCRIPTS / name)] for name in SCRIPT_NAMES] + [[train, model] for model in own]
    result = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    models = found.pop(train)
    for model in own:
        assert re.search(rf"^  {model} +The ", models, re.MULTILINE)  # each has a sentence
        size = "belief-size" if model.startswith("rssm") else "latent-size"
        for option in ("data", "out", "seed", "steps", "batch-size", "learning-rate", "resume", size):
            assert f"--{option}" in found[f"{train} {model}"]
    # of those that write into the run, over what they read, or nothing
    instead = {"play.py": "--port", "learn_policy.py": "--updates", "figures.py": "--write", "pretrained.py": "--place"}
    for command, text in found.items():
        assert instead.get(Path(command.split()[0]).name, "--out") in text


def test_collecting_is_seeded(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert_ok(run_script("collect.py", "--out", tmp_path / f"{name}.npz", "--sequences", 5, "--seed", seed))
    a, b, c = (np.load(tmp_path / f"{name}.npz")["frames"] for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_trained_dvbf_leaves_a_whole_run_folder(dvbf_run: Path):
    config = json.loads((dvbf_run / "config.json").read_text())
    assert config["model"] == "dvbf"
    assert config["options"]["model"]["hidden_size"] == 16
    steps = [line["step"] for line in metrics(dvbf_run)]
    assert steps == [0, 100, 120]
    last = metrics(dvbf_run)[-1]
    assert last["elbo"] > metrics(dvbf_run)[1]["elbo"]
    assert last["elbo"] == pytest.approx(last["reconstruction"] - last["kl"], abs=1e-3)
    assert {"kl_initial", "kl_step", "validation_open_loop_mse", "validation_latent_growth"} <= set(last)
    assert width(dvbf_run / "curves.png") > 500
    assert len(frame_times(dvbf_run / "learning.gif")) == 2  # before the first step, and at the end
    assert all(path.suffix == ".npz" for path in (dvbf_run / "checkpoints").iterdir())


def test_imagination_is_written_as_promised(dvbf_run: Path, data_file: Path, tmp_path: Path):
    out = tmp_path / "imagined"
    assert_ok(run_script("imagine.py", "--run", dvbf_run, "--data", data_file, "--context", 6, "--out", out))
    with np.load(data_file) as data, np.load(out / "imagined.npz", allow_pickle=False) as imagined:
        np.testing.assert_array_equal(imagined["true_frames"], data["frames"])
        np.testing.assert_array_equal(imagined["actions"], data["actions"])
        np.testing.assert_array_equal(imagined["states"], data["states"])
        frames = imagined["imagined_frames"]
        assert frames.shape == data["frames"].shape
        assert frames.dtype == np.float32
        assert 0 <= frames.min() < frames.max() <= 1
        assert imagined["posterior_latents"].shape == imagined["imagined_latents"].shape == (64, 15, 8)
        assert imagined["imagined_latents"].dtype == np.float32
        truth = data["frames"] / 255
    written = json.loads((out / "metrics.json").read_text())
    error = written["rows"]["model"]["mse"]["value"]
    np.testing.assert_allclose(error, ((truth - frames)[:, 6:] ** 2).mean(axis=(0, 2, 3)), rtol=1e-3)
    assert set(written["r2_linear"]) == {"sin angle", "cos angle", "angular_velocity"}
    assert len(written["rows"]["model"]["angle_error_degrees"]["value"]) == 9
    assert sum(frame_times(out / "rollouts.gif")) == 1500  # 15 frames of 0.1 s
    assert width(out / "film_strip.png") > 800


def test_evaluation_is_written_as_promised(dvbf_run: Path, data_file: Path, tmp_path: Path):
    vae, run = tmp_path / "vae", tmp_path / "dvbf"
    out = run / "evaluation"
    shutil.copytree(dvbf_run, run)
    assert_ok(run_script("train.py", "vae", "--data", data_file, "--out", vae, *SMALL))
    evaluate = ("evaluate.py", "--run", run, "--data", data_file, "--vae", vae)
    result = run_script(*evaluate, "--context", 6, "--futures", 40, "--sequences", 10)
    assert_ok(result)
    found = json.loads((out / "evaluation.json").read_text())
    assert (found["sequences"], found["context"], found["horizon"]) == (10, 6, 9)
    rivals = {"repeat last frame", "mean frame", "zero actions", "shuffled actions", "still-frame model reconstruction"}
    assert {"model"} | rivals <= set(found["rows"])
    assert len(found["rows"]["model"]["energy_error"]["value"]) == 9
    assert found["samples"]["futures"] == 40
    assert f"{1000 * found['rows']['model']['mse']['value'][8]:.2f}" in result.stdout
    assert sum(frame_times(out / "rollouts.gif")) == sum(frame_times(out / "counterfactuals.gif")) == 1500
    pictures = ("errors", "futures", "reliability", "film_strip", "counterfactuals", "latent_cloud", "latent_paths")
    for name in (*pictures, "base_matrices", "eigenvalues", "decoder"):
        assert width(out / f"{name}.png") > 600

    assert_ok(run_script("report.py", "--run", run))
    page = (run / "report.html").read_text()
    assert re.findall(r"Not there yet. This makes it: <code>python scripts/(\w+)\.py", page) == []
    assert page.count("<img") == len(list(run.rglob("*.png"))) + len(list(run.rglob("*.gif")))
    assert f"{1000 * found['rows']['model']['mse']['value'][8]:.2f}" in page


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        ("vae", ("--hidden-size", 16, "--steps", 400)),
        ("dvbf", (*SMALL_DVBF, "--steps", 300)),
    ],
)
def test_a_resumed_run_equals_one_that_was_never_stopped(model: str, steps: tuple, data_file: Path, tmp_path: Path):
    whole, parts, total = tmp_path / "whole", tmp_path / "parts", steps[-1]
    assert_ok(run_script("train.py", model, "--data", data_file, "--out", whole, *steps))
    stopped = run_interrupted(100, "train.py", model, "--data", data_file, "--out", parts, *steps)
    assert stopped.returncode == 130
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["step_00000100.npz"]  # its state is saved

    assert_ok(run_script("train.py", model, "--data", data_file, "--out", parts, "--resume"))
    for name, value in parameters(whole, total).items():
        np.testing.assert_array_equal(value, parameters(parts, total)[name], err_msg=name)
    varying = "steps_per_second"
    strip = [[{k: v for k, v in line.items() if k != varying} for line in metrics(run)] for run in (whole, parts)]
    assert strip[0] == strip[1]


def test_a_trained_vae_reports_its_posterior_and_moves(data_file: Path, tmp_path: Path):
    result = run_script("train.py", "vae", "--data", data_file, "--out", tmp_path / "run", *SMALL)
    assert_ok(result)
    assert "posterior std" in result.stdout
    posterior = json.loads((tmp_path / "run" / "posterior.json").read_text())
    assert len(posterior["kl"]) == len(posterior["std"]) == 4
    assert posterior["in_words"][0] in result.stdout
    assert len(frame_times(tmp_path / "run" / "learning.gif")) >= 2
    assert len(frame_times(tmp_path / "run" / "latent_walk.gif")) > 50


def test_a_resumed_run_may_be_made_longer_but_not_changed(dvbf_run: Path, data_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(dvbf_run, run)
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", run, "--resume", "--learning-rate", 0.1)
    assert result.returncode == 2
    assert "a resumed run keeps its options, but learning_rate was 0.01" in result.stderr
    result = run_script("train.py", "dvbf", "--data", data_file, "--out", run, "--resume", "--hidden-size", 64)
    assert result.returncode == 2
    assert re.search(r"a resumed run keeps its options, but hidden_size was \d+$", result.stderr.strip())
    assert_ok(run_script("train.py", "dvbf", "--data", data_file, "--out", run, "--resume", "--steps", 150))
    assert [line["step"] for line in metrics(run)] == [0, 100, 120, 150]
    # an option that the project did not have yet has its default
    config = json.loads((run / "config.json").read_text())
    del config["options"]["model"]["precision"]
    (run / "config.json").write_text(json.dumps(config))
    assert_ok(run_script("train.py", "dvbf", "--data", data_file, "--out", run, "--resume", "--steps", 160))


def test_one_batch_is_overfitted(data_file: Path, tmp_path: Path):
    """A VAE's; the README's is a DVBF's."""
    result = run_script("train.py", "vae", "--data", data_file, "--out", tmp_path, "--overfit-one-batch")
    assert_ok(result)
    assert result.stdout.startswith("pass: ")
    assert width(tmp_path / "overfit_one_batch.png") > 500


def test_overfitting_fails_when_it_should(data_file: Path, tmp_path: Path):
    """The planted fault: a learning rate at which nothing is learnt."""
    arguments = ("--data", data_file, "--out", tmp_path / "out", "--overfit-one-batch", "--learning-rate", 1e-7)
    result = run_script("train.py", "vae", *arguments)
    assert result.returncode == 1
    assert result.stdout.startswith("FAIL: ")


def test_a_learning_rate_is_suggested(data_file: Path, tmp_path: Path):
    """A VAE's; the README's is a DVBF's."""
    result = run_script("train.py", "vae", "--data", data_file, "--out", tmp_path, "--find-lr")
    assert_ok(result)
    found = re.search(r"--learning-rate (\S+);", result.stdout)
    assert found
    assert 1e-4 < float(found.group(1)) < 3e-2
    assert width(tmp_path / "find_lr.png") > 500


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_last_good_state(data_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    arguments = ("--data", data_file, "--out", run, *SMALL_DVBF, "--observation-std", 1e-30)
    result = run_script("train.py", "dvbf", *arguments)
    assert result.returncode == 2
    assert "loss is no longer a finite number at step 1;" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (run / "checkpoints").exists()
