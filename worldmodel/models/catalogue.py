"""The models that there are, and what an entry point of theirs must name. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from worldmodel.support.catalogue import Catalogue

if TYPE_CHECKING:
    from flax import nnx

    from worldmodel.data.scale import FrameScale

MODELS = Catalogue("worldmodel.models", "model")


class ModelOptions(Protocol):
    """A frozen dataclass of a model's options: its fields become those of scripts/train.py, and stand in config.json.

    It may have more: a dictionary TRAINING of other defaults of a training, such as {"steps": 4000}; a dictionary
    RETIRED of options that earlier versions had, with the value that says the same as leaving them out; a dictionary
    ADDED of options that earlier versions lacked, with the value that says what those did; `settled(scale)`, the same
    options with what they leave to the data, as a run records them; and `sharpened(scale)`, the same options for
    overfitting one batch, with reconstruction made dear.
    """

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        ...

    def build(self, scale: FrameScale, rngs: nnx.Rngs) -> Any:
        """An untrained model: a WorldModel or a FrameModel (protocol.py)."""
        ...
