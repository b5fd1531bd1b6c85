"""Pictures of the latent space: the cloud of latents, paths in it, base matrices, eigenvalues, the decoder around it.

Where data has no true states the pictures do without: colours show the time, and nothing is compared with physics.
"""

from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from worldmodel.data.sequences import Sequences, are_choices, as_unit_frames, spread_over
from worldmodel.evaluation.latents import View, base_weights, nearest, principal_walk
from worldmodel.evaluation.measures import rank_by_error
from worldmodel.evaluation.seen import of_seen
from worldmodel.imagination.dreamer import Dreamer, Rollouts
from worldmodel.imagination.variables import (
    apart,
    label,
    shown,
    true_variables,
    visible_states,
    visible_variables,
    words,
)
from worldmodel.models.protocol import LocallyLinear
from worldmodel.pictures.colours import colourings, frame_times, goes_round, scatter, time_label
from worldmodel.pictures.eigenvalues import draw_eigenvalues
from worldmodel.pictures.figures import (
    BLUE,
    ORANGE,
    VERMILION,
    Strip,
    draw_beside_truth,
    drawn_actions,
    new_figure,
    save_figure,
)
from worldmodel.pictures.forecasts import RANKS, at_ranks
from worldmodel.worlds.world import World

LARGEST_CLOUD = 4000
"""points that are drawn, at most"""
FLATTEST = 0.3
"""least height of a picture of paths, in its width"""
AROUND = 12
"""angles at which the decoder is shown"""
FILTERED_AGAIN = 100
"""sequences, at most, whose states the decoder is shown"""


def draw_latents(
    folder: Path,
    dreamer: Dreamer,
    data: Sequences,
    rollouts: Rollouts,
    filtered: np.ndarray,
    context: int,
    world: World | None,
) -> list[str]:
    """Write all pictures of this file into `folder`, for rollouts of `data` after `context` observed frames and the
    latents `[N, T, Z]` of a filter that sees all of them. Clouds are of the frames that were seen. Gives a line for
    what is left out."""
    seen = data.seen()
    view = View.of(of_seen(filtered, seen))
    ranking = rank_by_error(as_unit_frames(data.frames), rollouts.frames, context, seen)
    draw_cloud(folder / "latent_cloud.png", view, filtered, data, world)
    draw_paths(folder / "latent_paths.png", view, rollouts, filtered, data, at_ranks(ranking), context)
    draw_decoder(folder / "decoder.png", dreamer, data, world)
    if not isinstance(dreamer.model, LocallyLinear):
        return ["left out: base_matrices.png, eigenvalues.png (not a locally linear model)"]
    median = ranking[len(ranking) // 2]
    draw_base_matrices(folder / "base_matrices.png", dreamer, data, rollouts, median, context, world)
    draw_eigenvalues(folder / "eigenvalues.png", dreamer.model, data, filtered, world)
    return []


# The cloud of latents


def draw_cloud(path: Path, view: View, latents: np.ndarray, data: Sequences, world: World | None) -> None:
    """All latents `[N, T, Z]`, end-on and from the side, in the colours of the true states."""
    rows = colourings(data, world)
    figure = new_figure(9.6, 1.0 + 4.0 * len(rows))
    axes = figure.subplots(len(rows), 2, squeeze=False)
    seen = data.seen()
    points = of_seen(view(latents), seen)
    # in any order: drawn sequence by sequence, the last ones would hide the first
    which = np.random.default_rng(0).permutation(len(points))[:LARGEST_CLOUD]
    for (end_on, side), colouring in zip(axes, rows, strict=True):
        for axis, (x, y) in ((end_on, (0, 1)), (side, (0, 2))):
            drawn = scatter(axis, points[which], (x, y), colouring, of_seen(colouring.values, seen)[which], size=4)
            label_view(axis, view, (x, y))
            axis.set_adjustable("datalim")
        end_on.set_title("seen end-on", fontsize=10)
        side.set_title("seen from the side", fontsize=10)
        bar = figure.colorbar(drawn, ax=list((end_on, side)), ticks=colouring.ticks, extend="neither", pad=0.01)
        bar.set_label(colouring.label)
    unseen = "" if data.states is None else "; the model has never seen what the colours show"
    figure.suptitle(
        f"Filtered latents, one point for each of {len(which)} frames{unseen}\n"
        f"three principal components, {view.shares.sum():.0%} of the variance, turned to where the cloud is"
        " most hollow",
        fontsize=10,
    )
    save_figure(figure, path)


def label_view(axis: Axes, view: View, plane: tuple[int, int]) -> None:
    x, y = plane
    names = ("across 1", "across 2", "along the line of sight")
    axis.set(
        xlabel=f"{names[x]} ({view.shares[x]:.0%} of the variance)",
        ylabel=f"{names[y]} ({view.shares[y]:.0%})",
        aspect="equal",
    )
    axis.grid(alpha=0.3)


def draw_paths(
    path: Path,
    view: View,
    rollouts: Rollouts,
    latents: np.ndarray,
    data: Sequences,
    sequences: np.ndarray,
    context: int,
) -> None:
    """Some `sequences` in two planes of the view: where the filter that sees all frames takes them, and where
    imagination does."""
    cloud = spread_over(of_seen(view(latents), data.seen()), LARGEST_CLOUD // 2)
    extent = np.ptp(cloud, axis=0)
    heights = np.clip(extent[1:] / max(float(extent[0]), 1e-9), FLATTEST, 1)  # the scale is the same in all directions
    figure = new_figure(3.3 * len(sequences) + 0.4, 1.4 + 3.0 * heights.sum())
    axes = figure.subplots(2, len(sequences), squeeze=False, sharex=True, sharey="row", height_ratios=heights)
    lengths = data.lengths()
    for column, sequence in enumerate(sequences):
        filtered, imagined = (view(paths[sequence, : lengths[sequence]]) for paths in (latents, rollouts.latents))
        for row, (x, y) in enumerate(((0, 1), (0, 2))):
            axis = axes[row, column]
            axis.plot(cloud[:, x], cloud[:, y], ".", color="#dddddd", markersize=2, zorder=0)
            axis.plot(filtered[:, x], filtered[:, y], color=BLUE, linewidth=2.5, alpha=0.5)
            dream = imagined[context - 1 :]
            axis.plot(dream[:, x], dream[:, y], color=ORANGE, linewidth=1.2)
            for line, colour, start in ((dream, ORANGE, "D"), (filtered, BLUE, "o")):
                for place, marker in ((line[0], start), (line[-1], "X")):
                    axis.plot(place[x], place[y], marker, color=colour, markeredgecolor="black", markersize=8)
            label_view(axis, view, (x, y))
            axis.label_outer()
        axes[0, column].set_title(f"sequence {sequence}\nbetter than {1 - RANKS[column]:.0%} of all", fontsize=10)
    marks = (("start", BLUE, "o"), ("imagination takes over", ORANGE, "D"), ("end", "white", "X"))
    handles = [
        Line2D([], [], color=BLUE, linewidth=2.5, alpha=0.5, label="filtered: sees every frame"),
        Line2D([], [], color=ORANGE, label="imagined from the actions alone"),
        *(Line2D([], [], color=c, marker=m, linestyle="", markeredgecolor="black", label=name) for name, c, m in marks),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    steps = rollouts.latents.shape[1] - context
    figure.suptitle(f"Filtered and imagined paths through the latent space: {steps} imagined frames after {context}")
    save_figure(figure, path)


# The transition


def draw_base_matrices(
    path: Path,
    dreamer: Dreamer,
    data: Sequences,
    rollouts: Rollouts,
    sequence: int,
    context: int,
    world: World | None,
) -> None:
    """The weights of the base matrices along the path of one sequence, with the true states and the actions beneath."""
    everywhere = np.asarray(base_weights(dreamer.model, rollouts.latents, data.actions))
    mean = everywhere.mean(axis=(0, 1)) if data.ended is None else everywhere[data.acted()].mean(axis=0)
    order = np.argsort(-mean)
    length = data.lengths()[sequence]
    times = frame_times(data)[:length]
    curves = true_variables(data, world)[:4]
    figure = new_figure(9.6, 4.4 + 1.3 * (len(curves) + 1))
    heights = [3.2, *[1] * (len(curves) + 1)]
    axes = figure.subplots(len(heights), 2, width_ratios=(5, 1), height_ratios=heights, sharex="col")
    heat, bars = axes[0]
    # row i, column t: the weight of the matrix of rank i + 1 in the step from frame t to frame t + 1
    edges = (0, times[-1], len(order) + 0.5, 0.5)
    weights = everywhere[sequence, : length - 1].T[order]
    drawn = heat.imshow(weights, aspect="auto", cmap="magma_r", vmin=0, interpolation="nearest", extent=edges)
    heat.set(ylabel="base matrix, by mean weight", title=f"weights along sequence {sequence}")
    figure.colorbar(drawn, ax=heat, location="left", label="weight alpha", pad=0.02, shrink=0.8)
    bars.barh(np.arange(1, len(order) + 1), mean[order], color=BLUE)
    bars.set(title="in all data", ylim=heat.get_ylim(), yticks=[], xlabel="mean weight")
    bars.tick_params(labelbottom=True)
    for axis, (variable, values) in zip(axes[1:-1, 0], curves, strict=True):
        line = shown(variable, values[sequence, :length])
        around = goes_round(variable, line)
        axis.plot(times, unbroken(line) if around else line, color=BLUE)
        axis.set_ylabel(label(variable).replace(" / ", "\n/ ").replace(" (0:", "\n(0:"), fontsize=8)
        if around:
            axis.set(ylim=(-180, 180), yticks=[-180, 0, 180])
    name, drawn_numbers = drawn_actions(data.actions[sequence, : length - 1], are_choices(data.actions))
    for values in drawn_numbers:
        axes[-1, 0].stairs(values, times, baseline=None, color=VERMILION)
    axes[-1, 0].set_ylabel(name, fontsize=9)
    axes[-1, 0].set_xlabel(time_label(data))
    for axis in axes[:, 0]:
        axis.axvline(times[context - 1], color=ORANGE, linestyle="--", linewidth=1.5)
    for axis in axes[1:, 0]:
        axis.grid(alpha=0.3)
        axis.set_xlim(0, times[-1])
    for axis in axes[1:, 1]:
        axis.remove()
    needed = int(np.searchsorted(np.cumsum(mean[order]), 0.9)) + 1
    figure.suptitle(
        f"Which of the {len(order)} base matrices work where: {needed} of them carry 90% of the weight\n"
        "dashed: imagination takes over (the sequence with the median error)",
        fontsize=10,
    )
    save_figure(figure, path)


def unbroken(degrees: np.ndarray) -> np.ndarray:
    """Angles `[T]` for a line that has a gap where they come round from 180 to -180."""
    return np.where(np.abs(np.diff(degrees, append=degrees[-1])) > 180, np.nan, degrees)


# The decoder


def draw_decoder(path: Path, dreamer: Dreamer, data: Sequences, world: World | None) -> None:
    """Decoded frames around the circle of a world with one circular visible variable, beneath true ones; elsewhere
    along the first principal component of the latents. What is decoded is the mean of the filter's states near by."""
    some = data.take(spread_over(np.arange(len(data)), FILTERED_AGAIN))
    seen, every = some.seen(), np.arange(len(some) * some.length)
    filtered = dreamer.filter(some.frames, some.actions, seen)
    latents, places = of_seen(dreamer.vector(filtered), seen), every if seen is None else every[seen.ravel()]
    visible = [] if world is None else visible_variables(world)
    if world is not None and some.states is not None and [variable.circular for variable in visible] == [True]:
        [variable], values = visible, of_seen(visible_states(world, some.states), seen)
        around = np.linspace(-np.pi, np.pi, AROUND, endpoint=False)
        near = nearest(apart(variable, values.reshape(1, -1), around[:, None]))
        names = [f"{degrees:.0f}°" for degrees in np.rad2deg(around)]
        title = (
            f"The decoder around the circle:\nthe mean latent of the frames near each {words(variable)}, decoded, and a"
            f" true frame of that {words(variable)}"
        )
    else:
        walk = principal_walk(latents, AROUND)
        near = nearest(np.sum((latents - walk[:, None]) ** 2, axis=-1))
        names = [f"{share:+.1f}" for share in np.linspace(-1, 1, AROUND)]
        title = (
            "The decoder along the first principal component of the latents, from the 5% to the 95% quantile:\nthe mean"
            " latent of the frames nearest to each place, decoded, and the true frame that is nearest"
        )

    near = places[near]

    def mean(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(-1, *leaf.shape[2:])[near].mean(axis=1).astype(leaf.dtype)

    decoded = dreamer.decode(jax.tree.map(mean, filtered))
    truth = as_unit_frames(some.frames.reshape(-1, *data.frame_shape)[near[:, 0]])
    draw_beside_truth(path, truth, Strip("decoder", list(decoded)), names, title)
