"""Every mistake ends in one clear line and exit status 2, and touches nothing."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script

BAD_INPUT = {
    "benchmark of two kinds": ("benchmark.py --models dvbf --ablations --out new", "not both"),
    "benchmark of an unknown model": ("benchmark.py --models none --out new", "none is none of dvbf"),
    "balance of one noise": ("vae_balance.py --observation-stds 0.1 --out new", "at least two"),
    "balance of no noise": ("vae_balance.py --observation-stds 0.1 0 --out new", "--observation-stds"),
    "missing data": ("train.py dvbf --data nothing.npz --out new", "nothing.npz: no such file"),
    "missing data, VAE": ("train.py vae --data nothing.npz --out new", "nothing.npz: no such file"),
    "not an archive": ("train.py dvbf --data text.npz --out new", "text.npz: not an .npz file"),
    "pickles": ("train.py vae --data pickled.npz --out new", "pickled.npz: array 'actions' holds pickled objects"),
    "NaN": ("train.py dvbf --data nan.npz --out new", "nan.npz: actions hold NaN"),
    "shorter than the window": (
        "train.py dvbf --data {data} --out new --window 16",
        "15 frames, but training needs 16",
    ),
    "shorter than the prefix": ("train.py dvbf --data {data} --out new --initial-frames 15", "training needs 16"),
    "window below prefix": ("train.py dvbf --data {data} --out new --window 3", "--window must be at least 6"),
    "no steps": ("train.py dvbf --data {data} --out new --steps 0", "--steps must be at least 1"),
    "no rate": ("train.py vae --data {data} --out new --learning-rate 0", "--learning-rate must be above 0"),
    "no latents": ("train.py vae --data {data} --out new --latent-size 0", "--latent-size must be at least 1"),
    "more visible than there is": (
        "train.py dvbf --data {data} --out new --visible-size 9",
        "--latent-size must be at least 9",
    ),
    "out holds a run": ("train.py dvbf --data {data} --out {run}", "holds a run already"),
    "out holds a run, check": ("train.py vae --data {data} --out {run} --find-lr", "holds a run already"),
    "no noise": ("train.py dvbf --data {data} --out new --final-noise-scale 0", "--final-noise-scale must be above 0"),
    "two modes": ("train.py vae --data {data} --out new --find-lr --overfit-one-batch", "give only one of"),
    "fewer steps than done": ("train.py dvbf --data {data} --out {run} --resume --steps 50", "has 120 steps already"),
    "data is another folder": ("train.py dvbf --data . --out new", ".: is a folder without frames.npy"),
    "no memory": ("train.py dvbf --data {data} --out new --memory-budget 0", "--memory-budget must be above 0"),
    "collect into a folder in a file": ("collect.py --out text.npz/new", "cannot be written"),
    "collect over a folder": ("collect.py --out .", ".: exists already"),
    "one sequence": ("train.py vae --data one.npz --out new", "one.npz: 1 sequence(s)"),
    "imagine into a file": ("imagine.py --run {run} --data {data} --out text.npz", "not an empty folder"),
    "collect into a file": ("collect.py --out text.npz/new.npz", "cannot be written"),
    "crop to nothing": ("collect.py --out new.npz --env Pendulum-v1 --crop 0.001", "--crop must be at least"),
    "crop beyond the picture": (
        "collect.py --out new.npz --env Pendulum-v1 --crop 0.5 --centre 0.5 0.8",
        "--centre must be between 0.25 and 0.75 where --crop is 0.5, not 0.8: what is kept must lie within",
    ),
    "crop beyond the picture, converting": (
        "convert.py small.npz --out new --centre 0.4 0.5",
        "--centre must be between 0.5 and 0.5 where --crop is 1, not 0.4",
    ),
    "a centre for what has no crop": ("collect.py --out new.npz --crop 0.5 --centre 0.3 0.5", "belong to --env"),
    "out is a file": ("train.py dvbf --data {data} --out text.npz", "text.npz: is a file, not a folder"),
    "resume of nothing": ("train.py dvbf --data {data} --out new --resume", "new: not a run folder"),
    "resume of another model": ("train.py vae --data {data} --out {run} --resume", "config.json"),
    "resume with other data": ("train.py dvbf --data small.npz --out {run} --resume", "not the data that"),
    "imagine without a run": ("imagine.py --run nothing --data {data} --out new", "nothing: not a run folder"),
    "imagine other frames": ("imagine.py --run {run} --data large.npz --out new", "large.npz: frames are [20, 20]"),
    "imagine other actions": ("imagine.py --run {run} --data pushed.npz --out new", "pushed.npz: actions have size 3"),
    "imagine with nothing left": ("imagine.py --run {run} --data {data} --out new --context 15", "leave nothing"),
    "imagine too little context": ("imagine.py --run {run} --data {data} --out new --context 4", "at least 5"),
    "imagine over something": ("imagine.py --run {run} --data {data} --out {run}", "nothing is overwritten"),
    "evaluate without a run": ("evaluate.py --run nothing --data {data} --out new", "nothing: not a run folder"),
    "evaluate other frames": ("evaluate.py --run {run} --data large.npz --out new", "large.npz: frames are [20, 20]"),
    "evaluate with nothing left": ("evaluate.py --run {run} --data {data} --out new --context 15", "leave nothing"),
    "an unknown model": ("train.py nothing --data {data} --out new", "'nothing' is no model; there are"),
    "a window for single frames": ("train.py vae --data {data} --out new --window 5", "takes none"),
    "evaluate with few futures": ("evaluate.py --run {run} --data {data} --out new --futures 38", "at least 39"),
    "evaluate over something": ("evaluate.py --run {run} --data {data} --out {run}", "nothing is overwritten"),
    "evaluate with a DVBF as VAE": (
        "evaluate.py --run {run} --data {data} --out new --vae {run}",
        "no model of single frames",
    ),
    "collect over something": ("collect.py --out text.npz", "text.npz: exists already"),
    "collect nothing": ("collect.py --out new.npz --sequences 0", "--sequences must be at least 1"),
    "collect an unknown world": ("collect.py --out new.npz --env Nothing-v0", "Nothing-v0: cannot be made"),
    "collect a preset of a world": ("collect.py --out new.npz --env Pendulum-v1 --max-torque 1", "not to --env"),
    "convert nothing": ("convert.py nothing.h5 --out new", "nothing.h5: no such file"),
    "convert what is no known format": ("convert.py text.npz --out new", "looks like none of the formats hdf5"),
    "convert over something": ("convert.py small.npz --out text.npz", "text.npz: exists already"),
    "convert to nothing": ("convert.py small.npz --out new --size 0", "--size must be at least 4"),
    "convert by an unknown format": ("convert.py small.npz --out new --format none", "'none' is no format"),
    "collect from no place": ("collect.py --out new.npz --start moon", "--start must be one of"),
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
    result = run_script(script, *arguments, cwd=bad_files)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert state() == before
    assert not (bad_files / "new").exists()
