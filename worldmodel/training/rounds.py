"""The online loop: collect by planning, train on all that was collected, and again; where random actions do not reach
what matters.

OUT/config.json           the options
OUT/round_0/data.npz      what this round collected, by random actions in round 0
OUT/round_0/train.npz     all until now
OUT/round_0/run/          the model that was trained on it, and in acting/ what it got in the test
OUT/rounds.json, .png     a line for each round

What is there is kept: a loop that was stopped goes on where it was.
"""

import dataclasses
import json
from typing import Any

import numpy as np
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, join
from worldmodel.data.storage import load_sequences, save_sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.catalogue import MODELS
from worldmodel.models.protocol import WorldModel
from worldmodel.pictures.acting import draw_rounds
from worldmodel.planning.catalogue import Planner
from worldmodel.planning.gathering import gather
from worldmodel.planning.options import ImproveOptions
from worldmodel.planning.record import Acted, read_acted
from worldmodel.planning.saved import saved_reward
from worldmodel.reporting.acting import Acting, act
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, read_json, write_json
from worldmodel.support.script import saved_options
from worldmodel.training.options import TrainingOptions, with_defaults
from worldmodel.training.session import train
from worldmodel.worlds.collecting import collect
from worldmodel.worlds.world import WORLDS

TEST_SEED = 1000
"""is added to the seed for the starts of the tests"""


@dataclasses.dataclass(frozen=True)
class Round:
    """What a round came to."""

    number: int
    frames: int
    """that were trained on"""
    near_best: float
    """share of them that is near the best reward"""
    r2: float
    """of the learnt reward"""
    mean: float
    worst: float
    """returns of the test"""
    ended: float
    """share of the test's episodes that ended by themselves"""
    outcomes: dict[str, float]


def improve(options: ImproveOptions, planner: Planner) -> list[Round] | None:
    """All rounds, by the planner that the options name; None where Ctrl-C stopped a training, which is saved. Raises
    UserError for options that cannot be, and where OUT is of others."""
    options.check()
    planner.check()
    _require_imagination(options)
    _claim(options, planner)
    found: list[Round] = []
    for number in range(options.rounds + 1):
        folder = options.out / f"round_{number}"
        if not (folder / "train.npz").exists():
            _collect(options, number, planner)
        if load_sequences(folder / "train.npz").rewards is None:
            raise UserError(f"--env: {options.env} pays no rewards, and there is nothing to improve")
        if not _train(options, number):
            return None
        run = Run.open(folder / "run")
        tested = run.folder / "acting" / options.planner
        if not tested.exists():
            starts, ceilings = options.seed + TEST_SEED, number == 0
            with Acting.of(run, Dreamer(run.load()), steps=options.test_steps, start=options.start) as task:
                act(task, tested, options.planner, planner, options.episodes, starts, ceilings)
        found.append(_summary(number, run, read_acted(tested)))
        print(_line(found[-1]), flush=True)
        write_json(options.out / "rounds.json", [dataclasses.asdict(each) for each in found])
        draw_rounds(
            options.out / "rounds.png",
            [each.frames for each in found],
            [each.near_best for each in found],
            [read_acted(options.out / f"round_{each.number}/run/acting/{options.planner}").rows() for each in found],
            options.planner,
        )
    return found


def _claim(options: ImproveOptions, planner: Planner) -> None:
    """Keep the options; with more rounds, or elsewhere, a loop may go on. Raises UserError where data was collected by
    others."""
    path = options.out / "config.json"
    mine = json.loads(json.dumps(vars(options) | {"search": vars(planner)}, default=str))
    if (options.out / "round_0" / "data.npz").exists():
        there: Any = read_json(path)
        free, added = {"rounds": 0, "out": ""}, {"centre": [0.5, 0.5]}  # which loops of before do not name
        if not isinstance(there, dict) or added | there | free != mine | free:
            raise UserError(f"{path}: is of other options; give another --out")
    write_json(path, mine)


def _collect(options: ImproveOptions, number: int, planner: Planner) -> None:
    """Write what this round collects, and all until now."""
    folder, seed = options.out / f"round_{number}", options.seed + number
    if not (folder / "data.npz").exists():
        if number == 0:
            world = WORLDS.options(options.env)() if options.env in WORLDS.names() else options.env
            camera: dict[str, Any] = {"crop": options.crop, "grey": options.grey, "centre": options.centre}
            collect(
                world,
                options.first,
                options.frames,
                options.size,
                seed=seed,
                actions=options.actions,
                start=options.start,
                out=folder / "data.npz",
                **camera,
            )
        else:
            run = Run.open(options.out / f"round_{number - 1}" / "run")
            with Acting.of(run, Dreamer(run.load()), steps=options.frames - 1, start=options.start) as task:
                controller = task.controller(planner, noise=options.noise)
                gathered = gather(task.arena, task.record, controller, options.sequences, seed)
            save_sequences(folder / "data.npz", gathered)
    parts = [load_sequences(options.out / f"round_{each}" / "data.npz") for each in range(number + 1)]
    save_sequences(folder / "train.npz", _shuffled(_union(parts), options.seed))


def _require_imagination(options: ImproveOptions) -> None:
    """Raise UserError for a model of single frames, before anything is collected."""
    model = MODELS.options(options.model)()
    any_scale = FrameScale((options.size, options.size), 1, 0.5, 0.5, 1.0, 1.0)
    if not isinstance(nnx.eval_shape(lambda: model.build(any_scale, nnx.Rngs(params=0))), WorldModel):
        raise UserError(f"--model: {options.model} is a model of single frames, and cannot act")


def _union(parts: list[Sequences]) -> Sequences:
    """All of them; where some tell of ends, all do."""
    if any(part.ended is not None for part in parts):
        parts = [
            part if part.ended is not None else dataclasses.replace(part, ended=np.zeros(part.actions.shape[:2], bool))
            for part in parts
        ]
    return dataclasses.replace(join(parts), world=parts[-1].world)


def _shuffled(data: Sequences, seed: int) -> Sequences:
    """In random order: the last tenth, which is held out, is then of every round."""
    return data.take(np.random.default_rng(seed).permutation(len(data)))


def _train(options: ImproveOptions, number: int) -> bool:
    """Train on all until now, where it is not done; whether it was finished."""
    folder = options.out / f"round_{number}"
    if (folder / "run" / "health.json").exists():
        return True
    start: TrainingOptions = with_defaults(options.model)
    settings = dataclasses.replace(
        start, data=folder / "train.npz", out=folder / "run", steps=options.steps, seed=options.seed
    )
    saved = saved_options(type(start), folder / "run")
    if saved is not None:
        settings = dataclasses.replace(saved, resume=True)
    return train(options.model, settings) is not None


def _summary(number: int, run: Run, found: Acted) -> Round:
    _, quality = saved_reward(run, Dreamer(run.load()))
    return Round(
        number,
        int(run.data().lengths().sum()),
        quality.share_near_best,
        quality.r2,
        float(np.mean(found.returns)),
        float(np.min(found.returns)),
        found.ended,
        found.outcomes,
    )


def _line(found: Round) -> str:
    said = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.outcomes.items())
    return (
        f"round {found.number}: {found.frames:,} frames, {found.near_best:.1%} of them near the best reward (R^2"
        f" {found.r2:.3f}); return {found.mean:.1f}, worst {found.worst:.1f}" + (f"; {said}" if said else "")
    )
