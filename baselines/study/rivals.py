"""The benchmark of rivals: several models under one protocol, in several settings.

First every model has the same number of trials, in two worlds and on data of their own, of its learning rate and of one
option that matters to it; what imagines best is taken. Then every seed of every model in every setting is a task: one
training and its judgement, in a process of its own, on one core. What is finished is kept.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.study.kept import about_training, finished, result, run_tasks, trained
from baselines.study.rivals_lineup import CONTENDERS, SETTINGS, TRIALS, Contender, Setting
from baselines.study.rivals_scores import (
    HORIZONS,
    LEARNT,
    acted,
    dreamt,
    expected_frames,
    keep_strip,
    probed,
    strip_file,
)
from baselines.study.worlds import Entry, judged, ratios
from worldmodel.support.files import Diverged, UserError, read_json, write_json
from worldmodel.support.machine import machine

TRAINING_SEED, TEST_SEED, PROBE_SEED = 400, 401, 402
"""of the data that is reported on"""
TRIAL_TRAINING_SEED, TRIAL_TEST_SEED = 410, 411
"""of the data that the trials are judged by"""
STEPS = 4000
"""updates of every training, of 16 windows. The larger models have then seen 500 sequences often enough to begin to
learn them by heart"""
PUBLISHED_SEEDS = 3
"""of the contenders of published size"""
PROBED = 700
"""sequences that latents are probed on"""
SHOWN_SETTING = "Pendulum-v1"
"""of the picture"""
ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def benchmark(
    settings: dict[str, Setting], contenders: dict[str, Contender], seeds: int, workers: int, out: Path, place: Path
) -> None:
    """Trials and every seed of the contenders in the settings, into `place`, whatever is not there already, and
    results/rivals.json, RIVALS.md and docs/rivals.png of all that is there, into `out`."""
    from baselines.study.rivals_page import draw_rivals, write_rivals_page

    def keep() -> None:
        everything = [pair(setting, contender) for setting in SETTINGS for contender in CONTENDERS]
        found = {
            "machine": machine(),
            "trials": finished(place, [trial(setting, name) for setting in TRIALS for name in CONTENDERS]),
            "entries": finished(place, everything),
        }
        write_json(out / "results" / "rivals.json", found)

    prepare(settings, place)
    tuned = dict.fromkeys(contender.like or name for name, contender in contenders.items())
    trials = [
        (setting, name, number, place)
        for setting in tried_in(settings)
        for name in tuned
        for number in range(len(CONTENDERS[name].trials()))
    ]
    run_tasks("trials", "training", one_trial, trials, workers, keep)
    tasks = [
        (setting, name, seed, place)
        for setting in settings
        for seed in range(seeds)
        for name in contenders
        if CONTENDERS[name].like is None or (settings[setting].published and seed < PUBLISHED_SEEDS)
    ]
    run_tasks("rivals", "training", one, tasks, workers, keep)
    keep()
    write_rivals_page(out)
    draw_rivals(out, {name: strip_file(name, place) for name in CONTENDERS if CONTENDERS[name].like is None})


def pair(setting: str, contender: str) -> str:
    """The name of a contender's results in a setting."""
    return f"{setting}; {contender}"


def trial(setting: str, contender: str) -> str:
    """The name of a contender's trials in a setting."""
    return f"trial; {pair(setting, contender)}"


def tried_in(settings: dict[str, Setting]) -> list[str]:
    """Where the options were tried that are taken in these settings."""
    return list(dict.fromkeys(name for setting in settings.values() for name in setting.trials))


def data_of(setting: str, part: str, place: Path) -> Path:
    return place / "data" / f"{setting.replace(', ', '_')}_{part}.npz"


def prepare(settings: dict[str, Setting], place: Path) -> None:
    """The data of the trials and of the settings."""
    import worldmodel as wm
    from worldmodel.data.storage import save_sequences

    def made(path: Path, entry: Entry, seed: int, sequences: int, length: int, **more: Any) -> None:
        if not path.exists():
            wm.collect(entry.world, sequences, length, entry.size, seed=seed, out=path, **dict(entry.more), **more)

    for name in tried_in(settings):
        entry = SETTINGS[name].entry
        made(data_of(f"trial, {name}", "train", place), entry, TRIAL_TRAINING_SEED, entry.sequences, entry.length)
        made(data_of(f"trial, {name}", "test", place), entry, TRIAL_TEST_SEED, 200, 45)
    for name, setting in settings.items():
        entry = setting.entry
        noise: dict[str, Any] = {"noise": setting.noise} if setting.noise else {}
        test = (TEST_SEED, entry.test_sequences, entry.test_length)
        made(data_of(name, "train", place), entry, TRAINING_SEED, entry.sequences, entry.length, **noise)
        made(data_of(name, "test", place), entry, *test, **noise)
        made(data_of(name, "probe", place), entry, PROBE_SEED, PROBED, 15, **noise)
        if noise and not (path := data_of(name, "expected", place)).exists():
            seed, sequences, length = test
            clean = wm.collect(entry.world, sequences, length, entry.size, seed=seed, **dict(entry.more))
            save_sequences(path, dataclasses.replace(clean, frames=expected_frames(clean.frames, setting.noise)))


def one_trial(setting: str, contender: str, number: int, place: Path) -> str:
    """Train with the options of one trial, judge, and write what came of it; a word on it."""
    path, options = result(place, trial(setting, contender), number), CONTENDERS[contender].trials()[number]
    if path.exists() and read_json(path)["options"] == options:
        return ""
    use_one_core()
    import worldmodel as wm

    train, test = (data_of(f"trial, {setting}", part, place) for part in ("train", "test"))
    folder = place / "trials" / "_".join(map(str, (setting, contender.replace(", ", "_"), *options.values())))
    try:
        run = trained_alike(contender, train, folder, 0, options)
        found, _ = judged(run, wm.read(test), test, 15, TRIALS[setting])
        score: float | None = float(np.mean(list(ratios(found).values())))
    except Diverged as error:
        print(error)
        score = None
    write_json(path, {"options": options, "score": score})
    return f"{setting}, {contender}, {options}: {score}"


def use_one_core() -> None:
    """For this process, before it loads JAX."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_CORE}".lstrip()


def trained_alike(contender: str, data: Path, folder: Path, seed: int, options: dict[str, Any]) -> Any:
    """A contender's training. Raises UserError where the folder holds one with other options."""
    kind = CONTENDERS[contender]
    options = {"steps": STEPS} | kind.changed() | options
    run = trained(kind.model, data, folder, seed, **options)
    kept = run.config["options"] | run.config["options"]["model"]
    changed = [name for name, value in options.items() if kept[name] != value]
    if changed:
        raise UserError(f"{folder}: was trained with another {', '.join(changed)}; delete it")
    return run


def chosen(setting: str, contender: str, place: Path) -> dict[str, Any]:
    """What a contender takes in a setting from its best trial; one that has none of its own, the learning rate of the
    other's."""
    tried = CONTENDERS[contender].like or contender
    names = [trial(where, tried) for where in SETTINGS[setting].trials]
    found = best(tried, list(finished(place, names).values()))
    return found if tried == contender else {"learning_rate": found["learning_rate"]}


def best(contender: str, trials: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The options of the trial with the least error in one setting, or the least geometric mean of several. Raises
    UserError where none came to an end in all of them."""
    scores = [
        (math.prod(each["score"] for each in same), same[0]["options"])
        for same in zip(*trials, strict=True)
        if all(each["score"] is not None for each in same)
    ]
    if not scores:
        raise UserError(f"{contender}: not one of its trials came to an end")
    return min(scores, key=lambda each: each[0])[1]


def one(setting: str, contender: str, seed: int, place: Path) -> str:
    """Train, judge, and write what came of it; a word on it."""
    path = result(place, pair(setting, contender), seed)
    if path.exists():
        return ""
    use_one_core()
    import jax
    from flax import nnx

    import worldmodel as wm

    entry = SETTINGS[setting].entry
    options = dict(entry.training) | chosen(setting, contender, place)
    train, test, probe = (data_of(setting, part, place) for part in ("train", "test", "probe"))
    folder = place / "runs" / f"{train.stem}_{contender.replace(', ', '_')}_{seed}"
    try:
        run = trained_alike(contender, train, folder, seed, options)
    except Diverged as error:
        write_json(path, {"options": options, "diverged": str(error)})
        return str(error)
    data = wm.read(test)
    expected = wm.read(data_of(setting, "expected", place)) if SETTINGS[setting].noise else None
    found, _ = judged(run, data, test, entry.context, HORIZONS, expected)
    found |= probed(run, wm.read(probe))
    found |= dreamt(run, data, expected, entry.context, jax.random.key(seed))
    found |= about_training(run) | {
        "options": options,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(run.model, nnx.Param))),
        "learnt": all(share < 0.5 for h, share in ratios(found).items() if int(h) in LEARNT),
    }
    if (setting, seed) == (SHOWN_SETTING, 0):
        keep_strip(run, data, entry.context, strip_file(contender, place))
    if SETTINGS[setting].episodes:
        ceilings = (contender, seed) == ("dvbf", 0)
        found["acted"] = acted(run, SETTINGS[setting].episodes, ceilings, place / "acted" / folder.name)
    write_json(path, found)
    return f"{setting}, {contender}, seed {seed}: {', '.join(f'{h}: {v:.3f}' for h, v in ratios(found).items())}"
