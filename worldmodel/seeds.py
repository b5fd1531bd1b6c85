"""Many seeds of one model in one compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from worldmodel.fitting import LOG_EVERY, split_seed
from worldmodel.networks import initialise
from worldmodel.progress import progress_bar
from worldmodel.sequences import Sequences
from worldmodel.training import (
    Loss,
    initial_state,
    make_optimiser,
    make_train_chunk,
    make_train_step,
    to_device,
    warm_up_and_cosine,
)


def train_seeds(
    name: str,
    build: Callable[[nnx.Rngs], nnx.Module],
    loss: Loss,
    data: Sequences,
    seeds: list[int],
    steps: int,
    batch_size: int,
    learning_rate: float,
    window: int,
) -> list[Any]:
    """One trained model for each seed, all trained by the same mapped step; equal, up to rounding, to the models
    that a run with that seed alone gives."""
    keys = [split_seed(seed) for seed in seeds]
    optimiser = make_optimiser(warm_up_and_cosine(learning_rate, steps))
    graphdef, _ = initialise(build, keys[0][0])
    states = [initial_state(initialise(build, parameters)[1], optimiser, training) for parameters, training in keys]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    chunk = make_train_chunk(make_train_step(graphdef, loss, optimiser), batch_size, window)
    train = jax.jit(jax.vmap(chunk, in_axes=(0, None, None)), donate_argnums=0)
    device_data = to_device(data)
    with progress_bar(f"{name}, {len(seeds)} seeds", steps, "step") as bar:
        for done in range(0, steps, LOG_EVERY):
            updates = min(LOG_EVERY, steps - done)
            state, metrics = train(state, device_data, jnp.asarray(updates))
            bar.update(updates)
            bar.set_postfix_str(f"ELBO {float(jnp.median(metrics['elbo'])):.2f} nats/frame", refresh=False)
    return [nnx.merge(graphdef, jax.tree.map(lambda leaf, i=i: leaf[i], state.params)) for i in range(len(seeds))]
