"""How fast the models are: each function measures one thing, in the process and on the cores that it finds itself in
(scripts/speed.py gives every one a process of its own), and gives what JSON can hold.

What is compared takes turns, second by second, so that a machine that slows down slows all of it. Rates are lists, one
number for each turn.
"""

import dataclasses
import functools
import importlib.util
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from baselines.options import StaticVAEOptions
from baselines.speed.matmuls import Matmuls, matmuls_of, repeat_product, repeat_triad
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.windows import sample_windows, to_device
from worldmodel.imagination.dreamer import Dreamer, last, roll_out
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.models.networks import initialise
from worldmodel.models.protocol import imagine
from worldmodel.training.options import Recipe
from worldmodel.training.seeds import Build, Trainings
from worldmodel.training.step import initial_state, make_optimiser, make_train_step, warm_up_and_cosine
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

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
has_torch = importlib.util.find_spec("torch") is not None


@functools.cache
def collect(length: int, side: int = PIXELS) -> Sequences:
    """500 sequences of the paper's pendulum."""
    return collect_pendulum(seed=0, sequences=500, length=length, params=PAPER, size=side)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The reference, and what is varied in it."""

    batch: int = 64
    length: int = 15
    """frames in a window"""
    latent: int = 8
    """dimensions, four of them visible"""
    seeds: int = 1
    hidden: int = HIDDEN_SIZE
    side: int = PIXELS
    """of a frame"""

    @property
    def recipe(self) -> Recipe:
        return Recipe(tuple(range(self.seeds)), batch_size=self.batch, window=self.length)

    @property
    def build(self) -> Build:
        scale = FrameScale.of(collect(self.length, self.side), "the benchmark's data")
        return functools.partial(DVBFOptions(hidden_size=self.hidden, latent_size=self.latent).build, scale)

    def trainings(self) -> Trainings:
        return Trainings(self.build, collect(self.length, self.side), self.recipe)

    def dvbf(self) -> Any:
        """Untrained."""
        return nnx.merge(*initialise(self.build, jax.random.key(0)))

    def twin(self) -> Any:
        """In PyTorch, on all cores that this process may use, or on the GPU when JAX is."""
        import torch

        from baselines.speed.torch_dvbf import TorchDVBF

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return TorchDVBF(self.dvbf()).to("cuda" if jax.default_backend() == "gpu" else "cpu")

    def twin_training(self) -> Any:
        from baselines.speed.torch_dvbf import TorchTraining

        return TorchTraining(self.twin(), collect(self.length, self.side), self.recipe)


def vae_trainings() -> Trainings:
    data = collect(Setting.length)
    build = functools.partial(StaticVAEOptions().build, FrameScale.of(data, "the benchmark's data"))
    return Trainings(build, data, Recipe(batch_size=VAE_BATCH, window=1))


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


def scaled(rates: Rates, **factors: float) -> Rates:
    """Rates in other units."""
    return {name: [factors.get(name, 1) * rate for rate in each] for name, each in rates.items()}


def device() -> dict[str, str]:
    """What JAX computes on."""
    return {"platform": jax.default_backend(), "name": jax.devices()[0].device_kind}


def training(turns: int, seconds: float) -> Rates:
    """Updates per second of the DVBF, of its twin and of the static VAE."""
    jobs: Jobs = {"dvbf": Setting().trainings().train, "vae": vae_trainings().train}
    if has_torch:
        jobs["twin"] = Setting().twin_training().train
    return take_turns(jobs, turns, seconds)


def default_training(turns: int, seconds: float) -> Rates:
    """Updates per second of the DVBF and of its twin, with all options at their defaults."""
    setting = Setting(batch=Recipe.batch_size, hidden=DVBFOptions().hidden_size)
    jobs: Jobs = {"dvbf": setting.trainings().train}
    if has_torch:
        jobs["twin"] = setting.twin_training().train
    return take_turns(jobs, turns, seconds)


def limits(turns: int, seconds: float) -> dict[str, Any]:
    """Of the DVBF per second: updates, forward passes of its loss, passes forward and back, passes of an update's
    matrix products alone. And the machine's peaks: flops of a large product, bytes of a triad."""
    setting, ours = Setting(), Setting().trainings()
    graphdef, params = nnx.split(ours.models()[0])
    key, progress = jax.random.key(0), jnp.zeros(())
    batch = sample_windows(to_device(collect(setting.length)), key, setting.batch, setting.length)
    optimiser = make_optimiser(warm_up_and_cosine(Recipe.learning_rate, Recipe.steps))
    update = make_train_step(graphdef, optimiser, Recipe.steps)
    counts = matmuls_of(lambda *inputs: update(*inputs)[0], initial_state(params, optimiser, key), batch, key)
    matmuls = Matmuls(counts)

    def loss(params: nnx.State) -> tuple[jax.Array, dict[str, jax.Array]]:
        return nnx.merge(graphdef, params).loss(batch, key, progress)

    forward, both = jax.jit(loss), jax.jit(jax.grad(loss, has_aux=True))
    square, memory, cache = jnp.ones((SQUARE, SQUARE)), jnp.ones(MEMORY // 4), jnp.ones(CACHE // 4)
    jobs: Jobs = {
        "update": ours.train,
        "forward": repeated(lambda: forward(params)),
        "both": repeated(lambda: both(params)),
        "matmuls": matmuls.run,
        "peak": lambda count: repeat_product(square, square, count).block_until_ready(),
        "memory": lambda count: repeat_triad(memory, memory, count).block_until_ready(),
        "cache": lambda count: repeat_triad(cache, cache, count).block_until_ready(),
    }
    rates = take_turns(jobs, turns, seconds)
    cost: Any = ours.program.cost_analysis()
    return {
        "rates": scaled(rates, peak=2 * SQUARE**3, memory=3 * MEMORY, cache=3 * CACHE),
        "products": [
            {**shape._asdict(), **where._asdict(), "count": count, "flops": shape.flops}
            | {"seconds": median(matmuls.seconds[shape])}
            for (shape, where), count in counts.items()
        ],
        "traffic_bytes": cost["bytes accessed"],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }


def imagining(turns: int, seconds: float) -> Rates:
    """Frames per second: of 64 rollouts along the mean, decoded ("dvbf", "twin"), of their matrix products alone
    ("matmuls"), and of 64 sequences whose first frames are filtered, the others imagined and all decoded
    ("roll_out")."""
    batch, model = Setting.batch, Setting().dvbf()
    dreamer, context = Dreamer(model), model.context
    long = collect_pendulum(1, batch, context + IMAGINED, PAPER, PIXELS)
    random = np.random.default_rng(0)
    latent = random.standard_normal((batch, Setting.latent), np.float32)
    actions = random.standard_normal((batch, IMAGINED, 1), np.float32)
    products = Matmuls(matmuls_of(lambda *inputs: model.emission(imagine(model, *inputs)).mean(), latent, actions))
    jobs: Jobs = {
        "dvbf": repeated(lambda: dreamer.decode(dreamer.imagine(latent, actions))),
        "matmuls": products.run,
        "roll_out": repeated(lambda: roll_out(dreamer, long, context)),
    }
    if has_torch:
        import torch

        other, no_noise = Setting().twin(), np.zeros((batch, IMAGINED, Setting.latent), np.float32)
        inputs = [torch.from_numpy(array).to(other.gain.device) for array in (latent, actions, no_noise)]
        rollouts = repeated(lambda: other.decode(other.imagine(*inputs)).clamp(0, 1).cpu().numpy())
        jobs["twin"] = torch.inference_mode()(rollouts)
    frames = dict.fromkeys(("dvbf", "twin", "matmuls"), batch * IMAGINED)
    return scaled(take_turns(jobs, turns, seconds), **frames, roll_out=batch * long.length)


def latency(calls: int) -> Rates:
    """Seconds of each call at batch 1, median and 99th percentile, from a uint8 frame to the state: of one filter step
    and of a fresh look at as many frames as the initial state needs."""
    model = Setting().dvbf()
    dreamer, data, seen = Dreamer(model), collect(Setting.length), model.context
    frames, actions = data.frames[:1, :seen], data.actions[:1, : seen - 1]
    state = last(dreamer.filter(frames, actions))
    jobs: Jobs = {
        "dvbf step": repeated(lambda: dreamer.filter_step(state, actions[:, 0], frames[:, -1])),
        "dvbf look": repeated(lambda: dreamer.filter(frames, actions)),
    }
    if has_torch:
        jobs |= twin_latency_jobs(frames, actions, np.array(state))
    seconds: Rates = {name: [] for name in jobs}
    for _ in range(10):  # turns
        for name, job in jobs.items():
            job(1)
            seconds[name] += [elapsed(job, 1) for _ in range(calls // 10)]
    return {name: np.percentile(each, [50, 99]).tolist() for name, each in seconds.items()}


def twin_latency_jobs(frames: np.ndarray, actions: np.ndarray, latent: np.ndarray) -> Jobs:
    """The same two of the twin, for uint8 frames `[1, K, H, W]`, actions `[1, K-1, A]` and a latent `[1, Z]`."""
    import torch

    model = Setting().twin()
    device, noise_scale = model.gain.device, model.options.final_noise_scale
    observed = torch.ones((1, actions.shape[1]), dtype=torch.bool, device=device)
    no_noise = torch.zeros((1, frames.shape[1], latent.shape[1]), device=device)
    with torch.inference_mode():
        prepared = model.prepare(noise_scale)

    def step() -> np.ndarray:
        seen, action, before = (torch.from_numpy(x).to(device) for x in (frames[:, -1:], actions[:, 0], latent))
        mixture, prior = model.predict(before, action / model.scale.action_scale, prepared)
        measured = model.measure(model.encode(seen.float() / 255)[:, 0])
        return model.correct(prior, mixture, measured, prepared).mean.cpu().numpy()

    def look() -> np.ndarray:
        seen, between = (torch.from_numpy(array).to(device) for array in (frames, actions))
        return model.filter(seen.float() / 255, between, observed, no_noise, noise_scale).latents[:, -1].cpu().numpy()

    return {f"twin {call.__name__}": torch.inference_mode()(repeated(call)) for call in (step, look)}


def collecting(turns: int, seconds: float) -> Rates:
    """Of `collect_pendulum`, in NumPy: frames of side 16 per second in long calls ("frames"), and short calls per
    second ("calls"), whose cost is the compiler's."""
    length, few, many = 15, 100, 150_000
    jobs = {
        "calls": repeated(lambda: collect_pendulum(0, few, length, PAPER, PIXELS)),
        "frames": repeated(lambda: collect_pendulum(0, many, length, PAPER, PIXELS)),
    }
    return scaled(take_turns(jobs, turns, seconds), frames=many * length)


def first_use(what: str, started: float) -> dict[str, float]:
    """Seconds from the process's start (as time.time() gave it) until everything is imported and, but for "imports",
    from there until the first update (or rollout) is done; seconds until then from the process's start; and the
    process's largest memory in bytes then."""
    setting, imported = Setting(), time.time()
    if what == "roll_out":
        model = setting.dvbf()
        roll_out(Dreamer(model), collect(setting.length).take(slice(0, 64)), model.context)
    elif what != "imports":
        {"dvbf": setting.trainings, "vae": vae_trainings, "twin": setting.twin_training}[what]().train(1)
    done = time.time()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    seconds = imported - started if what == "imports" else done - imported
    return {"seconds": seconds, "from_start": done - started, "peak_bytes": 1024 * int(peak[1])}


def growth(axis: str, values: list[int], turns: int, seconds: float) -> list[dict[str, Any]]:
    """Updates per second (of all seeds together) of the DVBF, and of its twin for one seed, along one axis of the
    setting. All points take turns."""
    settings = {value: dataclasses.replace(Setting(), **{axis: value}) for value in values}
    jobs: Jobs = {f"dvbf {value}": setting.trainings().train for value, setting in settings.items()}
    if has_torch:
        ones = {value: setting for value, setting in settings.items() if setting.seeds == 1}
        jobs |= {f"twin {value}": setting.twin_training().train for value, setting in ones.items()}
    points: dict[int, dict[str, Any]] = {value: {"value": value} for value in values}
    for name, rates in take_turns(jobs, turns, seconds).items():
        kind, value = name.split()
        points[int(value)][kind] = [settings[int(value)].seeds * rate for rate in rates]
    return list(points.values())
