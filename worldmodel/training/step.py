"""Training: one state, one compiled step for every model.

fit.py drives it and keeps the run folder.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Sharding

from worldmodel.data.windows import Batch, DeviceData

LOG_EVERY = 100
"""steps between two lines of metrics.jsonl; also the steps that run in one dispatch, where their batches fit"""
FINITE = {"loss": "finite_loss", "gradient_norm": "finite_gradient"}
"""metrics that must be finite numbers, and the metric that says for how long they were"""
CLIP = 300.0
"""Largest global norm of a gradient, in nats per frame; ordinary ones are between 20 and 150."""

B2 = 0.95
"""Decay of Adam's mean of squared gradients. It forgets sooner than with the usual 0.999: then a rate is stable that is
four times as high and more, and a sixth to a third of the error goes (SPEED.md, what was tried)."""


class TrainState(NamedTuple):
    """All that training needs to go on."""

    step: jax.Array
    """int32, updates done"""
    params: nnx.State
    optimiser: optax.OptState
    key: jax.Array
    """the data of a key, which a file can hold. It never changes: the key of an update is this one with its step
    folded in"""


TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]
MakeOptimiser = Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]
NextBatch = Callable[[DeviceData, jax.Array, jax.Array], Batch]
"""(data, key of the windows, number of the update in this chunk) -> one batch"""


def warm_up_and_cosine(learning_rate: float, steps: int) -> optax.Schedule:
    """A linear warm-up over 200 steps (at most a tenth of them all), then a cosine down to 1%."""
    warm_up = min(200, max(1, steps // 10))
    return optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, warm_up, max(steps, warm_up + 1), 0.01 * learning_rate
    )


def make_optimiser(schedule: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam with Nesterov's momentum (Dozat 2016) and clipped gradients, over all parameters as one vector: the compiler
    has less to do."""
    return optax.flatten(optax.chain(optax.clip_by_global_norm(CLIP), optax.nadam(schedule, b2=B2)))


def initial_state(params: nnx.State, optimiser: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """Before the first update; the key is that of all the training."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimiser.init(params), jax.random.key_data(key))


def update_keys(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of an update's windows and of its loss, from the data of the training's key and the updates done."""
    windows, loss = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), step))
    return windows, loss


def make_train_step(graphdef: nnx.GraphDef, optimiser: optax.GradientTransformation, steps: int) -> TrainStep:
    """The pure update (state, batch, key) -> (state, metrics) of the model with this structure, in a training of so
    many steps. The key is consumed."""

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        def objective(params: nnx.State) -> tuple[jax.Array, dict[str, jax.Array]]:
            return nnx.merge(graphdef, params).loss(batch, key, state.step / steps)

        gradients, metrics = jax.grad(objective, has_aux=True)(state.params)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        with jax.named_scope("optimiser"):
            updates, optimiser_state = optimiser.update(gradients, state.optimiser, state.params)
            params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, optimiser_state, state.key), metrics

    return train_step


def make_train_chunk(
    train_step: TrainStep, next_batch: NextBatch, sharding: Sharding
) -> Callable[[TrainState, DeviceData, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """Many updates in one compiled program: (state, data, number of updates) -> (state, mean metrics). A batch is laid
    out over the devices as `sharding` says.

    To the loss's metrics come the gradient's norm before it is clipped and, for both, the share of the updates that
    passed before one was not a finite number: 1 if all went well.

    An update's randomness depends on the state's key and step alone, so that the same updates follow from a
    state however they are cut into chunks.
    """

    @partial(jax.jit, inline=True)  # traced once, for its shapes and for the loop
    def update(state: TrainState, data: DeviceData, index: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        window_key, loss_key = update_keys(state.key, state.step)
        with jax.named_scope("batch"):
            batch = jax.lax.with_sharding_constraint(next_batch(data, window_key, index), sharding)
        return train_step(state, batch, loss_key)

    def train_chunk(state: TrainState, data: DeviceData, updates: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        def add(index: jax.Array, carry: tuple) -> tuple:
            state, total = carry
            state, metrics = update(state, data, index)
            return state, jax.tree.map(jnp.add, total, metrics | well_until_now(metrics, total, index))

        def well_until_now(metrics: dict[str, jax.Array], total: dict[str, jax.Array], index: jax.Array) -> dict:
            return {
                well: ((total[well] == index) & jnp.isfinite(metrics[name])).astype(jnp.float32)
                for name, well in FINITE.items()
            }

        _, shapes = jax.eval_shape(update, state, data, updates)
        shapes |= dict.fromkeys(FINITE.values(), shapes["loss"])
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        state, total = jax.lax.fori_loop(0, updates, add, (state, zeros))
        return state, jax.tree.map(lambda x: x / updates, total)

    return train_chunk
