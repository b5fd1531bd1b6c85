"""The benchmark of acting: models, planners and policies, with several trainings each, from the same fresh starts.

One task is one training and all that acts with it, in a process of its own. What is finished is kept.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from baselines.study.kept import finished, result, run_tasks, trained
from worldmodel.runs.metrics import training_seconds
from worldmodel.support.files import atomic_write, read_json, write_json
from worldmodel.support.machine import machine

STARTS_SEED = 2026
"""of the episodes' starts, which are those of no training and no choice"""


@dataclasses.dataclass(frozen=True)
class World:
    """An environment, and how its pictures become frames."""

    env: str
    size: int = 24
    crop: float = 1.0
    actions: str = "mixed"


PENDULUM = World("Pendulum-v1", crop=0.55)
ACROBOT = World("Acrobot-v1", size=32, actions="held")
CAR = World("MountainCarContinuous-v0", size=32, actions="held")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the table."""

    about: str
    sequences: int = 240
    """of random actions"""
    length: int = 100
    """frames of each"""
    model: str = "dvbf"
    steps: int = 16_000
    world: World = PENDULUM
    planner: str = "cem"
    goal: bool = False
    """whether a goal picture is wanted, not the reward"""
    options: tuple[tuple[str, Any], ...] = ()
    """of the planner"""
    rounds: int | None = None
    """of the online loop, which collects by planning; its options are in `online`"""
    online: tuple[tuple[str, Any], ...] = ()
    start: str | None = None
    """place of the world at which data begins; tests begin at its own random starts"""
    episodes: int = 200
    """of the test"""


HANGING = (("first", 34), ("sequences", 40), ("frames", 120), ("steps", 8000))

ENTRIES = {
    "dvbf": Entry("24,000 frames"),
    "dvbf, policy": Entry("24,000 frames; a policy learnt in the dream, without a planner", planner="policy"),
    "dvbf, mppi": Entry("24,000 frames; MPPI", planner="mppi", episodes=50),
    "dvbf, gradient": Entry("24,000 frames; gradients through the model", planner="gradient", episodes=50),
    "dvbf, goal": Entry(
        "24,000 frames; a picture of the upright pendulum, no reward",
        goal=True,
        episodes=100,
    ),
    "dvbf, 4000": Entry("4,000 frames", sequences=100, length=40, steps=5000),
    "dvbf, 1000": Entry("1,000 frames", sequences=25, length=40, steps=5000, episodes=50),
    "dvbf, hanging": Entry(
        "data that starts hanging still; three rounds of collecting by planning",
        rounds=3,
        online=HANGING,
        start="hanging, at rest",
    ),
    "dvbf, car": Entry(
        "24,000 frames of held pushes, of which a quarter of the sequences find the flag",
        sequences=120,
        length=200,
        steps=8000,
        world=CAR,
        options=(("horizon", 100), ("correlation", 0.95), ("std", 0.75)),
        episodes=50,
    ),
    "dvbf, acrobot": Entry(
        "24,000 frames of held torques, of which an eighth of the sequences reach the line",
        sequences=60,
        length=400,
        steps=8000,
        world=ACROBOT,
        options=(("horizon", 60), ("correlation", 0.9), ("std", 1.0)),
        episodes=10,
    ),
    "dkf": Entry("24,000 frames; the Deep Kalman Filter", model="dkf", episodes=50),
}


def benchmark(entries: dict[str, Entry], seeds: int, workers: int, out: Path, place: Path) -> None:
    """Every seed of every entry, into `place`, whatever is not there already, and results/acting.json and ACTING.md of
    all that is there, into `out`."""
    from baselines.study.acting_page import write_acting_page

    def keep() -> None:
        found = {"machine": machine(), "entries": finished(place, ENTRIES)}
        write_json(out / "results" / "acting.json", found)

    prepare(entries, place)
    tasks = [
        ({name: entries[name] for name in names}, seed, place)
        for names in together(entries, place)
        for seed in range(seeds)
    ]
    run_tasks("act", "training", some, tasks, workers, keep)
    write_acting_page(out)


def together(entries: dict[str, Entry], place: Path) -> list[list[str]]:
    """The names of the entries, those together that act with the same trainings."""
    groups: dict[Any, list[str]] = {}
    for name, entry in entries.items():
        training = (data_of(entry, place), entry.model, entry.steps) if entry.rounds is None else name
        groups.setdefault(training, []).append(name)
    return list(groups.values())


def some(entries: dict[str, Entry], seed: int, place: Path) -> str:
    """One seed of entries that act with the same training, of those that are not there already; a word on the last."""
    said = [one(name, entry, seed, place) for name, entry in entries.items() if not result(place, name, seed).exists()]
    return said[-1] if said else ""


def data_of(entry: Entry, place: Path) -> Path:
    world = entry.world
    name = f"{world.env.split('/')[-1]}_{world.size}_{world.actions}"
    return place / f"{name}_{entry.sequences}x{entry.length}.npz"


def prepare(entries: dict[str, Entry], place: Path) -> None:
    """The data that entries share, and the goal's picture."""
    import worldmodel as wm

    for entry in entries.values():
        path, world = data_of(entry, place), entry.world
        if entry.rounds is None and not path.exists():
            more: Any = {"crop": world.crop, "actions": world.actions}
            wm.collect(world.env, entry.sequences, entry.length, world.size, out=path, **more)
    if any(entry.goal for entry in entries.values()) and not goal_file(place).exists():
        draw_goal(goal_file(place))


def goal_file(place: Path) -> Path:
    return place / "upright.png"


def draw_goal(path: Path) -> None:
    """A frame of the pendulum at rest upright, as the data's camera has it."""
    from worldmodel.worlds.camera import Camera
    from worldmodel.worlds.episodes import open_environment

    env, options = open_environment(PENDULUM.env)
    assert options is not None
    env.reset(seed=0)
    options.set_state(env, np.zeros(2))
    options.before_render(env, round(PENDULUM.size / PENDULUM.crop))
    frame = Camera(PENDULUM.size, PENDULUM.crop).frame(env.render())
    env.close()
    with atomic_write(path) as file:
        Image.fromarray(frame).save(file, "PNG")


def one(name: str, entry: Entry, seed: int, place: Path) -> str:
    """Train, act, and write what came of it; a word on it."""
    import worldmodel as wm
    from worldmodel.planning.record import read_acted

    found: dict[str, Any] = {}
    if entry.rounds is None:
        folder = place / "runs" / f"{data_of(entry, place).stem}_{entry.model}_{entry.steps}_{seed}"
        run = trained(entry.model, data_of(entry, place), folder, seed, steps=entry.steps)
    else:
        folder, found["rounds"] = improved(name, entry, seed, place)
        run = wm.load(folder)
    found["training_seconds"] = training_seconds(run.metrics)
    if entry.planner == "policy":
        started = time.monotonic()
        run.learn_policy(seed=seed)
        found["policy_seconds"] = time.monotonic() - started
    out = place / "acted" / f"{name.replace(', ', '_')}_{seed}"
    acted = (
        run.act(
            planner=entry.planner,
            episodes=entry.episodes,
            seed=STARTS_SEED,
            goal=goal_file(place) if entry.goal else None,
            policy=entry.planner == "policy",
            ceilings=seed == 0,
            out=out,
            **dict(entry.options),
        )
        if not out.exists()
        else read_acted(out)
    )
    health = read_json(folder / "health.json")
    found |= {
        "about": entry.about,
        "episodes": len(acted.returns),
        "frames": int(run.run.data().lengths().sum()),
        "mean": float(np.mean(acted.returns)),
        "worst": float(np.min(acted.returns)),
        "ended": acted.ended,
        "steps": float(np.median(acted.lengths)),
        "seconds_per_decision": acted.seconds_per_decision,
        "reward": acted.reward,
        "warnings": acted.warnings,
        "problems": [problem["name"] for problem in health["problems"]],
        "floors": {row: float(np.mean(returns)) for row, returns in acted.floors.items()},
        "ceilings": {row: float(np.mean(returns)) for row, returns in acted.ceilings.items()},
        "ceilings_worst": {row: float(np.min(returns)) for row, returns in acted.ceilings.items()},
        "outcomes": acted.outcomes,
    }
    write_json(result(place, name, seed), found)
    return f"{name}, seed {seed}: {found['mean']:.1f}"


def improved(name: str, entry: Entry, seed: int, place: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The last run of an online loop, and its rounds."""
    from worldmodel.planning.catalogue import PLANNERS
    from worldmodel.planning.options import ImproveOptions
    from worldmodel.training.rounds import improve

    assert entry.rounds is not None
    world = entry.world
    more: Any = dict(entry.online)
    options = ImproveOptions(
        place / "online" / f"{name.replace(', ', '_')}_{seed}",
        env=world.env,
        model=entry.model,
        rounds=entry.rounds,
        planner=entry.planner,
        size=world.size,
        crop=world.crop,
        start=entry.start,
        seed=100 * seed,
        **more,
    )
    rounds = improve(options, PLANNERS.options(entry.planner)(**dict(entry.options)))
    if rounds is None:
        raise KeyboardInterrupt
    return options.out / f"round_{entry.rounds}" / "run", [dataclasses.asdict(each) for each in rounds]
