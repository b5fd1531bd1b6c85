"""Seeds trained together, on one device and on several."""

import json
import subprocess
import sys
import textwrap

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
from worldmodel.training.seeds import make_mesh, train_seeds


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


def test_runs_of_many_seeds_are_runs_of_their_own(data_file, tmp_path):
    group, alone = tmp_path / "group", tmp_path / "alone"
    train = ("train.py", "dvbf", "--data", data_file, *SMALL_DVBF)
    assert_ok(run_script(*train, "--out", group, "--seed", 3, "--seeds", 2))
    assert_ok(run_script(*train, "--out", alone, "--seed", 4))
    assert sorted(path.name for path in group.iterdir()) == ["seed_3", "seed_4"]

    def curve(run) -> list[dict]:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    for one, other in zip(curve(group / "seed_4"), curve(alone), strict=True):
        assert one["step"] == other["step"]
        assert one.keys() == other.keys()
        if "loss" in one:
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    together, single = (json.loads((run / "config.json").read_text())["options"] for run in (group / "seed_4", alone))
    assert together | {"out": str(alone)} == single
    assert curve(group / "seed_3")[1]["loss"] != curve(group / "seed_4")[1]["loss"]

    refused = run_script(*train, "--out", group, "--seed", 4, "--seeds", 2)
    assert refused.returncode == 2
    assert "seed_4: holds a run already" in refused.stderr
    assert not (group / "seed_5").exists()
    # together or alone, each goes on from where it was
    resume = ("train.py", "dvbf", "--data", data_file, "--resume")
    assert_ok(run_script(*resume, "--out", group, "--steps", 150))
    assert_ok(run_script(*resume, "--out", group / "seed_3", "--steps", 700))
    assert [curve(group / f"seed_{seed}")[-1]["step"] for seed in (3, 4)] == [700, 150]
    before = {path: path.read_bytes() for path in group.rglob("*") if path.is_file()}
    apart = run_script(*resume, "--out", group, "--steps", 800)
    assert apart.returncode == 2
    assert "seed_4 is at step 150" in apart.stderr
    assert all(path.read_bytes() == was for path, was in before.items() if path.name != "config.json")


MANY_DEVICES = """
    import json
    import jax
    import numpy as np
    from worldmodel.worlds.pendulum.world import collect_pendulum
    from worldmodel.models.dvbf.model import DVBF
    from worldmodel.worlds.pendulum.physics import PAPER
    from worldmodel.models.dvbf.options import DVBFOptions
    from worldmodel.data.scale import FrameScale
    from worldmodel.training.options import Recipe
    from worldmodel.training.seeds import Trainings

    data = collect_pendulum(0, 64, 15, PAPER, 16)
    scale = FrameScale.of(data, "data")
    options = DVBFOptions(base_matrices=3, hidden_size=8, feature_size=6, mixture_hidden_size=5, initial_frames=2)
    batches = []

    class Watched(DVBF):
        def loss(self, batch, key, progress):
            jax.debug.inspect_array_sharding(batch.frames, callback=batches.append)
            return super().loss(batch, key, progress)

    found = {}
    for seeds, budget in (((0,), 1e9), ((0, 1, 2, 3), 1e9), ((0,), 1e5), ((0, 1, 2, 3), 1e5)):
        recipe = Recipe(seeds, steps=30, batch_size=8, learning_rate=1e-3, window=8, memory_budget=budget)
        trainings = Trainings(lambda rngs: Watched(scale, options, rngs), data, recipe)
        curve = [[metrics["loss"] for metrics in trainings.train(10)] for _ in range(3)]
        trainings.close()
        found[f"{len(seeds)} {'whole' if budget > data.nbytes else 'streamed'}"] = {
            "curve": curve,
            "mesh": dict(trainings.mesh.shape),
            "seeds_on_one": trainings._state.step.addressable_shards[0].data.shape[0],
            # one seed alone is not mapped over, and its batches have no axis of seeds
            "batch_on_one": batches[-1].shard_shape((len(seeds), 8, 8, 16, 16)[len(seeds) == 1 :]),
        }
    print(json.dumps(found))
"""


def test_many_devices_give_the_same_curve_and_share_the_work():
    def curves(devices: int) -> dict:
        code = f"import os\nos.environ['XLA_FLAGS'] += ' --xla_force_host_platform_device_count={devices}'\n"
        code += textwrap.dedent(MANY_DEVICES)
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    one, eight = curves(1), curves(8)
    for seeds in ("1", "4"):
        np.testing.assert_allclose(one[f"{seeds} streamed"]["curve"], one[f"{seeds} whole"]["curve"], rtol=1e-6)
        for data in ("whole", "streamed"):
            np.testing.assert_allclose(eight[f"{seeds} {data}"]["curve"], one[f"{seeds} {data}"]["curve"], rtol=2e-4)
            assert one[f"{seeds} {data}"]["mesh"] == {"seed": 1, "data": 1}
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
