"""Random actions: independent from frame to frame, or held, which drives a world further. Nothing heavy is imported
here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from worldmodel.support.files import UserError

if TYPE_CHECKING:
    import gymnasium
    import jax
    import numpy as np

Kind = Literal["white", "held", "mixed"]
"""white: independent from frame to frame; held: each for a number of frames that is log-uniform in 1 to 32, two in five
of them at full strength; mixed: white in the sequences of even number, held in the others"""
LONGEST = 32
"""frames that an action is held"""
AT_FULL_STRENGTH = 0.4
"""share of the held actions that are a random corner of the box of actions; the others are anywhere in it"""


def require_kind(kind: str) -> None:
    """Raise UserError unless it is one of the kinds."""
    if kind not in get_args(Kind):
        raise UserError(f"--actions must be one of {', '.join(get_args(Kind))}, not {kind}")


def segments(uniform: Any, xp: Any) -> Any:
    """`[T]` the number of the held action that acts in each frame, by numbers `[T]` in [0, 1) that say how long each is
    held; of NumPy or, as `xp`, its like."""
    durations = xp.clip(xp.floor((LONGEST + 1.0) ** uniform), 1, LONGEST)
    return xp.searchsorted(xp.cumsum(durations), xp.arange(len(uniform)), side="right")


def drawn_actions(kind: Kind, key: jax.Array, number: jax.Array, steps: int, size: int, discrete: bool) -> jax.Array:
    """The actions `[steps, size]` of a compiled world's sequence, by its number, in units of the largest; one of `size`
    choices is a one-hot vector. The key is consumed."""
    import jax
    import jax.numpy as jnp

    held_key = jax.random.fold_in(key, 1)
    white = jax.random.uniform(key, (steps, size), minval=-1.0)
    strong = jnp.where(white < 0, -1.0, 1.0)
    if discrete:  # the largest of independent numbers is any of them
        white = strong = jax.nn.one_hot(jnp.argmax(white, axis=-1), size)
    if kind == "white":
        return white
    durations, strength = jax.random.uniform(held_key, (2, steps))
    held = jnp.where((strength < AT_FULL_STRENGTH)[:, None], strong, white)[segments(durations, jnp)]
    return held if kind == "held" else jnp.where(number % 2 == 1, held, white)


def sampled_actions(
    kind: Kind, space: gymnasium.Space, random: np.random.Generator, number: int, steps: int
) -> list[Any]:
    """The `steps` actions of a Gymnasium environment's sequence, by its number. An unbounded box has no corners: all
    its actions are sampled."""
    import numpy as np

    if kind == "white" or (kind == "mixed" and number % 2 == 0):
        return [space.sample() for _ in range(steps)]
    which = segments(random.random(steps), np)
    choices = [_choice(space, random) for _ in range(int(which.max(initial=-1)) + 1)]
    return [choices[index] for index in which]


def _choice(space: Any, random: np.random.Generator) -> Any:
    """A random action, that often at full strength."""
    import gymnasium
    import numpy as np

    if random.random() < AT_FULL_STRENGTH and isinstance(space, gymnasium.spaces.Box) and space.is_bounded():
        return np.where(random.random(space.shape) < 0.5, space.low, space.high).astype(space.dtype)
    return space.sample()
