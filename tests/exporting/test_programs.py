"""Traced functions against JAX itself, in a headless Chromium and in ONNX Runtime."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import Loaded, in_browser, in_onnx  # noqa: F401 (a fixture)

from worldmodel.exporting.lowering import LARGEST_MATRIX, LONGEST_LOOP
from worldmodel.exporting.onnx_files import to_onnx
from worldmodel.exporting.onnx_operations import TRANSLATED
from worldmodel.exporting.program import OPERATIONS, Program
from worldmodel.exporting.tracing import trace
from worldmodel.support.files import UserError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 4)).astype(np.float32)
Y = RANDOM.normal(size=(3, 4)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
HALVES = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49, -7.2])
CUBE = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
DEFINITE = np.float32([[[4, 1, 0.5], [1, 3, 0.2], [0.5, 0.2, 2]], [[2, 0, 0.1], [0, 1, 0], [0.1, 0, 5]]])
PLACES = np.int32([2, 0, 7])


@jax.custom_vjp
def own_gradient(x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


own_gradient.defvjp(lambda x: (own_gradient(x), None), lambda _, change: (change,))

CASES: dict[str, tuple[Callable, tuple[np.ndarray, ...]]] = {
    "arithmetic": (lambda x, y: (x + y) * x - 2.0 / (y**2 + 1), (X, Y)),
    "remainder of a negative number": (lambda x, y: (jax.lax.rem(x, y), x % y), (X, POSITIVE)),
    "extremes": (lambda x, y: jnp.maximum(x, 0.1) + jnp.minimum(y, x) + jnp.clip(x, -0.5, 0.5), (X, Y)),
    "powers": (lambda x, y: x**y + jnp.square(y) + y**-3.0 + jax.lax.integer_pow(x, -2), (POSITIVE, Y)),
    "circle": (lambda x, y: jnp.arctan2(x, y) + jnp.sin(x) * jnp.cos(y) + jnp.tan(0.3 * x), (X, Y)),
    "exponentials": (
        lambda x, p: jnp.exp(x) + jnp.expm1(x) + jnp.log(p) + jnp.log1p(p) + jax.nn.softplus(30 * x),
        (X, POSITIVE),
    ),
    "activations": (lambda x: jax.nn.sigmoid(x) + jnp.tanh(x) + jax.nn.silu(x) + jax.nn.relu(x), (X,)),
    "roots and signs": (lambda x, p: jnp.sqrt(p) + jax.lax.rsqrt(p) - abs(x) + jnp.sign(x), (X, POSITIVE)),
    "rounding to even numbers": (lambda h: (jnp.round(h), jnp.floor(h), jnp.ceil(h)), (HALVES,)),
    "rounding away from zero": (lambda h: jax.lax.round(h, jax.lax.RoundingMethod.AWAY_FROM_ZERO), (HALVES,)),
    "comparisons": (
        lambda x, y: jnp.where((x < y) & ~(x <= 0) | (y > 1) ^ (x >= y), jnp.where((x == y) | (x != -y), x, 2.0), y),
        (X, Y),
    ),
    "what is finite": (lambda x: jnp.isfinite(1 / jnp.maximum(x, 0)), (X,)),
    "conversions": (lambda x, k: (x.astype(jnp.int32), (x > 0).astype(jnp.float32), k.astype(bool)), (3 * X, PLACES)),
    "shapes": (lambda x: x.reshape(2, 6).T[:, None, ::1] + jnp.arange(12.0).reshape(6, 1, 2), (X,)),
    "axes of length one": (lambda x, y: jax.lax.add(x, y), (X, Y[:1])),
    "slices": (lambda c: (c[:, ::2, 1:3], c[::-1, :, ::-1], jnp.split(c, (1, 2), axis=1)[2]), (CUBE,)),
    "padding": (
        lambda x: (
            jax.lax.pad(x, jnp.float32(7), ((1, 2, 0), (-1, 0, 2))) - jax.lax.pad(x, 0.5, ((2, 1, 0), (1, -2, 2)))
        ),
        (X,),
    ),
    "joined": (lambda x, y: (jnp.concatenate([x, y, x], 1), jnp.stack([x, y], -1), jnp.stack([x, y])[0]), (X, Y)),
    "unstacked": (lambda c: sum(jnp.unstack(c, axis=1)), (CUBE,)),
    "counting": (lambda x: x[0, 0] + jax.lax.broadcasted_iota(jnp.float32, (9, 20), 1), (X,)),
    "products": (
        lambda x, y, c: (x @ y.T, jnp.einsum("bij,kj->bki", c, x), jnp.einsum("bij,bkj->bik", c, c), x[0] @ y[1]),
        (X, Y, CUBE),
    ),
    "sums": (lambda c: (c.sum((0, 2)), c.max(1), c.min((0, 1)), jax.nn.softmax(c), c.mean()), (CUBE,)),
    "all and any": (lambda c: ((c > -1).all(1), (c > 1).any((0, 2))), (CUBE,)),
    "the largest": (
        lambda c: (c.argmax(1), c.argmin(-1), jnp.zeros((2, 3, 4))[:, 0].argmax(-1) + c[0, 0, :2]),
        (CUBE,),
    ),
    "the first few": (lambda x: jax.lax.top_k(x, 2), (X,)),
    "reading at places": (
        lambda x, k: (x[k], x.at[k].get(mode="clip"), jnp.take(x, k, axis=1, mode="clip")),
        (X, PLACES),
    ),
    "reading outside": (
        lambda x, c, k: (
            jnp.take(x, k, axis=1),
            jnp.take(c, k - 3, axis=1, fill_value=7),
            jnp.take_along_axis(c, k[None, :, None] - 2, axis=2),
            x.at[k - 4, k].get(mode="fill", fill_value=-1),
            jnp.take((8 * x).astype(int), k, axis=0),
            jnp.take(x > 0, k, axis=0),
            x.at[k].get(mode="fill", wrap_negative_indices=False),
        ),
        (X, CUBE, PLACES),
    ),
    "reading along an axis": (lambda x, k: jnp.take_along_axis(x, k[:, None] % 4, axis=1), (X, PLACES)),
    "a window": (lambda c, k: jax.lax.dynamic_slice(c, (k[0], k[1], k[2]), (1, 2, 3)), (CUBE, PLACES)),
    "a window of a stored picture": (
        lambda k: jax.lax.dynamic_index_in_dim(jnp.arange(600.0).reshape(3, 200), jnp.argmin(k)) * 2,
        (PLACES,),
    ),
    "a stored picture": (
        lambda k: jnp.asarray(np.uint8([[0], [128], [255]]))[k[0]].astype(jnp.float32) / 255,
        (PLACES,),
    ),
    "loops": (
        lambda x: (
            *jax.lax.scan(lambda c, y: (c * 0.5 + y, c - y), x[0], x, reverse=True),
            jax.lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) + i, x),
        ),
        (X,),
    ),
    "branches": (
        lambda x, k: (
            jax.lax.switch(k[0] - 1, [jnp.sin, jnp.cos, jnp.tanh], x) + jax.lax.cond(x[0, 0] > 0, abs, jnp.exp, x)
        ),
        (X, PLACES),
    ),
    "convolutions": (
        lambda x, k: (
            jax.lax.conv_general_dilated(x, k, (2, 1), "SAME", rhs_dilation=(1, 2)),
            jax.lax.conv_transpose(jnp.moveaxis(x, 1, -1), jnp.transpose(k, (2, 3, 1, 0)), (2, 2), "VALID"),
        ),
        (RANDOM.normal(size=(2, 3, 6, 5)).astype(np.float32), RANDOM.normal(size=(4, 3, 3, 2)).astype(np.float32)),
    ),
    "factors of a matrix": (lambda m: jnp.linalg.cholesky(m), (DEFINITE,)),
    "equations": (
        lambda m, c: (
            jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(m), True), jnp.swapaxes(c, 1, 2)[:, :3]),
            jax.lax.linalg.triangular_solve(m, jnp.swapaxes(c, 1, 2)[:, :3, :3], left_side=False, transpose_a=True),
        ),
        (DEFINITE, CUBE),
    ),
    "calls": (
        jax.jit(lambda x: jax.checkpoint(jnp.sin)(x) + own_gradient(x) + jax.lax.stop_gradient(jax.nn.relu(x))),
        (X,),
    ),
}


def as_tuple(function: Callable) -> Callable:
    def call(*arguments: Any) -> tuple:
        found = function(*arguments)
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    return call


def traced(case: str) -> tuple[Program, dict[str, np.ndarray], list[np.ndarray]]:
    """A case's program, what it is given, and what JAX makes of that."""
    function, arrays = CASES[case]
    given = {f"x{number}": array for number, array in enumerate(arrays)}
    expected = list(map(np.asarray, as_tuple(function)(*map(jnp.asarray, arrays))))
    return trace(as_tuple(function), given, [f"y{number}" for number in range(len(expected))]), given, expected


def compare(run: Loaded, case: tuple[Program, dict[str, np.ndarray], list[np.ndarray]]) -> None:
    _, given, expected = case
    found = run(given)
    for array, other in zip(found.values(), expected, strict=True):
        assert array.shape == other.shape
        assert array.dtype == other.dtype
        np.testing.assert_allclose(array, other, rtol=2e-5, atol=2e-6)


@pytest.fixture(autouse=True)
def mixed_ranks():
    """Users may add vectors to matrices."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("case", CASES)
def test_a_browser_computes_what_jax_does(case: str, in_browser: Callable[[Program], Loaded]):
    found = traced(case)
    json.dumps(found[0].steps)  # in which all is a browser's
    compare(in_browser(found[0]), found)


@pytest.mark.parametrize("case", CASES)
def test_onnx_computes_what_jax_does(case: str):
    """Or says which operation it has not."""
    found = traced(case)
    missing = {step.operation for step in found[0].steps} - TRANSLATED.keys()
    if missing or case == "rounding away from zero":
        with pytest.raises(UserError, match="ONNX") as error:
            to_onnx(found[0], case)
        assert not missing or any(name in str(error.value) for name in missing)
    else:
        compare(in_onnx(found[0]), found)


def test_the_cases_need_every_operation():
    assert {step.operation for case in CASES for step in traced(case)[0].steps} == OPERATIONS


def test_what_is_constant_is_computed_before_and_what_is_not_needed_never():
    weights = np.float32([[1, 2], [3, 4]])

    def function(x: jax.Array) -> tuple[jax.Array]:
        jax.random.normal(jax.random.key(0))
        jnp.sin(x)
        return (x @ jax.nn.softplus(jnp.asarray(weights)),)

    program = trace(function, {"x": np.zeros((1, 2), np.float32)}, ["y"])
    assert [step.operation for step in program.steps] == ["dot_general"]
    [constant] = program.constants.values()
    np.testing.assert_allclose(constant, np.log1p(np.exp(weights)), rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: jnp.sort(x), "the primitive sort,"),
        (lambda x: x + jax.random.normal(jax.random.key(x[0, 0].astype(int)), x.shape), "the primitive random_seed,"),
        (lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c + 1, x), "the primitive while,"),
        (
            lambda x: jax.lax.scan(lambda c, _: (c + 1, None), x, length=LONGEST_LOOP + 1)[0],
            "the primitive scan over 65",
        ),
        (lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(9)), f"cholesky of 9 rows, more than {LARGEST_MATRIX}"),
        (lambda x: jax.lax.reduce(x, 0.0, lambda a, b: a + b * b, (1,)), "the primitive reduce,"),
        (
            lambda x: jax.lax.reduce_window(x, 0.0, lambda a, b: a + b * b, (1, 2), (1, 1), "VALID"),
            "the primitive reduce_window,",
        ),
        (lambda x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32), "computes in bfloat16"),
    ],
)
def test_what_no_program_can_do_is_named(function: Callable, words: str):
    with pytest.raises(UserError, match=words):
        trace(lambda x: (function(x),), {"x": np.zeros((9, 3), np.float32)}, ["y"])
