"""What a latent space looks like from the inside: a view of it and, of a locally linear model, its linearised dynamics.

True states compare here; no model has seen them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import spread_over
from worldmodel.imagination.compiled import compiled
from worldmodel.imagination.variables import deviation
from worldmodel.models.protocol import LocallyLinear, WorldModel
from worldmodel.worlds.world import Variable, World

DIRECTIONS = 1000
"""from which a cloud is looked at, to find the one in which it is most hollow"""
LOOKED_AT = 3000
"""points, at most, that are looked at to find it"""
NEAR = 0.3
"""how far from a state, in standard deviations of the data's states, the frames are that a tangent is fitted on"""
FEWEST_FRAMES = 25
"""for a fit; where fewer are near, the nearest are taken"""
TOO_FAR = 0.6
"""a frame so far away does not tell what the latent does at a state"""


# A view


class View(NamedTuple):
    """Three directions in which to look at latents: the leading principal components, turned as a rigid body so that
    the third axis is the line of sight along which the cloud is most hollow (a barrel is then seen end-on)."""

    mean: np.ndarray
    """`[Z]`"""
    axes: np.ndarray
    """`[Z, 3]` orthonormal columns; of zeros where the latent has fewer than three dimensions"""
    shares: np.ndarray
    """`[3]` of the latents' variance along each axis"""

    @staticmethod
    def of(latents: np.ndarray) -> "View":
        """The view of latents `[..., Z]`. No true state is used."""
        points = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
        mean = points.mean(axis=0)
        components = principal_components(points)
        if components.shape[1] == 3:
            components = components @ hollow_turn(spread_over(points - mean, LOOKED_AT) @ components)
        axes = np.zeros((points.shape[1], 3))
        axes[:, : components.shape[1]] = components
        variance = np.var((points - mean) @ axes, axis=0)
        return View(mean, axes, variance / max(np.var(points, axis=0).sum(), 1e-12))

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """`[..., Z]` to `[..., 3]`."""
        return (latents - self.mean) @ self.axes


def principal_components(points: np.ndarray, count: int = 3) -> np.ndarray:
    """`[M, Z]` to the `count` (at most Z) orthonormal directions of largest variance, `[Z, count]`, largest first; the
    largest entry of each is positive."""
    _, vectors = np.linalg.eigh(np.cov(points.T).reshape(points.shape[1], points.shape[1]))
    vectors = vectors[:, ::-1][:, :count]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.sign(largest)


def hollow_turn(points: np.ndarray) -> np.ndarray:
    """Orthonormal `[3, 3]` that turns centred points `[M, 3]`: its last column is the line of sight along which they
    leave the middle most empty, the first two are the principal components of what is then seen."""
    # lines of sight spread evenly over a half sphere, by the golden angle
    index = np.arange(DIRECTIONS) + 0.5
    height, turn = index / DIRECTIONS, index * math.pi * (3 - 5**0.5)
    flat = np.sqrt(1 - height**2)
    sights = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    turns = [across(points, sight) for sight in sights]
    return turns[int(np.argmax([hollowness(points @ turn[:, :2]) for turn in turns]))]


def across(points: np.ndarray, sight: np.ndarray) -> np.ndarray:
    """`[3, 3]`: the principal components of points `[M, 3]` in the plane across a line of sight `[3]`, and the line."""
    plane = np.linalg.svd(sight[None])[2][1:].T
    return np.concatenate([plane @ principal_components(points @ plane, 2), sight[:, None]], axis=1)


def hollowness(points: np.ndarray) -> float:
    """How empty the middle of centred points `[M, 2]` is: the radius, in standard deviations, within which are 5% of
    them. A ring has 1.4, a disc 0.45, a Gaussian 0.32."""
    spread = np.maximum(points.std(axis=0), 1e-9)
    return float(np.quantile(np.hypot(*(points / spread).T), 0.05))


# The transition, linearised


@compiled
def step_jacobians(model: WorldModel, states: jax.Array, actions: jax.Array) -> jax.Array:
    """d mean(z_{t+1}) / d z_t `[B, Z, Z]` of a model whose state is its vector, at latents `[B, Z]` under actions
    `[B, A]`. Unlike LocallyLinear.matrices it knows that the mixture changes with z."""

    def mean(latent: jax.Array, action: jax.Array) -> jax.Array:
        return model.vector(model.imagine_step(latent[None], action[None]))[0]

    return jax.vmap(jax.jacfwd(mean))(states, actions)


@compiled
def step_matrices(model: LocallyLinear, states: jax.Array, actions: jax.Array) -> jax.Array:
    """As LocallyLinear.matrices, at latents `[B, Z]` under actions `[B, A]`."""
    return jax.vmap(model.matrices)(states, actions)


@compiled
def base_weights(model: LocallyLinear, latents: jax.Array, actions: jax.Array) -> jax.Array:
    """`[..., T-1, M]`, the weights of the base matrices in each step of latents `[..., T, Z]` under actions
    `[..., T-1, A]`."""
    return model.mixture(latents[..., :-1, :], actions)


# Against the physics


class Linearised(NamedTuple):
    """The dynamics around one state of a world without action, as eigenvalues of one step."""

    name: str
    physics: np.ndarray
    """complex `[S]` of the true step"""
    model: np.ndarray
    """complex `[S]` of the model's step within its own surface of latents; empty where no data is near"""
    matrix: np.ndarray
    """complex `[Z]` of the model's matrix; empty where no data is near"""


def linearise(model: WorldModel, latents: np.ndarray, states: np.ndarray, world: World) -> list[Linearised]:
    """Compare a locally linear model's dynamics with the true ones at the world's places.

    Args:
        latents: `[M, Z]` of true states `[M, S]`.

    The latents of a world lie on a surface whose coordinates are the state variables. Its tangents G `[Z, S]` at a
    state and G' at the state one step later take the model's Jacobian J `[Z, Z]` into those coordinates:
    pinv(G') J G, which is what the true step's Jacobian `[S, S]` is compared with.
    """
    no_action = jnp.zeros(model.scale.action_size)

    @jax.jit
    def step(state: jax.Array) -> jax.Array:
        return world.step(state, no_action)

    found = []
    for name, place in world.places.items():
        state = jnp.array(place, jnp.float32)
        physics = np.linalg.eigvals(np.asarray(jax.jacfwd(step)(state)))
        here = tangent_at(latents, states, np.asarray(state), world.variables)
        after = tangent_at(latents, states, np.asarray(step(state)), world.variables)
        within = matrix = np.zeros(0, complex)
        if here is not None and after is not None:
            at = jnp.asarray(here.latent[None], jnp.float32), no_action[None]
            jacobian = np.linalg.pinv(after.tangent) @ np.asarray(step_jacobians(model, *at))[0] @ here.tangent
            within = np.linalg.eigvals(jacobian)
            matrix = np.linalg.eigvals(np.asarray(step_matrices(model, *at))[0])
        found.append(Linearised(name, physics, within, matrix))
    return found


class Tangent(NamedTuple):
    """The surface of latents near a state."""

    latent: np.ndarray
    """`[Z]` at the state"""
    tangent: np.ndarray
    """`[Z, S]` its derivative by the state variables"""


def tangent_at(
    latents: np.ndarray, states: np.ndarray, state: np.ndarray, variables: Sequence[Variable]
) -> Tangent | None:
    """A least-squares plane through the latents `[M, Z]` of those of the states `[M, S]` that are near `state` `[S]`,
    or None where there are too few."""
    apart, distance = np.empty(states.shape), np.zeros(len(states))
    for index, variable in enumerate(variables):
        apart[:, index] = deviation(variable, states[:, index], state[index])
        # angles that are spread evenly over the circle have a standard deviation of pi / sqrt(3)
        spread = math.pi / 3**0.5 if variable.circular else max(states[:, index].std(), 1e-6)
        distance = np.hypot(distance, apart[:, index] / spread)
    order = np.argsort(distance)
    near = order[: max(FEWEST_FRAMES, np.count_nonzero(distance < NEAR))]
    if len(near) < FEWEST_FRAMES or distance[near[-1]] > TOO_FAR:
        return None
    features = np.concatenate([np.ones((len(near), 1)), apart[near]], axis=1)
    plane, *_ = np.linalg.lstsq(features, latents[near], rcond=None)
    return Tangent(plane[0], plane[1:].T)


# The decoder


def nearest(distance: np.ndarray) -> np.ndarray:
    """`[K, F]`: of M frames at a `distance` `[K, M]` from each of K places the nearest, a two-hundredth of all."""
    return np.argsort(distance, axis=1)[:, : max(1, distance.shape[1] // 200)]


def principal_walk(latents: np.ndarray, steps: int) -> np.ndarray:
    """`[steps, Z]` along the first principal component of latents `[M, Z]`, through their mean, from the 5% to the
    95% quantile."""
    mean, component = latents.mean(axis=0), principal_components(latents, 1)[:, 0]
    low, high = np.quantile((latents - mean) @ component, (0.05, 0.95))
    return mean + np.linspace(low, high, steps)[:, None] * component
