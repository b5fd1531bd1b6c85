"""What happens if I do this? Several futures from one observed prefix, each under other actions, beside the truth."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import PENDULUM_STATES, Sequences, as_unit_frames
from worldmodel.models.dvbf.model import DVBF
from worldmodel.worlds.pendulum.truth import PendulumSimulator

BANG_SECONDS = 0.5
"""between two reversals of the bang-bang actions"""
BANG_FRAMES = 5
"""the same where a frame's duration is not known"""


@dataclasses.dataclass(frozen=True)
class Counterfactuals:
    """M futures of one sequence, named by what is done in them. Angles are in rad."""

    names: list[str]
    context: int
    """frames that were observed before the actions part ways"""
    actions: np.ndarray
    """float32 `[M, T-1, A]`, equal before the last observed frame"""
    imagined: np.ndarray
    """float32 `[M, T, H, W(, C)]` in [0, 1]"""
    true: np.ndarray | None
    """the same by the true simulator, or None where it is not known"""
    imagined_angles: np.ndarray | None
    """`[M, T]`, read off the imagined frames"""
    true_angles: np.ndarray | None
    """`[M, T]`"""


def plans(data: Sequences, context: int, largest: np.ndarray) -> dict[str, np.ndarray]:
    """Five continuations of a single sequence's actions, `[S, A]` each; `largest` `[A]` is the size of pushes."""
    own = data.actions[0, context - 1 :]
    period = round(BANG_SECONDS / data.dt) if data.dt else BANG_FRAMES
    sign = np.where(np.arange(len(own)) // max(1, period) % 2 == 0, 1, -1)[:, None]
    return {
        "the data's": own,
        "none": np.zeros_like(own),
        "constant push, plus": np.broadcast_to(largest, own.shape),
        "constant push, minus": np.broadcast_to(-largest, own.shape),
        "bang-bang": sign * largest,
    }


def imagine_counterfactuals(
    model: DVBF, data: Sequences, sequence: int, context: int, simulator: PendulumSimulator | None
) -> Counterfactuals:
    """Filter the first `context` frames of one sequence, then imagine each plan to its end, following the means."""
    own = data.take(slice(sequence, sequence + 1))
    futures = plans(own, context, np.abs(data.actions).max(axis=(0, 1)))
    count = len(futures)
    past = np.broadcast_to(own.actions[:, : context - 1], (count, context - 1, data.action_size))
    later = np.stack([plan.astype(np.float32) for plan in futures.values()])
    actions = np.concatenate([past, later], axis=1)
    frames = np.repeat(as_unit_frames(own.frames[:, :context]), count, axis=0)
    observed = jnp.ones((count, context - 1), bool)
    noise = jnp.zeros((count, data.length, model.options.latent_size))
    seen = model.filter(jnp.asarray(frames), jnp.asarray(past), observed, noise[:, :context]).latents
    dreamt = model.imagine(seen[:, -1], jnp.asarray(later), noise[:, context:])
    latents = jnp.concatenate([seen, dreamt], axis=1)
    imagined = np.clip(np.asarray(model.emission(latents).mean()), 0, 1)
    if simulator is None or own.states is None:
        return Counterfactuals(list(futures), context, actions, imagined, None, None, None)
    first = np.stack([own.states[:, 0, own.state_names.index(name)] for name in PENDULUM_STATES], axis=-1)
    states = simulator.states(np.repeat(first, count, axis=0), actions[..., 0])
    true = as_unit_frames(simulator.frames(states[..., 0]))
    angles = simulator.reader()(imagined.reshape(*imagined.shape[:2], -1))
    return Counterfactuals(list(futures), context, actions, imagined, true, angles, states[..., 0])
