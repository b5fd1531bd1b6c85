"""The benchmark of gaps: the image imputation and the filtering under noise of the Recurrent Kalman Networks (Becker et
al., ICML 2019), with a model that learns from frames alone. The data and the likelihood are in rkn.py.

Imputation: each frame after the first five is missing with a probability of one half, and which are is told. A filter
(not a smoother) says every frame in order, and is scored at all of them, whether they were shown or not.

Filtering: frames are mixed with noise whose share wanders. What is asked for is the position, sine and cosine of the
angle, at every frame.

One task is one training and its judgement, in a process of its own. What is finished is kept.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from scipy.optimize import minimize

from baselines.study.kept import about_training, finished, result, run_tasks, trained
from baselines.study.rkn import (
    SIZE,
    Given,
    data_of,
    fitted_contrast,
    informed,
    last_shown,
    likelihoods,
    path_of,
)
from worldmodel.data.sequences import Sequences, as_unit_frames, hold_out
from worldmodel.evaluation.measures import polynomial_features
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, in_batches
from worldmodel.support.files import write_json
from worldmodel.support.machine import machine
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.pendulum.reading import AngleReader

SAMPLES = 16
"""beliefs of each sequence, over which decoded frames are averaged"""
LONGEST = 5
"""frames since the last one that was shown, of which figures are given"""
READ = 300
"""training sequences by which angles are read off frames"""
HELD_OUT = 0.1
"""share of the training sequences, that of a training's own validation"""
BELIEFS = 8
"""of each sequence, of which a probe is asked"""
PROBED = 500
"""training sequences on which a probe is fitted"""
DEGREE = 3
"""of the probe's polynomial"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of a table."""

    about: str
    task: Literal["imputation", "filtering"]
    learnt_from: Given
    training: tuple[tuple[str, Any], ...] = (("batch_size", 32),)
    """options of the training that are not the defaults"""


ENTRIES = {
    "whole": Entry("learnt from whole sequences", "imputation", "whole"),
    "gaps": Entry("learnt from sequences with half of their frames missing", "imputation", "gaps"),
    "noise": Entry("learnt from frames under the same noise", "filtering", "noise"),
}
MEAN, LAST = "mean frame of the training data", "last frame that was shown"
PHYSICS = "true physics, told the true state of every shown frame"
SAMPLED, ALONG = "mean of sampled beliefs", "the mean belief"
TRUTH = "the true frame itself"
PROBE = "probe"
FLOORS = {"imputation": "imputation, floors and ceilings", "filtering": "filtering, floors"}


def benchmark(entries: dict[str, Entry], seeds: int, workers: int, out: Path, place: Path) -> None:
    """Every seed of every entry, into `place`, whatever is not there already, and results/gaps.json and GAPS.md of all
    that is there, into `out`."""
    from baselines.study.gaps_page import write_gaps_page

    def keep() -> None:
        names = (*ENTRIES, *FLOORS.values())
        write_json(out / "results" / "gaps.json", {"machine": machine(), "entries": finished(place, names)})

    tasks: list[tuple[str, int, Path]] = []
    for entry in entries.values():
        data_of("train", entry.learnt_from, place)
        data_of("test", TESTED[entry.task], place)
        tasks.append((FLOORS[entry.task], 0, place))
    tasks += [(name, seed, place) for name in entries for seed in range(seeds)]
    run_tasks("gaps", "task", one, list(dict.fromkeys(tasks)), workers, keep)
    write_gaps_page(out)


TESTED: dict[str, Given] = {"imputation": "gaps", "filtering": "noise"}
"""how the test sequences of a task are given"""


def one(name: str, seed: int, place: Path) -> str:
    """Do a task, and write what came of it; a word on it."""
    path = result(place, name, seed)
    if path.exists():
        return ""
    if name == FLOORS["imputation"]:
        found = imputation_floors(place)
    elif name == FLOORS["filtering"]:
        found = filtering_floors(place)
    else:
        found = trained_and_judged(ENTRIES[name], place / "runs" / f"{name}_{seed}", seed, place)
    write_json(path, found)
    return f"{name}, seed {seed}"


def trained_and_judged(entry: Entry, folder: Path, seed: int, place: Path) -> dict[str, Any]:
    """One training, and the figures of its task."""
    data_of("train", entry.learnt_from, place)
    run = trained("dvbf", path_of("train", entry.learnt_from, place), folder, seed, **dict(entry.training))
    judge = judged_imputation if entry.task == "imputation" else judged_filtering
    return judge(run, place) | about_training(run)


def held_out(place: Path, given: Given) -> Sequences:
    """The training sequences that no training learns from, by which the few free numbers of the figures are chosen."""
    return hold_out(data_of("train", given, place), HELD_OUT, "data")[1]


def angles_of(data: Sequences) -> np.ndarray:
    """`[N, T]` in rad."""
    angles = data.state("angle")
    assert angles is not None
    return angles


def angle_reader(place: Path) -> AngleReader:
    """By clean training frames."""
    example = data_of("train", "whole", place).take(slice(READ))
    return AngleReader.of(as_unit_frames(example.frames), angles_of(example))


# Imputation


def judged_imputation(run: Dreamer, place: Path) -> dict[str, Any]:
    """Scores of both `imputations`."""
    chosen, test = (imputations(run, data) for data in (held_out(place, "gaps"), data_of("test", "gaps", place)))
    return {"rows": {name: imputation_scores(frames, chosen[name], place) for name, frames in test.items()}}


def imputations(run: Dreamer, data: Sequences) -> dict[str, np.ndarray]:
    """What the filter decodes of every frame, `[N, T, H, W]` in [0, 1]: of SAMPLED averaged over sampled
    beliefs, as an expectation is; ALONG shows the mean belief."""
    keys = jax.random.split(jax.random.key(0), SAMPLES)
    expected, means = [], []
    for batch, count, number in in_batches(data):
        given = (batch.frames, batch.actions, batch.seen())
        sampled = [run.decode(run.filter(*given, jax.random.fold_in(key, number)))[:count] for key in keys]
        expected.append(np.mean(sampled, axis=0))
        means.append(run.decode(run.filter(*given))[:count])
    return {SAMPLED: np.concatenate(expected), ALONG: np.concatenate(means)}


def imputation_scores(frames: np.ndarray, chosen: np.ndarray, place: Path) -> dict[str, Any]:
    """Nats a frame of what is said of the test frames, `[N, T, H, W]` in [0, 1], with the contrast that makes what is
    `chosen` of the held-out frames likeliest; and how far off the angles are that it shows where frames are missing."""
    truth, shown = data_of("test", "whole", place), data_of("test", "gaps", place).valid
    assert shown is not None
    contrast = fitted_contrast(held_out(place, "whole").frames, chosen)
    nats = likelihoods(truth.frames, frames, contrast)
    read = angle_reader(place)
    apart = degrees_apart(read(frames.reshape(*shown.shape, -1)), angles_of(truth))[~shown]
    since = np.arange(truth.length) - last_shown(shown)
    return {
        "contrast": contrast,
        "all": float(nats.mean()),
        "shown": float(nats[shown].mean()),
        "missing": float(nats[~shown].mean()),
        "by_gap": {gap: float(nats[since == gap].mean()) for gap in range(LONGEST + 1)},
        "angle_error_degrees": float(np.median(apart)),
        "angle_error_degrees_90": float(np.quantile(apart, 0.9)),
    }


def imputation_floors(place: Path) -> dict[str, Any]:
    """What learns nothing, and what is told the truth."""
    parts = [(held_out(place, given), data_of("test", given, place)) for given in ("whole", "gaps")]
    mean = data_of("train", "whole", place).frames.mean(axis=(0, 1)) / 255
    said: dict[str, list[np.ndarray]] = {name: [] for name in (MEAN, LAST, PHYSICS, TRUTH)}
    for whole, gaps in zip(*parts, strict=True):
        assert gaps.valid is not None
        assert whole.states is not None
        frames = as_unit_frames(whole.frames)
        said[MEAN].append(np.broadcast_to(mean, frames.shape))
        said[LAST].append(frames[np.arange(len(frames))[:, None], last_shown(gaps.valid)])
        said[PHYSICS].append(informed(whole.states, gaps.valid, jax.random.key(0)))
        said[TRUTH].append(frames)
    return {"rows": {name: imputation_scores(test, chosen, place) for name, (chosen, test) in said.items()}}


# Filtering


Said = tuple[np.ndarray, np.ndarray]
"""means of positions, and how far sampled ones vary, `[N, T, 2]` each"""


def judged_filtering(run: Dreamer, place: Path) -> dict[str, Any]:
    """Scores of a probe that was fitted from the latents of training sequences to their positions."""
    fitted = data_of("train", "noise", place).take(slice(PROBED))
    latents = filtered_latents(run, fitted, jax.random.key(0))

    def said(data: Sequences) -> Said:
        keys = jax.random.split(jax.random.key(1), BELIEFS)
        sampled = [probed(latents, positions(fitted), filtered_latents(run, data, key)) for key in keys]
        return np.mean(sampled, axis=0), np.var(sampled, axis=0)

    chosen, test = said(held_out(place, "noise")), said(data_of("test", "noise", place))
    return {"rows": {PROBE: filtering_scores(chosen, test, place)}}


def positions(data: Sequences) -> np.ndarray:
    """`[N, T, 2]`: sine and cosine of the angle."""
    angles = angles_of(data).astype(np.float64)
    return _on_circle(angles)


def probed(fitted: np.ndarray, targets: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """`[N, T, D]`: what `latents` `[N, T, Z]` say, by the polynomial from the `fitted` `[M, T, Z]` to `targets`
    `[M, T, D]` that least squares give, cut off at -1 and 1, beyond which there is no sine or cosine."""
    flat = [each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (fitted, latents)]
    features = polynomial_features(np.concatenate(flat), DEGREE)
    weights, *_ = np.linalg.lstsq(features[: len(flat[0])], targets.reshape(len(flat[0]), -1), rcond=1e-10)
    said = (features[len(flat[0]) :] @ weights).reshape(*latents.shape[:2], -1)
    return np.clip(said, -1, 1)


def filtering_scores(chosen: Said, test: Said, place: Path) -> dict[str, Any]:
    """Root mean squared error of the test positions, and their log-likelihood in nats a frame, of normal distributions
    whose two free numbers make the held-out positions likeliest: the variance is one times that of the samples, and
    the other."""
    mean, variance = chosen
    truth = positions(held_out(place, "whole"))
    start = np.log([1.0, np.mean((truth - mean) ** 2)])
    factors = minimize(lambda logs: -nats(truth, mean, variance, *np.exp(logs)).mean(), start, method="Nelder-Mead").x
    truth, (mean, variance) = positions(data_of("test", "whole", place)), test
    return {
        "rmse": float(np.sqrt(np.mean((mean - truth) ** 2))),
        "nats": float(nats(truth, mean, variance, *np.exp(factors)).mean()),
    }


def nats(truth: np.ndarray, mean: np.ndarray, variance: np.ndarray, factor: float, rest: float) -> np.ndarray:
    """Log density `[...]` of `truth` `[..., D]` under independent normal distributions."""
    spread = factor * variance + rest
    return -0.5 * (np.log(2 * np.pi * spread) + (truth - mean) ** 2 / spread).sum(axis=-1)


def filtering_floors(place: Path) -> dict[str, Any]:
    """What knows no frame, and what reads each frame by itself."""
    train = hold_out(data_of("train", "noise", place), HELD_OUT, "data")[0]
    tests = (held_out(place, "noise"), data_of("test", "noise", place))
    targets = positions(train)
    mean = targets.mean(axis=(0, 1))
    pixels = _pixels(train)
    weights = np.linalg.solve(pixels.T @ pixels, pixels.T @ targets.reshape(len(pixels), -1))
    read = angle_reader(place)
    said = {
        "their mean": [np.broadcast_to(mean, positions(data).shape) for data in tests],
        "linear in the pixels of a frame": [(_pixels(data) @ weights).reshape(positions(data).shape) for data in tests],
        "the rod that fits a frame best": [_on_circle(read(_flat(data))) for data in tests],
    }
    none = [np.zeros(positions(data).shape) for data in tests]
    return {
        "rows": {
            name: filtering_scores((chosen, none[0]), (test, none[1]), place) for name, (chosen, test) in said.items()
        }
    }


def _on_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1)


def _flat(data: Sequences) -> np.ndarray:
    """float32 `[N, T, P]` in [0, 1]."""
    return as_unit_frames(data.frames).reshape(*data.frames.shape[:2], -1)


def _pixels(data: Sequences) -> np.ndarray:
    """`[N T, P + 1]`: the pixels of every frame, and 1."""
    flat = _flat(data).reshape(-1, SIZE * SIZE)
    return np.concatenate([flat, np.ones((len(flat), 1), np.float32)], axis=1)
