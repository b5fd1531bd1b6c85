"""The actions that there are: of environments, of data, and of the plain numbers that planners search."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from worldmodel.planning.spaces import ActionSpace
from worldmodel.support.files import UserError


@pytest.mark.parametrize(
    "space", [Discrete(3), Discrete(4), Box(np.array([-2.0, 0.5], np.float32), np.array([2.0, 1.0], np.float32))]
)
def test_of_gymnasium_and_back(space: gymnasium.Space):
    found = ActionSpace.of(space)
    assert found.gymnasium() == space
    assert found.discrete == isinstance(space, Discrete)
    assert found.size == (len(space.low) if isinstance(space, Box) else space.n)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(-np.inf, np.inf, (2,)), "within bounds"),
        (Box(np.array([-1, -np.inf], np.float32), np.ones(2, np.float32)), "within bounds"),
        (Box(-1, 1, (2, 2)), "one-dimensional"),
        (MultiDiscrete([2, 3]), "or Discrete"),
    ],
)
def test_what_cannot_be_searched_is_one_line(space: gymnasium.Space, message: str):
    with pytest.raises(UserError, match=message) as error:
        ActionSpace.of(space)
    assert len(str(error.value).splitlines()) == 1


def test_of_data():
    random = np.random.default_rng(0)
    choices = np.eye(3, dtype=np.float32)[random.integers(0, 3, (4, 6))]
    assert ActionSpace.of_data(choices) == ActionSpace.of_choices(3)
    choices[2, 3:] = 0  # the padding of an episode that ended
    assert ActionSpace.of_data(choices) == ActionSpace.of_choices(3)
    numbers = random.uniform(-1, 3, (4, 6, 2)).astype(np.float32)
    found = ActionSpace.of_data(numbers)
    assert not found.discrete
    np.testing.assert_array_equal([found.low, found.high], [numbers.min(axis=(0, 1)), numbers.max(axis=(0, 1))])
    assert not ActionSpace.of_data(numbers.round().clip(0, 1)).discrete  # two at once are no choice
    assert not ActionSpace.of_data(choices[..., :1]).discrete  # of one there is none


def test_numbers_go_from_the_lowest_to_the_highest():
    space = ActionSpace((-2.0, 0.0), (2.0, 1.0))
    raw = jnp.array([[[-1.0, -1.0], [1.0, 1.0]], [[0.0, 0.5], [-3.0, 9.0]]])
    np.testing.assert_allclose(space.action(raw), [[[-2, 0], [2, 1]], [[0, 0.75], [-2, 1]]])
    np.testing.assert_array_equal(space.action(space.bound(raw)), space.action(raw))
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda raw: space.action(raw).sum()))(raw[1]), [[2, 0.5], [0, 0]])


def test_a_choice_is_the_largest_number_and_passes_the_gradient_of_its_softmax():
    space = ActionSpace.of_choices(3)
    raw = jnp.array([[0.1, 2.0, -1.0], [-0.2, -0.4, -0.3], [5.0, 7.0, 6.0]])
    np.testing.assert_allclose(space.action(raw), np.eye(3)[[1, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(space.action(space.bound(raw)), space.action(raw), atol=1e-6)
    found = np.asarray(jax.vmap(jax.jacobian(space.action))(raw))
    shares = np.exp(np.asarray(raw, np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    for row, p in zip(found, shares, strict=True):
        np.testing.assert_allclose(row, np.diag(p) - np.outer(p, p), atol=1e-6)
