"""Acting from the command line, end to end: a run of frames of a pendulum plans, learns a policy, and acts on it."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_ok, run_script, untrained_dvbf, width
from flax import nnx
from PIL import Image, ImageSequence

from worldmodel.data.storage import load_sequences
from worldmodel.planning import reward
from worldmodel.planning.record import read_acted
from worldmodel.planning.saved import saved_policy
from worldmodel.planning.spaces import ActionSpace
from worldmodel.runs.folder import DataCard, Run
from worldmodel.worlds.pendulum import optimum

STEPS = 12
PLAN = ("--episodes", 2, "--steps", STEPS, "--horizon", 4, "--samples", 8, "--seed", 5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A DVBF that has learnt nothing, on sequences of Pendulum-v1, whose reward is learnt hardly better and whose
    optimum is a coarse one."""
    folder = tmp_path_factory.mktemp("acting")
    path, collected = folder / "data.npz", ("--sequences", 12, "--frames", 12, "--size", 8, "--workers", 1)
    assert_ok(run_script("collect.py", "--env", "Pendulum-v1", "--out", path, *collected))
    data = load_sequences(path)
    model = untrained_dvbf(data)
    options = {"model": dataclasses.asdict(model.options)}
    Run.create(folder / "run", "dvbf", options, DataCard.of(path, data)).save_checkpoint(
        0, {"params": nnx.state(model, nnx.Param)}
    )
    coarse = partial(optimum.optimal_returns, grid=optimum.Grid(80, 65, 5, 21))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward, "STEPS", 100)
        patch.setattr(optimum, "optimal_returns", coarse)
        yield folder / "run"


def written(folder: Path) -> dict:
    """What every acting leaves."""
    assert {path.name for path in folder.iterdir()} == {"episodes.json", "episodes.gif", "returns.png"}
    found = json.loads((folder / "episodes.json").read_text())
    assert len(found["returns"]) == len(found["lengths"]) == 2
    assert found["lengths"] == [STEPS, STEPS]
    assert 0 < found["seconds_per_decision"] < 10
    assert 0 <= found["upright"] <= 1
    assert 0 <= found["rest_degrees"] <= 180
    assert width(folder / "returns.png") > 500
    with Image.open(folder / "episodes.gif") as image:
        lasting = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(lasting) > 1
    assert sum(lasting) >= 50 * STEPS  # in real time, 0.05 s a step
    return found


def test_it_plans_and_leaves_what_is_promised(run: Path):
    result = run_script("plan.py", "--run", run, *PLAN)
    assert_ok(result)
    found = written(run / "acting" / "cem")
    assert (found["env"], found["planner"], found["steps"], found["policy"]) == ("Pendulum-v1", "cem", STEPS, False)
    assert found["options"]["horizon"] == 4
    assert set(found["floors"]) == {"zero actions", "random actions"}
    assert set(found["ceilings"]) == {"the same planner on the true physics", "optimum"}
    every = [found["returns"], *found["floors"].values(), found["ceilings"]["the same planner on the true physics"]]
    for returns in every:
        assert (np.array(returns) <= np.array(found["ceilings"]["optimum"]) + 0.05).all()
    # three stretches of four steps in each episode
    np.testing.assert_allclose(np.reshape(found["real"], (2, 3)).sum(axis=1), found["returns"], rtol=1e-5)
    assert len(found["dreamt"]) == 6
    assert f"{np.mean(found['returns']):.1f}" in result.stdout
    assert read_acted(run / "acting" / "cem").summary() in result.stdout
    # the reward is kept beside it, and learnt once
    kept = (run / "acting" / "reward.npz").stat().st_mtime_ns
    assert_ok(run_script("plan.py", "--run", run, *PLAN, "--no-ceilings", "--out", run.parent / "again"))
    assert (run / "acting" / "reward.npz").stat().st_mtime_ns == kept
    again = written(run.parent / "again")
    assert again["returns"] == found["returns"]
    assert again["ceilings"] == {}


def test_a_policy_is_learnt_and_played(run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("cem"))
    learn = ("--horizon", 5, "--updates", 60, "--dreams", 8, "--hidden-size", 8)
    result = run_script("learn_policy.py", "--run", copy, *learn)
    assert_ok(result)
    assert "--planner policy" in result.stdout
    note = json.loads((copy / "acting" / "policy.json").read_text())
    assert len(note["returns"]) == 60
    assert note["options"]["hidden_size"] == 8
    policy = saved_policy(Run.open(copy), ActionSpace((-2.0,), (2.0,)))
    assert policy is not None
    act = ("--episodes", 2, "--steps", STEPS, "--seed", 5)
    assert_ok(run_script("plan.py", "--run", copy, "--planner", "policy", "--horizon", 4, *act))
    found = written(copy / "acting" / "policy")
    assert found["policy"]
    assert set(found["ceilings"]) == {"optimum"}  # of the true states a policy knows nothing
    assert_ok(run_script("plan.py", "--run", copy, *PLAN, "--no-policy", "--no-ceilings"))
    assert not written(copy / "acting" / "cem")["policy"]


def test_a_goal_is_a_picture_or_a_frame_of_the_data(run: Path, tmp_path: Path):
    with np.load(run.parent / "data.npz") as data:
        Image.fromarray(data["frames"][3, 7]).save(tmp_path / "goal.png")
    at = ("--start", "hanging, at rest", "--no-ceilings")
    assert_ok(run_script("plan.py", "--run", run, *PLAN, *at, "--goal", tmp_path / "goal.png", "--out", tmp_path / "a"))
    assert_ok(run_script("plan.py", "--run", run, *PLAN, *at, "--goal-frame", 3, 7, "--out", tmp_path / "b"))
    found, same = written(tmp_path / "a"), written(tmp_path / "b")
    assert found["wanted"] == "a goal picture"
    assert not found["policy"]
    assert found["reward"] is None
    assert found["start"] is not None
    assert found["returns"] == same["returns"]
    assert_ok(run_script("plan.py", "--run", run, *PLAN, *at, "--goal-frame", 0, 0, "--out", tmp_path / "c"))
    assert written(tmp_path / "c")["dreamt"] != found["dreamt"]


BAD = {
    "no run": ("plan.py --run nothing", "nothing: not a run folder"),
    "no policy": ("plan.py --run {run} --planner policy --episodes 1 --out new", "scripts/learn_policy.py"),
    "unknown planner": ("plan.py --run {run} --planner none --out new", "'none' is no planner; there are cem, "),
    "no horizon": ("plan.py --run {run} --horizon 0 --out new", "--horizon must be at least 1"),
    "elites": ("plan.py --run {run} --elites 2 --out new", "--elites must be between 0 and 1"),
    "temperature": ("plan.py --run {run} --planner mppi --temperature 0 --out new", "--temperature must be above 0"),
    "no episodes": ("plan.py --run {run} --episodes 0 --out new", "--episodes must be at least 1"),
    "no steps": ("plan.py --run {run} --steps 0 --out new", "--steps must be at least 1"),
    "no seed": ("plan.py --run {run} --seed -1 --out new", "--seed must be at least 0"),
    "no such place": ("plan.py --run {run} --start nowhere --out new", "--start must be one of 'hanging, at rest', "),
    "no such world": ("plan.py --run {run} --env Nothing-v0 --out new", "Nothing-v0: cannot be made"),
    "other actions": ("plan.py --run {run} --env CartPole-v1 --out new", "CartPole-v1: actions have size 2"),
    "two goals": ("plan.py --run {run} --goal text.png --goal-frame 0 0 --out new", "not both"),
    "no picture": ("plan.py --run {run} --goal text.png --out new", "text.png: no picture that can be read"),
    "no such picture": ("plan.py --run {run} --goal gone.png --out new", "gone.png: no picture that can be read"),
    "no such frame": ("plan.py --run {run} --goal-frame 12 0 --out new", "12 sequences of 12 frames"),
    "a policy for a goal": (
        "plan.py --run {run} --planner policy --goal-frame 0 0 --out new",
        "a goal needs a planner that searches",
    ),
    "out exists": ("plan.py --run {run} --out there", "there: exists already"),
    "no updates": ("learn_policy.py --run {run} --updates 0", "--updates must be at least 1"),
    "no run to learn in": ("learn_policy.py --run nothing", "nothing: not a run folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_touches_nothing(case: str, run: Path, tmp_path: Path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "there").mkdir()
    command, message = BAD[case]
    script, *arguments = shlex.split(command.format(run=run))
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = run_script(script, *arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"text.png", "there"}
    learnt = {run / "acting" / "reward.npz", run / "acting" / "reward.json"}
    assert {
        path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path not in learnt - set(kept)
    } == kept
