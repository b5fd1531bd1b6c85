"""What the latent space of a DVBF looks like from the inside: a view of it, its base matrices, its linearised dynamics.

NumPy in and out. True states colour and compare here; no model has seen them.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import spread_over
from worldmodel.evaluation.measures import degrees_apart, wrap
from worldmodel.models.dvbf.model import DVBF
from worldmodel.worlds.pendulum.physics import PendulumParams, pendulum_step

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
SPEED = 2.0
"""rad/s of the pendulums that are looked at in motion"""
PLACES = {"hanging": math.pi, "horizontal": math.pi / 2, "upright": 0.0}
"""rad, where dynamics are linearised"""


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


# The transition


def base_weights(model: DVBF, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """alpha `[..., T-1, M]`, the weights of the base matrices in each step of latents `[..., T, Z]` under actions
    `[..., T-1, A]`."""
    return np.asarray(model.transition.mixture(*_steps(model, latents[..., :-1, :], actions)))


def step_matrices(model: DVBF, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """I + A_t `[B, Z, Z]`, which multiplies z_t from the left, at latents `[B, Z]` under actions `[B, A]`."""
    transition = model.transition
    alpha = transition.mixture(*_steps(model, latents, actions))
    # the model multiplies its matrices from the right: z' = z + z A
    mixed = jnp.einsum("bm,mxy->byx", alpha, transition.state_matrices[...])
    return np.eye(latents.shape[-1]) + np.asarray(mixed)


def step_jacobians(model: DVBF, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """d mean(z_{t+1}) / d z_t `[B, Z, Z]`. Unlike I + A_t it knows that the weights alpha change with z."""
    graphdef, params = nnx.split(model)
    return np.asarray(_jacobians(graphdef, params, *_steps(model, latents, actions)))


@partial(jax.jit, static_argnums=0)
def _jacobians(graphdef: nnx.GraphDef, params: nnx.State, latents: jax.Array, actions: jax.Array) -> jax.Array:
    transition = nnx.merge(graphdef, params).transition

    def mean(latent: jax.Array, action: jax.Array) -> jax.Array:
        latent, action = latent[None], action[None]
        return transition.distribution(latent, action, transition.mixture(latent, action), 1.0).mean()[0]

    return jax.vmap(jax.jacfwd(mean))(latents, actions)


def _steps(model: DVBF, latents: np.ndarray, actions: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Latents and scaled actions as the transition takes them."""
    return jnp.asarray(latents, jnp.float32), jnp.asarray(actions, jnp.float32) / model.scale.action_scale


# Against the physics


class Linearised(NamedTuple):
    """The dynamics around one state of a pendulum without torque, as eigenvalues of one step."""

    name: str
    physics: np.ndarray
    """complex `[2]` of the true step"""
    model: np.ndarray
    """complex `[2]` of the model's step within its own surface of latents; empty where no data is near"""
    matrix: np.ndarray
    """complex `[Z]` of I + A_t; empty where no data is near"""


def linearise(model: DVBF, latents: np.ndarray, states: np.ndarray, params: PendulumParams) -> list[Linearised]:
    """Compare the model's dynamics with the true ones around a few states.

    Args:
        latents: `[M, Z]` of true states `[M, 2]` (rad, rad/s).

    The latents of a pendulum lie on a surface with the coordinates (angle, velocity). Its tangents G `[Z, 2]` at a
    state and G' at the state one step later take the model's Jacobian J `[Z, Z]` into those coordinates:
    pinv(G') J G, which is what the true step's Jacobian `[2, 2]` is compared with.
    """

    @jax.jit
    def step(state: jax.Array) -> jax.Array:
        return pendulum_step(state, jnp.zeros(()), params)

    found = []
    for place, angle in PLACES.items():
        for speed, motion in ((0.0, "at rest"), (SPEED, f"at {SPEED:g} rad/s")):
            state = jnp.array([angle, speed], jnp.float32)
            physics = np.linalg.eigvals(np.asarray(jax.jacfwd(step)(state)))
            here = tangent_at(latents, states, np.asarray(state))
            after = tangent_at(latents, states, np.asarray(step(state)))
            pair = matrix = np.zeros(0, complex)
            if here is not None and after is not None:
                at = here.latent[None], np.zeros((1, model.scale.action_size))
                jacobian = np.linalg.pinv(after.tangent) @ step_jacobians(model, *at)[0] @ here.tangent
                pair = np.linalg.eigvals(jacobian)
                matrix = np.linalg.eigvals(step_matrices(model, *at)[0])
            found.append(Linearised(f"{place}, {motion}", physics, pair, matrix))
    return found


class Tangent(NamedTuple):
    """The surface of latents near a state."""

    latent: np.ndarray
    """`[Z]` at the state"""
    tangent: np.ndarray
    """`[Z, 2]` its derivative by angle (rad) and velocity (rad/s)"""


def tangent_at(latents: np.ndarray, states: np.ndarray, state: np.ndarray) -> Tangent | None:
    """A least-squares plane through the latents `[M, Z]` of those of the states `[M, 2]` (rad, rad/s) that are near
    `state` `[2]`, or None where there are too few."""
    apart = np.stack([wrap(states[:, 0] - state[0]), states[:, 1] - state[1]], axis=1)
    # angles that are spread evenly over the circle have a standard deviation of pi / sqrt(3)
    distance = np.hypot(apart[:, 0] / (math.pi / 3**0.5), apart[:, 1] / max(states[:, 1].std(), 1e-6))
    order = np.argsort(distance)
    near = order[: max(FEWEST_FRAMES, np.count_nonzero(distance < NEAR))]
    if len(near) < FEWEST_FRAMES or distance[near[-1]] > TOO_FAR:
        return None
    features = np.concatenate([np.ones((len(near), 1)), apart[near]], axis=1)
    plane, *_ = np.linalg.lstsq(features, latents[near], rcond=None)
    return Tangent(plane[0], plane[1:].T)


# The decoder


def latents_by_angle(latents: np.ndarray, angles: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """`[K, Z]`: for each of the angles `shown` `[K]` the mean of the latents `[M, Z]` whose `angles` `[M]` (rad) are
    nearest, a two-hundredth of all."""
    count = max(1, len(angles) // 200)
    nearest = np.argsort(degrees_apart(angles[None], shown[:, None]), axis=1)[:, :count]
    return latents[nearest].mean(axis=1)


def principal_walk(latents: np.ndarray, steps: int) -> np.ndarray:
    """`[steps, Z]` along the first principal component of latents `[M, Z]`, through their mean, from the 5% to the
    95% quantile."""
    mean, component = latents.mean(axis=0), principal_components(latents, 1)[:, 0]
    low, high = np.quantile((latents - mean) @ component, (0.05, 0.95))
    return mean + np.linspace(low, high, steps)[:, None] * component
