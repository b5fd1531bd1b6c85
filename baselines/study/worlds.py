"""The benchmark of worlds: one model with its defaults on every world, several trainings of each.

One task is one training and its judgement, in a process of its own. What is finished is kept.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.study.kept import about_training, finished, result, run_tasks, trained
from worldmodel.support.files import atomic_write, read_json, write_json
from worldmodel.support.machine import machine

TRAINING_SEED, TEST_SEED = 200, 201
"""of the data; by them nothing was chosen"""
HORIZONS = (1, 10, 30, 60, 100)
SHOWN = (-4, 0, 1, 3, 5, 10, 15, 20, 30, 40, 60, 80, 100)
"""frames of a picture, counted from the last that is observed"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the table."""

    about: str
    world: str
    sequences: int
    """to train on"""
    length: int
    """frames of each"""
    test_sequences: int = 200
    test_length: int = 115
    context: int = 15
    size: int | None = None
    """of the frames; None: the world's usual size"""
    more: tuple[tuple[str, Any], ...] = ()
    """arguments of wm.collect"""
    training: tuple[tuple[str, Any], ...] = ()
    """options of the training that are not the defaults"""


MIXED = (("actions", "mixed"),)
PENDULUM = (*MIXED, ("crop", 0.55))

ENTRIES = {
    "pendulum": Entry("the paper's pendulum", "pendulum", 500, 15),
    "Pendulum-v1": Entry("Gymnasium's, as in the demo", "Pendulum-v1", 240, 100, size=24, more=PENDULUM),
    "Acrobot-v1": Entry("two links, the upper one's joint free", "Acrobot-v1", 240, 100, size=32, more=MIXED),
    "MountainCarContinuous-v0": Entry("a car in a valley", "MountainCarContinuous-v0", 240, 100, size=32, more=MIXED),
    "CartPole-v1": Entry(
        "a pole on a cart; episodes end when it falls",
        "CartPole-v1",
        1000,
        60,
        1000,
        60,
        context=10,
        size=32,
        more=(("crop", 0.5), ("centre", (0.5, 0.6))),
    ),
    "ball": Entry("the paper's bouncing ball", "ball", 5000, 15),
    "two balls": Entry("two that hit each other", "ball", 5000, 15, more=(("balls", 2),)),
    "rkn-pendulum": Entry("a pendulum that is shaken, without actions", "rkn-pendulum", 2000, 75),
    "Acrobot-v1, 64 x 64 x 3": Entry(
        "in colour, with convolutional networks; a quarter of the updates",
        "Acrobot-v1",
        240,
        100,
        size=64,
        more=(*MIXED, ("grey", False)),
        training=(("steps", 4000),),
    ),
}


def benchmark(entries: dict[str, Entry], seeds: int, workers: int, out: Path, place: Path) -> None:
    """Every seed of every entry, into `place`, whatever is not there already, and results/worlds.json and WORLDS.md of
    all that is there, into `out`."""
    from baselines.study.worlds_page import draw_worlds, write_worlds_page

    def keep() -> None:
        write_json(out / "results" / "worlds.json", {"machine": machine(), "entries": finished(place, ENTRIES)})

    for name, entry in entries.items():
        prepare(name, entry, place)
    tasks = [(name, entry, seed, place) for name, entry in entries.items() for seed in range(seeds)]
    run_tasks("worlds", "training", one, tasks, workers, keep)
    write_worlds_page(out)
    draw_worlds(out / "docs" / "worlds.png", {name: strip_file(place, name) for name in ENTRIES})


def data_of(name: str, place: Path, part: str) -> Path:
    return place / "data" / f"{name.replace(' ', '_').replace(',', '')}_{part}.npz"


def prepare(name: str, entry: Entry, place: Path) -> None:
    """The data of an entry."""
    import worldmodel as wm

    parts = {
        "train": (TRAINING_SEED, entry.sequences, entry.length),
        "test": (TEST_SEED, entry.test_sequences, entry.test_length),
    }
    for part, (seed, sequences, length) in parts.items():
        path = data_of(name, place, part)
        if not path.exists():
            wm.collect(entry.world, sequences, length, entry.size, seed=seed, out=path, **dict(entry.more))


def one(name: str, entry: Entry, seed: int, place: Path) -> str:
    """Train, judge, and write what came of it; a word on it."""
    if result(place, name, seed).exists():
        return ""
    import worldmodel as wm

    train, test = (data_of(name, place, part) for part in ("train", "test"))
    folder = place / "runs" / f"{data_of(name, place, 'train').stem}_{seed}"
    run = trained("dvbf", train, folder, seed, **dict(entry.training))
    found, strip = judged(run, wm.read(test), test, entry.context)
    if seed == 0:
        with atomic_write(strip_file(place, name)) as file:
            np.savez_compressed(file, allow_pickle=False, **strip)
    figures = read_json(folder / "health.json")["figures"]
    found |= about_training(run) | {
        "about": entry.about,
        "frames": int(run.run.data().lengths().sum()),
        "shape": list(run.run.card.scale.frame_shape),
        "foreseen_frames": figures.get("foreseen_frames"),
        "imagined_frames": figures.get("imagined_frames"),
    }
    write_json(result(place, name, seed), found)
    return f"{name}, seed {seed}: {', '.join(f'{h}: {value:.3f}' for h, value in ratios(found).items())}"


def strip_file(place: Path, name: str) -> Path:
    """Where the frames of an entry's picture are kept."""
    return place / "strips" / data_of(name, place, "strip").name


def judged(
    run: Any,
    data: Any,
    source: Path,
    context: int,
    horizons: Sequence[int] = HORIZONS,
    clean: Any = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Errors of dreams, floors and ceilings at those horizons that the data has room for; and the sequence with the
    median error, as it was and as it was imagined, in a few frames. Where the data has noise on its pixels, `clean` are
    the same sequences without, which imagined frames are held against."""
    from worldmodel.data.sequences import as_unit_frames
    from worldmodel.evaluation.judge import predict, read_frames, reader_of
    from worldmodel.evaluation.seen import mean_of_sequences
    from worldmodel.imagination.dreamer import roll_out
    from worldmodel.reporting.evaluating import Dreaming

    task = Dreaming.of(run.run, run.model, data, source, context, None)
    data, world = task.data, task.world
    assert world is not None
    assert data.states is not None
    truth = as_unit_frames(data.frames if clean is None else clean.frames)
    seen, measure = data.seen(), world.measures[0]
    ahead, seen_ahead = truth[:, context:], None if seen is None else seen[:, context:]
    there = np.ones(ahead.shape[:2], bool) if seen_ahead is None else seen_ahead
    horizons = [h for h in horizons if h <= ahead.shape[1]]
    rollouts = roll_out(task.dreamer, data, context)
    predictions = predict(task.dreamer, data, context, rollouts)
    pixels = tuple(range(2, truth.ndim))
    rows: dict[str, dict[str, dict[int, float]]] = {}
    for name, frames in predictions.items():
        errors = mean_of_sequences(np.mean((frames - ahead) ** 2, axis=pixels), seen_ahead)
        rows[name] = {"mse": {h: float(errors[h - 1]) for h in horizons}}
    shown = read_frames(
        world, truth, data.states, context, predictions, reader_of(world, truth, data.states, seen), seen
    )
    shown |= oracle(task)
    statistic = np.median if measure.statistic == "median" else np.mean
    for name, values in shown.items():
        scores = world.score(values, data.states, context)[measure.name]
        found = {h: float(statistic(scores[there[:, h - 1], h - 1])) for h in horizons}
        rows[name] = rows.get(name, {}) | {measure.name: found}
    figures = {
        "measure": {"name": measure.name, "title": measure.title, "factor": measure.factor, "form": measure.form},
        "rows": rows,
        "sequences": {h: int(there[:, h - 1].sum()) for h in horizons},
    }
    return figures, strip(data, rollouts, context, there)


def strip(data: Any, rollouts: Any, context: int, there: np.ndarray) -> dict[str, np.ndarray]:
    """Frames of the median by error among the longest sequences; `there` `[N, S]` are those that are no padding."""
    from worldmodel.data.sequences import as_unit_frames

    lengths = there.sum(axis=1)
    longest = np.flatnonzero(lengths >= np.quantile(lengths, 0.9))
    errors = ((rollouts.frames - as_unit_frames(data.frames)) ** 2)[longest, context:]
    errors = np.where(there[longest].reshape(*errors.shape[:2], *[1] * (errors.ndim - 2)), errors, 0)
    order = longest[np.argsort(errors.reshape(len(longest), -1).sum(axis=1))]
    chosen = order[len(order) // 2]
    times = np.array([t for t in SHOWN if t <= lengths[chosen]])
    return {
        "times": times,
        "truth": data.frames[chosen, context - 1 + times],
        "imagined": np.round(255 * rollouts.frames[chosen, context - 1 + times]).astype(np.uint8),
    }


def ratios(found: dict[str, Any], row: str = "model") -> dict[str, float]:
    """The pixel error of a row, by horizon, as a share of that of the better naive predictor."""
    rows = found["rows"]
    naive = [rows[name]["mse"] for name in ("repeat last frame", "mean frame")]
    return {h: value / min(each[h] for each in naive) for h, value in rows[row]["mse"].items()}


# The ceiling, where the physics can be started from what frames show


def oracle(task: Any) -> dict[str, np.ndarray]:
    """What the true physics shows `[N, S, D]`, started from the state that fits the last five frames of the context
    best; none for worlds of which no such fit is written."""
    import jax.numpy as jnp

    from baselines.physics_oracle import ball_shooting, shooting
    from worldmodel.data.sequences import as_unit_frames
    from worldmodel.worlds.ball import BallWorld
    from worldmodel.worlds.pendulum.world import PendulumWorld
    from worldmodel.worlds.simulator import simulate

    world, data, context = task.world, task.data, task.context
    if not (isinstance(world, PendulumWorld) or (isinstance(world, BallWorld) and world.balls == 1)):
        return {}
    before, after = data.actions[:, : context - 1], data.actions[:, context - 1 :]
    seen = task.read(as_unit_frames(data.frames[:, :context]).reshape(len(data), context, -1))
    if isinstance(world, BallWorld):
        state = ball_shooting(seen, before)
    else:
        state = shooting(seen[..., 0], before[..., 0], world.params)
    path = np.asarray(simulate(world.step, jnp.asarray(state), after))[:, 1:]
    names = [variable.name for variable in world.variables]
    return {"true physics, state from five frames": path[..., [names.index(name) for name in world.visible]]}
