"""How good are a model's dreams? Its predictions and the naive ones, scored side by side at every horizon.

A prediction is an array of frames `[N, S, H, W(, C)]` in [0, 1] for the S frames after the context; index h - 1 is
horizon h, the h-th imagined frame. Where the world of the data is known, its variables are read off the frames and
scored too. Beside the means stand sampled futures, which say how sure the model is.

Frames that are missing or padding are not scored: at every horizon the sequences count whose frame was seen.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from worldmodel.data.sequences import Sequences, are_choices, as_unit_frames
from worldmodel.evaluation.measures import (
    PIXEL_MEASURES,
    affordable_degree,
    coverage,
    crps,
    interval,
    pixel_scores,
    principal,
    probe_r2,
    valid_frames,
)
from worldmodel.evaluation.record import SHOWN_LEVELS, Curve, Estimate, Evaluation, Reliability, Samples
from worldmodel.evaluation.seen import (
    last_frame,
    mean_frame,
    mean_of_sequences,
    of_seen,
    seen_after,
    seen_with_the_one_before,
)
from worldmodel.imagination.counterfactuals import shuffle_actions, zero_actions
from worldmodel.imagination.dreamer import Dreamer, Rollouts, roll_out
from worldmodel.imagination.futures import sample_futures
from worldmodel.imagination.variables import (
    apart,
    centre,
    deviation,
    true_variables,
    unit,
    visible_states,
    visible_variables,
    words,
)
from worldmodel.worlds.world import Reader, World

HORIZONS = (1, 10, 30, 60, 100, 500)
"""that tables show, as far as the data go"""
READING = "read off true frames"
"""ends the name of the row of what reading the world's variables off frames costs"""
CEILING = "still-frame model reconstruction"
"""the row of a model that is shown the frames which the others must foresee"""
ASTRAY = 0.01
"""R^2 that a polynomial probe may lose against the linear one, and still be shown"""
LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
"""of the intervals whose coverage is counted"""


def shown_horizons(horizon: int) -> list[int]:
    """The horizons of a table of so many imagined frames."""
    return [h for h in HORIZONS if h < horizon] + [horizon]


def predict(dreamer: Dreamer, data: Sequences, context: int, rollouts: Rollouts) -> dict[str, np.ndarray]:
    """What the model, whose `rollouts` are given, and its naive rivals say of the frames after the context, by name."""
    truth, seen = as_unit_frames(data.frames), data.seen()
    ahead = truth[:, context:]
    others: dict[str, Callable[[Sequences, int], Sequences]] = {}
    done = bool(data.actions.any())  # otherwise other actions are the same
    if done and not are_choices(data.actions):  # of choices one is always made
        others["zero actions"] = zero_actions
    if done and len(data) > 1:  # one sequence has no other to take its actions from
        others["shuffled actions"] = shuffle_actions
    return {
        "model": rollouts.frames[:, context:],
        "repeat last frame": np.broadcast_to(last_frame(truth, context, seen), ahead.shape),
        "mean frame": np.broadcast_to(mean_frame(truth, seen), ahead.shape),
    } | {name: roll_out(dreamer, of(data, context), context).frames[:, context:] for name, of in others.items()}


def judge(
    data: Sequences,
    context: int,
    predictions: dict[str, np.ndarray],
    world: World | None,
    read: Reader | None = None,
) -> Evaluation:
    """Every error of every prediction, with 95% bootstrap intervals over the sequences.

    Where the world is known, its measures score what is read off the frames, by `read` or a reader made of the data;
    the last row is that of true frames: the floor, which reading alone costs.
    """
    truth, seen = as_unit_frames(data.frames), data.seen()
    ahead, seen_ahead = truth[:, context:], seen_after(seen, context)
    measures = list(PIXEL_MEASURES)
    scores = {name: pixel_scores(ahead, frames) for name, frames in predictions.items()}
    if world is not None and data.states is not None:
        measures = [*world.measures, *measures]
        for name, shown in read_frames(world, truth, data.states, context, predictions, read, seen).items():
            scores[name] = world.score(shown, data.states, context) | scores.get(name, {})
    ceilings = [name for name in scores if name == CEILING or name.endswith(READING)]
    # a world may ask for two frames to tell a velocity: of true frames both must be there
    counted = dict.fromkeys(scores, seen_ahead) | dict.fromkeys(ceilings, seen_with_the_one_before(seen_ahead))
    statistics: dict[str, Callable] = {m.name: np.median if m.statistic == "median" else np.mean for m in measures}
    horizon = data.length - context
    return Evaluation(
        sequences=len(data),
        context=context,
        horizon=horizon,
        dt=data.dt,
        shown_horizons=shown_horizons(horizon),
        measures=measures,
        rows={
            name: {
                measure: Curve(*_estimate(values, statistics[measure], counted[name]))
                for measure, values in row.items()
            }
            for name, row in scores.items()
        },
        ceilings=ceilings,
        valid_prediction_frames={
            name: Estimate(*_estimate(valid_frames(ahead, frames, seen_ahead), np.median))
            for name, frames in predictions.items()
        },
    )


def _estimate(values: np.ndarray, statistic: Callable, seen: np.ndarray | None = None) -> list[Any]:
    """A statistic over the first axis of `[N, ...]` and the ends of its interval, as JSON has them; of `[N, S]` over
    those that were `seen` `[N, S]`, NaN where none was."""
    if seen is not None:
        columns = (values[which, horizon].astype(float) for horizon, which in enumerate(seen.T))
        found = [_estimate(column, statistic) if len(column) else [math.nan] * 3 for column in columns]
        return [list(part) for part in zip(*found, strict=True)]
    return [part.tolist() for part in (statistic(values, axis=0), *map(np.asarray, interval(values, statistic)))]


def probe_latents(latents: np.ndarray, data: Sequences, world: World | None) -> dict[str, Any]:
    """R^2 from latents `[N, T, Z]` to the true variables, linear and polynomial; nothing where there are no states. Of
    long latents their principal components are probed. Frames of few sequences are no strangers to each other, and a
    polynomial that fits them goes astray between others: of such a one the degree is lowered."""
    variables = true_variables(data, world)
    if not variables:
        return {}
    seen, latents = data.seen(), principal(latents, latents)
    degree = affordable_degree(1, len(of_seen(latents, seen)), latents.shape[2])
    linear, polynomial = (probe_r2(latents, variables, each, seen) for each in (1, degree))
    while degree > 1 and any(polynomial[name] < linear[name] - ASTRAY for name in linear):
        degree -= 1
        polynomial = probe_r2(latents, variables, degree, seen)
    return {"r2_linear": linear, "polynomial_degree": degree, "r2_polynomial": polynomial}


def reader_of(world: World, frames: np.ndarray, states: np.ndarray, seen: np.ndarray | None = None) -> Reader:
    """A reader by true frames `[N, T, H, W(, C)]` in [0, 1] that were `seen` (seen.py), and their states
    `[N, T, S]`."""
    shown = of_seen(states, seen)
    return world.reader(of_seen(frames, seen).reshape(len(shown), -1), shown)


def read_frames(
    world: World,
    truth: np.ndarray,
    states: np.ndarray,
    context: int,
    predictions: dict[str, np.ndarray],
    read: Reader | None = None,
    seen: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The visible variables `[N, S, D]` that each prediction `[N, S, H, W(, C)]` shows.

    They are read by `read`, or a reader made of the true frames `[N, T, ...]` that were `seen` (seen.py) and their
    `states` `[N, T, S]`. The last row is what is read off true frames by those of other sequences.
    """

    def shown(read: Reader, frames: np.ndarray) -> np.ndarray:
        return read(frames.reshape(*frames.shape[:2], -1))

    everything = reader_of(world, truth, states, seen) if read is None else read
    result = {name: shown(everything, frames) for name, frames in predictions.items()}
    if len(truth) > 1:
        floor = np.empty_like(visible_states(world, states[:, context:]))
        for a, b in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
            others = reader_of(world, truth[a], states[a], None if seen is None else seen[a])
            floor[b] = shown(others, truth[b, context:])
        result[f"{' and '.join(map(words, visible_variables(world)))} {READING}"] = floor
    return result


# Sampled futures


def judge_samples(
    dreamer: Dreamer,
    data: Sequences,
    context: int,
    futures: int,
    key: jax.Array,
    world: World | None,
    read: Reader | None = None,
) -> Samples:
    """How well sampled futures cover what came, for each horizon: coverage of central intervals, and CRPS.

    Where the world is known its visible variables are scored: coverage is the mean over all of them, CRPS over those in
    the unit of the first; they are read by `read` or a reader made of the data. Otherwise it is every pixel, in
    brightness, with the emission's noise. The key is consumed.
    """
    if read is None and world is not None and data.states is not None:
        read = reader_of(world, as_unit_frames(data.frames), data.states, data.seen())
    covered, scores = [], []
    for batch, count, samples in sample_futures(dreamer, data, context, futures, key, read):
        if world is None or read is None or batch.states is None:
            truth = as_unit_frames(batch.frames[:count, context:]).reshape(*samples.shape[1:])
            inside, score = coverage(samples, truth, LEVELS).mean(axis=-1), crps(samples, truth).mean(axis=-1)
        else:
            inside, score = _score_variables(world, samples, visible_states(world, batch.states[:count, context:]))
        covered.append(inside)
        scores.append(score)
    seen = seen_after(data.seen(), context)
    by_level = mean_of_sequences(np.concatenate(covered, axis=1), seen)  # [L, S]
    return Samples(
        futures=futures,
        unit="brightness" if world is None or read is None else unit(visible_variables(world)[0]),
        coverage={level: by_level[np.isclose(LEVELS, float(level))][0].tolist() for level in SHOWN_LEVELS},
        crps=mean_of_sequences(np.concatenate(scores), seen).tolist(),
        reliability=Reliability(
            nominal=LEVELS.tolist(),
            observed={str(h): by_level[:, h - 1].tolist() for h in shown_horizons(by_level.shape[1])},
        ),
    )


def _score_variables(world: World, samples: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage `[L, B, S]` and CRPS `[B, S]` of samples `[K, B, S, D]` of true variables `[B, S, D]`."""
    variables = visible_variables(world)
    inside, scores = [], []
    for variable, values, true in zip(variables, np.moveaxis(samples, -1, 0), np.moveaxis(truth, -1, 0), strict=True):
        middle = centre(variable, values)
        inside.append(coverage(deviation(variable, values, middle), deviation(variable, true, middle), LEVELS))
        if unit(variable) == unit(variables[0]):
            scores.append(crps(values, true, lambda a, b, variable=variable: apart(variable, a, b)))
    return np.mean(inside, axis=0), np.mean(scores, axis=0)
