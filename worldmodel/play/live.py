"""Two worlds side by side, a step at a time: the true pendulum, and a model that dreams it under the same torques."""

from collections import deque
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.evaluation.latents import View
from worldmodel.evaluation.measures import AngleReader, degrees_apart
from worldmodel.models.dvbf.model import DVBF
from worldmodel.worlds.pendulum.physics import PendulumParams, pendulum_step
from worldmodel.worlds.pendulum.truth import PendulumSimulator

CLOUD_SEQUENCES, CLOUD_POINTS = 100, 2000
"""sequences of the data, and frames of them, that the cloud of latents shows, at most"""


class Moment(NamedTuple):
    """What both worlds show at one time."""

    state: np.ndarray
    """float32 `[2]` the true angle (rad, 0 upright, counter-clockwise, not wrapped) and angular velocity (rad/s)"""
    true_frame: np.ndarray
    """uint8 `[H, W(, C)]`"""
    latent: np.ndarray
    """float32 `[Z]` the dream's"""
    dream_frame: np.ndarray
    """float32 `[H, W(, C)]` in [0, 1], the decoded mean"""
    seen_latent: np.ndarray
    """float32 `[Z]` the filter's, from the last true frames: where a fresh look would take the dream"""
    degrees_apart: float
    """between the true angle and the one that the dream's frame shows"""
    steps: int
    """since the start"""
    steps_dreamt: int
    """since the model was last shown true frames"""


class SideBySide:
    """The true pendulum, and a model's dream of it under the same torques.

    The dream is told `context` true frames at the start and in every fresh look, and none in between: it follows the
    transition's mean. The first moment comes from `start`.
    """

    _latent: np.ndarray
    _steps_dreamt: int

    def __init__(self, model: DVBF, simulator: PendulumSimulator, reader: AngleReader, context: int):
        """`reader` reads the angle off imagined frames; `context` is at least what the initial state needs."""
        self.simulator, self.reader, self.context = simulator, reader, context
        self._graphdef, self._params = nnx.split(model)

    def start(self, state: np.ndarray) -> Moment:
        """From `[2]` rad and rad/s the pendulum swings freely until the model has seen `context` frames."""
        torques = np.zeros(self.context - 1, np.float32)
        states = self.simulator.states(state[None], torques[None])[0]
        self._frames = deque(self.simulator.frames(states[:, 0]), maxlen=self.context)
        self._torques = deque(torques, maxlen=self.context - 1)
        self._state, self._steps = states[-1], 0
        return self.fresh_look()

    def step(self, torque: float) -> Moment:
        """Both worlds one frame later, under a torque in N m that is clipped to the pendulum's largest."""
        physics = self.simulator.params
        action = np.float32(np.clip(torque, -physics.max_torque, physics.max_torque))
        after = _step(self._graphdef, physics, self._params, self._state, self._latent, action)
        self._state, self._latent = map(np.asarray, after)
        self._frames.append(self.simulator.frames(self._state[0]))
        self._torques.append(action)
        self._steps, self._steps_dreamt = self._steps + 1, self._steps_dreamt + 1
        return self._moment(self._filter())

    def fresh_look(self) -> Moment:
        """Let the model filter the last true frames, and dream on from there. No time passes."""
        self._latent, self._steps_dreamt = self._filter(), 0
        return self._moment(self._latent)

    def _filter(self) -> np.ndarray:
        """The latent `[Z]` of the newest of the last `context` true frames."""
        frames, torques = np.stack(self._frames), np.array(self._torques, np.float32)
        return np.asarray(_filter(self._graphdef, self._params, frames[None], torques[None, :, None]))[0, -1]

    def _moment(self, seen_latent: np.ndarray) -> Moment:
        frame = np.asarray(_decode(self._graphdef, self._params, self._latent))
        apart = float(degrees_apart(self.reader(frame.ravel()), self._state[0]))
        steps = self._steps, self._steps_dreamt
        return Moment(self._state, self._frames[-1], self._latent, frame, seen_latent, apart, *steps)


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    graphdef: nnx.GraphDef,
    physics: PendulumParams,
    params: nnx.State,
    state: jax.Array,
    latent: jax.Array,
    torque: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The true state `[2]` and the dream's latent `[Z]` one frame later."""
    no_noise = jnp.zeros((1, 1, len(latent)))
    imagined = nnx.merge(graphdef, params).imagine(latent[None], torque[None, None, None], no_noise)
    return pendulum_step(state, torque, physics), imagined[0, 0]


@partial(jax.jit, static_argnums=0)
def _filter(graphdef: nnx.GraphDef, params: nnx.State, frames: jax.Array, actions: jax.Array) -> jax.Array:
    """Latents `[B, T, Z]` of uint8 frames, every one observed; the filter follows its means."""
    model = nnx.merge(graphdef, params)
    no_noise = jnp.zeros((*frames.shape[:2], model.options.latent_size))
    return model.filter(as_unit_frames(frames), actions, jnp.ones(actions.shape[:2], bool), no_noise).latents


@partial(jax.jit, static_argnums=0)
def _decode(graphdef: nnx.GraphDef, params: nnx.State, latent: jax.Array) -> jax.Array:
    """The mean frame of a latent `[Z]`, in [0, 1]."""
    return jnp.clip(nnx.merge(graphdef, params).emission(latent).mean(), 0, 1)


def latent_cloud(model: DVBF, data: Sequences) -> tuple[View, np.ndarray]:
    """A view of the latents that the filter finds, along its means, in some of the sequences, and some of them,
    `[M, Z]`."""
    some = data.take(spread_over(np.arange(len(data)), CLOUD_SEQUENCES))
    latents = np.asarray(_filter(*nnx.split(model), some.frames, some.actions)).reshape(-1, model.options.latent_size)
    return View.of(latents), spread_over(latents, CLOUD_POINTS)
