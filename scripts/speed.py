"""Measure how fast training, imagining, filtering and collecting are, beside a PyTorch twin and the machine's limits.

Every measurement has a process of its own: on one core with one thread, or on all cores, and on the GPU where JAX sees
one. Writes results/speed.json, SPEED.md and docs/speed.png. Without PyTorch (pip install -e '.[bench]') the twin is
left out. Quality is another matter: scripts/benchmark.py.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from worldmodel.support.files import UserError, require_writable, write_json
from worldmodel.support.script import run_script


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a measurement is made."""

    name: str
    environment: dict[str, str]
    cores: int | None = None
    """how many of those that this process may use; all by default"""


ONE_THREAD = Place(
    "one thread",
    {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "OMP_NUM_THREADS": "1",
    },
    cores=1,
)
ALL_CORES = Place("all cores", {"JAX_PLATFORMS": "cpu"})
ANY_DEVICE = Place("any device", {})
AXES = {"batch": [16, 64, 128, 256], "length": [8, 15, 30, 60], "latent": [8, 16, 32, 64]}
QUICK_AXES = {"batch": [16, 64], "length": [8, 15], "latent": [8, 16]}
"""of baselines.speed.measures.Setting, and their values"""


@dataclasses.dataclass(frozen=True)
class Options:
    quick: bool = False
    """Only try it: few and short turns. The figures are rough."""
    out: Path = Path()
    """Folder for results/, docs/ and SPEED.md; files there are replaced, the published ones when it is this
    repository."""


def main(options: Options) -> None:
    from baselines.speed.page import write_speed_page
    from worldmodel.support.machine import machine, versions

    for written in ("results/speed.json", "docs/speed.png", "SPEED.md"):
        require_writable(options.out / written)
    started = time.monotonic()
    turns: dict[str, Any] = {"turns": 2, "seconds": 0.2} if options.quick else {"turns": 7, "seconds": 1.0}
    short: dict[str, Any] = turns if options.quick else {"turns": 5, "seconds": 0.5}
    axes = QUICK_AXES if options.quick else AXES
    seeds = [1, 8] if options.quick else [1, 2, 4, 8]
    found: dict[str, Any] = {
        "machine": machine(),
        "versions": versions("jax", "jaxlib", "torch"),
        "load": round(os.getloadavg()[0], 1),
        "quick": options.quick,
    }
    if found["versions"]["torch"] is None:
        print("PyTorch is not installed: its twin is left out (pip install -e '.[bench]')")
    found["one_core"] = {
        "training": measure("limits.training_and_limits", ONE_THREAD, **turns),
        "profile": profile(),
        "imagining": measure("measures.imagining", ONE_THREAD, **turns),
        "latency": measure("measures.latency", ONE_THREAD, calls=200 if options.quick else 2000),
        "costs": [measure("measures.cost", ONE_THREAD, axis=axis, values=axes[axis], **short) for axis in axes],
    }
    found["all_cores"] = {
        "training": measure("measures.training", ALL_CORES, **turns),
        "imagining": measure("measures.imagining", ALL_CORES, **turns),
        "collecting": measure("measures.collecting", ALL_CORES, turns=turns["turns"]),
        "seeds": measure("measures.many_seeds", ALL_CORES, counts=seeds, **turns),
    }
    found["first_use"] = first_uses(found["versions"]["torch"] is not None)
    found["start"] = starts(2 if options.quick else 5)
    if (device := measure("measures.device", ANY_DEVICE))["platform"] == "gpu":
        found["gpu"] = device | {
            "training": measure("measures.training", ANY_DEVICE, **turns),
            "imagining": measure("measures.imagining", ANY_DEVICE, **turns),
            "seeds": measure("measures.many_seeds", ANY_DEVICE, counts=[1, 64], **turns),
        }
    found["minutes"] = round((time.monotonic() - started) / 60, 1)
    write_json(options.out / "results" / "speed.json", found)
    write_speed_page(options.out)
    print(f"{options.out / 'SPEED.md'}: written in {found['minutes']:g} minutes; picture: docs/speed.png")


def measure(function: str, place: Place, cache: str | None = None, **arguments: Any) -> dict[str, Any]:
    """What a function of baselines/speed/ gives in a fresh process, with a compilation cache in the folder `cache` if
    one is given. Raises UserError when it fails."""
    module, name = function.split(".")
    code = f"import json, sys; from baselines.speed.{module} import {name} as measured; "
    code += "print(json.dumps(measured(**json.loads(sys.argv[1]))))"
    told = [f"{key} {value}" for key, value in arguments.items() if key not in ("turns", "seconds", "started")]
    print(", ".join([place.name, name, *told]), end=": ", flush=True)
    start = time.monotonic()
    cores = sorted(os.sched_getaffinity(0), reverse=True)[: place.cores]
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        env=environment_of(place, cache),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if result.returncode != 0:
        raise UserError(f"{function} failed with status {result.returncode}; its last words are above")
    print(f"{time.monotonic() - start:.0f} s")
    return json.loads(result.stdout.splitlines()[-1])


def environment_of(place: Place, cache: str | None) -> dict[str, str]:
    caching = {"JAX_COMPILATION_CACHE_DIR": cache} if cache else {}
    return os.environ | {"TQDM_DISABLE": "1"} | place.environment | caching


def profile() -> dict[str, Any]:
    """With a compilation cache of its own: programs of an older one know the source as it was when it was made."""
    with tempfile.TemporaryDirectory() as cache:
        return measure("limits.profile", ONE_THREAD, cache, updates=100)


def first_uses(torch: bool) -> dict[str, Any]:
    """Seconds and memory of the first use of each model, with an empty compilation cache and with what it left."""

    def first_use(what: str, cache: str | None = None) -> dict[str, Any]:
        return measure("measures.first_use", ALL_CORES, cache, what=what, started=time.time())

    found: dict[str, Any] = {"imports": {"warm": first_use("imports")}}
    for what in ("dvbf", "vae", "roll_out"):
        with tempfile.TemporaryDirectory() as cache:
            found[what] = {kind: first_use(what, cache) for kind in ("cold", "warm")}
    if torch:
        found["twin"] = {"warm": first_use("twin")}
    return found


def starts(turns: int) -> dict[str, Any]:
    """Seconds of scripts/imagine.py as a whole, on a small run: the first time and, with what that compiled, later."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, run = folder / "data.npz", folder / "run"

        def call(script: str, *arguments: object) -> float:
            start = time.monotonic()
            command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
            environment = environment_of(ALL_CORES, str(folder / f"cache of {script}"))
            result = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
            if result.returncode != 0:
                raise UserError(f"{script} failed with status {result.returncode}; its last words are above")
            return time.monotonic() - start

        print("all cores, imagine.py from its start", end=": ", flush=True)
        call("collect.py", "--out", data, "--sequences", 60, "--frames", 60)
        call("train_dvbf.py", "--data", data, "--out", run, "--steps", 100)
        seconds = [call("imagine.py", "--run", run, "--data", data, "--out", folder / f"{i}") for i in range(turns + 1)]
        print(f"{seconds[0]:.1f} s, then {min(seconds[1:]):.1f} s")
        return {"cold": seconds[:1], "warm": seconds[1:]}


if __name__ == "__main__":
    run_script(main, Options, __doc__)
