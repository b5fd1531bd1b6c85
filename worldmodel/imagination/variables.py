"""The variables of a world as people see them: their values, their labels and how far two of them are apart."""

import numpy as np

from worldmodel.data.sequences import Sequences
from worldmodel.worlds.circle import degrees_apart, wrap
from worldmodel.worlds.world import Variable, World


def visible_variables(world: World) -> list[Variable]:
    """The D variables that a frame shows."""
    return [variable for variable in world.variables if variable.name in world.visible]


def visible_states(world: World, states: np.ndarray) -> np.ndarray:
    """What frames show of true states: `[..., S]` to `[..., D]`."""
    return states[..., [variable.name in world.visible for variable in world.variables]]


def true_variables(data: Sequences, world: World | None) -> list[tuple[Variable, np.ndarray]]:
    """Each variable of the true states and its values `[N, T]`; without a world states are plain numbers, and without
    states there are none."""
    if data.states is None:
        return []
    variables = [Variable(name, "") for name in data.state_names] if world is None else world.variables
    return list(zip(variables, np.moveaxis(data.states, -1, 0), strict=True))


def words(variable: Variable) -> str:
    """Its name."""
    return variable.name.replace("_", " ")


def unit(variable: Variable) -> str:
    """In which it is shown."""
    return "degrees" if variable.circular else variable.unit


def label(variable: Variable) -> str:
    """Its name, the unit in which it is shown, and its note."""
    shown = f"({unit(variable)})" if "/" in unit(variable) else unit(variable)
    name = f"{words(variable)} / {shown}" if shown else words(variable)
    return f"{name} ({variable.note})" if variable.note else name


def shown(variable: Variable, values: np.ndarray) -> np.ndarray:
    """Values in the unit in which they are shown, circular ones in (-180, 180] degrees."""
    return np.rad2deg(wrap(values)) if variable.circular else values


def apart(variable: Variable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The absolute difference in the unit in which the variable is shown, on a circle the short way round."""
    return degrees_apart(a, b) if variable.circular else np.abs(a - b)


def deviation(variable: Variable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b in the variable's own unit, on a circle the short way round."""
    return wrap(a - b) if variable.circular else a - b


def centre(variable: Variable, values: np.ndarray) -> np.ndarray:
    """The mean over the first axis, on a circle that of the directions."""
    return np.angle(np.exp(1j * values).mean(axis=0)) if variable.circular else values.mean(axis=0)
