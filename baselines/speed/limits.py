"""How far a training step of the DVBF is from what the machine can do: the time of its matrix products alone, the bytes
that it moves, and a profile of where its time goes.
"""

import glob
import tempfile
from collections import Counter, defaultdict
from typing import Any

import jax
import jax.numpy as jnp
from jax.profiler import ProfileData, ProfileOptions

from baselines.speed.hlo import Frame, Instruction, Program, compiled_text
from baselines.speed.matmuls import Matmuls, repeat_product
from baselines.speed.measures import Jobs, Setting, number_of_parameters, take_turns, times, training_jobs
from worldmodel.training.seeds import Trainings

SQUARE = 1024
"""side of the matrices whose product gives the machine's peak"""
MEBIBYTE = 2**20
MEMORY, CACHE = 64 * MEBIBYTE, MEBIBYTE // 4
"""bytes of an array that is too large for the caches, and of one that stays in them"""
PARTS = {
    "sample_windows": "drawing the batch",
    "open_loop_tails": "random numbers",
    "restart_distance": "consistency penalty",
    "DVBF.encode": "encoder",
    "DVBF.initial": "initial state",
    "DVBF.emission": "decoder",
    "DVBF.filter": "filter, step by step",
    "dvbf_loss": "likelihood and KL",
}
"""functions, and what all that they call is a part of; the first of them that an operation comes from decides"""
RANDOM = ("threefry", "_normal", "_uniform", "_randint", "fold_in")


@jax.jit
def repeat_triad(to: jax.Array, other: jax.Array, count: jax.Array | int) -> jax.Array:
    """to = 0.5 * to + other, so often: two arrays are read and one is written."""
    return jax.lax.fori_loop(0, count, lambda _, to: 0.5 * to + other, to)


def program_of(trainings: Trainings) -> Program:
    """The compiled program of `train`."""
    [(data, _)] = trainings._feed.pieces(1)
    return Program(compiled_text(trainings._chunk.lower(trainings._state, data, jnp.asarray(1))))


def training_and_limits(turns: int, seconds: float) -> dict[str, Any]:
    """Updates per second as `measures.training` has them, and beside them passes of the DVBF's matrix products alone
    per second, and the machine's peaks: flops of a large product and bytes of a triad per second."""
    program = program_of(Setting().trainings())
    matmuls = Matmuls(program.matmuls())
    square = jnp.ones((SQUARE, SQUARE))
    memory, cache = (jnp.ones(size // 4) for size in (MEMORY, CACHE))
    limits: Jobs = {
        "matmuls": matmuls.run,
        "peak": lambda count: repeat_product(square, square, count).block_until_ready(),
        "memory": lambda count: repeat_triad(memory, memory, count).block_until_ready(),
        "cache": lambda count: repeat_triad(cache, cache, count).block_until_ready(),
    }
    rates = take_turns(training_jobs() | limits, turns, seconds)
    rates["peak"] = times(2 * SQUARE**3, rates["peak"])
    rates["memory"], rates["cache"] = times(3 * MEMORY, rates["memory"]), times(3 * CACHE, rates["cache"])
    shapes = [
        {**shape._asdict(), "count": count, "flops": shape.flops, "seconds": sorted(matmuls.seconds[shape])}
        for shape, count in matmuls.counts.items()
    ]
    return {
        "rates": rates,
        "shapes": shapes,
        "traffic_bytes": program.traffic(),
        "parameters": number_of_parameters(),
    }


def profile(updates: int) -> dict[str, Any]:
    """Where an update's time goes: the share of each part, forward and backward, in matrix products and in the rest."""
    trainings = Setting().trainings()
    program = program_of(trainings)
    trainings.train(updates)
    with tempfile.TemporaryDirectory() as folder:
        options = ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(folder, profiler_options=options):
            trainings.train(updates)
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        spent = times_of_operations(ProfileData.from_file(path))
    instructions = {i.name: (computation, i) for computation, i, _ in program.executed()}
    parts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, seconds in spent.items():
        if name in instructions:
            kind = "matmul" if any(program.dots(*instructions[name])) else "other"
            instruction = program.described(*instructions[name])
            direction = "backward" if "transpose(jvp" in instruction.rest else "forward"
            parts[part_of(instruction, program.source(instruction))][f"{direction}_{kind}"] += seconds
    total = sum(sum(kinds.values()) for kinds in parts.values())
    return {"parts": {part: {kind: t / total for kind, t in kinds.items()} for part, kinds in parts.items()}}


def times_of_operations(data: ProfileData) -> Counter[str]:
    """Seconds spent in each operation itself, without those that ran within it (in a loop, or while it waited)."""
    spent: Counter[str] = Counter()
    for plane in data.planes:
        for line in plane.lines:
            running: list[tuple[float, str]] = []  # (end, operation), the innermost last
            operations = ((e.start_ns, e.duration_ns, op) for e in line.events if (op := dict(e.stats).get("hlo_op")))
            for start, duration, operation in sorted(operations, key=lambda event: (event[0], -event[1])):
                while running and running[-1][0] <= start:
                    running.pop()
                if running:
                    spent[running[-1][1]] -= duration / 1e9
                spent[operation] += duration / 1e9
                running.append((start + duration, operation))
    return spent


def part_of(instruction: Instruction, source: list[Frame]) -> str:
    """The part of the training step that an instruction belongs to."""
    if any("/optax/" in frame.file for frame in source):
        return "optimiser"
    if any(word in instruction.attribute(r'op_name="([^"]*)"') for word in RANDOM):
        return "random numbers"
    for function, part in PARTS.items():
        if any(frame.function.startswith(function) for frame in source):
            return part
    return "loops, copies and what XLA does not name"
