"""How fast the models are: each function measures one thing, in the process and on the cores that it finds itself in
(scripts/speed.py gives every one a process of its own), and gives what JSON can hold.

What is compared takes turns, second by second, so that a machine that slows down slows all of it. Rates are lists, one
number for each turn.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from baselines.speed.matmuls import Matmuls, matmuls_of, repeat_product, repeat_triad
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.windows import sample_windows, to_device
from worldmodel.imagination.dreamer import Dreamer, last, roll_out
from worldmodel.models.catalogue import MODELS
from worldmodel.models.protocol import WorldModel, imagine
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import Trainings
from worldmodel.training.step import initial_state, make_optimiser, make_train_step, warm_up_and_cosine
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

if TYPE_CHECKING:
    from baselines.speed.torch_dvbf import TorchDVBF, TorchTraining

HIDDEN_SIZE = 176
"""makes the DVBF one of 197,800 parameters; all other options are the defaults"""
VAE_BATCH = 128
"""frames in an update of the static VAE"""
IMAGINED = 100
"""frames in a rollout"""
PIXELS = 16
SQUARE = 1024
"""side of the matrices whose product gives the machine's peak"""
MEMORY, CACHE = 2**26, 2**18
"""bytes of an array that is too large for the caches, and of one that stays in them"""

Rates = dict[str, list[float]]
Jobs = dict[str, Callable[[int], object]]
"""each does as much as it is told, and is done when it returns"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """The reference, and what is varied in it."""

    batch: int = 64
    length: int = 15
    """frames in a window"""
    latent: int = 8
    """dimensions, four of them visible"""
    seeds: int = 1

    @property
    def recipe(self) -> Recipe:
        return Recipe(seeds=tuple(range(self.seeds)), batch_size=self.batch, window=self.length)

    def data(self) -> Sequences:
        return collect(self.length)

    def trainings(self) -> Trainings:
        return trainings("dvbf", self.data(), self.recipe, hidden_size=HIDDEN_SIZE, latent_size=self.latent)

    def dvbf(self) -> Any:
        """Untrained."""
        return self.trainings().models()[0]

    def torch_dvbf(self) -> "TorchDVBF":
        """The twin, on all cores that this process may use, or on the GPU when JAX is."""
        import torch

        from baselines.speed.torch_dvbf import twin

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return twin(self.dvbf()).to("cuda" if jax.default_backend() == "gpu" else "cpu")

    def torch_training(self) -> "TorchTraining":
        from baselines.speed.torch_dvbf import TorchTraining

        data, recipe = self.data(), self.recipe
        return TorchTraining(
            self.torch_dvbf(),
            data.frames,
            data.actions,
            recipe.steps,
            self.batch,
            recipe.learning_rate,
            self.length,
        )


def trainings(name: str, data: Sequences, recipe: Recipe, **options: Any) -> Trainings:
    """Of a model of the catalogue."""
    model, scale = MODELS.options(name)(**options), FrameScale.of(data, "the benchmark's data")
    return Trainings(lambda rngs: model.build(scale, rngs), data, recipe)


def vae_trainings() -> Trainings:
    return trainings("vae", Setting().data(), Recipe(batch_size=VAE_BATCH, window=1))


@functools.cache
def collect(length: int) -> Sequences:
    """500 sequences of the paper's pendulum."""
    return collect_pendulum(seed=0, sequences=500, length=length, params=PAPER, size=PIXELS)


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def take_turns(jobs: Jobs, turns: int, seconds: float) -> Rates:
    """How much of each job is done in a second, in each of so many turns; a turn is about so many seconds of each."""
    counts = {}
    for name, job in jobs.items():
        job(1)  # compiles
        counts[name] = max(1, round(3 * seconds / elapsed(job, 3)))
    rates: Rates = {name: [] for name in jobs}
    for _ in range(turns):
        for name, job in jobs.items():
            rates[name].append(counts[name] / elapsed(job, counts[name]))
    return rates


def elapsed(job: Callable[[int], object], count: int) -> float:
    """Seconds."""
    start = time.perf_counter()
    job(count)
    return time.perf_counter() - start


def repeated(call: Callable[[], Any]) -> Callable[[int], object]:
    """A job that makes a call so often, one after the other."""

    def job(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(call())

    return job


def scaled(rates: Rates, **factors: float) -> Rates:
    """Rates in other units."""
    return {name: [factors.get(name, 1) * rate for rate in each] for name, each in rates.items()}


def device() -> dict[str, str]:
    """What JAX computes on."""
    return {"platform": jax.default_backend(), "device": jax.devices()[0].device_kind}


def training_jobs() -> Jobs:
    """Updates of the DVBF, of its twin and of the static VAE."""
    jobs: Jobs = {"dvbf": Setting().trainings().train, "vae": vae_trainings().train}
    return jobs | {"twin": Setting().torch_training().train} if has_torch() else jobs


def training(turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second."""
    return {"rates": take_turns(training_jobs(), turns, seconds)}


def training_and_limits(turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second as `training` has them. Beside them, per second: forward passes of the DVBF's loss, passes
    forward and back, passes of an update's matrix products alone; and the machine's peaks: flops of a large product,
    bytes of a triad."""
    setting = Setting()
    recipe, ours = setting.recipe, setting.trainings()
    graphdef, params = nnx.split(ours.models()[0])
    key, progress = jax.random.key(0), jnp.zeros(())
    batch = sample_windows(to_device(setting.data()), key, setting.batch, setting.length)
    optimiser = make_optimiser(warm_up_and_cosine(recipe.learning_rate, recipe.steps))
    update = make_train_step(graphdef, optimiser, recipe.steps)
    counts = matmuls_of(lambda *inputs: update(*inputs)[0], initial_state(params, optimiser, key), batch, key)
    matmuls = Matmuls(counts)

    def loss(params: nnx.State) -> tuple[jax.Array, dict[str, jax.Array]]:
        return nnx.merge(graphdef, params).loss(batch, key, progress)

    forward, both = jax.jit(loss), jax.jit(jax.grad(loss, has_aux=True))
    square = jnp.ones((SQUARE, SQUARE))
    memory, cache = jnp.ones(MEMORY // 4), jnp.ones(CACHE // 4)
    limits: Jobs = {
        "forward": repeated(lambda: forward(params)),
        "both": repeated(lambda: both(params)),
        "matmuls": matmuls.run,
        "peak": lambda count: repeat_product(square, square, count).block_until_ready(),
        "memory": lambda count: repeat_triad(memory, memory, count).block_until_ready(),
        "cache": lambda count: repeat_triad(cache, cache, count).block_until_ready(),
    }
    rates = take_turns(training_jobs() | limits, turns, seconds)
    cost = ours.lower().compile().cost_analysis()
    return {
        "rates": scaled(rates, peak=2 * SQUARE**3, memory=3 * MEMORY, cache=3 * CACHE),
        "products": [
            shape._asdict()
            | where._asdict()
            | {"count": count, "flops": shape.flops, "seconds": statistics.median(matmuls.seconds[shape])}
            for (shape, where), count in counts.items()
        ],
        "traffic_bytes": cost["bytes accessed"],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }


def imagining(turns: int, seconds: float) -> dict[str, Any]:
    """Frames per second: of 64 rollouts along the mean, decoded ("dvbf", "twin"), of their matrix products alone
    ("matmuls"), and of what scripts/imagine.py does with 64 sequences ("roll_out": filter the first frames, imagine,
    decode all)."""
    setting = Setting()
    batch, model = setting.batch, setting.dvbf()
    dreamer, context = Dreamer(model), model.context
    long = collect_pendulum(1, batch, context + IMAGINED, PAPER, PIXELS)
    random = np.random.default_rng(0)
    latent = random.standard_normal((batch, setting.latent), np.float32)
    actions = random.standard_normal((batch, IMAGINED, 1), np.float32)
    products = Matmuls(matmuls_of(lambda *inputs: model.emission(imagine(model, *inputs)).mean(), latent, actions))
    jobs: Jobs = {
        "dvbf": repeated(lambda: dreamer.decode(dreamer.imagine(latent, actions))),
        "matmuls": products.run,
        "roll_out": repeated(lambda: roll_out(dreamer, long, context)),
    }
    if has_torch():
        import torch

        other, no_noise = setting.torch_dvbf(), np.zeros((batch, IMAGINED, setting.latent), np.float32)
        inputs = [torch.from_numpy(array).to(next(other.parameters()).device) for array in (latent, actions, no_noise)]
        jobs["twin"] = torch.inference_mode()(
            repeated(lambda: other.decode(other.imagine(*inputs)).clamp(0, 1).cpu().numpy())
        )
    rates, dreamt = take_turns(jobs, turns, seconds), batch * IMAGINED
    return {"rates": scaled(rates, dvbf=dreamt, twin=dreamt, matmuls=dreamt, roll_out=batch * long.length)}


def latency(calls: int) -> dict[str, Any]:
    """Seconds of each call at batch 1, median and 99th percentile, from a uint8 frame to the state: of one filter step
    ("step"), and of a fresh look at as many frames as the initial state needs ("look")."""
    model: WorldModel = Setting().dvbf()
    dreamer, data, seen = Dreamer(model), Setting().data(), model.context
    frames, actions = data.frames[:1, :seen], data.actions[:1, : seen - 1]
    state = last(dreamer.filter(frames, actions))
    jobs: dict[str, Jobs] = {
        "dvbf": {
            "step": repeated(lambda: dreamer.filter_step(state, actions[:, 0], frames[:, -1])),
            "look": repeated(lambda: dreamer.filter(frames, actions)),
        }
    }
    if has_torch():
        jobs["twin"] = torch_latency_jobs(frames, actions, np.asarray(state))
    found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name, kinds in jobs.items()}
    for _ in range(10):  # turns
        for name, kinds in jobs.items():
            for kind, job in kinds.items():
                job(1)
                found[name][kind] += [elapsed(job, 1) for _ in range(calls // 10)]
    return {
        name: {kind: np.percentile(each, [50, 99]).tolist() for kind, each in kinds.items()}
        for name, kinds in found.items()
    }


def torch_latency_jobs(frames: np.ndarray, actions: np.ndarray, latent: np.ndarray) -> Jobs:
    """The same two of the twin, for uint8 frames `[1, K, H, W]`, actions `[1, K-1, A]` and a latent `[1, Z]`; to
    NumPy."""
    import torch

    model = Setting().torch_dvbf()
    device, noise_scale = next(model.parameters()).device, model.options.final_noise_scale
    observed = torch.ones((1, actions.shape[1]), dtype=torch.bool, device=device)
    no_noise = torch.zeros((1, frames.shape[1], latent.shape[1]), device=device)
    with torch.inference_mode():
        prepared = model.prepare(noise_scale)

    def step() -> np.ndarray:
        seen, before = (torch.from_numpy(array).to(device) for array in (frames[:, -1:], latent))
        action = torch.from_numpy(actions[:, 0]).to(device) / model.scale.action_scale
        mixture, prior = model.predict(before, action, prepared)
        measured = model.measure(model.encode(seen.float() / 255)[:, 0])
        return model.correct(prior, mixture, measured, prepared).mean.cpu().numpy()

    def look() -> np.ndarray:
        seen, between = (torch.from_numpy(array).to(device) for array in (frames, actions))
        return model.filter(seen.float() / 255, between, observed, no_noise, noise_scale).latents[:, -1].cpu().numpy()

    return {"step": torch.inference_mode()(repeated(step)), "look": torch.inference_mode()(repeated(look))}


def collecting(turns: int) -> dict[str, Any]:
    """Frames of side 16 per second of `collect_pendulum`, in NumPy, and the seconds that a call costs however little it
    collects (the compiler): from a short call and a long one in each turn."""
    length, few, many = 15, 100, 150_000

    def seconds(count: int) -> float:
        return elapsed(lambda count: collect_pendulum(0, count, length, PAPER, PIXELS), count)

    seconds(many)
    pairs = [(seconds(few), seconds(many)) for _ in range(turns)]
    once = statistics.median(short for short, _ in pairs)
    return {"rates": {"collect": [many * length / long for _, long in pairs]}, "seconds_of_a_call": once}


def first_use(what: str, started: float) -> dict[str, float]:
    """Seconds from the process's start (as time.time() gave it) until everything is imported, from there until the
    first update (or rollout) is done, and the process's largest memory in bytes then."""
    setting, start = Setting(), time.time()

    def rollouts() -> None:
        model = setting.dvbf()
        roll_out(Dreamer(model), setting.data().take(slice(0, 64)), model.context)

    {
        "imports": lambda: None,
        "dvbf": lambda: setting.trainings().train(1),
        "vae": lambda: vae_trainings().train(1),
        "roll_out": rollouts,
        "twin": lambda: setting.torch_training().train(1),
    }[what]()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return {"imports": start - started, "seconds": time.time() - start, "peak_bytes": 1024 * int(peak[1])}


def many_seeds(counts: list[int], turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second of all seeds together, for every number of seeds that are trained at once."""
    jobs: Jobs = {str(count): Setting(seeds=count).trainings().train for count in counts}
    return {"rates": scaled(take_turns(jobs, turns, seconds), **{name: int(name) for name in jobs})}


def growth(axis: str, values: list[int], turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second of the DVBF and its twin along one axis of the setting; all points take turns."""
    jobs: Jobs = {}
    for value in values:
        setting = dataclasses.replace(Setting(), **{axis: value})
        jobs[f"dvbf {value}"] = setting.trainings().train
        if has_torch():
            jobs[f"twin {value}"] = setting.torch_training().train
    rates = take_turns(jobs, turns, seconds)
    names = ("dvbf", "twin") if has_torch() else ("dvbf",)
    points = [{"value": value, "rates": {name: rates[f"{name} {value}"] for name in names}} for value in values]
    return {"axis": axis, "points": points}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
