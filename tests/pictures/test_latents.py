import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import colour_data, make_tiny_dvbf, model_of, width
from flax import nnx

from baselines.options import DKFOptions
from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import Sequences
from worldmodel.evaluation.latents import (
    View,
    base_weights,
    linearise,
    nearest,
    principal_components,
    principal_walk,
    step_jacobians,
    step_matrices,
    tangent_at,
)
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, roll_out
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.networks import initialise
from worldmodel.models.protocol import WorldModel
from worldmodel.pictures.colours import colourings
from worldmodel.pictures.latents import draw_latents
from worldmodel.worlds.circle import degrees_apart
from worldmodel.worlds.pendulum.physics import PAPER
from worldmodel.worlds.pendulum.world import PendulumWorld
from worldmodel.worlds.world import Variable, World, world_of

WORLD = PendulumWorld()
PICTURES = ("latent_cloud.png", "latent_paths.png", "base_matrices.png", "eigenvalues.png", "decoder.png")


def linear_model(matrix: np.ndarray) -> DVBF:
    """A DVBF whose transition is z' = matrix z, for any action."""
    model = make_tiny_dvbf("fusion", base_matrices=1, latent_size=len(matrix), visible_size=2)
    model.transition.state_matrices[...] = jnp.asarray((matrix - np.eye(len(matrix))).T[None], jnp.float32)
    model.transition.action_matrices[...] = jnp.zeros_like(model.transition.action_matrices[...])
    return model


def many_states() -> np.ndarray:
    """`[M, 2]` on a grid of angles and velocities."""
    angles, velocities = np.meshgrid(np.linspace(-np.pi, np.pi, 120, endpoint=False), np.linspace(-5, 5, 61))
    return np.stack([angles.ravel(), velocities.ravel()], axis=1)


def barrel(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points `[4000, 5]` on the side of a cylinder that is longer than wide, and its axis `[5]`."""
    angle, height = random.uniform(-np.pi, np.pi, 4000), random.uniform(-3, 3, 4000)
    turn, _ = np.linalg.qr(random.standard_normal((5, 5)))
    points = np.stack([np.cos(angle), np.sin(angle), height], axis=1) @ turn[:3]
    return points + 0.02 * random.standard_normal((4000, 5)) + 7, turn[2]


# A view


def test_principal_components_are_those_of_a_singular_value_decomposition():
    random = np.random.default_rng(0)
    points = random.standard_normal((300, 6)) @ random.standard_normal((6, 6)) + 5
    found = principal_components(points)
    right = np.linalg.svd(points - points.mean(axis=0))[2][:3].T
    np.testing.assert_allclose(np.abs(np.sum(found * right, axis=0)), 1, atol=1e-10)


def test_a_barrel_is_seen_end_on():
    points, axis = barrel(np.random.default_rng(1))
    view = View.of(points)
    assert abs(view.axes[:, 2] @ axis) > np.cos(np.deg2rad(4))
    radius = np.hypot(*view(points)[:, :2].T)
    assert 0.8 < radius.min() < radius.max() < 1.2


def test_a_view_is_a_rigid_turn_and_says_how_much_it_shows():
    points = np.random.default_rng(2).standard_normal((40, 10, 5)) * np.array([3, 2, 1, 0.5, 0.1])
    view = View.of(points)
    np.testing.assert_allclose(view.axes.T @ view.axes, np.eye(3), atol=1e-12)
    assert view(points).shape == (40, 10, 3)
    covariance = np.cov(points.reshape(-1, 5).T)
    largest = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    assert view.shares.sum() == pytest.approx(largest[:3].sum() / largest.sum())


def test_a_latent_of_two_dimensions_is_all_in_view():
    points = np.random.default_rng(3).standard_normal((50, 2))
    view = View.of(points)
    assert view.shares.sum() == pytest.approx(1)
    np.testing.assert_array_equal(view(points)[:, 2], 0)


# The transition


def test_weights_are_the_mixture_of_every_step(tiny_dvbf: DVBF):
    random = np.random.default_rng(4)
    latents = random.standard_normal((3, 7, 8)).astype(np.float32)
    actions = random.standard_normal((3, 6, 2)).astype(np.float32)
    alpha = np.asarray(base_weights(tiny_dvbf, latents, actions))
    assert alpha.shape == (3, 6, 3)
    np.testing.assert_allclose(alpha.sum(axis=-1), 1, rtol=1e-5)
    t = 4
    one_step = tiny_dvbf.transition.mixture(latents[:, t], actions[:, t] / tiny_dvbf.scale.action_scale)
    np.testing.assert_allclose(alpha[:, t], one_step, rtol=1e-5)


def test_a_jacobian_is_what_small_changes_of_the_latent_do(tiny_dvbf: DVBF):
    random = np.random.default_rng(5)
    latents = random.standard_normal((3, 8)).astype(np.float32)
    actions = random.standard_normal((3, 1, 2)).astype(np.float32)
    jacobians = step_jacobians(tiny_dvbf, latents, actions[:, 0])
    small = 1e-2
    for column in range(8):
        change = small * np.eye(8, dtype=np.float32)[column]
        after, before = (
            tiny_dvbf.imagine_step(jnp.asarray(z), jnp.asarray(actions[:, 0]))
            for z in (latents + change, latents - change)
        )
        np.testing.assert_allclose(jacobians[:, :, column], (after - before) / (2 * small), atol=1e-3)


def test_a_step_is_its_matrix_times_the_latent_where_no_action_is(tiny_dvbf: DVBF):
    latents = np.random.default_rng(6).standard_normal((3, 8)).astype(np.float32)
    matrices = step_matrices(tiny_dvbf, latents, np.zeros((3, 2), np.float32))
    after = tiny_dvbf.imagine_step(jnp.asarray(latents), jnp.zeros((3, 2)))
    np.testing.assert_allclose(np.einsum("bxy,by->bx", matrices, latents), after, atol=1e-5)


def test_of_a_single_base_matrix_the_jacobian_is_the_matrix():
    matrix = np.eye(4) + 0.1 * np.random.default_rng(7).standard_normal((4, 4))
    latents, actions = np.ones((2, 4), np.float32), np.zeros((2, 2), np.float32)
    for found in (step_jacobians, step_matrices):
        np.testing.assert_allclose(
            found(linear_model(matrix), latents, actions), np.broadcast_to(matrix, (2, 4, 4)), atol=1e-6
        )


# Against the physics


def test_eigenvalues_on_the_surface_are_those_of_the_map_in_state_coordinates():
    """Latents are a linear function of the state and the transition is a known linear map on them; off them, it
    halves."""
    embedding = 0.3 * np.random.default_rng(8).standard_normal((6, 2))
    step = np.array([[0.95, 0.1], [-0.4, 0.9]])
    inverse = np.linalg.pinv(embedding)
    matrix = embedding @ step @ inverse + 0.5 * (np.eye(6) - embedding @ inverse)
    states = many_states()
    found = linearise(linear_model(matrix), states @ embedding.T, states, WORLD)
    assert [each.name for each in found] == [
        f"{place}, {motion}" for place in ("hanging", "horizontal", "upright") for motion in ("at rest", "at 2 rad/s")
    ]
    expected = np.sort_complex(np.linalg.eigvals(step))
    for each in found[2:]:  # not hanging: there the angle comes round, and a linear function of it jumps
        np.testing.assert_allclose(np.sort_complex(each.model), expected, atol=1e-4)
        everything = np.sort_complex(np.concatenate([expected, np.full(4, 0.5)]))
        np.testing.assert_allclose(np.sort_complex(each.matrix), everything, atol=1e-3)


def test_the_tangent_after_a_step_is_the_one_where_it_leads():
    """On the circle a transition that turns every latent as far as this pendulum moves has the eigenvalues 1, 1: in
    the tangent of where it came from it would seem to shrink."""
    state = np.array([0.0, 2.0])
    after = np.asarray(WORLD.step(jnp.asarray(state), jnp.zeros(1)))
    cos, sin = np.cos(after[0]), np.sin(after[0])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    assert cos < 0.985
    states = many_states()
    latents = np.stack([np.cos(states[:, 0]), np.sin(states[:, 0]), 0.2 * states[:, 1]], axis=1)
    [upright_moving] = [
        each for each in linearise(linear_model(turn), latents, states, WORLD) if each.name == "upright, at 2 rad/s"
    ]
    np.testing.assert_allclose(upright_moving.model, [1, 1], atol=0.003)


def test_the_physics_of_a_hanging_pendulum_is_a_damped_oscillation():
    found = linearise(linear_model(np.eye(3)), many_states() @ np.ones((2, 3)), many_states(), WORLD)
    [hanging] = [each for each in found if each.name == "hanging, at rest"]
    # I phi'' = -m g l phi - mu phi', with the time constant 2 I / mu and this frequency, in closed form
    decay, frequency = PAPER.friction / 2, np.sqrt(PAPER.gravity - (PAPER.friction / 2) ** 2)
    expected = np.exp((-decay + 1j * frequency) * PAPER.dt)
    assert np.abs(hanging.physics - expected).min() < 0.01


def test_where_no_data_is_near_nothing_is_claimed():
    states = many_states()
    states = states[np.abs(states[:, 0]) > 2]
    found = {each.name: each for each in linearise(linear_model(np.eye(3)), states @ np.ones((2, 3)), states, WORLD)}
    assert found["upright, at rest"].model.size == found["upright, at rest"].matrix.size == 0
    assert found["hanging, at rest"].model.size == 2
    assert tangent_at(states[:10], states[:10], states[0], WORLD.variables) is None


# The decoder


def test_the_nearest_frames_surround_a_place():
    angles = np.linspace(-np.pi, np.pi, 4000, endpoint=False)
    latents = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    shown = np.array([-np.pi, -1.0, 0.5])
    expected = np.stack([np.cos(shown), np.sin(shown)], axis=1)
    near = nearest(degrees_apart(angles[None], shown[:, None]))
    assert near.shape == (3, 20)
    np.testing.assert_allclose(latents[near].mean(axis=1), expected, atol=1e-3)


def test_a_walk_follows_the_direction_of_largest_variance():
    random = np.random.default_rng(9)
    latents = np.outer(random.uniform(-1, 1, 2000), [3, 4]) + 0.01 * random.standard_normal((2000, 2)) + 1
    walk = principal_walk(latents, 5)
    np.testing.assert_allclose(np.sort(walk[[0, -1], 0]), [1 - 0.9 * 3, 1 + 0.9 * 3], atol=0.15)
    np.testing.assert_allclose((walk[:, 1] - 1) * 3, (walk[:, 0] - 1) * 4, atol=0.3)


# Pictures


def draw(folder: Path, model: WorldModel, data: Sequences, context: int) -> list[str]:
    dreamer = Dreamer(model)
    rollouts, filtered = roll_out(dreamer, data, context), filtered_latents(dreamer, data, jax.random.key(0))
    return draw_latents(folder, dreamer, data, rollouts, filtered, context, world_of(data))


def test_pictures_of_a_pendulum(pendulum_data: Sequences, tmp_path: Path):
    assert draw(tmp_path, model_of(pendulum_data), pendulum_data, 6) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PICTURES)
    assert all(width(tmp_path / name) > 700 for name in PICTURES)


def test_of_a_model_that_is_not_locally_linear_what_is_left_out_is_said(pendulum_data: Sequences, tmp_path: Path):
    """Its state is no vector but a pair."""
    scale = FrameScale.of(pendulum_data, "test data")
    options = DKFOptions(hidden_size=8, feature_size=6)
    model = nnx.merge(*initialise(lambda rngs: options.build(scale, rngs), jax.random.key(0)))
    [line] = draw(tmp_path, model, pendulum_data, 6)
    assert line == "left out: base_matrices.png, eigenvalues.png (not a locally linear model)"
    left = [name for name in PICTURES if name not in line]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)


class Plane(PendulumWorld):
    """The same numbers, of a world without a circle."""

    variables = (Variable("height", "m"), Variable("speed", "m/s"))
    visible = ("height",)


@pytest.mark.parametrize(
    ("world", "labels", "limits"),
    [
        (WORLD, ["true angle / degrees (0: upright)", "true angular velocity / (rad/s)"], (-180, 180)),
        (Plane(), ["true height / m", "true speed / (m/s)"], None),
        (None, ["true angle", "true angular velocity"], None),
    ],
)
def test_colours_are_the_worlds_variables(
    world: World | None, labels: list[str], limits: tuple | None, pendulum_data: Sequences
):
    found = colourings(pendulum_data, world)
    assert [each.label for each in found] == labels
    first = found[0]
    cyclic = np.allclose(first.colours(0.0), first.colours(1.0), atol=0.05)
    assert cyclic == (limits is not None)
    if limits is not None:
        assert first.limits == limits
        assert np.abs(first.values).max() <= 180


def test_an_angle_that_stays_on_one_side_has_the_colours_of_a_number(pendulum_data: Sequences):
    """Around the circle they would all be one."""
    assert pendulum_data.states is not None
    leaning = pendulum_data.states * np.array([0.02, 1], np.float32)
    found = colourings(dataclasses.replace(pendulum_data, states=leaning), WORLD)[0]
    degrees = np.rad2deg(leaning[..., 0])
    np.testing.assert_allclose(found.values, degrees, atol=1e-4)
    assert found.limits[1] == pytest.approx(np.abs(np.quantile(degrees, (0.01, 0.99))).max())
    assert not np.allclose(found.colours(0.0), found.colours(1.0), atol=0.05)


def test_pictures_of_colour_frames_without_states(tmp_path: Path):
    data = colour_data()
    model = model_of(data)
    assert draw(tmp_path, model, data, 5) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PICTURES)
    assert all(width(tmp_path / name) > 700 for name in PICTURES)


# Learning
