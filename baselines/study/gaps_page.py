"""GAPS.md from results/gaps.json."""

import statistics
from pathlib import Path
from typing import Any

from baselines.markdown import spread, table
from baselines.study.gaps import ALONG, ENTRIES, FLOORS, LAST, MEAN, PHYSICS, PROBE, SAMPLED, TRUTH
from worldmodel.support.files import atomic_write, read_json

HEAD = """
# Gaps and noise

Written by `make gaps` from results/gaps.json: two tasks of the Recurrent Kalman Networks (Becker et al., ICML 2019,
[arXiv 1905.07357](https://arxiv.org/abs/1905.07357)), with a DVBF that is trained by `train.py dvbf --batch-size 32`
on frames alone. A pendulum that is shaken at random, 24 x 24 pixels, 75 frames, 2,000 sequences to learn from and
1,000 to be tested on, by which nothing was chosen. The frames are drawn as [their published
program](https://github.com/ALRhub/rkn_share) draws them: `--world rkn-pendulum` has greyer edges, and its truth
itself scores 0.8 nats less. Every seed is a training of its own: median (least to most).
"""
IMPUTATION = """
Half of the frames after the first five are missing, and which are is told. A filter that sees the others, and nothing
of the future, says every frame. As in [their program](https://github.com/LCAS/RKN) a grey pixel x is scored by x log p
+ (1 - x) log(1 - p), in nats, summed over the pixels of a frame and averaged over all frames, shown or not. Since x is
grey, the truth itself does not score 0. Their targets, in training too, are all frames, as in "whole sequences".

p is what the model expects of the pixel, the decoder's mean averaged over 16 sampled beliefs, with one free number, a
contrast about medium grey, which is chosen on held-out training sequences, as it is for the floors and ceilings.
"""
UNSOURCED = """
Their own table is not repeated here.
"""
FILTERING = """
Every frame is mixed with uniform noise; its clear share wanders between 0 and 1, and the first five are clear (the
process of their program). What is asked for is the sine and the cosine of the angle at every frame: the root mean
squared error, and the log-likelihood of normal distributions in nats a frame. Here the model learns from the noisy
frames alone, and a probe, a polynomial of its latents, is fitted to true positions; their networks are trained for true
positions. *Theirs*: table 1 of their submission to ICLR 2019, the best network of each kind; its appendix, which
describes the noise, could not be compared.
"""
THEIRS = {"RKN": 6.248, "GRU": 6.051, "LSTM": 6.019}
"""log-likelihoods of "Recurrent Kalman Networks", submission to ICLR 2019, table 1"""

Seeds = list[dict[str, Any]]


def write_gaps_page(out: Path) -> None:
    """Write `out`/GAPS.md."""
    found = read_json(out / "results" / "gaps.json")
    results: dict[str, Seeds] = found["entries"]
    parts = [HEAD, f"On {found['machine']}."]
    if models_of(results, "imputation"):
        parts += ["## Half of the frames are missing", IMPUTATION, imputation_table(results), UNSOURCED]
        parts += ["Nats by how many frames ago the last one was shown:", gaps_table(results)]
    if models_of(results, "filtering"):
        parts += ["## All frames are noisy", FILTERING, filtering_table(results)]
    with atomic_write(out / "GAPS.md") as file:
        file.write(("\n\n".join(part.strip() for part in parts) + "\n").encode())


def models_of(results: dict[str, Seeds], task: str) -> dict[str, Seeds]:
    return {name: seeds for name, seeds in results.items() if name in ENTRIES and ENTRIES[name].task == task}


def row_of(seeds: Seeds, row: str, figures: dict[str, str]) -> list[str]:
    """Cells of so many figures, each with its form."""
    return [spread([seed["rows"][row][figure] for seed in seeds], form) for figure, form in figures.items()]


IMPUTED = {
    "all": ".2f",
    "shown": ".2f",
    "missing": ".2f",
    "angle_error_degrees": ".2f",
    "angle_error_degrees_90": ".2f",
}


def imputation_table(results: dict[str, Seeds]) -> str:
    """Floors, models, ceilings."""
    told = results.get(FLOORS["imputation"], [])
    rows = [[name, "", *row_of(told, name, IMPUTED)] for name in (MEAN, LAST) if told]
    for name, seeds in models_of(results, "imputation").items():
        rows.append([f"**DVBF, {ENTRIES[name].about}**", f"{len(seeds)}", *row_of(seeds, SAMPLED, IMPUTED)])
        rows.append([f"the same, the picture of {ALONG}", f"{len(seeds)}", *row_of(seeds, ALONG, IMPUTED)])
    rows += [[name, "", *row_of(told, name, IMPUTED)] for name in (PHYSICS, TRUTH) if told]
    heads = ["nats a frame", "seeds", "all frames", "shown", "missing"]
    return table([*heads, "angle error where missing / degrees, median", "90%"], rows)


def gaps_table(results: dict[str, Seeds]) -> str:
    """Nats by the number of frames since the last one that was shown."""
    told = results.get(FLOORS["imputation"], [])
    models = models_of(results, "imputation")
    lines = [
        (LAST, LAST, told),
        *((f"**DVBF, {ENTRIES[name].about}**", SAMPLED, seeds) for name, seeds in models.items()),
    ]
    lines.append((PHYSICS, PHYSICS, told))
    gaps = list(next(iter(models.values()))[0]["rows"][SAMPLED]["by_gap"])
    rows = [
        [title, *(f"{statistics.median(seed['rows'][row]['by_gap'][gap] for seed in seeds):.2f}" for gap in gaps)]
        for title, row, seeds in lines
        if seeds
    ]
    return table(["", *gaps], rows)


FILTERED = {"rmse": ".3f", "nats": ".2f"}


def filtering_table(results: dict[str, Seeds]) -> str:
    """Floors, models, theirs."""
    told = results.get(FLOORS["filtering"], [])
    rows = [[name, "", *row_of(told, name, FILTERED)] for name in (told[0]["rows"] if told else ())]
    for name, seeds in models_of(results, "filtering").items():
        rows.append([f"**probe of a DVBF, {ENTRIES[name].about}**", f"{len(seeds)}", *row_of(seeds, PROBE, FILTERED)])
    rows += [[f"theirs: {name}", "", "", f"{nats:.2f}"] for name, nats in THEIRS.items()]
    return table(["", "seeds", "root mean squared error", "nats a frame"], rows)
