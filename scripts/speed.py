"""Measure how fast training, imagining, filtering and collecting are, beside a PyTorch twin and the machine's limits.

Every measurement has a process of its own: on one core with one thread, or on all cores, and on the GPU where JAX sees
one. Writes results/speed.json, SPEED.md and docs/speed.png. Without PyTorch (pip install -e '.[bench]') the twin is
left out. Quality is another matter: scripts/benchmark.py.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.support.files import UserError, require_writable, write_json
from worldmodel.support.script import COMPILE_QUICKLY, run_script

ALL_CORES = {"JAX_PLATFORMS": "cpu"}
ONE_THREAD = ALL_CORES | {
    "XLA_FLAGS": f"{COMPILE_QUICKLY} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
}
ANY_DEVICE: dict[str, str] = {}
"""environments of a measurement"""
AXES = {"batch": [16, 64, 128, 256], "length": [8, 15, 30, 60], "latent": [8, 16, 32, 64], "side": [16, 32, 64, 111]}
"""of baselines.speed.measures.Setting, and their values; a quick try has the first two"""
BUDGETS = [300, 500, 700, 1000, 1500, 2000, 3000, 4000]
"""steps of the trainings whose quality is measured"""


@dataclasses.dataclass(frozen=True)
class Options:
    quick: bool = False
    """Only try it: few and short turns. The figures are rough."""
    out: Path = Path()
    """Folder for results/, docs/ and SPEED.md; files there are replaced, the published ones when it is this
    repository."""


def main(options: Options) -> None:
    from baselines.speed import measures
    from baselines.speed.goals import medians_of_goals
    from baselines.speed.page import write_speed_page
    from baselines.speed.quality import quality
    from worldmodel.support.machine import machine, versions

    for written in ("results/speed.json", "docs/speed.png", "SPEED.md"):
        require_writable(options.out / written)
    started, quick, before = time.monotonic(), options.quick, committed(options.out)
    turns: dict[str, Any] = {"turns": 2, "seconds": 0.2} if quick else {"turns": 7, "seconds": 1.0}
    halves = turns | {"seconds": turns["seconds"] / 2}
    axes = {axis: values[:2] if quick else values for axis, values in AXES.items()}

    def compared(place: dict[str, str], axes: dict[str, list[int]]) -> dict[str, Any]:
        both = {each.__name__: measure(each, place, **turns) for each in (measures.training, measures.imagining)}
        grown = {axis: measure(measures.growth, place, axis=axis, values=axes[axis], **halves) for axis in axes}
        return both | {"growth": grown}

    found: dict[str, Any] = {
        "machine": machine(),
        "versions": versions("jax", "jaxlib", "torch"),
        "load": round(os.getloadavg()[0], 1),
        "quick": quick,
        "turns": turns["turns"],
        "turn_seconds": turns["seconds"],
    }
    if not measures.has_torch:
        print("PyTorch is not installed: its twin is left out (pip install -e '.[bench]')")
    budgets, seeds = ([20, 40], 2) if quick else (BUDGETS, 10)
    found["quality"] = measure(quality, ALL_CORES, steps=budgets, seeds=seeds)
    found["one_core"] = compared(ONE_THREAD, axes) | {
        "default_training": measure(measures.default_training, ONE_THREAD, **turns),
        "limits": measure(measures.limits, ONE_THREAD, **turns),
        "latency": measure(measures.latency, ONE_THREAD, calls=200 if quick else 2000),
    }
    found["all_cores"] = compared(ALL_CORES, {"seeds": [1, 8] if quick else [1, 2, 4, 8]}) | {
        "collecting": measure(measures.collecting, ALL_CORES, **turns)
    }
    found["first_use"] = {}
    for what in ("imports", "dvbf", "vae", "roll_out", *["twin"] * measures.has_torch):
        with tempfile.TemporaryDirectory() as cache:
            found["first_use"][what] = {
                kind: measure(measures.first_use, ALL_CORES, cache, what=what, started=time.time())
                for kind in ("cold", "warm")
            }
    found["scripts"] = starts(1 if quick else 3)
    found["demo"] = [] if quick else [demo()]
    if (device := measure(measures.device, ANY_DEVICE))["platform"] == "gpu":
        found["gpu"] = device | compared(ANY_DEVICE, {"seeds": [1, 64]})
    found["minutes"] = round((time.monotonic() - started) / 60, 1)
    if before is not None:
        found["before"] = {"machine": before["machine"], "goals": medians_of_goals(before)}
    write_json(options.out / "results" / "speed.json", found)
    write_speed_page(options.out)
    print(f"{options.out / 'SPEED.md'}: written in {found['minutes']:g} minutes; picture: docs/speed.png")


def measure(function: Callable, place: dict[str, str], cache: str | None = None, **arguments: Any) -> Any:
    """What a function of baselines/speed/ gives in a fresh process, with a compilation cache in the folder
    `cache` if one is given."""
    told = [str(arguments[key]) for key in ("axis", "what") if key in arguments]
    print(", ".join([f"{len(cores_of(place))} cores", function.__name__, *told]), end=": ", flush=True)
    start = time.monotonic()
    words = run(place, cache, "-m", "baselines.speed", function.__module__, function.__name__, json.dumps(arguments))
    print(f"{time.monotonic() - start:.0f} s")
    return json.loads(words.splitlines()[-1])


def cores_of(place: dict[str, str]) -> list[int]:
    """The last core for one thread, else all that this process may use."""
    return sorted(os.sched_getaffinity(0))[-1 if place is ONE_THREAD else 0 :]


def run(place: dict[str, str], cache: str | None, *arguments: object) -> str:
    """What Python prints. Raises UserError when it fails."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"TQDM_DISABLE": "1"} | place | ({"JAX_COMPILATION_CACHE_DIR": cache} if cache else {}),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores_of(place)),
    )
    if result.returncode != 0:
        raise UserError(f"{arguments[0]} failed with status {result.returncode}; its last words are above")
    return result.stdout


def starts(turns: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each script as a whole, on a small run: with an empty cache and, with what that compiled, later."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, run_folder, fresh = folder / "data.npz", folder / "run", (folder / str(i) for i in itertools.count())

        def seconds(cache: str, script: str, *arguments: object) -> float:
            start = time.monotonic()
            run(ALL_CORES, str(folder / cache), Path(__file__).with_name(script), *arguments)
            return time.monotonic() - start

        def seconds_to_page(cache: str) -> float:
            """Until play.py prints its address."""
            start = time.monotonic()
            script = Path(__file__).with_name("play.py")
            command = [sys.executable, str(script), "--run", str(run_folder), "--port", "0"]
            env = os.environ | ALL_CORES | {"JAX_COMPILATION_CACHE_DIR": str(folder / cache)}
            with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                opened = bool(process.stdout.readline())
                took = time.monotonic() - start
                process.terminate()
            if not opened:
                raise UserError("play.py failed; its last words are above")
            return took

        train = ("train.py", "dvbf", "--data", data, "--steps", 100)
        seconds("others", "collect.py", "--out", data, "--sequences", 60, "--frames", 100)
        seconds("others", *train, "--out", run_folder)
        calls: dict[str, Callable[[str], float]] = {
            "train.py": lambda cache: seconds(cache, *train, "--out", next(fresh)),
            "imagine.py": lambda cache: seconds(
                cache, "imagine.py", "--run", run_folder, "--data", data, "--out", next(fresh)
            ),
            "evaluate.py": lambda cache: seconds(
                cache, "evaluate.py", "--run", run_folder, "--data", data, "--out", next(fresh)
            ),
            "report.py": lambda cache: seconds(cache, "report.py", "--run", run_folder),
            "play.py": seconds_to_page,
        }
        found = {}
        for name, call in calls.items():
            print(f"all cores, {name} as a whole", end=": ", flush=True)
            cold, *warm = (call(f"cache of {name}") for _ in range(turns + 1))
            print(f"{cold:.1f} s, then {min(warm):.1f} s")
            found[name] = {"cold": [cold], "warm": warm}
        return found


def demo() -> float:
    """Seconds of scripts/demo.py with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        print("all cores, demo.py", end=": ", flush=True)
        start = time.monotonic()
        run(ALL_CORES, f"{folder}/cache", Path(__file__).with_name("demo.py"), "--out", f"{folder}/demo")
        print(f"{time.monotonic() - start:.0f} s")
        return time.monotonic() - start


def committed(out: Path) -> dict[str, Any] | None:
    """The results/speed.json of the last commit of the repository `out`; None where there is none."""
    found = subprocess.run(
        ["git", "-C", out, "show", "HEAD:./results/speed.json"], capture_output=True, text=True, check=False
    )
    return json.loads(found.stdout) if found.returncode == 0 else None


if __name__ == "__main__":
    run_script(main, Options, __doc__)
