"""Encoders and decoders of frames, fully connected or convolutional; both see frames as flat, standardised pixels.

A convolutional encoder cuts the frame into blocks of 4 x 4 pixels and maps each to `channels` numbers. Convolutions of
4 x 4 with stride 2 then halve the sides and double the channels while the shorter side has 8 or more:

    64 x 64 x 3  ->  16 x 16 x 16  ->  8 x 8 x 32  ->  4 x 4 x 64  ->  a fully connected network

The decoder is its mirror image, with transposed convolutions, and a hidden layer more before the last, at each place
by itself: an edge that moves by a part of a pixel is no linear map of a few numbers (800 updates of an autoencoder of
64 x 64 in colour leave 1.3% of the variance in place of 3.4%). A side that cannot be halved or quartered is padded with
zeros, which stand for the mean pixel or the background; the decoder cuts its picture to size.

Convolutions are cut patches times a matrix: on a CPU, with the gradients, four times as fast as XLA's own, and over
several seeds a batched matrix product. The transposed ones are the matrix product and the adjoint of the cutting.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.data.scale import FrameScale
from worldmodel.models.networks import MLP
from worldmodel.models.vision.options import VisionOptions

BLOCK = 4
"""pixels on the side of what the first layer sees at once"""
WIDENED = 4
"""how many times `channels` units draw a block of pixels"""
HALVED_FROM = 8
"""the shorter side of a picture that a further convolution halves"""

Shape = tuple[int, int, int]
"""(H, W, C) of a picture"""
Cut = Callable[[jax.Array], jax.Array]
"""a linear map from pictures `[N, H, W, C]` to the pixels `[N, h, w, K]` that each place of a layer sees"""


class Published(Protocol):
    """The networks of frames of a paper. It has no hidden layers of ours, so that of the `sizes` that make_encoder and
    make_decoder are given only the outer end counts."""

    def encoder(self, frame_shape: tuple[int, ...], size: int, rngs: nnx.Rngs, precision: str) -> nnx.Module:
        """From standardised pixels `[..., P]` to `[..., size]`."""
        ...

    def decoder(self, frame_shape: tuple[int, ...], size: int, rngs: nnx.Rngs, precision: str) -> nnx.Module:
        """From `[..., size]` to standardised pixels `[..., P]`."""
        ...


def make_encoder(
    scale: FrameScale, options: VisionOptions, sizes: Sequence[int], rngs: nnx.Rngs, precision: str = "float32"
) -> nnx.Module:
    """A network from standardised pixels `[..., P]` to `[..., sizes[-1]]`; its fully connected layers have `sizes`."""
    settled = options.settled(scale)
    if published := settled.published():
        return published.encoder(scale.frame_shape, sizes[-1], rngs, precision)
    if settled.networks == "dense":
        return MLP((scale.pixels, *sizes), rngs, precision=precision)
    return ConvolutionalEncoder(scale.frame_shape, options.channels, sizes, rngs, precision)


def make_decoder(
    scale: FrameScale, options: VisionOptions, sizes: Sequence[int], rngs: nnx.Rngs, precision: str = "float32"
) -> nnx.Module:
    """A network from `[..., sizes[0]]` to standardised pixels `[..., P]`; its fully connected layers have `sizes`."""
    settled = options.settled(scale)
    if published := settled.published():
        return published.decoder(scale.frame_shape, sizes[0], rngs, precision)
    if settled.networks == "dense":
        return MLP((*sizes, scale.pixels), rngs, precision=precision)
    return ConvolutionalDecoder(scale.frame_shape, options.channels, sizes, rngs, precision)


def pyramid(frame_shape: tuple[int, ...], channels: int) -> list[Shape]:
    """The shapes of the frame and of what each layer makes of it, the finest first."""
    height, width, colours = (*frame_shape, 1)[:3]
    shapes = [(height, width, colours), (-(-height // BLOCK), -(-width // BLOCK), channels)]
    while min(shapes[-1][:2]) >= HALVED_FROM:
        height, width, count = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2), 2 * count))
    return shapes


def blocks(pictures: jax.Array, side: int = BLOCK) -> jax.Array:
    """`[N, H, W, C]` to `[N, h, w, side * side * C]`: squares that lie side by side, zeros where the last ones stick
    out."""
    n, height, width, channels = pictures.shape
    h, w = -(-height // side), -(-width // side)
    padded = jnp.pad(pictures, ((0, 0), (0, h * side - height), (0, w * side - width), (0, 0)))
    cells = padded.reshape(n, h, side, w, side, channels).swapaxes(2, 3)
    return cells.reshape(n, h, w, side * side * channels)


def windows(pictures: jax.Array, side: int, stride: int) -> jax.Array:
    """`[N, H, W, C]` to `[N, h, w, side * side * C]`: what a convolution without a border sees. Its
    squares may overlap: each is made of blocks of `stride` x `stride`, the last of them cut to fit."""
    n, height, width, channels = pictures.shape
    cells = blocks(pictures, stride)
    h, w = (height - side) // stride + 1, (width - side) // stride + 1
    squares = []
    for i, j in itertools.product(range(0, side, stride), repeat=2):
        cell = cells[:, i // stride : i // stride + h, j // stride : j // stride + w]
        if max(i, j) + stride > side:
            whole = cell.reshape(n, h, w, stride, stride, channels)
            cell = whole[:, :, :, : side - i, : side - j].reshape(n, h, w, -1)
        squares.append(cell)
    return jnp.concatenate(squares, axis=-1)


def patches(pictures: jax.Array) -> jax.Array:
    """`[N, H, W, C]` to `[N, h, w, 16 * C]`: what a convolution of 4 x 4 with stride 2 sees, with a border of zeros one
    pixel wide, or two where an odd side ends."""
    height, width = pictures.shape[1:3]
    return windows(jnp.pad(pictures, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0))), 4, 2)


def put_back(cut: Cut, pieces: jax.Array, shape: Shape) -> jax.Array:
    """The adjoint of `cut`: pictures `[N, *shape]` in which every piece is laid where it would be cut from, those that
    overlap summed."""
    (pictures,) = jax.linear_transpose(cut, jax.ShapeDtypeStruct((len(pieces), *shape), pieces.dtype))(pieces)
    return pictures


def pieces_of(cut: Cut, shape: Shape) -> Shape:
    """(h, w, K) of what `cut` makes of pictures of this shape."""
    return jax.eval_shape(cut, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]


def at_each_place(linear: nnx.Linear, pictures: jax.Array) -> jax.Array:
    """`[N, h, w, K]` to `[N, h, w, out]`."""
    plain = linear(
        pictures.reshape(-1, pictures.shape[-1])
    )  # the gradients of plain matrix products are the faster ones
    return plain.reshape(*pictures.shape[:-1], -1)


class Convolution(nnx.Module):
    """A linear map of what `cut` shows at each place: pictures `[N, *shape]` to `[N, h, w, channels]`. `init` of the
    kernel: the usual one of nnx.Linear if none is given."""

    def __init__(
        self,
        cut: Cut,
        shape: Shape,
        channels: int,
        dtype: Any,
        rngs: nnx.Rngs,
        init: nnx.Initializer | None = None,
        use_bias: bool = True,
    ):
        self.cut = cut
        given = {} if init is None else {"kernel_init": init}
        pieces = pieces_of(cut, shape)[-1]
        self.linear = nnx.Linear(pieces, channels, use_bias=use_bias, dtype=dtype, rngs=rngs, **given)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        return at_each_place(self.linear, self.cut(pictures))


class TransposedConvolution(nnx.Module):
    """The adjoint of a Convolution without its bias, and a bias: `[N, h, w, channels]` to pictures `[N, *shape]`.
    `init` of the kernel: one that keeps the size of what is summed if none is given."""

    def __init__(
        self,
        cut: Cut,
        shape: Shape,
        channels: int,
        dtype: Any,
        rngs: nnx.Rngs,
        init: nnx.Initializer | None = None,
        use_bias: bool = True,
    ):
        self.cut, self.shape = cut, shape
        pieces = pieces_of(cut, shape)
        if init is None:
            overlap = math.prod(pieces) / math.prod(shape)  # how many pieces are summed in a pixel
            init = nnx.initializers.variance_scaling(1 / overlap, "fan_in", "truncated_normal")
        self.linear = nnx.Linear(channels, pieces[-1], use_bias=False, dtype=dtype, kernel_init=init, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(shape[-1])) if use_bias else None

    def __call__(self, pictures: jax.Array) -> jax.Array:
        laid = put_back(self.cut, at_each_place(self.linear, pictures), self.shape)
        return laid if self.bias is None else laid + self.bias[...].astype(laid.dtype)[None, None, None]


class ConvolutionalEncoder(nnx.Module):
    """Standardised pixels `[..., P]` to `[..., sizes[-1]]`."""

    def __init__(
        self, frame_shape: tuple[int, ...], channels: int, sizes: Sequence[int], rngs: nnx.Rngs, precision: str
    ):
        shapes, dtype = pyramid(frame_shape, channels), jnp.dtype(precision)
        self.shape = shapes[0]
        self.layers = nnx.List(
            [
                Convolution(cut, fine, coarse[-1], dtype, rngs)
                for cut, (fine, coarse) in zip(cuts(shapes), itertools.pairwise(shapes), strict=True)
            ]
        )
        self.last = MLP((math.prod(shapes[-1]), *sizes), rngs, precision=precision)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        leading = pixels.shape[:-1]
        pictures = pixels.reshape(-1, *self.shape)
        for layer in self.layers:
            pictures = jax.nn.silu(layer(pictures))
        return self.last(pictures.reshape(*leading, -1))


class ConvolutionalDecoder(nnx.Module):
    """`[..., sizes[0]]` to standardised pixels `[..., P]`."""

    def __init__(
        self, frame_shape: tuple[int, ...], channels: int, sizes: Sequence[int], rngs: nnx.Rngs, precision: str
    ):
        shapes, dtype = pyramid(frame_shape, channels), jnp.dtype(precision)
        self.shape = shapes[-1]
        self.first = MLP((*sizes, math.prod(self.shape)), rngs, precision=precision)
        wide = WIDENED * channels
        (finest, (frame, drawn)), *mirrored = zip(cuts(shapes), itertools.pairwise(shapes), strict=True)
        self.layers = nnx.List(
            [TransposedConvolution(cut, fine, coarse[-1], dtype, rngs) for cut, (fine, coarse) in reversed(mirrored)]
        )
        self.widening = nnx.Linear(drawn[-1], wide, dtype=dtype, rngs=rngs)
        self.blocks = TransposedConvolution(finest, frame, wide, dtype, rngs)

    def __call__(self, latents: jax.Array) -> jax.Array:
        leading = latents.shape[:-1]
        pictures = self.first(latents).reshape(-1, *self.shape)
        for layer in self.layers:
            pictures = layer(jax.nn.silu(pictures))
        pictures = self.blocks(jax.nn.silu(at_each_place(self.widening, jax.nn.silu(pictures))))
        return pictures.astype(jnp.float32).reshape(*leading, -1)


def cuts(shapes: list[Shape]) -> list[Cut]:
    """What each layer between these shapes sees."""
    return [blocks, *(len(shapes) - 2) * [patches]]
