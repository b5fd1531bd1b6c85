"""WORLDS.md from results/worlds.json, and its picture from the trainings."""

import statistics
from pathlib import Path
from typing import Any

from baselines.markdown import spread, table
from baselines.study.worlds import ENTRIES, HORIZONS, SHOWN, ratios
from worldmodel.support.files import atomic_write, read_json

HEAD = """
# One model, many worlds

Written by `make worlds` from results/worlds.json: a DVBF with the defaults of `train.py dvbf`, the same for every
world (where frames are large, with fewer updates), trained on random actions and judged on fresh sequences, by which
nothing was chosen. Every seed is a training of its own. What differs from world to world is the data, and what the
defaults take from it: sizes, the window, the observation noise, whether there is a background, and which networks see
the frames.

*Share of naive*: the pixel error of imagined frames, divided by that of the better of two predictors that learn
nothing, the last observed frame and the mean frame; 1 is chance, and a sharp picture in the wrong place comes to 2.
*Shuffled*: the same with the actions of another sequence; above 1 it is worse than chance. Median over the seeds
(least to most). What is read off the frames, the true physics beside it, and the check's words follow.
"""

GOALS = (
    ("Acrobot-v1", 30, 0.1),
    ("Acrobot-v1", 60, 0.3),
    ("MountainCarContinuous-v0", 30, 0.1),
    ("MountainCarContinuous-v0", 60, 0.3),
    ("CartPole-v1", 10, 0.1),
    ("CartPole-v1", 30, 0.1),
    ("Acrobot-v1, 64 x 64 x 3", 30, 0.2),
)
"""share of naive, at most, of every seed"""
POSITIONS = (
    ("ball", {1: 0.01, 10: 0.05, 30: 0.15, 60: 0.4}),
    ("two balls", {1: 0.01, 10: 0.05, 30: 0.15, 60: 0.4}),
)
"""the headline measure, at most, of the median seed"""


def write_worlds_page(out: Path) -> None:
    """Write `out`/WORLDS.md."""
    found = read_json(out / "results" / "worlds.json")
    results: dict[str, list[dict[str, Any]]] = found["entries"]
    parts = [
        HEAD,
        f"On {found['machine']}.",
        "![True and imagined frames of every world](docs/worlds.png)",
        "## Goals",
        goals_table(results),
        "## Share of naive, after so many imagined frames",
        shares_table(results),
        "## What the imagined frames show, after so many of them",
        *(text for name, seeds in results.items() for text in (f"### {name}", world_words(name, seeds))),
    ]
    with atomic_write(out / "WORLDS.md") as file:
        file.write(("\n\n".join(part.strip() for part in parts) + "\n").encode())


def draw_worlds(path: Path, strips: dict[str, Path]) -> None:
    """True and imagined frames of every world whose strip is there, one below the other."""
    import numpy as np

    from worldmodel.pictures.figures import BLUE, ORANGE, Strip, new_figure, save_figure, show_strips

    rows: list[Strip] = []
    for name, file in strips.items():
        if file.exists():
            with np.load(file, allow_pickle=False) as found:
                times, kinds = found["times"], [found["truth"] / 255, found["imagined"] / 255]
            blank = [np.ones(kinds[0].shape[1:])] * (len(SHOWN) - len(times))
            borders = [BLUE if t <= 0 else ORANGE for t in times] + ["white"] * len(blank)
            world = name.replace(", ", "\n").replace("Continuous", "\nContinuous")
            for kind, frames in zip((f"{world}\ntruth", "imagined"), kinds, strict=True):
                rows.append(Strip(kind, [*frames, *blank], borders))
    if rows:
        figure = new_figure(0.85 * len(SHOWN) + 1.3, 0.88 * len(rows) + 0.8)
        show_strips(figure, rows, [f"{t:+d}" for t in SHOWN])
        figure.suptitle(
            "Frames after the last observed one (blue: observed; orange: imagined from the actions alone):\n"
            "of each world the one with the median error among the longest fresh sequences",
            fontsize=10,
        )
        save_figure(figure, path)


def goals_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """What is missed is bold."""
    rows = []

    def add(what: str, aim: float, value: float) -> None:
        text = f"{value:.3f}"
        rows.append([what, f"{aim:g}", text if value <= aim else f"**{text}**"])

    for name, horizon, aim in GOALS:
        if name in results:
            worst = max(ratios(seed)[str(horizon)] for seed in results[name])
            add(f"{name}: share of naive, {horizon} frames ahead, worst seed", aim, worst)
    for name, aims in POSITIONS:
        if name in results:
            for horizon, aim in aims.items():
                median = statistics.median(headline(seed, "model", str(horizon)) for seed in results[name])
                add(f"{name}: half box sides, {horizon} ahead, median seed", aim, median)
    return table(["", "at most", "here"], rows)


def shares_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Every world's row, and that of shuffled actions where there are any."""
    rows = []
    for name, seeds in results.items():
        for row, title in (("model", f"**{name}**"), ("shuffled actions", "shuffled")):
            if row in seeds[0]["rows"]:
                every = [ratios(seed, row) for seed in seeds]
                shown = [str(h) for h in HORIZONS]
                cells = [spread([each[h] for each in every], ".3f") if h in every[0] else "" for h in shown]
                about = ENTRIES[name].about if row == "model" else ""
                rows.append([title, about, *cells])
    return table(["", "", *map(str, HORIZONS)], rows)


def headline(seed: dict[str, Any], row: str, horizon: str) -> float:
    """The world's first measure, in the unit of its title."""
    measure = seed["measure"]
    return measure["factor"] * seed["rows"][row][measure["name"]][horizon]


def world_words(name: str, seeds: list[dict[str, Any]]) -> str:
    """The world's own measure beside floors and ceilings, and how it was trained."""
    first, measure = seeds[0], seeds[0]["measure"]
    rows = []
    for row, scores in first["rows"].items():
        if measure["name"] in scores:
            horizons = scores[measure["name"]]
            cells = [
                spread([headline(seed, row, str(h)) for seed in seeds], measure["form"]) if str(h) in horizons else ""
                for h in HORIZONS
            ]
            rows.append([f"**{row}**" if row == "model" else row, *cells])
    counts = [str(first["sequences"].get(str(h), "")) for h in HORIZONS]
    problems = sorted({problem for seed in seeds for problem in seed["problems"]})
    foreseen = [f"{seed['foreseen_frames']:.0f}" for seed in seeds if seed["foreseen_frames"] is not None]
    check = f"The check says: {', '.join(problems) or 'healthy'}"
    if foreseen:
        check += f"; of {first['imagined_frames']:.0f} held-out frames foreseen: {', '.join(foreseen)}"
    shape = " x ".join(map(str, first["shape"]))
    trained = (
        f"{first['frames']:,} frames of {shape}, {first['steps']:,} updates of {first['batch_size']} windows,"
        f" {statistics.median(seed['training_seconds'] for seed in seeds):.0f} s on one core; {len(seeds)} seeds."
    )
    return "\n\n".join(
        [
            trained,
            table([measure["title"], *map(str, HORIZONS)], [*rows, ["sequences", *counts]]),
            f"{check}.",
        ]
    )
