"""Training of one or many seeds of a model in one compiled program, spread over the devices.

Each seed is a training of its own, with its own parameters, optimiser, batches and noise: the step is mapped over them.
Devices share the seeds among them; where there are more devices than seeds, they share every batch. Over several
processes (jax.distributed) the same program runs in each, over all of their devices.
"""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from worldmodel.data.sequences import Sequences
from worldmodel.data.windows import DeviceData
from worldmodel.models.networks import IN_HASTE, maker
from worldmodel.support.files import UserError
from worldmodel.support.progress import progress_bar
from worldmodel.training.feed import make_feed
from worldmodel.training.options import Recipe
from worldmodel.training.step import (
    FINITE,
    LOG_EVERY,
    MakeOptimiser,
    TrainState,
    initial_state,
    make_optimiser,
    make_train_chunk,
    make_train_step,
    warm_up_and_cosine,
)

Build = Callable[[nnx.Rngs], Any]
"""makes an untrained model"""
Result = TypeVar("Result")


def split_key(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of a run, from that of its seed: one for the initial parameters, one for all of training."""
    parameters, training = jax.random.split(key)
    return parameters, training


def make_mesh(seeds: int, batch_size: int) -> Mesh:
    """All devices (of all processes) as a grid of axes "seed" and "data": as many rows as share the seeds evenly, and
    in each as many devices as share a batch evenly. Devices that fit neither stay idle; raises UserError when a whole
    process would."""
    devices = jax.devices()
    rows = math.gcd(seeds, len(devices))
    columns = math.gcd(batch_size, len(devices) // rows)
    if len({device.process_index for device in devices[: rows * columns]}) < jax.process_count():
        raise UserError(
            f"--seeds {seeds} and --batch-size {batch_size} cannot be shared evenly by the {len(devices)} devices of"
            " all processes: give a number that they divide"
        )
    return Mesh(np.array(devices[: rows * columns]).reshape(rows, columns), ("seed", "data"))


def over_seeds(chunk: Callable, seeds: int, data_axis: int | None) -> Callable:
    """The chunk of updates for states and metrics that are stacked by seed, and for data with an axis of seeds or
    None."""
    if seeds > 1:
        return jax.vmap(chunk, in_axes=(0, data_axis, None), spmd_axis_name="seed")

    def alone(state: TrainState, data: DeviceData, updates: jax.Array) -> Any:
        # not mapped over an axis of one: small matrix products are then several times faster on a CPU
        own = data if data_axis is None else first(data)
        return jax.tree.map(lambda leaf: leaf[None], chunk(first(state), own, updates))

    def first(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], tree)

    return alone


def in_background(work: Callable[[], Result]) -> "Future[Result]":
    """Do it in a thread of its own; the compiler works while Python does other things."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


class Trainings:
    """One training for each seed. What it gives to the outside is on the host and the same in every process."""

    def __init__(self, build: Build, data: Sequences, recipe: Recipe, make_optimiser: MakeOptimiser = make_optimiser):
        """Nothing is trained yet: every seed is at step 0. Data of more bytes than the recipe's budget is streamed."""
        seeds = recipe.seeds
        self.mesh = make_mesh(len(seeds), recipe.batch_size)
        optimiser = make_optimiser(warm_up_and_cosine(recipe.learning_rate, recipe.steps))
        self._graphdef, parameters = maker(build)
        self._feed = make_feed(data, recipe, self.mesh)

        def initial(key: jax.Array) -> TrainState:
            parameters_key, training_key = split_key(key)
            return initial_state(parameters(parameters_key), optimiser, training_key)

        keys = [jax.random.key(seed) for seed in seeds]
        self._program = in_background(lambda: self._compile(recipe, optimiser, jax.eval_shape(initial, keys[0])))
        make_state = jax.jit(initial, compiler_options=IN_HASTE)
        self.load([make_state(key) for key in keys])

    def _compile(
        self, recipe: Recipe, optimiser: optax.GradientTransformation, state: TrainState
    ) -> jax.stages.Compiled:
        """The program of many updates, for states of these shapes."""
        by_seed, seeds = self._sharding("seed"), len(recipe.seeds)
        train_step = make_train_step(self._graphdef, optimiser, recipe.steps)
        chunk = make_train_chunk(train_step, self._feed.next_batch, self._sharding("data"))
        stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype, sharding=by_seed), state)
        program = jax.jit(
            over_seeds(chunk, seeds, self._feed.seed_axis), donate_argnums=0, out_shardings=(by_seed, None)
        )
        return program.lower(stacked, self._feed.shapes, np.int32(1)).compile()

    def _sharding(self, *axes: str) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def load(self, states: list[TrainState]) -> None:
        """Go on from one state a seed."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        self._state = jax.device_put(stacked, self._sharding("seed"))
        self._feed.start(stacked.key, int(stacked.step[0]))

    def states(self) -> list[TrainState]:
        """The state of every seed, in NumPy."""
        stacked = self._to_host(self._state)
        return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(stacked.step))]

    def models(self) -> list[Any]:
        """The model of every seed."""
        stacked = self._to_host(self._state.params)
        each = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(self._state.step))]
        return [nnx.merge(self._graphdef, jax.device_put(params)) for params in each]

    def adopt(self, models: list[Any]) -> None:
        """Go on with the parameters of these models, one a seed."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(nnx.state(model, nnx.Param) for model in models))
        self._state = self._state._replace(params=jax.device_put(stacked, self._sharding("seed")))

    def train(self, updates: int) -> list[dict[str, float]]:
        """So many updates of every seed; the means of their metrics, by seed."""
        pieces: list[dict[str, jax.Array]] = []
        counts: list[int] = []
        for data, count in self._feed.pieces(updates):
            self._state, means = self.program(self._state, data, np.int32(count))
            pieces.append(means)
            counts.append(count)
            jax.block_until_ready(pieces[:-1])  # the next piece is made while this one is trained on, but no third
        by_piece = self._to_host(jax.tree.map(lambda *values: jnp.stack(values, axis=1), *pieces))  # [S, pieces]
        for name in FINITE.values():  # what comes after a piece that broke counts no more
            broke = by_piece[name] < 1
            by_piece[name] = np.where(np.cumsum(broke, axis=1) - broke > 0, 0, by_piece[name])
        means = {name: np.average(values, axis=1, weights=counts) for name, values in by_piece.items()}
        return [{name: float(value[i]) for name, value in means.items()} for i in range(len(self._state.step))]

    @property
    def program(self) -> jax.stages.Compiled:
        """That of the updates; waits for the compiler."""
        return self._program.result()

    def close(self) -> None:
        """End what reads ahead; nothing more can be trained."""
        self._feed.close()

    def _to_host(self, tree: Any) -> Any:
        if jax.process_count() > 1:
            return multihost_utils.process_allgather(tree, tiled=True)
        return jax.device_get(tree)


def train_seeds(
    name: str, build: Build, data: Sequences, recipe: Recipe, make_optimiser: MakeOptimiser = make_optimiser
) -> list[Any]:
    """One trained model for each seed, without a run folder; equal, up to rounding, to the models that a run with that
    seed alone gives before they are calibrated."""
    steps = recipe.steps
    trainings = Trainings(build, data, recipe, make_optimiser)
    with closing(trainings), progress_bar(f"{name}, {len(recipe.seeds)} seeds", steps, "step") as bar:
        for done in range(0, steps, LOG_EVERY):
            metrics = trainings.train(min(LOG_EVERY, steps - done))
            bar.update(min(LOG_EVERY, steps - done))
            bar.set_postfix_str(headline(metrics), refresh=False)
    return trainings.models()


def headline(metrics: list[dict[str, float]]) -> str:
    """How far training is, by the metrics of each seed: the median ELBO or, of a model without one, the loss."""
    name = "elbo" if "elbo" in metrics[0] else "loss"
    return f"{name.upper() if name == 'elbo' else name} {np.median([each[name] for each in metrics]):.2f} nats/frame"
