"""The encoders and decoders of the rivals' papers: against the library's convolutions, counts and published sizes."""

import dataclasses
import itertools
import math
import sys
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import SMALL, assert_ok, run_script
from flax import nnx

from baselines.options import DKFOptions, StaticVAEOptions
from baselines.rival_options import RivalOptions
from baselines.vision import DREAMER, KVAE, PAPERS, WORLD_MODELS, Paper
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import save_sequences
from worldmodel.data.windows import Batch
from worldmodel.models.networks import MLP, initialise
from worldmodel.models.vision.networks import make_decoder, make_encoder, patches, windows
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError

LARGE = (64, 64, 3)
SCALE = FrameScale(LARGE, 1, pixel_mean=0.4, pixel_std=0.3, frame_variance=900.0, action_scale=1.5)


@dataclasses.dataclass(frozen=True)
class WorldModelsVAEOptions(RivalOptions, StaticVAEOptions):
    """A static VAE with the networks of World Models."""

    PAPER: ClassVar[str] = "world-models"


@dataclasses.dataclass(frozen=True)
class KVAEyedDKFOptions(RivalOptions, DKFOptions):
    """A Deep Kalman Filter with the networks of the KVAE."""

    PAPER: ClassVar[str] = "kvae"


def scale_of(*frame_shape: int) -> FrameScale:
    return dataclasses.replace(SCALE, frame_shape=frame_shape)


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def autoencoder(
    paper: Paper, frame_shape: tuple[int, ...], size: int, key: jax.Array | None = None
) -> tuple[nnx.GraphDef, nnx.State]:
    def build(rngs: nnx.Rngs) -> nnx.Sequential:
        return nnx.Sequential(
            paper.encoder(frame_shape, size, rngs, "float32"), paper.decoder(frame_shape, size, rngs, "float32")
        )

    return initialise(build, jax.random.key(0) if key is None else key)


def count(parameters: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


# Shapes and counts


def shapes_within(network: nnx.Module, pictures: jax.Array) -> list[tuple[int, ...]]:
    shapes = []
    for layer in network.layers:
        pictures = layer(pictures)
        shapes.append(pictures.shape[1:])
    return shapes


def sides(made: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    return [(side, side, channels) for side, channels in made]


@pytest.mark.parametrize(
    ("paper", "down", "start", "up"),
    [
        (
            WORLD_MODELS,
            [(31, 32), (14, 64), (6, 128), (2, 256)],
            (1, 1024),
            [(5, 128), (13, 64), (30, 32), (64, 3)],
        ),
        (DREAMER, [(32, 32), (16, 64), (8, 128), (4, 256)], (4, 256), [(8, 128), (16, 64), (32, 32), (64, 3)]),
        (KVAE, [(32, 32), (16, 32), (8, 32)], (8, 32), [(16, 32), (32, 32), (64, 32), (64, 3)]),
    ],
)
def test_the_pictures_between_the_layers_are_the_published_ones(paper, down, start, up):
    encoder = nnx.eval_shape(lambda: paper.encoder(LARGE, 5, nnx.Rngs(params=0), "float32"))
    decoder = nnx.eval_shape(lambda: paper.decoder(LARGE, 5, nnx.Rngs(params=0), "float32"))
    assert encoder.last.kernel.shape == (down[-1][0] ** 2 * down[-1][1], 5)
    assert sides([start]) == [decoder.shape]
    for network, shape, expected in ((encoder, LARGE, down), (decoder, decoder.shape, up)):
        made: list = []
        nnx.eval_shape(lambda n, x, made=made: made.extend(shapes_within(n, x)), network, jnp.zeros((1, *shape)))
        assert made == sides(expected)


@pytest.mark.parametrize(("size", "published"), [(32, 4_348_547), (64, 4_446_915)])
def test_the_vae_of_world_models_has_as_many_parameters_as_published(size: int, published: int):
    """In the paper's appendix: of CarRacing-v0 and of VizDoom. A mean and a log-variance come of one linear map."""
    encoder = nnx.eval_shape(lambda: WORLD_MODELS.encoder(LARGE, 2 * size, nnx.Rngs(params=0), "float32"))
    decoder = nnx.eval_shape(lambda: WORLD_MODELS.decoder(LARGE, size, nnx.Rngs(params=0), "float32"))
    assert count(nnx.state(encoder)) + count(nnx.state(decoder)) == published


def test_those_of_dreamer_and_of_the_kvae_have_the_parameters_of_the_librarys_layers():
    def dreamer(rngs: nnx.Rngs) -> list:
        channels = (3, 32, 64, 128, 256)
        down = [nnx.Conv(i, o, (4, 4), use_bias=False, rngs=rngs) for i, o in itertools.pairwise(channels)]
        up = [nnx.ConvTranspose(i, o, (4, 4), use_bias=o == 3, rngs=rngs) for o, i in itertools.pairwise(channels)]
        norms = [nnx.LayerNorm(size, rngs=rngs) for size in (32, 64, 128, 256, 128, 64, 32)]
        return [*down, *up, *norms, nnx.Linear(4096, 9, rngs=rngs), nnx.Linear(9, 4096, rngs=rngs)]

    def kvae(rngs: nnx.Rngs) -> list:
        down = [nnx.Conv(i, 32, (3, 3), rngs=rngs) for i in (1, 32, 32)]
        up = [nnx.Conv(32, 128, (3, 3), rngs=rngs) for _ in range(3)]
        ends = [nnx.Linear(512, 9, rngs=rngs), nnx.Linear(9, 512, rngs=rngs)]
        return [*down, *up, nnx.Conv(32, 1, (1, 1), rngs=rngs), *ends]

    for paper, frame_shape, layers in ((DREAMER, LARGE, dreamer), (KVAE, (32, 32), kvae)):
        expected = nnx.eval_shape(lambda layers=layers: nnx.List(layers(nnx.Rngs(params=0))))
        assert count(autoencoder(paper, frame_shape, 9)[1]) == count(nnx.state(expected))


# Against the library's convolutions


def dots(side: int, channels: int, place: int) -> np.ndarray:
    """A picture for each channel, with one 1."""
    pictures = np.zeros((channels, side, side, channels), np.float32)
    pictures[np.arange(channels), place, place, np.arange(channels)] = 1
    return pictures


def kernel_of(convolution: nnx.Module, side: int, seen: int, kernel: int, padding: int) -> jax.Array:
    """`[k, k, seen, made]` of a convolution of stride two, read off the pictures of one dot each."""
    taps = np.zeros((kernel, kernel, seen, convolution.linear.out_features), np.float32)
    for y, x in np.ndindex(kernel, kernel):  # the place (1, 1) sees the pixels from 2 - padding on
        pictures = np.zeros((seen, side, side, seen), np.float32)
        pictures[np.arange(seen), 2 - padding + y, 2 - padding + x, np.arange(seen)] = 1
        taps[y, x] = convolution(jnp.asarray(pictures))[:, 1, 1]
    return jnp.asarray(taps)


NUMBERS = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_a_layer_down_is_the_librarys_convolution(paper: Paper):
    encoder = paper.encoder(LARGE, 2, nnx.Rngs(params=0), "float32")
    convolution, pictures = encoder.layers[0].convolution, random(2, *LARGE)
    kernel = kernel_of(convolution, 64, 3, paper.kernel, paper.padding[0])
    mode = "VALID" if paper is WORLD_MODELS else "SAME"
    expected = jax.lax.conv_general_dilated(pictures, kernel, (2, 2), mode, dimension_numbers=NUMBERS)
    np.testing.assert_allclose(convolution(pictures), expected, rtol=1e-4, atol=1e-5)
    assert jnp.std(kernel) == pytest.approx(math.sqrt(2 / (paper.kernel**2 * 35)), rel=0.06)  # Glorot and Bengio


@pytest.mark.parametrize("paper", [WORLD_MODELS, DREAMER], ids=["world-models", "dreamer"])
@pytest.mark.parametrize("which", [1, 3])
def test_a_layer_up_is_the_librarys_transposed_convolution(paper: Paper, which: int):
    decoder = paper.decoder(LARGE, 2, nnx.Rngs(params=0), "float32")
    layer, before = decoder.layers[which].convolution, (5, 30, 8, 32)[which // 2 + 2 * (paper is DREAMER)]
    channels, size, start = layer.linear.in_features, paper.kernels[which], 4 - paper.padding[0]
    drawn = layer(jnp.asarray(dots(before, channels, 2)))[:, start : start + size, start : start + size]
    kernel = jnp.flip(drawn.transpose(1, 2, 0, 3), (0, 1))  # the library's is that of a convolution over zeros between
    mode, pictures = "VALID" if paper is WORLD_MODELS else "SAME", random(1, before, before, channels)
    expected = jax.lax.conv_transpose(pictures, kernel, (2, 2), mode, dimension_numbers=NUMBERS)
    np.testing.assert_allclose(layer(pictures), expected, rtol=1e-4, atol=1e-4)
    variance = 2 / (size**2 * (channels + layer.shape[-1]))
    assert jnp.std(kernel) == pytest.approx(math.sqrt(variance), rel=0.03)


def test_channels_become_the_pixels_of_their_place():
    """A dot in the coarse picture is drawn where it is, and no further than three convolutions of 3 x 3 reach."""
    decoder = KVAE.decoder(LARGE, 2, nnx.Rngs(params=0), "float32")
    layer = decoder.layers[0]
    dot = jnp.zeros((1, 8, 8, 32)).at[0, 2, 5].set(1.0)
    drawn = np.abs(layer(dot)[0]).sum(-1)
    assert drawn.shape == (16, 16)
    assert (drawn[2:8, 8:14] > 0).all()
    drawn[2:8, 8:14] = 0
    assert not drawn.any()
    bright = layer.convolution(random(1, 8, 8, 32))
    made, kept = layer.after[-1](bright), np.asarray(bright).reshape(8, 8, 2, 2, 32)
    for y, x in ((0, 0), (3, 10), (15, 7)):
        np.testing.assert_array_equal(made[0, y, x], kept[y // 2, x // 2, y % 2, x % 2])


@pytest.mark.parametrize(("side", "stride"), [(4, 2), (5, 2), (6, 2), (3, 1), (1, 1), (5, 3)])
def test_windows_are_those_of_a_slow_loop(side: int, stride: int):
    pictures = np.asarray(random(2, 9, 12, 3))
    cut = np.asarray(windows(jnp.asarray(pictures), side, stride))
    assert cut.shape == (2, (9 - side) // stride + 1, (12 - side) // stride + 1, side * side * 3)
    for i, j in np.ndindex(*cut.shape[1:3]):
        seen = pictures[:, stride * i : stride * i + side, stride * j : stride * j + side]
        np.testing.assert_array_equal(np.sort(cut[:, i, j]), np.sort(seen.reshape(2, -1)))


def test_dreamers_layers_are_normalised_at_each_place():
    layer = DREAMER.encoder(LARGE, 2, nnx.Rngs(params=0), "float32").layers[0]
    pictures = random(2, *LARGE)
    plain = np.asarray(layer.convolution(pictures), np.float64)
    centred = plain - plain.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(layer(pictures), normal / (1 + np.exp(-normal)), rtol=1e-3, atol=1e-4)


# As networks of frames


@pytest.mark.parametrize("frame_shape", [(64, 64), LARGE])
@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_any_leading_axes_and_colours(paper: Paper, frame_shape: tuple[int, ...]):
    graphdef, parameters = autoencoder(paper, frame_shape, 6)
    pixels = random(2, 3, math.prod(frame_shape))

    @jax.jit
    def there_and_back(pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
        encoder, decoder = nnx.merge(graphdef, parameters).layers
        return (features := encoder(pixels)), decoder(features)

    features, again = there_and_back(pixels)
    assert features.shape == (2, 3, 6)
    assert again.shape == pixels.shape
    assert features.dtype == again.dtype == jnp.float32
    alone, alone_again = there_and_back(pixels[1, 2])
    np.testing.assert_allclose(features[1, 2], alone, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(again[1, 2], alone_again, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_every_parameter_learns_for_each_seed(paper: Paper):
    (graphdef, first), (_, second) = (autoencoder(paper, (64, 64), 6, jax.random.key(seed)) for seed in (1, 2))
    pixels, target = random(3, 4096), random(3, 4096, seed=1)

    def loss(parameters: nnx.State) -> jax.Array:
        return jnp.mean((nnx.merge(graphdef, parameters)(pixels) - target) ** 2)

    together = jax.jit(jax.vmap(jax.grad(loss)))(jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second))
    alone = jax.jit(jax.grad(loss))(second)
    for path, gradient in jax.tree_util.tree_leaves_with_path(together):
        assert (np.abs(gradient).reshape(2, -1).max(axis=1) > 0).all(), jax.tree_util.keystr(path)
    jax.tree.map(
        lambda two, one: np.testing.assert_allclose(two[1], one, rtol=1e-2, atol=1e-2 * np.abs(one).max()),
        together,
        alone,
    )


def test_the_autoencoder_of_world_models_fits_a_few_colour_frames():
    frames = np.zeros((4, *LARGE), np.float32)
    for n, place in enumerate((4, 20, 36, 48)):
        frames[n, place : place + 12, 8 * n : 8 * n + 12] = (1.0, 0.5, 0.2)
    pixels = jnp.asarray((frames - frames.mean()) / frames.std()).reshape(4, -1)
    graphdef, parameters = autoencoder(WORLD_MODELS, LARGE, 8)
    optimiser = optax.adam(1e-3)

    def loss(parameters: nnx.State) -> jax.Array:
        return jnp.mean((nnx.merge(graphdef, parameters)(pixels) - pixels) ** 2)

    @jax.jit
    def step(parameters, state):
        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(parameters, updates), state, value

    state, losses = optimiser.init(parameters), []
    for _ in range(30):
        parameters, state, value = step(parameters, state)
        losses.append(float(value))
    mean_frame = float(jnp.mean((pixels - pixels.mean(axis=0, keepdims=True)) ** 2))
    assert losses[0] > 0.9
    assert losses[-1] < 0.3 * mean_frame


# As a model's option


def test_a_model_has_its_papers_networks_when_asked_and_no_hidden_layers_of_its_own():
    options = WorldModelsVAEOptions(networks="original", latent_size=32)
    model = nnx.eval_shape(lambda: options.build(SCALE, nnx.Rngs(params=0)))
    assert count(nnx.state(model)) == 4_348_547
    for networks in ("auto", "dense", "conv"):
        asked = WorldModelsVAEOptions(networks=networks)
        plain = StaticVAEOptions(networks=networks)
        assert asked.settled(SCALE).networks == plain.settled(SCALE).networks
        made, expected = (
            nnx.eval_shape(lambda options=options: options.build(SCALE, nnx.Rngs(params=0)))
            for options in (asked, plain)
        )
        assert jax.tree.map(jnp.shape, nnx.state(made)) == jax.tree.map(jnp.shape, nnx.state(expected))


def test_every_parameter_of_a_filter_with_its_papers_networks_learns():
    options = KVAEyedDKFOptions(networks="original", hidden_size=8, feature_size=6, initial_frames=2)
    graphdef, parameters = initialise(lambda rngs: options.build(scale_of(32, 32), rngs), jax.random.key(0))
    generator = np.random.default_rng(0)
    frames = jnp.asarray(generator.random((2, 4, 32, 32), np.float32))
    batch = Batch(frames, jnp.asarray(generator.standard_normal((2, 3, 1)), jnp.float32))

    def loss(parameters: nnx.State) -> jax.Array:
        return nnx.merge(graphdef, parameters).loss(batch, jax.random.key(1), jnp.zeros(()))[0]

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(parameters)):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("kind", "frame_shape", "message"),
    [
        (WorldModelsVAEOptions, (16, 16), "World Models take frames of 64 x 64, not 16 x 16"),
        (WorldModelsVAEOptions, (64, 48, 3), "World Models take frames of 64 x 64, not 64 x 48"),
        (KVAEyedDKFOptions, (48, 48), "the KVAE take frames of 32 x 32 or 64 x 64, not 48 x 48"),
    ],
)
def test_frames_of_other_sizes_are_refused(kind: type[RivalOptions], frame_shape: tuple[int, ...], message: str):
    options, scale = kind(networks="original"), scale_of(*frame_shape)
    for ask in (
        lambda: options.settled(scale),
        lambda: make_encoder(scale, options, (4, 2), nnx.Rngs(params=0)),
        lambda: make_decoder(scale, options, (2, 4), nnx.Rngs(params=0)),
    ):
        with pytest.raises(UserError, match=f"^--networks original: those of {message}$"):
            ask()
    assert isinstance(make_encoder(scale, kind("dense"), (4, 2), nnx.Rngs(params=0)), MLP)


def test_a_training_has_them_and_a_wrong_size_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "rivals-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rivals\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[worldmodel.models]\nkvae-eyed = test_rival_vision:KVAEyedDKFOptions\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_rival_vision", sys.modules[__name__])
    generator, asked = np.random.default_rng(0), ("--networks", "original", *SMALL, "--steps", 2)
    for side in (16, 32):
        frames = generator.integers(0, 255, (12, 7, side, side), np.uint8)
        actions = generator.standard_normal((12, 6, 1)).astype(np.float32)
        save_sequences(tmp_path / f"{side}.npz", Sequences(frames, actions))
    refused = run_script("train.py", "kvae-eyed", "--data", tmp_path / "16.npz", "--out", tmp_path / "small", *asked)
    assert refused.returncode == 2
    assert "--networks original: those of the KVAE take frames of 32 x 32 or 64 x 64, not 16 x 16" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "small").exists()
    out = tmp_path / "run"
    assert_ok(run_script("train.py", "kvae-eyed", "--data", tmp_path / "32.npz", "--out", out, *asked))
    assert Run.open(out).model_options().networks == "original"
    assert Run.open(out).load().encoder.last.kernel.shape[0] == 4 * 4 * 32


def test_the_projects_own_convolution_is_a_window_with_a_border():
    pictures = random(2, 8, 6, 3)
    np.testing.assert_array_equal(patches(pictures), windows(jnp.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0))), 4, 2))
