"""The trained runs that come with the package: how each was made, and what it is worth on fresh data.

A run is trained as a user would train it; what is kept of it is its configuration, some lines of its metrics, its
parameters (rounded, which halves them once they are packed), its learnt reward and a sample of its data. The figures of
its card are of what is kept.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from baselines.study.kept import trained
from baselines.study.worlds import judged
from worldmodel.runs.folder import Run, read_arrays
from worldmodel.runs.pretrained import SHIPPED
from worldmodel.support.files import atomic_folder, atomic_write, write_json
from worldmodel.support.machine import machine

SAMPLED = 30
"""sequences of the data that are kept, at most"""
KEPT_BITS = 11
"""of a parameter's mantissa, of 23"""
TEST_SEED = 1
CONTEXT = 10
HORIZONS = (1, 10, 30, 60)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One run."""

    about: str
    model: str
    world: str
    collect: dict[str, Any]
    """arguments of wm.collect"""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """of the training, that are not the defaults"""
    acts: bool = False
    """whether a learnt reward is kept"""
    of_sequences: bool = True


SWING_UP = {"sequences": 240, "frames": 100, "size": 24, "crop": 0.55, "actions": "mixed"}

ENTRIES = {
    "swing-up": Entry(
        "the demo's DVBF of Gymnasium's Pendulum-v1, which swings it up", "dvbf", "Pendulum-v1", SWING_UP, acts=True
    ),
    "swing-up-vae": Entry(
        "the demo's static VAE of single frames of Pendulum-v1", "vae", "Pendulum-v1", SWING_UP, of_sequences=False
    ),
    "pendulum": Entry("a DVBF of the paper's pendulum", "dvbf", "pendulum", {"sequences": 500, "frames": 15}),
    "ball": Entry(
        "a DVBF of the paper's bouncing ball, with a wide transition",
        "dvbf",
        "ball",
        {"sequences": 5000, "frames": 15},
        {"base_matrices": 32, "mixture_hidden_size": 256},
    ),
}


def make(name: str, entry: Entry, place: Path, out: Path = SHIPPED) -> Path:
    """Train it in `place`, or take what is finished there, and write what is kept of it into a folder of `out`, which
    is replaced; that folder."""
    import worldmodel as wm

    asked = hashlib.sha256(json.dumps([entry.world, entry.collect], sort_keys=True).encode()).hexdigest()[:8]
    data, test = (place / f"{entry.world}_{asked}_{part}.npz" for part in ("train", "test"))
    if not data.exists():
        wm.collect(entry.world, out=data, seed=0, **entry.collect)
    if not test.exists():
        fresh = entry.collect | {"sequences": 200, "frames": CONTEXT + max(HORIZONS)}
        wm.collect(entry.world, out=test, seed=TEST_SEED, **fresh)
    run = trained(entry.model, data, place / name, 0, **entry.options)
    if entry.acts:
        from worldmodel.planning.saved import saved_reward

        saved_reward(run.run, run)
    with atomic_folder(out / name) as folder:
        keep(run.run, folder)
        card = describe(entry, run.run, figures(entry, wm.load(folder), test))
        write_json(folder / "card.json", card)
        with atomic_write(folder / "CARD.md") as file:
            file.write(card_page(name, card).encode())
        shutil.rmtree(out / name, ignore_errors=True)  # what is here takes its place
    return out / name


def keep(run: Run, folder: Path) -> None:
    """Write what is kept of a run into an empty folder."""
    from worldmodel.data.storage import load_sequences, save_sequences

    write_json(folder / "config.json", run.config)
    for verdict in ("health.json", "posterior.json"):
        if (run.folder / verdict).exists():
            shutil.copy(run.folder / verdict, folder)
    lines = [line for line in run.metrics() if "validation_open_loop_mse" in line or line["step"] % 1000 == 0]
    with atomic_write(folder / "metrics.jsonl") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    step = max(run.checkpoint_steps())
    path = Path("checkpoints") / f"step_{step:08d}.npz"
    arrays = {name: rounded(array) for name, array in read_arrays(run.folder / path, "checkpoint").items()}
    parameters = {name: array for name, array in arrays.items() if name.startswith("params/")}
    with atomic_write(folder / path) as file:
        np.savez_compressed(file, allow_pickle=False, **parameters)
    if (run.folder / "acting" / "reward.npz").exists():
        (folder / "acting").mkdir()
        shutil.copy(run.folder / "acting" / "reward.json", folder / "acting")
        reward = read_arrays(run.folder / "acting" / "reward.npz", "reward")
        with atomic_write(folder / "acting" / "reward.npz") as file:
            np.savez_compressed(file, allow_pickle=False, **{name: rounded(array) for name, array in reward.items()})
    data = load_sequences(Path(run.card.path))
    save_sequences(folder / "sample.npz", data.take(slice(min(SAMPLED * 100 // data.length, len(data)))))


def rounded(array: np.ndarray) -> np.ndarray:
    """float32 to the nearest number whose last bits are zero; other arrays as they are."""
    if array.dtype != np.float32:
        return array
    dropped = 23 - KEPT_BITS
    bits = np.ascontiguousarray(array).view(np.uint32)
    half = np.uint32(1 << (dropped - 1))
    return ((bits + half) & ~np.uint32((1 << dropped) - 1)).view(np.float32).reshape(array.shape)


def figures(entry: Entry, run: Any, test: Path) -> dict[str, Any]:
    """What the run is worth on fresh sequences."""
    import worldmodel as wm

    data = wm.read(test)
    if entry.of_sequences:
        found, _ = judged(run, data, test, CONTEXT, HORIZONS)
        measure = found["measure"]
        rows = {row: found["rows"][row] for row in ("model", "repeat last frame", "mean frame")}
        return {
            "measure": measure["title"],
            "errors": {
                row: {str(horizon): measure["factor"] * error for horizon, error in each[measure["name"]].items()}
                for row, each in rows.items()
            },
            "pixel_mse": {row: each["mse"] for row, each in rows.items()},
        }
    frames = data.frames.reshape(-1, *data.frame_shape)[:2000] / np.float32(255)
    shown = np.asarray(run.decode(run.encode(data.frames.reshape(-1, *data.frame_shape)[:2000])))
    errors = {"model": ((shown - frames) ** 2).mean(), "mean frame": frames.var(axis=0).mean()}
    return {"pixel_mse": {name: float(error) for name, error in errors.items()}}


def describe(entry: Entry, run: Run, found: dict[str, Any]) -> dict[str, Any]:
    """All that a card says."""
    return {
        "about": entry.about,
        "model": entry.model,
        "world": entry.world,
        "collect": entry.collect | {"seed": 0},
        "options": entry.options | {"seed": 0},
        "data_fingerprint": run.card.fingerprint,
        "versions": run.config["versions"],
        "machine": machine(),
        "test": {"seed": TEST_SEED, "sequences": 200, "context": CONTEXT},
        "figures": found,
        "licence": "Apache-2.0",
    }


def card_page(name: str, card: dict[str, Any]) -> str:
    """CARD.md."""

    def words(options: dict[str, Any]) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in options.items())

    found = card["figures"]
    lines = [
        f"# {name}",
        "",
        f"{card['about'][0].upper()}{card['about'][1:]}.",
        "",
        f"- Data: `wm.collect({card['world']!r}, {words(card['collect'])})`, with the SHA-256",
        f"  {card['data_fingerprint']}",
        f"- Training: `wm.train({card['model']!r}, data, out, {words(card['options'])})`, then its parameters were"
        f" rounded to {KEPT_BITS} bits",
        "- Made by: `python scripts/pretrained.py`, on " + card["machine"],
        f"- Licence: {card['licence']}",
        "",
    ]
    if "errors" in found:
        horizons = list(found["errors"]["model"])
        lines += [
            f"On {card['test']['sequences']} fresh sequences (seed {card['test']['seed']}), after"
            f" {card['test']['context']} observed frames:",
            "",
            f"| {found['measure']}, after imagined frames | {' | '.join(horizons)} |",
            "| --- |" + " --- |" * len(horizons),
        ]
        lines += [
            f"| {row} | {' | '.join(f'{value:.3g}' for value in each.values())} |"
            for row, each in found["errors"].items()
        ]
    else:
        mse = found["pixel_mse"]
        lines += [
            f"Mean squared error of a reconstructed pixel, on fresh frames: {mse['model']:.3g} (the mean frame's:"
            f" {mse['mean frame']:.3g})."
        ]
    return "\n".join(lines) + "\n"
