"""Options of the networks that see and draw frames, for the options of a model to inherit. Imports nothing heavy."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from worldmodel.support.settings import require_at_least

if TYPE_CHECKING:
    from worldmodel.data.scale import FrameScale
    from worldmodel.models.vision.networks import Published

CONVOLUTIONAL_FROM = 48
"""pixels on a frame's shorter side. At 32 the fully connected networks take a quarter of the time and are better
(Acrobot-v1 in grey: imagined frames with 0.6 of the error after as many updates, with a third in as much time)."""


@dataclasses.dataclass(frozen=True)
class VisionOptions:
    """Of an encoder and a decoder of frames."""

    ADDED: ClassVar[dict[str, Any]] = {"networks": "dense"}
    """options that earlier versions lacked, with the value that says what those did"""

    networks: Literal["auto", "dense", "conv"] = "auto"
    """The networks of frames, encoder and decoder: "dense" is fully connected, "conv" convolutional; "auto" takes the
    latter for frames of 48 pixels and more on the shorter side."""
    channels: int = 16
    """Convolutional networks: channels at a quarter of the frame's resolution, doubled where that is halved again."""

    def check(self) -> None:
        """Raise UserError for values that no model can have."""
        require_at_least("--channels", self.channels, 1)

    def settled(self, scale: "FrameScale") -> Self:
        """With the networks that "auto" means for such frames, as a run records them."""
        if self.networks != "auto":
            return self
        large = min(scale.frame_shape[:2]) >= CONVOLUTIONAL_FROM
        return dataclasses.replace(self, networks="conv" if large else "dense")

    def published(self) -> "Published | None":
        """The networks of a paper, where the options of its model ask for them."""
        return None
