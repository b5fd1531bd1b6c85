"""Encoders and decoders of frames: the convolutions against slow loops, and which networks a model has."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL, TINY, assert_ok, run_script
from flax import nnx

from baselines.options import DKFOptions, StaticVAEOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences
from worldmodel.data.windows import Batch
from worldmodel.models.dvbf.options import DVBFOptions
from worldmodel.models.networks import MLP, initialise
from worldmodel.models.vision.networks import (
    Convolution,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    TransposedConvolution,
    blocks,
    make_decoder,
    make_encoder,
    patches,
    pyramid,
)
from worldmodel.models.vision.options import VisionOptions
from worldmodel.runs.folder import Run
from worldmodel.support.files import write_json

SCALE = FrameScale((4, 4), 1, pixel_mean=0.4, pixel_std=0.3, frame_variance=1.2, action_scale=1.5)
FRAME_SHAPES = [(33, 47), (64, 40, 3), (5, 9, 2), (1, 1)]


def scale_of(*frame_shape: int) -> FrameScale:
    return dataclasses.replace(SCALE, frame_shape=frame_shape)


def random_pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def taps(shape: tuple[int, int, int], h: int, w: int) -> list[tuple[int, int, int, int, int]]:
    """Of a convolution of 4 x 4 with stride 2 and a border of one: (place i, j; pixel y, x; row of the kernel for the
    pixel's first channel), for each pixel that a place sees. A kernel's rows go through the four 2 x 2 blocks."""
    height, width, channels = shape
    found = []
    for i in range(h):
        for j in range(w):
            for a in range(4):
                for b in range(4):
                    y, x = 2 * i - 1 + a, 2 * j - 1 + b
                    if 0 <= y < height and 0 <= x < width:
                        block, within = 2 * (a // 2) + b // 2, 2 * (a % 2) + b % 2
                        found.append((i, j, y, x, (4 * block + within) * channels))
    return found


@pytest.mark.parametrize("size", [(6, 4), (5, 7), (1, 2)])
def test_a_convolution_is_that_of_a_slow_loop(size: tuple[int, int]):
    shape = (*size, 3)
    layer = Convolution(patches, shape, 5, jnp.float32, nnx.Rngs(params=0))
    layer.linear.bias[...] = jnp.arange(5.0)
    pictures, kernel = random_pictures(2, *shape), np.asarray(layer.linear.kernel[...])
    h, w = -(-size[0] // 2), -(-size[1] // 2)
    expected = np.tile(np.arange(5.0), (2, h, w, 1))
    for i, j, y, x, row in taps(shape, h, w):
        expected[:, i, j] += pictures[:, y, x] @ kernel[row : row + 3]
    np.testing.assert_allclose(layer(pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(6, 4), (5, 7), (1, 2)])
def test_a_transposed_convolution_is_that_of_a_slow_loop(size: tuple[int, int]):
    shape, h, w = (*size, 3), -(-size[0] // 2), -(-size[1] // 2)
    layer = TransposedConvolution(patches, shape, 5, jnp.float32, nnx.Rngs(params=0))
    layer.bias[...] = jnp.arange(3.0)
    pieces, kernel = random_pictures(2, h, w, 5), np.asarray(layer.linear.kernel[...])
    expected = np.tile(np.arange(3.0), (2, *size, 1))
    for i, j, y, x, row in taps(shape, h, w):
        expected[:, y, x] += pieces[:, i, j] @ kernel[:, row : row + 3]
    np.testing.assert_allclose(layer(pieces), expected, rtol=1e-4, atol=1e-5)


def test_blocks_lie_side_by_side_and_zeros_where_they_stick_out():
    pictures = random_pictures(1, 6, 9, 2)
    cut = np.asarray(blocks(pictures))
    assert cut.shape == (1, 2, 3, 32)
    np.testing.assert_array_equal(cut[0, 0, 1].reshape(4, 4, 2), pictures[0, :4, 4:8])
    corner = cut[0, 1, 2].reshape(4, 4, 2)
    np.testing.assert_array_equal(corner[:2, :1], pictures[0, 4:, 8:])
    assert not corner[2:].any()
    assert not corner[:, 1:].any()


def test_a_frame_moved_by_a_stride_is_seen_one_place_further():
    frames = np.zeros((2, 64, 64, 3), np.float32)
    frames[0, 24:40, 24:40] = random_pictures(16, 16, 3)
    frames[1, 32:48, 24:40] = frames[0, 24:40, 24:40]  # 4 x 2: a block of the first layer and a stride of the second
    encoder = ConvolutionalEncoder((64, 64, 3), 4, (8,), nnx.Rngs(params=0), "float32")
    seen = encoder.layers[1](jax.nn.silu(encoder.layers[0](jnp.asarray(frames))))
    assert seen.shape == (2, 8, 8, 8)
    np.testing.assert_allclose(seen[1, 1:], seen[0, :-1], rtol=1e-5, atol=1e-6)
    assert np.abs(seen[1] - seen[0]).max() > 0.1


def test_sides_are_quartered_and_then_halved_down_to_fewer_than_eight():
    assert pyramid((64, 64, 3), 16) == [(64, 64, 3), (16, 16, 16), (8, 8, 32), (4, 4, 64)]
    assert pyramid((33, 130), 8) == [(33, 130, 1), (9, 33, 8), (5, 17, 16)]
    assert pyramid((16, 16), 8) == [(16, 16, 1), (4, 4, 8)]


@pytest.mark.parametrize("frame_shape", FRAME_SHAPES)
@pytest.mark.parametrize("networks", ["dense", "conv"])
def test_frames_of_any_shape_come_back(frame_shape: tuple[int, ...], networks: str):
    scale, options, rngs = scale_of(*frame_shape), VisionOptions(networks, 4), nnx.Rngs(params=0)  # type: ignore[arg-type]
    encoder = make_encoder(scale, options, (8, 6), rngs)
    decoder = make_decoder(scale, options, (6, 8), rngs)
    there_and_back = jax.jit(lambda pixels: (features := encoder(pixels), decoder(features)))
    pixels = random_pictures(3, 2, math.prod(frame_shape))
    features, again = there_and_back(pixels)
    assert features.shape == (3, 2, 6)
    assert again.shape == pixels.shape
    alone, alone_again = there_and_back(pixels[1, 1])  # without leading axes
    np.testing.assert_allclose(features[1, 1], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again[1, 1], alone_again, rtol=1e-4, atol=1e-5)


def test_an_untrained_decoder_keeps_the_size_of_what_it_is_given():
    """Pieces that overlap are summed, and must not make the picture brighter by that."""
    decoder = ConvolutionalDecoder((64, 90, 3), 16, (6, 8), nnx.Rngs(params=0), "float32")
    pictures = jax.random.normal(jax.random.key(1), (8, *decoder.shape))
    for layer in (*decoder.layers, decoder.blocks):
        if layer is decoder.blocks:
            pictures = jax.random.normal(jax.random.key(2), (8, *pictures.shape[1:3], 64))
        before = jnp.std(pictures)
        pictures = layer(pictures)
        assert 0.7 < jnp.std(pictures) / before < 1.4


@pytest.mark.parametrize("kind", [DVBFOptions, DKFOptions, StaticVAEOptions])
def test_every_parameter_of_a_convolutional_model_learns(kind: type):
    small = {name: value for name, value in TINY.items() if name in kind.__dataclass_fields__}
    options, scale = kind(networks="conv", channels=3, **small), scale_of(33, 31, 3)
    graphdef, params = initialise(lambda rngs: options.build(scale, rngs), jax.random.key(0))
    random = np.random.default_rng(0)
    frames = jnp.asarray(random.random((3, 6, 33, 31, 3), np.float32))
    batch = Batch(frames, jnp.asarray(random.standard_normal((3, 5, 1)), jnp.float32))

    def loss(params: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return model.loss(batch, jax.random.key(1), jnp.asarray(0.1))[0]

    gradients = jax.jit(jax.grad(loss))(params)
    for network in ("encoder", "decoder"):
        leaves = jax.tree.leaves(gradients[network])
        assert len(leaves) >= 8
        for leaf in leaves:
            assert np.isfinite(leaf).all()
            assert (leaf != 0).any()


def test_small_frames_have_the_networks_they_always_had():
    """Number by number, and with the names that checkpoints know."""
    scale = scale_of(16, 31, 3)
    encoder = make_encoder(scale, VisionOptions(), (8, 6), nnx.Rngs(params=5))
    decoder = make_decoder(scale, VisionOptions(), (4, 8), nnx.Rngs(params=5))
    for made, plain in (
        (encoder, MLP((16 * 31 * 3, 8, 6), nnx.Rngs(params=5))),
        (decoder, MLP((4, 8, 16 * 31 * 3), nnx.Rngs(params=5))),
    ):
        assert jax.tree.structure(nnx.state(made)) == jax.tree.structure(nnx.state(plain))
        jax.tree.map(np.testing.assert_array_equal, nnx.state(made), nnx.state(plain))


def test_the_networks_are_chosen_by_the_shorter_side():
    for shape, chosen in (((47, 64, 3), "dense"), ((48, 64), "conv"), ((64, 64, 3), "conv"), ((32, 32), "dense")):
        assert VisionOptions().settled(scale_of(*shape)).networks == chosen
        for asked in ("dense", "conv"):
            assert VisionOptions(asked).settled(scale_of(*shape)).networks == asked


@pytest.fixture(scope="module")
def large_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sequences of colour frames 48 x 52, through which a bright bar moves."""
    random, path = np.random.default_rng(3), tmp_path_factory.mktemp("data") / "large.npz"
    frames = np.zeros((12, 4, 48, 52, 3), np.uint8)
    for n, t in np.ndindex(12, 4):
        place = random.integers(0, 44)
        frames[n, t, :, place : place + 8] = (250, 120, 40)
    save_sequences(path, Sequences(frames, random.standard_normal((12, 3, 1)).astype(np.float32)))
    return path


def test_a_training_of_large_frames_is_convolutional_and_says_so(large_data: Path, tmp_path: Path):
    out = tmp_path / "vae"
    small = ("--channels", 4, "--batch-size", 16, *SMALL, "--steps", 240)
    assert_ok(run_script("train.py", "vae", "--data", large_data, "--out", out, *small))
    assert Run.open(out).model_options().networks == "conv"
    mse = [line["validation_mse"] for line in Run(out).metrics() if "validation_mse" in line]
    assert mse[-1] < 0.5 * mse[0]
    assert isinstance(Run.open(out).load().encoder, ConvolutionalEncoder)
    assert_ok(run_script("train.py", "vae", "--data", large_data, "--out", out, "--resume", "--steps", 241))


def test_a_run_from_before_there_were_convolutions_is_dense(large_data: Path, tmp_path: Path):
    out = tmp_path / "vae"
    dense = ("--networks", "dense", "--hidden-size", 4, "--steps", 2)
    assert_ok(run_script("train.py", "vae", "--data", large_data, "--out", out, *dense))
    config = Run(out).config
    for name in ("networks", "channels"):
        del config["options"]["model"][name]
    write_json(out / "config.json", config)
    assert isinstance(Run.open(out).load().encoder, MLP)
    assert_ok(run_script("train.py", "vae", "--data", large_data, "--out", out, "--resume", "--steps", 3))
