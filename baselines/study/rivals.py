"""The benchmark of rivals: several models under one protocol, in several settings.

First every model has the same number of trials, on data of their own, of its learning rate and of one option that
matters to it; what imagines best is taken. Then every seed of every model in every setting is a task: one training and
its judgement, in a process of its own, on one core. What is finished is kept.
"""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from baselines.options import MLPDVBFOptions
from baselines.rival_options import (
    PLANET,
    PUBLISHED_KVAE,
    PUBLISHED_WORLD_MODELS,
    SMALLEST_DREAMER,
    CategoricalRSSMOptions,
    KVAEOptions,
    RSSMOptions,
    WorldModelsOptions,
)
from baselines.study.kept import about_training, finished, result, run_tasks, trained
from baselines.study.worlds import SHOWN, Entry, judged, ratios
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.support.files import Diverged, UserError, atomic_write, read_json, write_json
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
HORIZONS = (1, 10, 30, 60, 100, 150)
"""150 is ten times a training window"""
LEARNT = (10, 30)
"""horizons at which a model that has learnt has less than half the error of the better naive predictor"""
FUTURES, SAMPLED, SAMPLED_HORIZON = 50, 50, 60
"""futures of so many sequences, of which coverage and CRPS are counted, up to so many frames"""
PROBED, PROBED_FROM = 700, 5
"""sequences that latents are probed on, and the first of their frames"""
POLYNOMIAL_COMPONENTS = 8
"""of a longer vector, its first principal components are what a polynomial probe sees"""
SHOWN_SETTING = "Pendulum-v1"
"""of the picture"""
STARTS_SEED = 2027
"""of the starts of the episodes"""
ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


MODELS = {
    DVBFOptions: "dvbf",
    MLPDVBFOptions: "dvbf-mlp",
    KVAEOptions: "kvae",
    RSSMOptions: "rssm",
    CategoricalRSSMOptions: "rssm-categorical",
    WorldModelsOptions: "world-models",
}
"""names in the catalogue"""


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model that is compared."""

    about: str
    options: Any
    """of the model"""
    rates: tuple[float, ...] = ()
    """learning rates that are tried"""
    tried: dict[str, Any] = dataclasses.field(default_factory=dict)
    """options that are tried with each of the rates, besides none"""
    like: str | None = None
    """the contender whose trials count for this one, which has none; its learning rate is taken"""

    @property
    def model(self) -> str:
        """In the catalogue."""
        return MODELS[type(self.options)]

    def changed(self) -> dict[str, Any]:
        """Its options that are not the defaults."""
        usual = dataclasses.asdict(type(self.options)())
        return {name: value for name, value in dataclasses.asdict(self.options).items() if value != usual[name]}

    def trials(self) -> list[dict[str, Any]]:
        """The options of each."""
        return [{"learning_rate": rate} | more for more in ({}, self.tried) for rate in self.rates]


CONTENDERS = {
    "dvbf": Contender("the DVBF of this project", DVBFOptions(), (0.01, 0.003, 0.001), {"final_noise_scale": 0.3}),
    "dvbf-mlp": Contender(
        "the DVBF with a plain network as its transition",
        MLPDVBFOptions(),
        (0.02, 0.01, 0.003),
        {"final_noise_scale": 0.3},
    ),
    "kvae": Contender("Fraccaro et al. 2017", KVAEOptions(), (0.02, 0.01, 0.005), {"transition_variance": 0.01}),
    "rssm": Contender("PlaNet, Hafner et al. 2019", RSSMOptions(), (0.002, 0.001, 0.0005), {"free_nats": 1.0}),
    "rssm-categorical": Contender(
        "DreamerV3, Hafner et al. 2023", CategoricalRSSMOptions(), (0.02, 0.01, 0.005), {"free_nats": 0.1}
    ),
    "world-models": Contender(
        "Ha and Schmidhuber 2018", WorldModelsOptions(), (0.01, 0.006, 0.003), {"latent_size": 6}
    ),
    "kvae, published": Contender("with the sizes, noises and weights of the paper's code", PUBLISHED_KVAE, like="kvae"),
    "rssm, published": Contender("at PlaNet's sizes", PLANET, like="rssm"),
    "rssm-categorical, published": Contender(
        "at the sizes of DreamerV3's smallest preset", SMALLEST_DREAMER, like="rssm-categorical"
    ),
    "world-models, published": Contender("at the sizes of the paper", PUBLISHED_WORLD_MODELS, like="world-models"),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the models are trained on, and judged by."""

    entry: Entry
    noise: float = 0.0
    """standard deviation of that on every pixel that a model sees; imagined frames are held against the mean of such
    frames"""
    published: bool = False
    """whether the contenders of published size take part"""
    episodes: int = 0
    """of Gymnasium's environment that each model acts in"""


def _pendulum(about: str, sequences: int) -> Entry:
    return Entry(about, "pendulum", sequences, 15, 200, 165)


SETTINGS = {
    "pendulum": Setting(_pendulum("the paper's pendulum, 500 training sequences", 500), published=True),
    "pendulum, 100": Setting(_pendulum("the paper's pendulum, 100 training sequences", 100)),
    "pendulum, 2000": Setting(_pendulum("the paper's pendulum, 2,000 training sequences", 2000)),
    "pendulum, noise": Setting(_pendulum("the paper's pendulum, 500 sequences, pixel noise of 0.1", 500), noise=0.1),
    "ball": Setting(Entry("the bouncing ball, 5,000 training sequences", "ball", 5000, 15, 200, 115)),
    "Pendulum-v1": Setting(
        Entry(
            "Gymnasium's pendulum without friction, 24,000 frames, and swinging it up",
            "Pendulum-v1",
            240,
            100,
            200,
            115,
            size=24,
            more=(("actions", "mixed"), ("crop", 0.55)),
        ),
        episodes=20,
    ),
    "Acrobot-v1": Setting(
        Entry(
            "64 x 64 in colour, windows of 15, half of the updates",
            "Acrobot-v1",
            240,
            100,
            100,
            115,
            size=64,
            more=(("actions", "mixed"), ("grey", False)),
            training=(("window", 15), ("steps", 2000)),
        )
    ),
}

Task = tuple[str, str, int, Path]
"""setting, contender, seed, place"""


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
            "trials": finished(place, map(trial, CONTENDERS)),
            "entries": finished(place, everything),
        }
        write_json(out / "results" / "rivals.json", found)

    prepare(settings, place)
    tuned = dict.fromkeys(contender.like or name for name, contender in contenders.items())
    trials = [(name, number, place) for name in tuned for number in range(len(CONTENDERS[name].trials()))]
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


def trial(contender: str) -> str:
    """The name of a contender's trials."""
    return f"trial; {contender}"


def data_of(setting: str, part: str, place: Path) -> Path:
    return place / "data" / f"{setting.replace(', ', '_')}_{part}.npz"


def prepare(settings: dict[str, Setting], place: Path) -> None:
    """The data of the trials and of the settings."""
    import worldmodel as wm
    from worldmodel.data.storage import save_sequences

    def made(path: Path, entry: Entry, seed: int, sequences: int, length: int, **more: Any) -> None:
        if not path.exists():
            wm.collect(entry.world, sequences, length, entry.size, seed=seed, out=path, **dict(entry.more), **more)

    base = SETTINGS["pendulum"].entry
    made(data_of("trial", "train", place), base, TRIAL_TRAINING_SEED, base.sequences, base.length)
    made(data_of("trial", "test", place), base, TRIAL_TEST_SEED, 200, 45)
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


def expected_frames(frames: np.ndarray, noise: float) -> np.ndarray:
    """uint8 frames as they are on average once noise of that standard deviation is on every pixel and what leaves
    [0, 1] is cut off: what the best model of such frames shows."""
    levels = np.arange(256)[:, None] / 255
    draws = norm.ppf((np.arange(1000) + 0.5) / 1000)
    return np.round(255 * np.clip(levels + noise * draws[None], 0, 1).mean(axis=1)).astype(np.uint8)[frames]


def one_trial(contender: str, number: int, place: Path) -> str:
    """Train with the options of one trial, judge, and write what came of it; a word on it."""
    path, options = result(place, trial(contender), number), CONTENDERS[contender].trials()[number]
    if path.exists() and read_json(path)["options"] == options:
        return ""
    use_one_core()
    import worldmodel as wm

    folder = place / "trials" / f"{contender}_{'_'.join(map(str, options.values()))}"
    test = data_of("trial", "test", place)
    try:
        run = trained_alike(contender, data_of("trial", "train", place), folder, 0, options)
        found, _ = judged(run, wm.read(test), test, 15, LEARNT)
        score: float | None = float(np.mean(list(ratios(found).values())))
    except Diverged as error:
        print(error)
        score = None
    write_json(path, {"options": options, "score": score})
    return f"{contender}, {options}: {score}"


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


def chosen(contender: str, place: Path) -> dict[str, Any]:
    """What a contender takes from its best trial; one that has none of its own, the learning rate of the other's."""
    tried = CONTENDERS[contender].like or contender
    found = best(tried, finished(place, [trial(tried)])[trial(tried)])
    return found if tried == contender else {"learning_rate": found["learning_rate"]}


def best(contender: str, trials: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The options of the trial with the least error. Raises UserError where none came to an end."""
    ended = [each for each in trials if each["score"] is not None]
    if not ended:
        raise UserError(f"{contender}: not one of its trials came to an end")
    return min(ended, key=lambda each: each["score"])["options"]


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
    options = dict(entry.training) | chosen(contender, place)
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


def strip_file(contender: str, place: Path) -> Path:
    """Where the frames of a contender's picture are kept."""
    return place / "strips" / f"{contender.replace(', ', '_')}.npz"


def keep_strip(run: Any, data: Any, context: int, path: Path) -> None:
    """The first sequence, as it was and as it is imagined, in a few frames."""
    from worldmodel.imagination.dreamer import roll_out

    times = np.array([t for t in SHOWN if context - 1 + t < data.length])
    frames = roll_out(run, data.take(slice(1)), context).frames[0, context - 1 + times]
    truth, imagined = data.frames[0, context - 1 + times], np.round(255 * frames).astype(np.uint8)
    with atomic_write(path) as file:
        np.savez_compressed(file, allow_pickle=False, times=times, truth=truth, imagined=imagined)


def probed(run: Any, data: Any) -> dict[str, Any]:
    """R^2 of linear and polynomial probes of the vectors of filtered, sampled states, or of their first principal
    components; from the frame on by which every model has been shown what it takes its first state from."""
    import jax

    from worldmodel.evaluation.judge import probe_latents
    from worldmodel.evaluation.measures import PROBED_COMPONENTS, principal
    from worldmodel.imagination.dreamer import filtered_latents
    from worldmodel.worlds.world import world_of

    latents, means = (filtered_latents(run, data, key) for key in (jax.random.key(0), None))
    data = dataclasses.replace(data, valid=np.tile(np.arange(data.length) >= PROBED_FROM, (len(data), 1)))
    few, many = (principal(latents, means, count) for count in (POLYNOMIAL_COMPONENTS, PROBED_COMPONENTS))
    world = world_of(data)
    polynomial = probe_latents(few, data, world)
    return {
        "r2_linear": probe_latents(many, data, world)["r2_linear"],
        **{name: polynomial[name] for name in ("r2_polynomial", "polynomial_degree")},
    }


def dreamt(run: Any, data: Any, expected: Any, context: int, key: Any) -> dict[str, Any]:
    """How many frames of the mean dream are valid; the pixel error of one sampled future of each sequence at the
    horizons, since of some models the mean is no mean; and coverage and CRPS of many, of some of the sequences, up to
    SAMPLED_HORIZON. Against the `expected` frames where there are some. The key is consumed."""
    import jax

    from worldmodel.data.sequences import as_unit_frames
    from worldmodel.evaluation.judge import judge_samples, reader_of
    from worldmodel.evaluation.measures import valid_frames
    from worldmodel.imagination.dreamer import in_batches, last, roll_out
    from worldmodel.worlds.world import world_of

    one_key, many_key = jax.random.split(key)
    scored = data if expected is None else expected
    truth, parts = as_unit_frames(scored.frames), []
    for batch, count, index in in_batches(data):
        filter_key, imagine_key = jax.random.split(jax.random.fold_in(one_key, index))
        before, after = batch.actions[:, : context - 1], batch.actions[:, context - 1 :]
        belief = run.filter(batch.frames[:, :context], before, key=filter_key)
        parts.append(run.decode(run.imagine(last(belief), after, imagine_key))[:count])
    errors = ((np.concatenate(parts) - truth[:, context:]) ** 2).mean(axis=(0, *range(2, truth.ndim)))
    some = data.take(slice(SAMPLED)).first_frames(context + SAMPLED_HORIZON)
    world = world_of(data)
    read = None if world is None else reader_of(world, truth, scored.states)
    many = judge_samples(run, some, context, FUTURES, many_key, world, read)
    horizons = [h for h in HORIZONS if h <= SAMPLED_HORIZON]
    mean = roll_out(run, data, context).frames[:, context:]
    return {
        "valid_frames": float(np.median(valid_frames(truth[:, context:], mean))),
        "sample_mse": {h: float(errors[h - 1]) for h in HORIZONS if h <= len(errors)},
        "coverage": {level: {h: inside[h - 1] for h in horizons} for level, inside in many.coverage.items()},
        "crps": {"unit": many.unit, **{str(h): many.crps[h - 1] for h in horizons}},
    }


def acted(run: Any, episodes: int, ceilings: bool, out: Path) -> dict[str, Any]:
    """The return of the usual planner in the world that the data is from, from starts that are the same for all."""
    from worldmodel.planning.record import read_acted

    found = (
        read_acted(out) if out.exists() else run.act(episodes=episodes, seed=STARTS_SEED, ceilings=ceilings, out=out)
    )
    return {
        "returns": [float(value) for value in found.returns],
        "seconds_per_decision": found.seconds_per_decision,
        "outcomes": found.outcomes,
        "floors": {row: float(np.mean(returns)) for row, returns in found.floors.items()},
        "ceilings": {row: float(np.mean(returns)) for row, returns in found.ceilings.items()},
    }
