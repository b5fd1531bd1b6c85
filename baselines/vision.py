"""The encoders and decoders of frames that rivals were published with, for `--networks original`.

World Models (Ha and Schmidhuber 2018; David Ha's code, hardmaru/WorldModelsExperiments, carracing/vae/vae.py), which
PlaNet took over (Hafner et al. 2019; google-research/planet, networks/conv_ha.py). No padding, ReLU:

    64 x 64 x 3 -> 31 x 31 x 32 -> 14 x 14 x 64 -> 6 x 6 x 128 -> 2 x 2 x 256 -> linear          4 x 4, stride 2
    linear -> 1 x 1 x 1024 -> 5 x 5 x 128 -> 13 x 13 x 64 -> 30 x 30 x 32 -> 64 x 64 x 3     5, 5, 6, 6, stride 2

DreamerV3 (Hafner et al. 2023, arXiv 2301.04104v1; danijar/dreamerv3, commit ec526b9, nets.py and `small` in
configs.yaml). Each layer but the last is normalised over its channels (LayerNorm, without a bias before it)
and passes SiLU:

    64 x 64 x 3 -> 32 x 32 x 32 -> 16 x 16 x 64 -> 8 x 8 x 128 -> 4 x 4 x 256 -> linear          4 x 4, stride 2
    linear -> 4 x 4 x 256 -> 8 x 8 x 128 -> 16 x 16 x 64 -> 32 x 32 x 32 -> 64 x 64 x 3          4 x 4, stride 2

The larger published sizes have 48, 64 and 96 channels in place of 32. Later versions of that code (commit f8817c4)
have RMSNorm, 5 x 5 kernels, channels of 2, 3, 4 and 4 times a depth and pooling in place of strides: ten times the
arithmetic at a depth of 32.

KVAE (Fraccaro et al. 2017; simonkamronn/kvae, kvae/KalmanVariationalAutoencoder.py). 3 x 3, ReLU; the decoder makes
four times the channels and deals them out to 2 x 2 pixels (sub-pixel convolutions, Shi et al. 2016):

    64 x 64 x 1 -> 32 x 32 x 32 -> 16 x 16 x 32 -> 8 x 8 x 32 -> linear                                  stride 2
    linear -> 8 x 8 x 32 -> 16 x 16 x 32 -> 32 x 32 x 32 -> 64 x 64 x 32 -> 64 x 64 x 1         the last is 1 x 1

It was published for 32 x 32 frames, which it takes as well; half the sides everywhere.

Initialised as there: biases zero, kernels uniform after Glorot and Bengio (2010); DreamerV3's normal, cut off at two
standard deviations.

As in worldmodel.models.vision.networks, convolutions are cut squares times a matrix: on one core an
update of World Models' networks on 240 frames takes 0.9 s, a fifth of the time of XLA's own convolutions; DreamerV3's
and the KVAE's take 1.3 and 1.2 s, our "conv" 0.15 s.

Departures, the same for all: pixels are standardised (frames in [0, 1] there, less 0.5 in DreamerV3 and PlaNet) and
come out of the last layer as they are, for a Gaussian (World Models and KVAE end in a sigmoid); frames may have any
number of colours. DreamerV3's encoder ends at the flat 4 x 4 x 256: here a linear map to the model's features follows.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.models.vision.networks import Convolution, Cut, Shape, TransposedConvolution, blocks, put_back, windows
from worldmodel.support.files import UserError

DREAMER_EPSILON = 1e-3
"""that DreamerV3 adds to a variance in its LayerNorm"""


def padded_windows(pictures: jax.Array, side: int, stride: int, padding: tuple[int, int]) -> jax.Array:
    """As `windows`, with zeros before and after the picture, in either direction."""
    return windows(jnp.pad(pictures, ((0, 0), padding, padding, (0, 0))), side, stride)


def subpixels(pictures: jax.Array) -> jax.Array:
    """`[N, h, w, 4 * C]` to `[N, 2 * h, 2 * w, C]`: the channels of a place become 2 x 2 pixels."""
    _, height, width, channels = pictures.shape
    return put_back(functools.partial(blocks, side=2), pictures, (2 * height, 2 * width, channels // 4))


class Layer(nnx.Module):
    """A convolution, a normalisation over the channels at each place if there is one, and what follows."""

    def __init__(
        self,
        convolution: Convolution | TransposedConvolution,
        norm: nnx.LayerNorm | None,
        after: tuple[Callable[[jax.Array], jax.Array], ...],
    ):
        self.convolution, self.norm, self.after = convolution, norm, after

    def __call__(self, pictures: jax.Array) -> jax.Array:
        pictures = self.convolution(pictures)
        if self.norm is not None:
            pictures = self.norm(pictures)
        for each in self.after:
            pictures = each(pictures)
        return pictures


class PublishedEncoder(nnx.Module):
    """Layers on pictures of `shape`, and a linear map: standardised pixels `[..., P]` to `[..., size]`."""

    def __init__(self, shape: Shape, layers: list[Layer], last: nnx.Linear):
        self.shape, self.layers, self.last = shape, nnx.List(layers), last

    def __call__(self, pixels: jax.Array) -> jax.Array:
        pictures = pixels.reshape(-1, *self.shape)
        for layer in self.layers:
            pictures = layer(pictures)
        features = self.last(pictures.reshape(len(pictures), -1))
        return features.astype(jnp.float32).reshape(*pixels.shape[:-1], -1)


class PublishedDecoder(nnx.Module):
    """A linear map to pictures of `shape`, and layers: `[..., size]` to standardised pixels `[..., P]`."""

    def __init__(self, first: nnx.Linear, shape: Shape, layers: list[Layer]):
        self.first, self.shape, self.layers = first, shape, nnx.List(layers)

    def __call__(self, latents: jax.Array) -> jax.Array:
        pictures = self.first(latents.reshape(-1, latents.shape[-1])).reshape(-1, *self.shape)
        for layer in self.layers:
            pictures = layer(pictures)
        return pictures.astype(jnp.float32).reshape(*latents.shape[:-1], -1)


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes the layers of a paper's networks; parameters are float32, the layers compute in `dtype`."""

    paper: "Paper"
    rngs: nnx.Rngs
    dtype: Any

    def linear(self, size: int, made: int) -> nnx.Linear:
        """Fully connected, `size` to `made`."""
        return nnx.Linear(size, made, dtype=self.dtype, kernel_init=self.init(1, size, made, size), rngs=self.rngs)

    def convolution(
        self,
        shape: Shape,
        made: int,
        side: int,
        stride: int,
        padding: tuple[int, int],
        *after: Callable[[jax.Array], jax.Array],
        last: bool = False,
    ) -> Layer:
        """Pictures of `shape` to `made` channels."""
        cut = functools.partial(padded_windows, side=side, stride=stride, padding=padding)
        init = self.init(side, shape[-1], made, side**2 * shape[-1])
        convolution = Convolution(cut, shape, made, self.dtype, self.rngs, init, self.biased(last))
        return self.layer(convolution, made, last, *after)

    def transposed(
        self, seen: int, shape: Shape, side: int, stride: int, padding: tuple[int, int], last: bool
    ) -> Layer:
        """Pictures of `seen` channels to pictures of `shape`."""
        cut: Cut = functools.partial(padded_windows, side=side, stride=stride, padding=padding)
        init = self.init(side, seen, shape[-1], seen)
        convolution = TransposedConvolution(cut, shape, seen, self.dtype, self.rngs, init, self.biased(last))
        return self.layer(convolution, shape[-1], last)

    def biased(self, last: bool) -> bool:
        """Whether a layer has a bias of its own."""
        return last or not self.paper.normalised

    def layer(self, convolution: Convolution | TransposedConvolution, made: int, last: bool, *after: Callable) -> Layer:
        """With what follows the convolution: nothing where it is the last."""
        if last:
            return Layer(convolution, None, ())
        norm = None
        if self.paper.normalised:
            norm = nnx.LayerNorm(made, epsilon=DREAMER_EPSILON, dtype=self.dtype, rngs=self.rngs)
        return Layer(convolution, norm, (self.paper.activation, *after))

    def init(self, side: int, seen: int, made: int, rows: int) -> nnx.Initializer:
        """Of the kernel of a convolution from `seen` to `made` channels, kept as a matrix of `rows` rows."""
        variance = 2 / (side**2 * (seen + made))
        return nnx.initializers.variance_scaling(variance * rows, "fan_in", self.paper.distribution)


@dataclasses.dataclass(frozen=True)
class Paper:
    """The networks of frames of a paper, a Published; every convolution of the encoder halves the sides."""

    name: str
    sides: tuple[int, ...]
    """of the square frames that it takes, in pixels"""
    channels: tuple[int, ...]
    """of the encoder's layers; the decoder has them in reverse, and the frame's colours at the end"""
    kernel: int
    """side of the encoder's convolutions"""
    padding: tuple[int, int]
    """zeros before and after the pictures that they see"""
    kernels: tuple[int, ...] = ()
    """sides of the decoder's transposed convolutions; none: sub-pixel convolutions of the encoder's kernel"""
    start: Shape | None = None
    """of the decoder's first picture; default: the encoder's last"""
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu
    normalised: bool = False
    """whether every layer but the decoder's last has a LayerNorm in place of a bias"""
    distribution: str = "uniform"
    """of the initial kernels, "uniform" or "truncated_normal" """

    def check(self, frame_shape: tuple[int, ...]) -> None:
        """Raise UserError for frames that these networks do not take."""
        height, width = frame_shape[:2]
        if height != width or height not in self.sides:
            taken = " or ".join(f"{side} x {side}" for side in self.sides)
            raise UserError(f"--networks original: those of {self.name} take frames of {taken}, not {height} x {width}")

    def encoder(self, frame_shape: tuple[int, ...], size: int, rngs: nnx.Rngs, precision: str) -> PublishedEncoder:
        """As Published.encoder."""
        shapes, make = self.shapes(frame_shape), Maker(self, rngs, jnp.dtype(precision))
        layers = [
            make.convolution(fine, coarse[-1], self.kernel, 2, self.padding)
            for fine, coarse in itertools.pairwise(shapes)
        ]
        return PublishedEncoder(shapes[0], layers, make.linear(math.prod(shapes[-1]), size))

    def decoder(self, frame_shape: tuple[int, ...], size: int, rngs: nnx.Rngs, precision: str) -> PublishedDecoder:
        """As Published.decoder."""
        (frame, *_, coarsest), make = self.shapes(frame_shape), Maker(self, rngs, jnp.dtype(precision))
        start = self.start or coarsest
        layers = self.transposed(start, frame, make) if self.kernels else self.subpixel(start, frame, make)
        return PublishedDecoder(make.linear(size, math.prod(start)), start, layers)

    def shapes(self, frame_shape: tuple[int, ...]) -> list[Shape]:
        """Of the frame and of what each layer of the encoder makes of it."""
        side, _, colours = (*frame_shape, 1)[:3]
        shapes = [(side, side, colours)]
        for channels in self.channels:
            side = (side + sum(self.padding) - self.kernel) // 2 + 1
            shapes.append((side, side, channels))
        return shapes

    def transposed(self, shape: Shape, frame: Shape, make: Maker) -> list[Layer]:
        """Layers from pictures of `shape` to frames, transposed convolutions."""
        layers = []
        for kernel, channels in zip(self.kernels, (*self.channels[-2::-1], frame[-1]), strict=True):
            side = 2 * (shape[0] - 1) + kernel - sum(self.padding)
            finer = (side, side, channels)
            layers.append(make.transposed(shape[-1], finer, kernel, 2, self.padding, last=finer == frame))
            shape = finer
        return layers

    def subpixel(self, shape: Shape, frame: Shape, make: Maker) -> list[Layer]:
        """Layers from pictures of `shape` to frames, each but the last one making four times its channels."""
        layers, (side, _, seen), border = [], shape, self.kernel // 2
        for channels in reversed(self.channels):
            coarse = (side, side, seen)
            layers.append(make.convolution(coarse, 4 * channels, self.kernel, 1, (border, border), subpixels))
            side, seen = 2 * side, channels
        return [*layers, make.convolution((side, side, seen), frame[-1], 1, 1, (0, 0), last=True)]


WORLD_MODELS = Paper(
    "World Models",
    sides=(64,),
    channels=(32, 64, 128, 256),
    kernel=4,
    padding=(0, 0),
    kernels=(5, 5, 6, 6),
    start=(1, 1, 1024),
)
DREAMER = Paper(
    "DreamerV3",
    sides=(64,),
    channels=(32, 64, 128, 256),
    kernel=4,
    padding=(1, 1),
    kernels=(4, 4, 4, 4),
    activation=jax.nn.silu,
    normalised=True,
    distribution="truncated_normal",
)
KVAE = Paper("the KVAE", sides=(32, 64), channels=(32, 32, 32), kernel=3, padding=(0, 1))
PAPERS = {"world-models": WORLD_MODELS, "dreamer": DREAMER, "kvae": KVAE}
"""by the name in RivalOptions.PAPER"""
