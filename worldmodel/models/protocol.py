"""The one interface of all models, and the one roll-out.

    frames    x_0 ----- x_1 ----- x_2 -- ... -- x_{T-1}
    actions        u_0       u_1       ...  u_{T-2}
    states    s_0 ----> s_1 ----> s_2 -- ... -> s_{T-1}

`actions[:, t]` takes state t to state t+1; T frames have T-1 actions. A *state* is what a model believes at one time:
any pytree whose leaves are `[B, ...]`, or `[B, T, ...]` along time. Nobody outside the model looks into it: `emission`
says what it looks like and `vector` gives it as numbers. Frames are float32 in [0, 1], actions keep the unit of the
data; models scale both themselves (`FrameScale`). A `key` is consumed; without one, a method follows means (or modes).

A frame may be missing: lost, late, or behind something. Whole sequences say so in `valid`; what stands in the frame's
place is then looked at by no method and no gradient. Frame by frame, `filter_step` is the step whose frame came, and
`imagine_step` the step whose frame did not: a filter with gaps is a chain of the two.

A model is an nnx.Module (a plain pytree of parameters, without stored keys or mutable state), made by the `build` of a
dataclass of options (catalogue.py) that an entry point of the group "worldmodel.models" names. What only some models
can do is a small Protocol of its own, asked for with isinstance.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import distrax
import jax
import jax.numpy as jnp

from worldmodel.data.scale import FrameScale
from worldmodel.data.windows import Batch

State = Any
Policy = Callable[[State, jax.Array | None], jax.Array]
"""(state, key) -> actions `[B, A]`; traced, as everything here"""


@runtime_checkable
class FrameModel(Protocol):
    """A model of single frames: no time, no actions, and no WorldModel, which is asked for first. Any leading axes are
    a batch."""

    scale: FrameScale
    latent_size: int
    """Z, the size of `vector`"""

    def posterior(self, frames: jax.Array) -> distrax.Distribution:
        """q(z | x): `[..., H, W(, C)]` to a diagonal Gaussian over `[..., Z]`, whose prior is N(0, I)."""
        ...

    def encode(self, frames: jax.Array, key: jax.Array | None = None) -> State:
        """The state of each frame: a sample of the posterior, or its mean."""
        ...

    def emission(self, state: State) -> distrax.Distribution:
        """p(x | state): a distribution over frames `[..., H, W(, C)]`."""
        ...

    def vector(self, state: State) -> jax.Array:
        """`[..., Z]`: the state as numbers."""
        ...

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As that of a WorldModel."""
        ...


@runtime_checkable
class WorldModel(Protocol):
    """A model of sequences that can be filtered and imagined with."""

    scale: FrameScale
    latent_size: int
    """Z, the size of `vector`"""
    context: int
    """fewest frames that `filter` needs"""

    def filter(
        self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None, key: jax.Array | None = None
    ) -> State:
        """The states `[B, T, ...]` of frames `[B, T, H, W(, C)]`, T >= context, and actions `[B, T-1, A]`.

        Where `valid`, bool `[B, T]`, is False the frame is not looked at and the step is imagined.
        """
        ...

    def filter_step(self, state: State, action: jax.Array, frame: jax.Array, key: jax.Array | None = None) -> State:
        """The state `[B, ...]` after one action `[B, A]` and the frame `[B, H, W(, C)]` that came of it: what `filter`
        does at every frame after the first few."""
        ...

    def imagine_step(self, state: State, action: jax.Array, key: jax.Array | None = None) -> State:
        """The state `[B, ...]` after one action `[B, A]`, without a frame: what `filter` does where one is missing."""
        ...

    def emission(self, state: State) -> distrax.Distribution:
        """p(x | state): a distribution over frames, for states of any leading axes."""
        ...

    def vector(self, state: State) -> jax.Array:
        """`[..., Z]`: the state as numbers, for probes and pictures."""
        ...

    def loss(self, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What is minimised, in nats per frame that was seen, and what to watch: "loss", "frame_mse" (of frames that
        were seen) and, where the model has them, "elbo", "reconstruction", "kl". `progress` is the share of the
        training that is done, in [0, 1]."""
        ...


# What some models can do


class Bound(NamedTuple):
    """A lower bound of ln p(x | u) and its parts, in nats, at one sample of the posterior."""

    reconstruction: jax.Array
    """`[B, T]` ln p(x_t | state t)"""
    kl: jax.Array
    """`[B, T]` of the posterior at t against its prior"""
    log_weight: jax.Array
    """`[B]` ln p(x, z | u) - ln q(z | x, u) of the sample: the mean of its exponential is p(x | u)"""


@runtime_checkable
class Bounded(Protocol):
    """A model with a bound."""

    def bound(self, frames: jax.Array, actions: jax.Array, key: jax.Array, valid: jax.Array | None = None) -> Bound:
        """Of frames `[B, T, H, W(, C)]` and actions `[B, T-1, A]`; of p(x | u) of the frames that were seen, where
        `valid` `[B, T]` says that some were not: they have neither a reconstruction nor a correction's KL."""
        ...


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong with a model."""

    name: str
    seen: str
    """in a sentence or two, with figures"""
    remedy: str = ""
    """what to change"""

    def __str__(self) -> str:
        return f"{self.name.upper()}: {self.seen} {self.remedy}".rstrip()


@runtime_checkable
class Sampled(Protocol):
    """A WorldModel all of whose sampled noise one factor scales, so that its futures can be made as wide as its errors
    (evaluation/calibration.py). Means and bounds know nothing of it."""

    spread: Any
    """an nnx.Param of shape `[]`; 1 in training"""


@runtime_checkable
class Diagnosed(Protocol):
    """A model that can say in its own words what is wrong with it."""

    def diagnosis(self, frames: jax.Array, actions: jax.Array, valid: jax.Array | None = None) -> dict[str, jax.Array]:
        """Figures of its own on frames `[B, T, H, W(, C)]` and actions `[B, T-1, A]`, each a scalar; `valid` as in
        WorldModel.filter."""
        ...

    def explain(self, figures: dict[str, float], problems: list[Problem]) -> list[Problem]:
        """The problems that the general health check found (evaluation/health.py), with what the model knows better:
        which of its options to change, and problems of its own. `figures` are the check's and its own."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """A diagnosed model that has a word to say where nothing is wrong, too."""

    def remark(self, figures: dict[str, float]) -> str:
        """What stands in the verdict on a model without a problem, of figures of its own: a sentence."""
        ...


class Panel(NamedTuple):
    """Of curves.png: metrics over the steps of a training; drawn where the run has `needs` and has not `unless`."""

    title: str
    label: str
    """of the y axis"""
    needs: str
    lines: dict[str, str]
    """legend by metric"""
    unless: str = ""


@runtime_checkable
class Plotted(Protocol):
    """A model with metrics of its own that are worth a plot."""

    panels: tuple[Panel, ...]
    """one with the title of a general panel takes its place"""


@runtime_checkable
class LocallyLinear(Protocol):
    """A model whose state is its vector `[..., Z]` and whose mean moves as z' = A z + B u, with matrices that are mixed
    from a few base matrices anew at every point."""

    def mixture(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """`[..., M]`: the weights of the base matrices at states `[..., Z]` under actions `[..., A]`."""
        ...

    def matrices(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """A `[..., Z, Z]`, which multiplies z from the left."""
        ...


def imagine(
    model: WorldModel,
    state: State,
    actions: jax.Array | Policy,
    key: jax.Array | None = None,
    steps: int | None = None,
) -> State:
    """Roll the model out without frames: the S states `[B, S, ...]` that come after `state` `[B, ...]`.

    Args:
        actions: `[B, S, A]`, or a policy that chooses each action from the state, with `steps` = S.
        key: consumed; without one the means are followed.
    """
    length = steps if callable(actions) else actions.shape[1]
    assert length is not None, "a policy needs to be told for how many steps"
    keys = None if key is None else jax.random.split(key, length)

    def step(state: State, inputs: tuple) -> tuple[State, State]:
        action, key = inputs
        policy_key = None
        if callable(actions):
            if key is not None:
                policy_key, key = jax.random.split(key)
            action = actions(state, policy_key)
        state = model.imagine_step(state, action, key)
        return state, state

    over_time = None if callable(actions) else jnp.swapaxes(actions, 0, 1)
    _, states = jax.lax.scan(step, state, (over_time, keys), length)
    return jax.tree.map(swap_time, states)


def swap_time(x: jax.Array) -> jax.Array:
    """`[B, T, ...]` to `[T, B, ...]` and back."""
    return jnp.swapaxes(x, 0, 1)
