"""What the benchmark of rivals measures of a training, beside the errors that the benchmark of worlds measures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from baselines.study.worlds import SHOWN
from worldmodel.support.files import atomic_write

HORIZONS = (1, 10, 30, 60, 100, 150)
"""150 is ten times a training window"""
LEARNT = (10, 30)
"""horizons at which a model that has learnt has less than half the error of the better naive predictor"""
FUTURES, SAMPLED, SAMPLED_HORIZON = 50, 50, 60
"""futures of so many sequences, of which coverage and CRPS are counted, up to so many frames"""
PROBED_FROM = 5
"""the first of their frames that latents are probed on"""
POLYNOMIAL_COMPONENTS = 8
"""of a longer vector, its first principal components are what a polynomial probe sees"""
STARTS_SEED = 2027
"""of the starts of the episodes"""


def expected_frames(frames: np.ndarray, noise: float) -> np.ndarray:
    """uint8 frames as they are on average once noise of that standard deviation is on every pixel and what leaves
    [0, 1] is cut off: what the best model of such frames shows."""
    levels = np.arange(256)[:, None] / 255
    draws = norm.ppf((np.arange(1000) + 0.5) / 1000)
    return np.round(255 * np.clip(levels + noise * draws[None], 0, 1).mean(axis=1)).astype(np.uint8)[frames]


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
