"""The interface of a world whose truth is known: what its states are, how they move, what a frame shows of them.

A world is one file and one entry point in the group "worldmodel.worlds", which names a dataclass of arguments; `build`
on it gives the World. A data set records the entry's name and the arguments (data/sequences.py), from which the truth
behind it is rebuilt. Everything that judges, draws or plays asks for a World and knows no pendulum.

Nothing heavy is imported here.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from worldmodel.support.catalogue import Catalogue
from worldmodel.support.files import UserError
from worldmodel.support.settings import from_json

if TYPE_CHECKING:
    import jax
    import numpy as np

    from worldmodel.data.sequences import Sequences, WorldRecord

WORLDS = Catalogue("worldmodel.worlds", "world")


@dataclasses.dataclass(frozen=True)
class Variable:
    """One component of a world's state."""

    name: str
    """as in `state_names` of the data"""
    unit: str
    """as the data has it, such as "rad"; a circular one is in rad and is shown in degrees"""
    circular: bool = False
    """whether it comes round at 2 pi"""
    note: str = ""
    """what a reader of a picture must know of it, such as "0: upright" """


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure of predicted frames, and how it is shown in tables, pictures and reports."""

    name: str
    title: str
    """with its unit"""
    form: str
    """number format"""
    unit: str = ""
    """of a number that stands alone"""
    factor: float = 1.0
    larger_is_better: bool = False
    statistic: Literal["mean", "median"] = "mean"
    """over the sequences"""


class Reader(Protocol):
    """Reads the visible variables off frames, by true frames of known states."""

    def __call__(self, frames: Any) -> Any:
        """`[..., P]` pixels in [0, 1] to `[..., D]` the visible variables, in their units. Works on NumPy arrays and
        within compiled programs; a Reader is a pytree, and can be passed to them."""
        ...


class World(Protocol):
    """A world with S state variables, of which a frame shows D, and A action numbers."""

    variables: tuple[Variable, ...]
    """S of them, in the order of a state"""
    visible: tuple[str, ...]
    """names of the D variables that a single frame shows"""
    measures: tuple[Measure, ...]
    """what `score` gives beside the errors of pixels; the first is the headline"""
    dt: float
    """seconds between two frames"""
    action_size: int
    """A"""
    largest_action: float
    """actions beyond it are clipped, in both directions; 1 where they are discrete"""
    discrete: bool = False
    """whether an action is one of A choices, as a one-hot vector"""
    action_unit: str
    action_words: tuple[str, str]
    """what a positive action, or the last choice, and what a negative one, or the first choice, does in the picture, in
    a word or three; where that is "right" or begins so, the right arrow key does it"""
    places: dict[str, tuple[float, ...]]
    """states `[S]`, by their names: at which pictures compare linearised dynamics, and sequences can start"""

    def initial(self, key: jax.Array) -> jax.Array:
        """A random start `[S]`; the key is consumed."""
        ...

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """The true state one frame later: `[..., S]` and `[..., A]` to `[..., S]`. Pure, for compiled programs."""
        ...

    def reader(self, frames: np.ndarray, states: np.ndarray) -> Reader:
        """A Reader made of true frames `[M, P]` in [0, 1] and their states `[M, S]`."""
        ...

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        """Each of `measures` for every sequence and horizon, `[N, H]`, of what predicted frames show, `[N, H, D]`,
        against true states `[N, T, S]`, T = context + H."""
        ...


@runtime_checkable
class Rewarded(World, Protocol):
    """A world whose actions are paid, and whose episodes may end."""

    def reward(self, states: jax.Array, actions: jax.Array) -> jax.Array:
        """What actions `[..., A]` in states `[..., S]` are paid: `[...]`. Pure, for compiled programs."""
        ...

    def terminal(self, states: jax.Array) -> jax.Array:
        """bool `[...]`: whether an episode ends when it comes to states `[..., S]`. Pure, for compiled programs."""
        ...


@runtime_checkable
class Controlled(World, Protocol):
    """A world that can say how well it was acted in, beside what was paid."""

    def outcomes(self, episodes: list[np.ndarray]) -> dict[str, float]:
        """Figures by name, of the true states `[L, S]` of each episode."""
        ...


@runtime_checkable
class Solved(World, Protocol):
    """A world whose best possible return is known."""

    def optimal_returns(self, starts: np.ndarray, steps: int) -> np.ndarray | None:
        """`[N]`, of so many steps from true states `[N, S]`; None where it is not known of these constants."""
        ...


@runtime_checkable
class CompiledWorld(World, Protocol):
    """A world that draws itself, and so is collected by a compiled program, in which no episode ends."""

    usual_size: int = 16
    """side of its frames where nothing else is asked for, pixels"""
    process_noise: tuple[float, ...] = ()
    """standard deviations of the Gaussian noise that nature adds to a state's variables after every step, of which
    `step` knows nothing; () for none"""

    def frames(self, states: jax.Array, size: int) -> jax.Array:
        """The pictures of states `[..., S]`: brightness `[..., size, size(, C)]` in [0, 1]."""
        ...


class Options(Protocol):
    """A dataclass of a world's arguments. It may have a static method `recognise(data: Sequences) -> World | None` that
    finds its world in data which do not say what made them."""

    def build(self) -> World:
        """Raises UserError where the arguments are wrong."""
        ...


@runtime_checkable
class GymnasiumOptions(Options, Protocol):
    """Options of a world that is a Gymnasium environment, registered by its Gymnasium id; they are the keyword
    arguments of gymnasium.make."""

    gymnasium_id: str
    """what gymnasium.make takes: the id, behind the module that registers it where Gymnasium does not know it"""

    def before_render(self, env: Any, side: int) -> None:
        """Take out of the picture what is no state, such as the action. Of its side no more than so many pixels are
        kept: where it may be drawn smaller, that is faster."""
        ...

    def state_of(self, env: Any) -> np.ndarray:
        """The true state `[S]`."""
        ...

    def set_state(self, env: Any, state: np.ndarray) -> None:
        """Take an environment that has been reset to a state `[S]`."""
        ...


@runtime_checkable
class Enacted(Options, Protocol):
    """Options of a world that draws itself, and is a Gymnasium environment as well."""

    def environment(self, size: int) -> GymnasiumOptions:
        """Options of the environment whose pictures are this world's frames of that side."""
        ...


def environment_of(record: WorldRecord) -> WorldRecord:
    """What can be acted in: of a world that draws itself its Gymnasium environment, else the record as it is. Raises
    UserError where it has none."""
    if record.id not in WORLDS.names():
        return record
    options = from_json(WORLDS.options(record.id), record.arguments)
    if isinstance(options, GymnasiumOptions):
        return record
    if not isinstance(options, Enacted):
        raise UserError(f"{record.id}: is no Gymnasium environment, and nothing else can be acted in")

    from worldmodel.worlds.camera import Camera

    own = options.environment(Camera.of(record.camera).size)
    arguments = dataclasses.asdict(own)  # type: ignore[call-overload]
    return dataclasses.replace(record, id=name_of(own) or "", arguments=arguments)


def place_of(world: World | None, name: str, source: str) -> tuple[float, ...]:
    """The state `[S]` of a world's place. Raises UserError where it has none of this name; of what `source` says where
    the world is None, in no catalogue."""
    if world is None:
        raise UserError(f"--start: {source} is no world of the catalogue, and has no places")
    if name not in world.places:
        raise UserError(f"--start must be one of {', '.join(map(repr, world.places))}, not {name!r}")
    return world.places[name]


def world_of(data: Sequences, source: str = "the data") -> World | None:
    """The world that made a data set: the recorded one or, without a record, one that recognises the data by the names
    of its states. None where no registered world did. Raises UserError, beginning with `source`, where the record is
    wrong: its arguments, or the names of its states."""
    if data.world is not None:
        if data.world.id not in WORLDS.names():
            return None
        try:
            world = from_json(WORLDS.options(data.world.id), data.world.arguments).build()
        except (TypeError, ValueError, UserError) as error:
            raise UserError(f"{source}: the world {data.world.id} cannot have been made like this: {error}") from None
        names = tuple(variable.name for variable in world.variables)
        if data.states is not None and tuple(data.state_names) != names:
            raise UserError(
                f"{source}: the world {data.world.id} has the states {names}, not {tuple(data.state_names)}"
            )
        return world
    for name in WORLDS.names() if data.states is not None else ():
        recognise = getattr(WORLDS.options(name), "recognise", None)
        found = recognise(data) if recognise is not None else None
        if found is not None:
            return found
    return None


def name_of(options: Options) -> str | None:
    """The name under which a dataclass of arguments is registered, or None."""
    value = f"{type(options).__module__}:{type(options).__qualname__}"
    return next((entry.name for entry in entry_points(group=WORLDS.group) if entry.value == value), None)
