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
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from worldmodel.imagination.rollouts import roll_out

from baselines.options import StaticVAEOptions
from baselines.speed.hlo import Program, compiled_text
from baselines.speed.matmuls import Matmuls
from baselines.static_vae import StaticVAE, vae_loss
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import dvbf_loss
from worldmodel.models.networks import initialise
from worldmodel.training.options import DVBFOptions
from worldmodel.training.seeds import Trainings
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import collect_pendulum

if TYPE_CHECKING:
    from baselines.speed.torch_dvbf import TorchDVBF, TorchTraining

HIDDEN_SIZE = 176
"""makes the DVBF one of 197,800 parameters; all other options are the defaults"""
STEPS = 8000
"""that the schedules are made for; fewer are timed"""
LEARNING_RATE = 2e-3
VAE_BATCH = 128
"""frames in an update of the static VAE, as scripts/train_vae.py has it"""
IMAGINED = 100
"""frames in a rollout"""
PIXELS = 16

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
    def options(self) -> DVBFOptions:
        return DVBFOptions(hidden_size=HIDDEN_SIZE, latent_size=self.latent)

    def data(self) -> Sequences:
        return collect(self.length)

    def dvbf(self) -> DVBF:
        """Untrained."""
        scale = FrameScale.of(self.data(), "the benchmark's data")
        return nnx.merge(*initialise(lambda rngs: DVBF(scale, self.options, rngs), jax.random.key(0)))

    def trainings(self) -> Trainings:
        data = self.data()
        scale = FrameScale.of(data, "the benchmark's data")
        return Trainings(
            lambda rngs: DVBF(scale, self.options, rngs),
            lambda *arguments: dvbf_loss(*arguments, steps=STEPS),
            data,
            list(range(self.seeds)),
            STEPS,
            self.batch,
            LEARNING_RATE,
            self.length,
        )

    def torch_training(self) -> "TorchTraining":
        from baselines.speed.torch_dvbf import TorchTraining

        data, model = self.data(), self.torch_dvbf()
        return TorchTraining(model, data.frames, data.actions, STEPS, self.batch, LEARNING_RATE, self.length)

    def torch_dvbf(self) -> "TorchDVBF":
        """The twin, on all cores that this process may use, or on the GPU when JAX is."""
        import torch

        from baselines.speed.torch_dvbf import twin

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return twin(self.dvbf()).to("cuda" if jax.default_backend() == "gpu" else "cpu")


@functools.cache
def collect(length: int) -> Sequences:
    """500 sequences of the paper's pendulum."""
    return collect_pendulum(seed=0, sequences=500, length=length, params=PAPER, size=PIXELS)


def vae_training() -> Trainings:
    data = Setting().data()
    scale = FrameScale.of(data, "the benchmark's data")
    build = lambda rngs: StaticVAE(scale, StaticVAEOptions(), rngs)  # noqa: E731
    return Trainings(build, vae_loss, data, [0], STEPS, VAE_BATCH, LEARNING_RATE, 1)


def device() -> dict[str, str]:
    """What JAX computes on."""
    return {"platform": jax.default_backend(), "device": jax.devices()[0].device_kind}


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def take_turns(jobs: Jobs, turns: int, seconds: float) -> Rates:
    """How much of each job is done in a second, in each of so many turns; a turn is about so many seconds of each."""
    counts = {}
    for name, job in jobs.items():
        job(1)  # compiles
        once = elapsed(job, 3) / 3
        counts[name] = max(1, round(seconds / once))
    rates: Rates = {name: [] for name in jobs}
    for _ in range(turns):
        for name, job in jobs.items():
            rates[name].append(counts[name] / elapsed(job, counts[name]))
    return rates


def elapsed(job: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    job(count)
    return time.perf_counter() - start


def times(factor: float, rates: list[float]) -> list[float]:
    return [factor * rate for rate in rates]


def training_jobs() -> Jobs:
    """Updates of the DVBF, of its twin and of the static VAE."""
    jobs: Jobs = {"dvbf": Setting().trainings().train, "vae": vae_training().train}
    return jobs | {"twin": Setting().torch_training().train} if has_torch() else jobs


def training(turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second."""
    return {"rates": take_turns(training_jobs(), turns, seconds)}


def number_of_parameters() -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(Setting().dvbf(), nnx.Param)))


def imagining(turns: int, seconds: float) -> dict[str, Any]:
    """Frames per second: of 64 rollouts along the mean, decoded ("dvbf", "twin"), of their matrix products alone
    ("matmuls"), and of what scripts/imagine.py does with 64 sequences ("roll_out": filter the first frames, imagine,
    filter all, decode)."""
    setting = Setting()
    batch, model = setting.batch, setting.dvbf()
    long = collect_pendulum(1, batch, setting.options.initial_frames + IMAGINED, PAPER, PIXELS)
    random = np.random.default_rng(0)
    latent = random.standard_normal((batch, setting.latent), np.float32)
    actions = random.standard_normal((batch, IMAGINED, 1), np.float32)
    no_noise = np.zeros((batch, IMAGINED, setting.latent), np.float32)

    @jax.jit
    def imagine(latent: jax.Array, actions: jax.Array) -> jax.Array:
        return jnp.clip(model.emission(model.imagine(latent, actions, jnp.asarray(no_noise))).mean(), 0, 1)

    def ours(count: int) -> None:
        for _ in range(count):
            np.asarray(imagine(latent, actions))

    def rolled_out(count: int) -> None:
        for _ in range(count):
            roll_out(model, long, setting.options.initial_frames, jax.random.key(0))

    products = Matmuls(Program(compiled_text(imagine.lower(latent, actions))).matmuls())
    jobs: Jobs = {"dvbf": ours, "matmuls": products.run, "roll_out": rolled_out}
    if has_torch():
        import torch

        other = setting.torch_dvbf()
        inputs = [torch.from_numpy(array).to(next(other.parameters()).device) for array in (latent, actions, no_noise)]

        def twin(count: int) -> None:
            with torch.inference_mode():
                for _ in range(count):
                    other.decode(other.imagine(*inputs)).clamp(0, 1).cpu().numpy()

        jobs["twin"] = twin
    rates = take_turns(jobs, turns, seconds)
    frames = {"roll_out": batch * long.length}
    return {"rates": {name: times(frames.get(name, batch * IMAGINED), rate) for name, rate in rates.items()}}


def latency(calls: int) -> dict[str, Any]:
    """Seconds of each call at batch 1, from a uint8 frame to the latent in NumPy: of one filter step ("step"), and of a
    fresh look at as many frames as the initial state needs ("look", as scripts/play.py does)."""
    setting = Setting()
    model, seen = setting.dvbf(), setting.options.initial_frames
    data = setting.data()
    frames, actions = data.frames[:1, :seen], data.actions[:1, : seen - 1]
    scale, noise_scale = model.scale, setting.options.final_noise_scale

    @jax.jit
    def step(latent: jax.Array, action: jax.Array, frame: jax.Array) -> jax.Array:
        scaled = action / scale.action_scale
        mixture = model.transition.mixture(latent, scaled)
        prior = model.transition.distribution(latent, scaled, mixture, noise_scale)
        features = model.encode(as_unit_frames(frame))
        return model.posterior(prior, mixture, scaled, features).mean()

    @jax.jit
    def look(frames: jax.Array, actions: jax.Array) -> jax.Array:
        observed, no_noise = jnp.ones((1, seen - 1), bool), jnp.zeros((1, seen, setting.latent))
        return model.filter(as_unit_frames(frames), actions, observed, no_noise).latents[:, -1]

    def ours_step(_: int) -> np.ndarray:
        return np.asarray(step(latent, actions[:, 0], frames[:, -1]))

    def ours_look(_: int) -> np.ndarray:
        return np.asarray(look(frames, actions))

    latent = np.array(ours_look(1))
    jobs: dict[str, Jobs] = {"dvbf": {"step": ours_step, "look": ours_look}}
    if has_torch():
        jobs["twin"] = torch_latency_jobs(setting, frames, actions, latent)
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


def torch_latency_jobs(setting: Setting, frames: np.ndarray, actions: np.ndarray, latent: np.ndarray) -> Jobs:
    """The same two of the twin, for uint8 frames `[1, K, H, W]`, actions `[1, K-1, A]` and a latent `[1, Z]`."""
    import torch

    model, noise_scale = setting.torch_dvbf(), setting.options.final_noise_scale
    device, action_scale = next(model.parameters()).device, model.scale.action_scale
    observed = torch.ones((1, actions.shape[1]), dtype=torch.bool, device=device)
    no_noise = torch.zeros((1, frames.shape[1], setting.latent), device=device)
    with torch.inference_mode():
        prepared = model.prepare(noise_scale)

    @torch.inference_mode()
    def step(_: int) -> np.ndarray:
        seen, before = (torch.from_numpy(array).to(device) for array in (frames[:, -1:], latent))
        action = torch.from_numpy(actions[:, 0]).to(device) / action_scale
        mixture, prior = model.predict(before, action, prepared)
        measured = model.measure(model.encode(seen.float() / 255)[:, 0])
        return model.correct(prior, mixture, measured, prepared).mean.cpu().numpy()

    @torch.inference_mode()
    def look(_: int) -> np.ndarray:
        seen, between = (torch.from_numpy(array).to(device) for array in (frames, actions))
        return model.filter(seen.float() / 255, between, observed, no_noise, noise_scale).latents[:, -1].cpu().numpy()

    return {"step": step, "look": look}


def collecting(turns: int) -> dict[str, Any]:
    """Frames of side 16 per second of `collect_pendulum`, in NumPy, and the seconds that a call costs however little it
    collects (the compiler): from a short call and a long one in each turn."""
    length, few, many = 15, 100, 150_000

    def seconds(count: int) -> float:
        return elapsed(lambda count: collect_pendulum(0, count, length, PAPER, PIXELS), count)

    seconds(many)
    pairs = [(seconds(few), seconds(many)) for _ in range(turns)]
    once = float(np.median([short for short, _ in pairs]))
    return {"rates": {"collect": [many * length / long for _, long in pairs]}, "seconds_of_a_call": once}


def first_use(what: str, started: float) -> dict[str, float]:
    """Seconds from the process's start (as time.time() gave it) until everything is imported, from there until the
    first update (or rollout) is done, and the process's largest memory in bytes then."""
    setting, start = Setting(), time.time()
    if what == "dvbf":
        setting.trainings().train(1)
    elif what == "vae":
        vae_training().train(1)
    elif what == "roll_out":
        model, data = setting.dvbf(), setting.data()
        roll_out(model, data.take(slice(0, 64)), setting.options.initial_frames, jax.random.key(0))
    elif what == "twin":
        setting.torch_training().train(1)
    elif what != "imports":
        raise ValueError(what)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return {"imports": start - started, "seconds": time.time() - start, "peak_bytes": 1024 * int(peak[1])}


def many_seeds(counts: list[int], turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second of all seeds together, for every number of seeds that are trained at once."""
    trainings = {str(count): Setting(seeds=count).trainings() for count in counts}
    rates = take_turns({name: each.train for name, each in trainings.items()}, turns, seconds)
    return {"rates": {name: times(int(name), rate) for name, rate in rates.items()}}


def cost(axis: str, values: list[int], turns: int, seconds: float) -> dict[str, Any]:
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
