"""Every script as a user calls it, on small data: what it writes, how it resumes, and what it says to a mistake."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SCRIPTS, run_script
from PIL import Image, ImageSequence

SMALL = ("--hidden-size", 16, "--steps", 120)
SMALL_DVBF = (*SMALL, "--feature-size", 8, "--base-matrices", 4, "--batch-size", 8)


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def parameters(run: Path, step: int) -> dict[str, np.ndarray]:
    with np.load(run / "checkpoints" / f"step_{step:08d}.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive}


def width(picture: Path) -> int:
    with Image.open(picture) as image:
        image.load()
        return image.width


def frame_times(animation: Path) -> list[int]:
    """How long each frame of a GIF is shown, in milliseconds."""
    with Image.open(animation) as image:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(image)]


def assert_ok(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def dvbf_run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "dvbf"
    result = run_script("train_dvbf.py", "--data", data_file, "--out", run, *SMALL_DVBF)
    assert_ok(result)
    # a hundred steps teach little, and it must say so
    problems = json.loads((run / "health.json").read_text())["problems"]
    assert problems
    assert all(problem.upper() in result.stdout for problem in problems)
    return run


SCRIPT_NAMES = [path.name for path in sorted(SCRIPTS.glob("*.py"))]


@pytest.mark.parametrize("script", SCRIPT_NAMES)
def test_help_explains_every_option_without_loading_jax(script: str):
    code = (
        f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path({str(SCRIPTS / script)!r}, run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'jax', 'flax', 'matplotlib', 'gymnasium', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--out" in result.stdout
    if script.startswith("train"):
        for option in ("data", "out", "seed", "steps", "batch-size", "learning-rate", "resume"):
            assert f"--{option}" in result.stdout


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
    assert set(written["mse"]) == {"model", "repeat_last_frame", "mean_frame", "shuffled_actions"}
    np.testing.assert_allclose(written["mse"]["model"], ((truth - frames)[:, 6:] ** 2).mean(axis=(0, 2, 3)), rtol=1e-3)
    repeated = ((truth[:, 6:] - truth[:, 5:6]) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(written["mse"]["repeat_last_frame"], repeated, rtol=1e-3)
    assert set(written["r2_linear"]) == {"sin angle", "cos angle", "angular_velocity"}
    assert len(written["angle_error_degrees"]["model"]) == 9
    assert sum(frame_times(out / "rollouts.gif")) == 1500  # 15 frames of 0.1 s
    assert width(out / "film_strip.png") > 800


@pytest.mark.parametrize(
    ("script", "steps"),
    [
        ("train_vae.py", ("--hidden-size", 16, "--steps", 4000)),
        ("train_dvbf.py", ("--hidden-size", 16, "--base-matrices", 4, "--batch-size", 8, "--steps", 1500)),
    ],
)
def test_a_resumed_run_equals_one_that_was_never_stopped(script: str, steps: tuple, data_file: Path, tmp_path: Path):
    whole, parts, total = tmp_path / "whole", tmp_path / "parts", steps[-1]
    assert_ok(run_script(script, "--data", data_file, "--out", whole, *steps))
    command = [sys.executable, str(SCRIPTS / script), "--data", str(data_file), "--out", str(parts)]
    process = subprocess.Popen([*command, *map(str, steps)], stderr=subprocess.PIPE, text=True)
    while not (parts / "checkpoints").exists() or not list((parts / "checkpoints").glob("step_*.npz")):
        assert process.poll() is None, "the training ended before it could be interrupted"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    stopped_at = max(int(path.stem[5:]) for path in (parts / "checkpoints").glob("step_*.npz"))
    assert 0 < stopped_at < total
    assert [line["step"] for line in metrics(parts)][-1] == stopped_at  # the last state is saved

    assert_ok(run_script(script, "--data", data_file, "--out", parts, "--resume"))
    for name, value in parameters(whole, total).items():
        np.testing.assert_array_equal(value, parameters(parts, total)[name], err_msg=name)
    varying = "steps_per_second"
    strip = [[{k: v for k, v in line.items() if k != varying} for line in metrics(run)] for run in (whole, parts)]
    assert strip[0] == strip[1]


def test_a_trained_vae_reports_its_posterior_and_moves(data_file: Path, tmp_path: Path):
    result = run_script("train_vae.py", "--data", data_file, "--out", tmp_path / "run", *SMALL)
    assert_ok(result)
    assert "posterior std" in result.stdout
    posterior = json.loads((tmp_path / "run" / "posterior.json").read_text())
    assert len(posterior["kl_nats"]) == len(posterior["std"]) == 4
    assert posterior["in_words"][0] in result.stdout
    assert len(frame_times(tmp_path / "run" / "learning.gif")) >= 2
    assert len(frame_times(tmp_path / "run" / "latent_walk.gif")) > 50


def test_a_resumed_run_may_be_made_longer_but_not_changed(dvbf_run: Path, data_file: Path, tmp_path: Path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(dvbf_run, run)
    result = run_script("train_dvbf.py", "--data", data_file, "--out", run, "--resume", "--learning-rate", 0.1)
    assert result.returncode == 2
    assert "a resumed run keeps its options, but learning_rate was 0.002" in result.stderr
    assert_ok(run_script("train_dvbf.py", "--data", data_file, "--out", run, "--resume", "--steps", 150))
    assert [line["step"] for line in metrics(run)] == [0, 100, 120, 150]


BAD_INPUT = {
    "benchmark of two kinds": ("benchmark.py --models dvbf --ablations --out new", "not both"),
    "benchmark of an unknown model": ("benchmark.py --models none --out new", "none is none of dvbf"),
    "balance of one noise": ("vae_balance.py --observation-stds 0.1 --out new", "at least two"),
    "balance of no noise": ("vae_balance.py --observation-stds 0.1 0 --out new", "--observation-stds"),
    "missing data": ("train_dvbf.py --data nothing.npz --out new", "nothing.npz: no such file"),
    "missing data, VAE": ("train_vae.py --data nothing.npz --out new", "nothing.npz: no such file"),
    "not an archive": ("train_dvbf.py --data text.npz --out new", "text.npz: not an .npz file"),
    "pickles": ("train_vae.py --data pickled.npz --out new", "pickled.npz: array 'actions' holds pickled objects"),
    "NaN": ("train_dvbf.py --data nan.npz --out new", "nan.npz: actions hold NaN"),
    "shorter than the window": (
        "train_dvbf.py --data {data} --out new --window 16",
        "15 frames, but training needs 16",
    ),
    "shorter than the prefix": ("train_dvbf.py --data {data} --out new --initial-frames 15", "training needs 16"),
    "window below prefix": ("train_dvbf.py --data {data} --out new --window 3", "--window must be at least 6"),
    "no steps": ("train_dvbf.py --data {data} --out new --steps 0", "--steps must be at least 1"),
    "no rate": ("train_vae.py --data {data} --out new --learning-rate 0", "--learning-rate must be above 0"),
    "no latents": ("train_vae.py --data {data} --out new --latent-size 0", "--latent-size must be at least 1"),
    "more visible than there is": (
        "train_dvbf.py --data {data} --out new --visible-size 9",
        "--latent-size must be at least 9",
    ),
    "out holds a run": ("train_dvbf.py --data {data} --out {run}", "holds a run already"),
    "out holds a run, check": ("train_vae.py --data {data} --out {run} --find-lr", "holds a run already"),
    "no noise": ("train_dvbf.py --data {data} --out new --final-noise-scale 0", "--final-noise-scale must be above 0"),
    "two modes": ("train_vae.py --data {data} --out new --find-lr --overfit-one-batch", "give only one of"),
    "fewer steps than done": ("train_dvbf.py --data {data} --out {run} --resume --steps 50", "has 120 steps already"),
    "data is a folder": ("train_dvbf.py --data . --out new", ".: is a folder, not a file"),
    "one sequence": ("train_vae.py --data one.npz --out new", "one.npz: 1 sequence(s)"),
    "imagine into a file": ("imagine.py --run {run} --data {data} --out text.npz", "not an empty folder"),
    "collect into a file": ("collect.py --out text.npz/new.npz", "cannot be written"),
    "crop to nothing": ("collect.py --out new.npz --env Pendulum-v1 --crop 0.001", "--crop must be at least"),
    "out is a file": ("train_dvbf.py --data {data} --out text.npz", "text.npz: is a file, not a folder"),
    "resume of nothing": ("train_dvbf.py --data {data} --out new --resume", "new: not a run folder"),
    "resume of another model": ("train_vae.py --data {data} --out {run} --resume", "config.json"),
    "resume with other data": ("train_dvbf.py --data small.npz --out {run} --resume", "not the data that"),
    "imagine without a run": ("imagine.py --run nothing --data {data} --out new", "nothing: not a run folder"),
    "imagine other frames": ("imagine.py --run {run} --data large.npz --out new", "large.npz: frames are [20, 20]"),
    "imagine other actions": ("imagine.py --run {run} --data pushed.npz --out new", "pushed.npz: actions have size 3"),
    "imagine with nothing left": ("imagine.py --run {run} --data {data} --out new --context 15", "leave nothing"),
    "imagine too little context": ("imagine.py --run {run} --data {data} --out new --context 4", "at least 5"),
    "imagine over something": ("imagine.py --run {run} --data {data} --out {run}", "nothing is overwritten"),
    "collect over something": ("collect.py --out text.npz", "text.npz: exists already"),
    "collect nothing": ("collect.py --out new.npz --sequences 0", "--sequences must be at least 1"),
    "collect an unknown world": ("collect.py --out new.npz --env Nothing-v0", "Nothing-v0: cannot be made"),
    "collect a preset of a world": ("collect.py --out new.npz --env Pendulum-v1 --max-torque 1", "not to --env"),
    "episodes too short": (
        "collect.py --out new.npz --env Pendulum-v1 --frames 202 --sequences 1 --workers 1",
        "an episode ended after 200 steps",
    ),
}


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.npz").write_text("hello")

    def save(name: str, frames: tuple[int, ...] = (16, 16), actions: np.ndarray | None = None) -> None:
        random = np.random.default_rng(0)
        actions = np.zeros((4, 14, 1), np.float32) if actions is None else actions
        np.savez(folder / name, frames=random.integers(0, 256, (4, 15, *frames)).astype(np.uint8), actions=actions)

    save("small.npz")
    with np.load(folder / "small.npz") as small:
        np.savez(folder / "one.npz", **{name: small[name][:1] for name in small})
    save("large.npz", frames=(20, 20))
    save("pushed.npz", actions=np.zeros((4, 14, 3), np.float32))
    save("nan.npz", actions=np.full((4, 14, 1), np.nan, np.float32))
    save("pickled.npz", actions=np.array([[[None]]], dtype=object))
    return folder


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_touches_nothing(case: str, bad_files: Path, data_file: Path, dvbf_run: Path):
    command, message = BAD_INPUT[case]
    script, *arguments = shlex.split(command.format(data=data_file, run=dvbf_run))

    def state() -> dict[str, bytes]:
        paths = [path for folder in (bad_files, dvbf_run) for path in folder.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in paths}

    before = state()
    environment = os.environ | {"TQDM_DISABLE": "1"}
    result = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        cwd=bad_files,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert state() == before
    assert not (bad_files / "new").exists()


def test_the_benchmark_writes_every_seed_and_the_tables(tmp_path: Path):
    small = ("--seeds", 2, "--steps", 10, "--sequences", 20, "--rollouts", 20, "--out", tmp_path)
    assert_ok(run_script("benchmark.py", "--models", "dvbf", "static-vae", "paper-dvbf-bayesian", *small))
    result = json.loads((tmp_path / "results" / "dvbf-sequences20.json").read_text())
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    for run in result["runs"]:
        assert run["works"] is False  # ten steps teach nothing, and the table must say so
        nats = run["nats_per_sequence"]
        assert nats["elbo"] <= nats["iwae"]
        assert nats["elbo"] == pytest.approx(nats["reconstruction"] - nats["kl"], rel=1e-4)
    assert_ok(run_script("benchmark.py", "--models", "plain-bound", *small))
    assert_ok(run_script("benchmark.py", "--models", "dvbf", "--world", "frictionless", *small))
    report = (tmp_path / "RESULTS.md").read_text()
    for name in ("dvbf-sequences20", "static-vae-sequences20", "paper-dvbf-bayesian-sequences20"):
        assert f"| {name} | 0/2 | median |" in report
    assert "`plain-bound-sequences20`: none of the parts" in report
    assert "| dvbf-frictionless-sequences20 | median |" in report
    assert "always hanging down" in report
    floors = json.loads((tmp_path / "results" / "floors-and-ceilings.json").read_text())["rows"]
    assert floors["true state, true physics"]["angle_error_degrees"]["500"] < 0.1
    assert floors["oracle: shooting on 5 frames"]["angle_error_degrees"]["10"] < 1


def test_the_balance_study_finds_both_ends(tmp_path: Path):
    arguments = ("--observation-stds", 0.02, 3.0, "--seeds", 1, "--steps", 400)
    assert_ok(run_script("vae_balance.py", *arguments, "--out", tmp_path))
    sharp, blurred = (
        row["runs"][0] for row in json.loads((tmp_path / "results" / "vae-balance.json").read_text())["rows"]
    )
    assert blurred["active_dimensions"] == 0
    assert blurred["reconstruction_share"] > 0.9
    assert sharp["active_dimensions"] == 4
    assert sharp["posterior_std"] < 0.05
    assert sharp["kl"] > 10 > blurred["kl"]
    assert width(tmp_path / "docs" / "vae_balance.png") > 1000


def test_one_batch_is_overfitted(data_file: Path, tmp_path: Path):
    for script in ("train_vae.py", "train_dvbf.py"):
        out = tmp_path / script
        result = run_script(script, "--data", data_file, "--out", out, "--overfit-one-batch")
        assert_ok(result)
        assert result.stdout.startswith("pass: ")
        assert width(out / "overfit_one_batch.png") > 500


def test_overfitting_fails_when_it_should(data_file: Path, tmp_path: Path):
    """The planted fault: a learning rate at which nothing is learnt."""
    arguments = ("--data", data_file, "--out", tmp_path / "out", "--overfit-one-batch", "--learning-rate", 1e-7)
    result = run_script("train_vae.py", *arguments)
    assert result.returncode == 1
    assert result.stdout.startswith("FAIL: ")


def test_a_learning_rate_is_suggested(data_file: Path, tmp_path: Path):
    for script in ("train_vae.py", "train_dvbf.py"):
        out = tmp_path / script
        result = run_script(script, "--data", data_file, "--out", out, "--find-lr")
        assert_ok(result)
        found = re.search(r"--learning-rate (\S+);", result.stdout)
        assert found
        assert 1e-4 < float(found.group(1)) < 3e-2
        assert width(out / "find_lr.png") > 500


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_last_good_state(data_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    arguments = ("--data", data_file, "--out", run, *SMALL_DVBF, "--observation-std", 1e-30)
    result = run_script("train_dvbf.py", *arguments)
    assert result.returncode == 2
    assert "the loss is no longer a finite number at step 100" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (run / "checkpoints").exists()
