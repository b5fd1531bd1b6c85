"""The run folder: config.json, metrics.jsonl, checkpoints, pictures; and how to open one.

R/config.json       everything that reproduces the run: model, options, data card, versions
R/metrics.jsonl     one JSON object a line, every hundred steps
R/checkpoints/      step_00001000.npz, ...: flat NumPy archives, written whole or not at all, no pickles
R/snapshots/        step_00000500.npz, ...: arrays that show how far learning was; learning.gif is made of them
R/curves.png        the metrics, drawn
"""

import dataclasses
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.data.storage import load_sequences
from worldmodel.models.catalogue import MODELS
from worldmodel.runs.metrics import append_line, read_lines, replace_lines
from worldmodel.support.files import UNFINISHED, DamagedError, UserError, atomic_write, read_json, write_json
from worldmodel.support.settings import SEED_FOLDER, from_json, read_options

KEPT_CHECKPOINTS = 3
METRICS = "metrics.jsonl"
VERSIONED = ("jax", "jaxlib", "flax", "optax", "distrax", "numpy")

RENAMED = {"static_vae": "vae"}
"""models, by the names that earlier versions wrote into config.json"""

ADDED = {"params/spread/value": np.float32(1)}
"""leaves that checkpoints of earlier versions lack, with the value that says the same"""

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class DataCard:
    """What a run knows of the data that it was trained on."""

    path: str
    fingerprint: str
    """SHA-256 of the frames and the actions"""
    sequences: int
    length: int
    """frames in a sequence"""
    dt: float | None
    """seconds between two frames"""
    scale: FrameScale
    world: WorldRecord | None = None
    """what made the data, where that is known"""
    gaps: str = ""
    """which frames are not there, in words; empty where all are"""

    @staticmethod
    def of(path: Path, data: Sequences) -> "DataCard":
        scale, gaps = FrameScale.of(data, str(path)), data.in_words()
        return DataCard(str(path), data.fingerprint(), len(data), data.length, data.dt, scale, data.world, gaps)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder that exists."""

    folder: Path

    @staticmethod
    def create(folder: Path, model: str, options: dict[str, Any], card: DataCard) -> "Run":
        """Start a run. Raises UserError when the folder holds one already."""
        refuse_existing_run(folder)
        versions = {name: importlib.metadata.version(name) for name in VERSIONED}
        config = {"model": model, "options": options, "data": dataclasses.asdict(card), "versions": versions}
        write_json(folder / "config.json", config)
        return Run(folder)

    @staticmethod
    def open(folder: Path) -> "Run":
        """Open a run. Raises UserError when the folder does not hold one, or one of a model that is not registered."""
        if not (folder / "config.json").is_file():
            seeds = sorted(path.parent.name for path in folder.glob(f"{SEED_FOLDER}*/config.json"))
            hint = f"; the runs of its seeds are {', '.join(seeds)}" if seeds else ""
            raise UserError(f"{folder}: not a run folder (no config.json in it{hint})")
        run = Run(folder)
        if run.model not in MODELS.names():
            raise UserError(f"{folder}: holds a run of {run.model}, which is none of {', '.join(MODELS.names())}")
        return run

    @property
    def has_begun(self) -> bool:
        """Whether the run holds anything of its training."""
        metrics = self.folder / METRICS
        return bool(self.checkpoint_steps()) or (metrics.exists() and metrics.stat().st_size > 0)

    @property
    def model(self) -> str:
        """The model's name in the catalogue."""
        name = str(self.config.get("model"))
        return RENAMED.get(name, name)

    @property
    def config(self) -> dict[str, Any]:
        config = read_json(self.folder / "config.json")
        if not isinstance(config, dict):
            raise UserError(f"{self.folder / 'config.json'}: not the configuration of a run")
        return config

    @property
    def card(self) -> DataCard:
        try:
            return from_json(DataCard, self.config["data"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.folder / 'config.json'}: its data card is not one of this version") from None

    def data(self) -> Sequences:
        """The data set that the run was trained on. Raises UserError when it is no longer where it was, or another."""
        path, card = Path(self.card.path), self.card
        if not path.exists():
            raise UserError(f"{path}: is not there any more; {self.folder} was trained on it")
        data = load_sequences(path)
        if data.fingerprint() != card.fingerprint:
            raise UserError(f"{path}: is not what {self.folder} was trained on any more")
        return data

    def model_options(self) -> Any:
        """The model's part of the options that the run was started with. Raises UserError when they are not those of
        the model."""
        return read_options(self.folder, MODELS.options(self.model), "model")

    def structure(self) -> Any:
        """The model without its parameters, which are shapes alone: enough to see of what kind it is."""
        options, scale = self.model_options(), self.card.scale
        return nnx.eval_shape(lambda: options.build(scale, nnx.Rngs(params=0)))

    def load(self) -> Any:
        """The trained model, with the parameters of the last checkpoint that is whole.

        Raises UserError when there is none, or when it is of another model.
        """
        graphdef, params, _ = nnx.split(self.structure(), nnx.Param, ...)
        steps = self.checkpoint_steps()
        for step in reversed(steps):
            try:
                return nnx.merge(graphdef, self.load_checkpoint(step, {"params": params})["params"])
            except DamagedError as error:
                before = "; the one before is used" if step > steps[0] else ""
                print(f"warning: {error}{before}", file=sys.stderr)
        raise UserError(f"{self.folder}: has no whole checkpoint")

    def change_options(self, **options: Any) -> None:
        """Keep other values of options of the training."""
        config = self.config
        if config["options"] | options != config["options"]:
            config["options"] |= options
            write_json(self.folder / "config.json", config)

    def check_fits(self, data: Sequences, path: Path) -> None:
        """Raise UserError when frames or actions of the data do not fit the run's model."""
        scale = self.card.scale
        if data.frame_shape != scale.frame_shape:
            raise UserError(
                f"{path}: frames are {list(data.frame_shape)}, but {self.folder} was trained on"
                f" {list(scale.frame_shape)}"
            )
        if data.action_size != scale.action_size:
            raise UserError(
                f"{path}: actions have size {data.action_size}, but {self.folder} was trained on size"
                f" {scale.action_size}"
            )

    # Metrics

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Add a line. Raises UserError when it cannot be written."""
        append_line(self.folder / METRICS, metrics)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines but one that is not written to its end. Raises DamagedError when another is damaged."""
        return read_lines(self.folder / METRICS)

    def forget_after(self, step: int) -> None:
        """Forget what was written after a step: checkpoints, lines of metrics, and what was not written to its end.

        Raises DamagedError, and forgets nothing, when the metrics are damaged."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        for folder in (self.folder, self.folder / "checkpoints", self.folder / "snapshots"):
            for torn in folder.glob(f"{UNFINISHED}*"):
                if torn.is_file():
                    torn.unlink()
        for later in self.checkpoint_steps():
            if later > step:
                self.checkpoint_path(later).unlink()
        if (self.folder / METRICS).exists():
            replace_lines(self.folder / METRICS, kept)

    # Snapshots

    def save_snapshot(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays that show how far learning was at this step."""
        with atomic_write(self._snapshot(step)) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def snapshots(self) -> dict[int, dict[str, np.ndarray]]:
        """The snapshots by step, in order. Raises UserError when one is damaged."""
        steps = _numbered(self.folder / "snapshots", "npz")
        return {step: read_arrays(self._snapshot(step), "snapshot") for step in steps}

    def _snapshot(self, step: int) -> Path:
        return self.folder / "snapshots" / f"step_{step:08d}.npz"

    # Checkpoints

    def checkpoint_steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        return _numbered(self.folder / "checkpoints", "npz")

    def save_checkpoint(self, step: int, state: Any) -> None:
        """Write the state of a training, a pytree, beside the earlier ones, then forget all but the last few."""
        save_tree(self.checkpoint_path(step), state)
        for step in self.checkpoint_steps()[:-KEPT_CHECKPOINTS]:
            self.checkpoint_path(step).unlink()

    def load_checkpoint(self, step: int, like: Tree) -> Tree:
        """What was saved at a step; `like` gives structure and shapes, of all of it or of a part.

        Raises DamagedError when the checkpoint is damaged, and UserError when it belongs to another model.
        """
        return load_tree(self.checkpoint_path(step), like)

    def checkpoint_path(self, step: int) -> Path:
        """Of a step, whether it is there or not."""
        return self.folder / "checkpoints" / f"step_{step:08d}.npz"


def refuse_existing_run(folder: Path) -> None:
    """Raise UserError when `folder` holds a run or cannot be a folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, not a folder")
    if (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a run already; give --resume to continue it, or another --out")


def _numbered(folder: Path, suffix: str) -> list[int]:
    """The steps of the files step_<number>.<suffix> in a folder, in order."""
    matches = (re.fullmatch(rf"step_(\d+)\.{suffix}", path.name) for path in folder.glob("step_*"))
    return sorted(int(match.group(1)) for match in matches if match)


def _flat(tree: Any) -> tuple[dict[str, Any], Any]:
    """Leaves by name, such as "params/decoder/layers/0/kernel/value", and the structure they came from."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}, structure


def save_tree(path: Path, tree: Any) -> None:
    """Write the arrays of a pytree as a flat .npz, whole or not at all."""
    flat, _ = _flat(tree)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **{name: np.asarray(leaf) for name, leaf in flat.items()})


def load_tree(path: Path, like: Tree) -> Tree:
    """Read what `save_tree` wrote into the structure of `like`, which may be a part of what was saved.

    Raises UserError when the file is damaged or its arrays have other names or shapes. Runs no code from it.
    """
    flat, structure = _flat(like)
    leaves = ADDED | read_arrays(path, "checkpoint")
    for name, leaf in flat.items():
        if name not in leaves and name.startswith("optimiser"):
            raise UserError(f"{path}: has another optimiser's state; the model can be used, but not trained further")
        if name not in leaves:
            raise UserError(f"{path}: belongs to another model: {name}")
        if leaves[name].shape != leaf.shape or leaves[name].dtype != leaf.dtype:
            raise UserError(f"{path}: belongs to another model: '{name}' is {list(leaves[name].shape)}")
    return jax.tree_util.tree_unflatten(structure, [jax.numpy.asarray(leaves[name]) for name in flat])


def read_arrays(path: Path, what: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz. Raises DamagedError when the file, which the message calls `what`, is damaged. Runs no
    code from it."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except Exception:  # damaged bytes make the readers of zip and npy fail in more ways than can be listed
        raise DamagedError(f"{path}: the {what} is damaged") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise DamagedError(f"{path}: the {what} is damaged")
    return arrays
