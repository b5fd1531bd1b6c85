"""A trained model, ready for use: compiled once, NumPy in and out.

Uint8 frames become brightness in [0, 1] within the program. States stay on the device.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames, batches
from worldmodel.imagination.compiled import Split, compiled
from worldmodel.models.protocol import Bounded, FrameModel, Policy, State, WorldModel, imagine
from worldmodel.support.files import UserError

BATCH = 64
"""sequences at a time; the last batch is filled up, so that there is one compilation"""


def last(state: State) -> State:
    """The state `[B, ...]` at the end of states along time, `[B, T, ...]`."""
    return jax.tree.map(lambda leaf: leaf[:, -1], state)


_filter = compiled(lambda model, frames, actions, valid, key: model.filter(as_unit_frames(frames), actions, valid, key))
_filter_step = compiled(
    lambda model, state, action, frame, key: model.filter_step(state, action, as_unit_frames(frame), key)
)
_imagine_step = compiled(lambda model, state, action, key: model.imagine_step(state, action, key))
_imagine = compiled(imagine)
_follow_policy = compiled(imagine, static_argnums=(2, 4))
_encode = compiled(lambda model, frames, key: model.encode(as_unit_frames(frames), key))
_decode = compiled(lambda model, state: jnp.clip(model.emission(state).mean(), 0, 1))
_vector = compiled(lambda model, state: model.vector(state))


class Dreamer(Split):
    """A model with its programs. Frames are uint8 or float32 in [0, 1], `[B, (T,) H, W(, C)]`; of a FrameModel there
    are `encode`, `decode` and `vector`, of a WorldModel all but `encode`."""

    def __init__(self, model: WorldModel | FrameModel):
        super().__init__(model)
        self._filter, self._filter_step, self._imagine_step, self._imagine = (
            program.bind(self) for program in (_filter, _filter_step, _imagine_step, _imagine)
        )
        self._encode, self._decode, self._vector = (program.bind(self) for program in (_encode, _decode, _vector))

    def filter(
        self, frames: np.ndarray, actions: np.ndarray, valid: np.ndarray | None = None, key: jax.Array | None = None
    ) -> State:
        """The states `[B, T, ...]` of frames `[B, T, ...]`, T >= model.context, and actions `[B, T-1, A]`; where
        `valid`, bool `[B, T]`, is False the frame is missing and the step is imagined. Raises UserError where there
        are too few frames, or another number of actions."""
        self._require_world_model("filter")
        if frames.shape[1] < self.model.context or actions.shape[:2] != (len(frames), frames.shape[1] - 1):
            raise UserError(
                f"filter takes frames [B, T, ...] of at least {self.model.context} steps and actions [B, T-1, A], not"
                f" frames {list(frames.shape)} and actions {list(actions.shape)}"
            )
        return self._filter(frames, actions, valid, key)

    def filter_step(self, state: State, action: np.ndarray, frame: np.ndarray, key: jax.Array | None = None) -> State:
        """The state after one action `[B, A]` and the frame `[B, ...]` that came of it; where none came, see
        `imagine_step`."""
        return self._filter_step(state, action, frame, key)

    def imagine_step(self, state: State, action: np.ndarray, key: jax.Array | None = None) -> State:
        """The state after one action `[B, A]` whose frame did not come."""
        return self._imagine_step(state, action, key)

    def imagine(
        self, state: State, actions: np.ndarray | Policy, key: jax.Array | None = None, steps: int | None = None
    ) -> State:
        """The states `[B, S, ...]` after `state` `[B, ...]` under actions `[B, S, A]`, or under a policy for `steps`.

        A policy is traced: a new function is a new compilation. Raises UserError where the state has a time axis, or
        the actions have none.
        """
        self._require_world_model("imagine")
        if len(jax.eval_shape(type(self.model).vector, self.model, state).shape) != 2:
            raise UserError("imagine begins with one state of each sequence, such as run.last(states)")
        if not callable(actions) and np.ndim(actions) != 3:
            raise UserError(f"imagine takes actions [B, S, A], not {list(np.shape(actions))}")
        if callable(actions):
            return _follow_policy(self, state, actions, key, steps)
        return self._imagine(state, actions, key)

    def _require_world_model(self, what: str) -> None:
        if not isinstance(self.model, WorldModel):
            raise UserError(f"{what}: a model of single frames imagines nothing; it has encode, decode and vector")

    def encode(self, frames: np.ndarray, key: jax.Array | None = None) -> State:
        """The states of frames of any leading axes, each by itself."""
        return self._encode(frames, key)

    def decode(self, state: State) -> np.ndarray:
        """The mean frames of states, float32 `[..., H, W(, C)]` in [0, 1]."""
        return np.asarray(self._decode(state))

    def vector(self, state: State) -> np.ndarray:
        """float32 `[..., Z]`."""
        return np.asarray(self._vector(state))


class Rollouts(NamedTuple):
    """N sequences of T frames, of which the first `context` were observed; along the means."""

    frames: np.ndarray
    """float32 `[N, T, H, W(, C)]` in [0, 1]: reconstructions first, then imagination"""
    latents: np.ndarray
    """float32 `[N, T, Z]` the vectors of the states behind them"""


def in_batches(data: Sequences) -> Iterator[tuple[Sequences, int, int]]:
    """(sequences, how many of them count, number of the batch)."""
    for index, (batch, count) in enumerate(batches(data, min(BATCH, len(data)))):
        yield batch, count, index


def first_seen(seen: np.ndarray | None, context: int) -> np.ndarray | None:
    """What Sequences.seen says of the first `context` frames."""
    return None if seen is None else seen[:, :context]


def _roll_out(
    model: WorldModel, frames: jax.Array, actions: jax.Array, valid: jax.Array | None, context: int
) -> tuple[jax.Array, jax.Array]:
    """The arrays of Rollouts for uint8 frames `[B, T, ...]`, with `valid` `[B, context]`."""
    seen = model.filter(as_unit_frames(frames[:, :context]), actions[:, : context - 1], valid)
    dreamt = imagine(model, last(seen), actions[:, context - 1 :])
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), seen, dreamt)
    return jnp.clip(model.emission(states).mean(), 0, 1), model.vector(states)


_rolled_out = compiled(_roll_out, static_argnums=(4,))


def roll_out(dreamer: Dreamer, data: Sequences, context: int) -> Rollouts:
    """Filter `context` frames of every sequence, at least model.context and fewer than there are, then imagine to the
    end with the data's own actions. What is imagined of padding means nothing."""
    parts = []
    for batch, count, _ in in_batches(data):
        part = _rolled_out(dreamer, batch.frames, batch.actions, first_seen(batch.seen(), context), context)
        parts.append([np.asarray(array[:count]) for array in part])
    return Rollouts(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def filtered_latents(dreamer: Dreamer, data: Sequences, key: jax.Array | None) -> np.ndarray:
    """float32 `[N, T, Z]`: the vectors of a filter that sees every frame that there is, sampled with a key, which is
    consumed, or along the means. Those of padding mean nothing."""
    parts = []
    for batch, count, index in in_batches(data):
        batch_key = None if key is None else jax.random.fold_in(key, index)
        state = dreamer.filter(batch.frames, batch.actions, batch.seen(), batch_key)
        parts.append(dreamer.vector(state)[:count])
    return np.concatenate(parts)


def reconstruct(
    model: WorldModel | FrameModel,
    frames: np.ndarray,
    actions: np.ndarray | None = None,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """Frames `[..., H, W(, C)]` as the model, following its means, decodes what it sees in them. A WorldModel filters
    `[B, T, ...]`, needs the actions, and imagines what is not `valid`; a FrameModel takes frames of any leading
    axes."""
    dreamer = Dreamer(model)
    if isinstance(model, WorldModel):
        assert actions is not None
        return dreamer.decode(dreamer.filter(frames, actions, valid))
    return dreamer.decode(dreamer.encode(frames))


@compiled
def _bound(model: Bounded, frames: jax.Array, actions: jax.Array, valid: jax.Array | None, key: jax.Array) -> jax.Array:
    """Reconstruction, KL and importance weight `[3, B]` of one sample."""
    found = model.bound(as_unit_frames(frames), actions, key, valid)
    return jnp.stack([jnp.sum(found.reconstruction, axis=1), jnp.sum(found.kl, axis=1), found.log_weight])


def bounds(dreamer: Dreamer, data: Sequences, key: jax.Array, samples: int) -> dict[str, float]:
    """Bounds on ln p(x | u) and their parts, nats per sequence, of a Bounded model that observes every frame that there
    is: x are these.

    "iwae" is the importance-weighted bound with so many samples; the others are means over them. The key is
    consumed.
    """
    assert isinstance(dreamer.model, Bounded)
    parts = []
    for batch, count, index in in_batches(data):
        keys = jax.random.split(jax.random.fold_in(key, index), samples)
        draws = [_bound(dreamer, batch.frames, batch.actions, batch.seen(), each) for each in keys]
        parts.append(np.stack([np.asarray(draw) for draw in draws])[:, :, :count])
    reconstruction, kl, weight = np.concatenate(parts, axis=2).astype(np.float64).swapaxes(0, 1)
    return {
        "elbo": float(np.mean(reconstruction - kl)),
        "reconstruction": float(np.mean(reconstruction)),
        "kl": float(np.mean(kl)),
        "iwae": float(np.mean(np.logaddexp.reduce(weight, axis=0) - np.log(samples))),
    }
