"""Pictures of the linearised dynamics: eigenvalues of one step in the complex plane, learnt and true."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from worldmodel.data.sequences import Sequences, spread_over
from worldmodel.evaluation.latents import Linearised, linearise, step_matrices
from worldmodel.evaluation.seen import of_seen
from worldmodel.pictures.figures import BLUE, GREY, VERMILION, new_figure, save_figure
from worldmodel.worlds.world import World

SMALL: dict[str, Any] = {"color": GREY, "linestyle": "", "marker": ".", "markersize": 5}
LARGE: dict[str, Any] = {"linestyle": "", "fillstyle": "none", "markersize": 10, "markeredgewidth": 2}


def draw_eigenvalues(path: Path, model: Any, data: Sequences, latents: np.ndarray, world: World | None) -> None:
    """Eigenvalues of one step of a locally linear model: of its matrices and, in a known world, of its dynamics within
    the surface of latents `[N, T, Z]`, beside those of the true physics."""
    if world is None or data.states is None:
        acted = None if data.ended is None else data.acted()
        before, actions = of_seen(latents[:, :-1], acted), of_seen(data.actions, acted)
        some = spread_over(np.arange(len(before)), 200)
        draw_matrices(path, np.asarray(step_matrices(model, before[some], actions[some])))
    else:
        flat, states = (of_seen(array, data.seen()) for array in (latents, data.states))
        draw_linearised(path, linearise(model, flat, states, world))


def draw_matrices(path: Path, matrices: np.ndarray) -> None:
    """The eigenvalues of matrices `[B, Z, Z]` in the complex plane."""
    figure = new_figure(6.4, 6)
    axis = figure.subplots()
    complex_plane(axis, np.linalg.eigvals(matrices).ravel(), np.zeros(0), np.zeros(0))
    axis.set_title(
        f"Eigenvalues of one step, the matrix A_t, at {len(matrices)} latents: off the real axis\n"
        "swings, outside the unit circle grows, inside fades",
        fontsize=10,
    )
    save_figure(figure, path)


def draw_linearised(path: Path, found: Sequence[Linearised]) -> None:
    """Physics and model in the complex plane: all states at once, and each of them from near."""
    figure = new_figure(13.5, 6.2)
    parts: Any = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    left, right = parts
    physics, model, matrix = (np.concatenate(arrays) for arrays in list(zip(*found, strict=True))[1:])
    half_width = 1.25 * float(np.abs(np.concatenate([physics, model]) - 1).max())
    whole = left.subplots()
    complex_plane(whole, matrix, physics, model)
    whole.add_patch(Rectangle((1 - half_width, -half_width), 2 * half_width, 2 * half_width, fill=False, color="black"))
    whole.set_title("all states; the box is shown larger\non the right", fontsize=10)
    rows = 2 if len(found) > 1 else 1
    axes = right.subplots(rows, -(-len(found) // rows), sharex=True, sharey=True, squeeze=False).T.ravel()
    for axis, each in zip(axes, found, strict=False):
        complex_plane(axis, each.matrix, each.physics, each.model, half_width)
        learnt = in_words(each.model) if len(each.model) else "not known: too few frames near"
        axis.set_title(f"{each.name}\nphysics {in_words(each.physics)}\nmodel {learnt}", fontsize=9)
        axis.label_outer()
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(
        "Eigenvalues of one step, learnt and true: a pair off the real axis swings, outside the circle grows, inside"
        " fades"
    )
    save_figure(figure, path)


def complex_plane(
    axis: Axes, matrix: np.ndarray, physics: np.ndarray, model: np.ndarray, half_width: float | None = None
) -> None:
    """Eigenvalues and the unit circle; around 1, so many to each side, or all of the circle."""
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
    axis.axhline(0, color=GREY, linewidth=0.5)
    for values, label, style in (
        (circle, "unit circle: neither grows nor fades", {"color": "black", "linewidth": 0.8}),
        (matrix, "the matrix A_t, all latent dimensions", SMALL),
        (model, "model, within its surface of latents", {"color": BLUE, "marker": "o"} | LARGE),
        (physics, "true physics", {"color": VERMILION, "marker": "x"} | LARGE),
    ):
        axis.plot(values.real, values.imag, label=label, **style)
    axis.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    if half_width is not None:
        axis.set(xlim=(1 - half_width, 1 + half_width), ylim=(-half_width, half_width))
    axis.grid(alpha=0.3)


def in_words(values: np.ndarray) -> str:
    """A conjugate pair as 0.980 ± 0.190i, real numbers as they are."""
    upper = [value for value in values[np.argsort(-values.real)] if value.imag > -5e-4]
    return ", ".join(
        f"{value.real:.3f} ± {value.imag:.3f}i" if value.imag > 5e-4 else f"{value.real:.3f}" for value in upper
    )
