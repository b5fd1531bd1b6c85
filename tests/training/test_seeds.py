"""Seeds trained together, on one device and on several."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import SMALL_DVBF, TINY, assert_ok, run_script
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import Trainings, make_mesh, train_seeds
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum


def test_seeds_trained_together_equal_those_trained_alone(pendulum_data: Sequences):
    scale = FrameScale.of(pendulum_data, "data")

    def train(*seeds: int) -> list[list[np.ndarray]]:
        recipe = Recipe(seeds, steps=30, batch_size=4, learning_rate=1e-3, window=8)
        models = train_seeds("dvbf", lambda rngs: DVBF(scale, DVBFOptions(**TINY), rngs), pendulum_data, recipe)
        return [jax.tree.leaves(nnx.split(model)[1]) for model in models]

    together, alone = train(0, 5, 9), train(5)[0]
    for a, b in zip(together[1], alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert any(np.abs(a - b).max() > 0.01 for a, b in zip(together[0], together[1], strict=True))


def test_runs_of_many_seeds_are_runs_of_their_own(dvbf_run, data_file, tmp_path):
    group, alone = tmp_path / "group", dvbf_run
    train = ("train.py", "dvbf", "--data", data_file, *SMALL_DVBF)
    assert_ok(run_script(*train, "--out", group, "--seeds", 2))
    assert sorted(path.name for path in group.iterdir()) == ["seed_0", "seed_1"]

    def curve(run) -> list[dict]:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    for one, other in zip(curve(group / "seed_0"), curve(alone), strict=True):
        assert one["step"] == other["step"]
        assert one.keys() == other.keys()
        if "loss" in one:
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    together, single = (json.loads((run / "config.json").read_text())["options"] for run in (group / "seed_0", alone))
    assert together | {"out": str(alone)} == single
    assert curve(group / "seed_0")[1]["loss"] != curve(group / "seed_1")[1]["loss"]

    refused = run_script(*train, "--out", group, "--seed", 1, "--seeds", 2)
    assert refused.returncode == 2
    assert "seed_1: holds a run already" in refused.stderr
    assert not (group / "seed_2").exists()
    # together or alone, each goes on from where it was
    resume = ("train.py", "dvbf", "--data", data_file, "--resume")
    assert_ok(run_script(*resume, "--out", group, "--steps", 150))
    assert_ok(run_script(*resume, "--out", group / "seed_0", "--steps", 700))
    assert [curve(group / f"seed_{seed}")[-1]["step"] for seed in (0, 1)] == [700, 150]
    before = {path: path.read_bytes() for path in group.rglob("*") if path.is_file()}
    apart = run_script(*resume, "--out", group, "--steps", 800)
    assert apart.returncode == 2
    assert "seed_1 is at step 150" in apart.stderr
    assert all(path.read_bytes() == was for path, was in before.items() if path.name != "config.json")


def train_on_all_devices(*cases: tuple[tuple[int, ...], str]) -> dict[str, dict]:
    """Of trainings of these seeds, with their data "whole" in memory or "streamed": losses, and who has what."""
    data = collect_pendulum(0, 64, 15, PAPER, 16)
    scale, batches = FrameScale.of(data, "data"), []

    class Watched(DVBF):
        def loss(self, batch, key, progress):
            jax.debug.inspect_array_sharding(batch.frames, callback=batches.append)
            return super().loss(batch, key, progress)

    found = {}
    for seeds, kept in cases:
        budget = {"whole": 1e9, "streamed": 1e5}[kept]
        recipe = Recipe(seeds, steps=30, batch_size=8, learning_rate=1e-3, window=8, memory_budget=budget)
        trainings = Trainings(lambda rngs: Watched(scale, DVBFOptions(**TINY), rngs), data, recipe)
        curve = [[metrics["loss"] for metrics in trainings.train(10)] for _ in range(3)]
        trainings.close()
        found[f"{len(seeds)} {kept}"] = {
            "curve": curve,
            "mesh": dict(trainings.mesh.shape),
            "seeds_on_one": trainings._state.step.addressable_shards[0].data.shape[0],
            # one seed alone is not mapped over, and its batches have no axis of seeds
            "batch_on_one": batches[-1].shard_shape((len(seeds), 8, 8, 16, 16)[len(seeds) == 1 :]),
        }
    return found


ONE, FOUR = (0,), (0, 1, 2, 3)


def test_many_devices_give_the_same_curve_and_share_the_work():
    code = f"""if True:
        import os, sys
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 " + os.environ["XLA_FLAGS"]
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]}
        import json, test_seeds
        cases = [(seeds, kept) for seeds in {(ONE, FOUR)} for kept in ("whole", "streamed")]
        print(json.dumps(test_seeds.train_on_all_devices(*cases)))"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    eight = json.loads(result.stdout.splitlines()[-1])
    # that one device streams what it has in memory is tested where data is
    one = train_on_all_devices((ONE, "whole"), (FOUR, "whole"))
    for seeds in ("1", "4"):
        assert one[f"{seeds} whole"]["mesh"] == {"seed": 1, "data": 1}
        for kept in ("whole", "streamed"):
            np.testing.assert_allclose(eight[f"{seeds} {kept}"]["curve"], one[f"{seeds} whole"]["curve"], rtol=2e-4)
    for data in ("whole", "streamed"):
        # one seed: its batch of 8 is split over all devices; four seeds: two devices for each
        single, four = eight[f"1 {data}"], eight[f"4 {data}"]
        assert single["mesh"] == {"seed": 1, "data": 8}
        assert single["batch_on_one"] == [1, 8, 16, 16]
        assert four["mesh"] == {"seed": 4, "data": 2}
        assert four["seeds_on_one"] == 1
        assert four["batch_on_one"] == [1, 4, 8, 16, 16]


def test_devices_that_share_nothing_evenly_stay_idle():
    assert dict(make_mesh(3, 5).shape) == {"seed": 1, "data": 1}
    assert make_mesh(1, 32).axis_names == ("seed", "data")
