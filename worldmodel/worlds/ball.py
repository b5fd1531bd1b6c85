"""Bouncing balls as a World. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from worldmodel.support.files import UserError
from worldmodel.worlds.world import CompiledWorld, Measure, Variable

if TYPE_CHECKING:
    import jax
    import numpy as np

RADIUS = 0.22
"""m, of a ball; the box reaches from -1 to 1 m in both directions"""
REACH = 1 - RADIUS
"""m, from the middle to the farthest place of a ball's centre"""
FASTEST = 2.4
"""m/s; initial velocities are uniform up to this in each direction"""
PUSH = 0.05
"""m/s; the largest change of velocity by a push, in each direction"""
BRIGHTNESS = (1.0, 0.5)
"""of the first and the second ball; one that is as bright as the other could be told from it by its past alone"""
BACKGROUND = 0.1
"""of a ball's brightness, that is not looked at when it is read: what a blurred picture has everywhere"""
COLLISIONS = 12
"""hits of walls and of each other that two balls can have between two frames"""


@dataclasses.dataclass(frozen=True)
class BallOptions:
    """The bouncing ball of Karl et al. 2017, or two of them, in a box that is seen from above."""

    balls: Literal[1, 2] = 1
    """How many balls there are."""

    def build(self) -> BallWorld:
        """Raises UserError where there are neither one nor two."""
        if self.balls not in (1, 2):
            raise UserError(f"--balls must be 1 or 2, not {self.balls}")
        return BallWorld(self.balls)


class BallWorld(CompiledWorld):
    """Balls that roll in a box without friction and are pushed a little, whose places a frame shows.

    In the paper (Karl et al. 2017, section 5) a ball rolls within a box in a plane, the control is added to its
    velocity, and walls throw it back; another box has two balls. It gives no numbers. Here walls are elastic, and so
    are two balls, of equal mass and without spin: they do not pass through each other, of which the paper says
    nothing. A push changes the velocity at once, at the beginning of a step. Between pushes the motion is exact: at a
    wall the path is folded back into the box, and two balls are taken from each hit to the next.
    """

    dt = 0.1
    largest_action = PUSH
    action_unit = "m/s"
    action_words = ("right or up", "left or down")
    measures = (
        Measure("position_error", "median position error / half box sides", ".3f", statistic="median"),
        Measure("share_within_radius", "sequences within a ball's radius", ".0%", larger_is_better=True),
    )

    def __init__(self, balls: int = 1):
        self.balls = balls
        self.usual_size = 16 if balls == 1 else 20
        self.action_size = 2 * balls
        ends = ("",) if balls == 1 else ("_1", "_2")
        self.variables = tuple(
            Variable(f"{name}{end}", unit)
            for end in ends
            for name, unit in (("x", "m"), ("y", "m"), ("velocity_x", "m/s"), ("velocity_y", "m/s"))
        )
        self.visible = tuple(f"{name}{end}" for end in ends for name in ("x", "y"))
        places = {
            "in the middle, at rest": (0.0, 0.0, 0.0, 0.0),
            "in the middle, rightwards": (0.0, 0.0, 1.2, 0.0),
            "at the right wall, rightwards": (0.74, 0.0, 1.2, 0.0),
            "in a corner, into it": (0.74, 0.74, 1.2, 1.2),
        }
        second = (-0.5, -0.5, 0.0, 0.0)
        self.places = {name: place if balls == 1 else place + second for name, place in places.items()}

    def initial(self, key: jax.Array) -> jax.Array:
        """Anywhere in the box; the second ball anywhere that does not touch the first."""
        import jax
        import jax.numpy as jnp

        place_key, velocity_key = jax.random.split(key)
        velocities = jax.random.uniform(velocity_key, (self.balls, 2), minval=-FASTEST, maxval=FASTEST)
        places = jax.random.uniform(place_key, (self.balls, 2), minval=-REACH, maxval=REACH)
        if self.balls == 2:
            tries = jax.random.uniform(jax.random.fold_in(place_key, 1), (64, 2), minval=-REACH, maxval=REACH)
            apart = jnp.sum((tries - places[:1]) ** 2, axis=-1) > (2 * RADIUS) ** 2
            places = places.at[1].set(tries[jnp.argmax(apart)])
        return jnp.concatenate([places, velocities], axis=-1).reshape(-1)

    def step(self, state: jax.Array, action: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        balls = state.reshape(*state.shape[:-1], self.balls, 4)
        push = jnp.clip(action, -PUSH, PUSH).reshape(*action.shape[:-1], self.balls, 2)
        places, velocities = balls[..., :2], balls[..., 2:] + push
        left = jnp.full((*places.shape[:-2], 1, 1), self.dt, places.dtype)
        if self.balls == 2:
            places, velocities, left = _to_the_last_hit(places, velocities, left)
        places, velocities = _folded(places, velocities, left)
        return jnp.concatenate([places, velocities], axis=-1).reshape(state.shape)

    def frames(self, states: jax.Array, size: int) -> jax.Array:
        """Discs on black, anti-aliased, the second one grey; row 0 is at the top."""
        import jax.numpy as jnp

        places = states.reshape(*states.shape[:-1], self.balls, 4)[..., :2]
        x, y = (jnp.asarray(axis) for axis in pixel_centres(size))
        discs = _discs(places, x, y).reshape(*places.shape[:-1], size, size)
        return jnp.clip(sum(BRIGHTNESS[ball] * discs[..., ball, :, :] for ball in range(self.balls)), 0, 1)

    def reader(self, frames: np.ndarray, states: np.ndarray) -> CentreOfMass:
        """It learns nothing of them but how large they are."""
        import numpy as np

        return CentreOfMass(*pixel_centres(round(frames.shape[-1] ** 0.5)), np.array(BRIGHTNESS[: self.balls]))

    def score(self, shown: np.ndarray, states: np.ndarray, context: int) -> dict[str, np.ndarray]:
        """The mean distance of the balls."""
        import numpy as np

        true = states[:, context:].reshape(*shown.shape[:2], self.balls, 4)[..., :2]
        errors = np.linalg.norm(shown.reshape(true.shape) - true, axis=-1).mean(axis=-1)
        return {"position_error": errors, "share_within_radius": errors < RADIUS}


class CentreOfMass(NamedTuple):
    """A Reader: a ball is at the centre of mass of its brightness. Of two balls the bright one is read first, and what
    each of them takes from the picture is taken off where the other is read."""

    x: Any
    """`[P]` m, of the pixels"""
    y: Any
    """`[P]` m"""
    brightness: Any
    """`[balls]`"""

    def __call__(self, frames: Any) -> Any:
        """`[..., P]` to `[..., 2 balls]` m."""
        import jax.numpy as jnp
        import numpy as np

        seen = jnp.asarray(frames, jnp.float32)
        if len(self.brightness) == 1:
            places = self._centre(seen)
        else:
            bright, dark = float(BRIGHTNESS[0]), float(BRIGHTNESS[1])
            first = self._centre((seen - dark) / (bright - dark))
            for _ in range(3):
                second = self._centre((seen - bright * _discs(first, self.x, self.y)) / dark)
                first = self._centre((seen - dark * _discs(second, self.x, self.y)) / bright)
            places = jnp.concatenate([first, second], axis=-1)
        return np.asarray(places) if isinstance(frames, np.ndarray) else places

    def _centre(self, seen: jax.Array) -> jax.Array:
        """`[..., 2]` of pictures `[..., P]` of a white ball; a black picture's is the middle."""
        import jax.numpy as jnp

        mass = jnp.clip(seen, 0, 1)
        mass = jnp.maximum(mass - BACKGROUND, 0)
        whole = jnp.maximum(mass.sum(axis=-1), 1e-6)
        return jnp.stack([mass @ jnp.asarray(self.x), mass @ jnp.asarray(self.y)], axis=-1) / whole[..., None]


def pixel_centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y in m of the pixels of a frame `[size, size]`, row by row: `[P]` each."""
    import numpy as np

    centres = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.tile(centres, size), np.repeat(-centres, size)


def _discs(places: jax.Array, x: Any, y: Any) -> jax.Array:
    """How much of each pixel a ball covers, `[..., P]` for places `[..., 2]`: from the distance between the pixel's
    centre and the ball's edge."""
    import jax.numpy as jnp

    shape = (*places.shape[:-1], len(x))
    across, up = jnp.broadcast_to(x, shape) - places[..., :1], jnp.broadcast_to(y, shape) - places[..., 1:]
    pixel = 2 / len(x) ** 0.5
    return jnp.clip((RADIUS - jnp.sqrt(across**2 + up**2 + 1e-12)) / pixel + 0.5, 0, 1)


def _folded(places: jax.Array, velocities: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Places and velocities `[...]` after a time, in s, of free flight between two walls: on a line of mirrored
    boxes there is no wall, and the path is straight."""
    import jax.numpy as jnp

    along = (places + REACH + velocities * time) % (4 * REACH)
    mirrored = along > 2 * REACH
    return jnp.where(mirrored, 3 * REACH - along, along - REACH), jnp.where(mirrored, -velocities, velocities)


def _to_the_last_hit(
    places: jax.Array, velocities: jax.Array, left: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Two balls' places and velocities `[..., 2, 2]` after their last hit of a wall or of each other within the time
    `left` `[..., 1, 1]`, in s, and what then is left of it."""
    import jax
    import jax.numpy as jnp

    def hit(_: int, now: tuple) -> tuple:
        places, velocities, left = now
        moving = jnp.where(velocities == 0, 1.0, velocities)
        wall = jnp.where(velocities == 0, jnp.inf, (jnp.sign(velocities) * REACH - places) / moving)
        wall = jnp.maximum(wall, 0)
        apart, faster = places[..., 1, :] - places[..., 0, :], velocities[..., 1, :] - velocities[..., 0, :]
        nearing, square = jnp.sum(apart * faster, axis=-1), jnp.sum(faster**2, axis=-1)
        gap = jnp.sum(apart**2, axis=-1) - (2 * RADIUS) ** 2
        inside = nearing**2 - square * gap
        meets = (nearing < 0) & (inside > 0)
        root = jnp.sqrt(jnp.where(meets, inside, 1.0))
        meeting = jnp.where(meets, jnp.maximum(gap / jnp.where(meets, root - nearing, 1.0), 0), jnp.inf)
        first_wall = jnp.min(wall, axis=(-2, -1))
        passed = jnp.minimum(first_wall, meeting)[..., None, None]
        happens = passed < left
        collides = (meeting < first_wall)[..., None, None]
        passed = jnp.where(happens, passed, 0)
        places = places + velocities * passed
        bounced = jnp.where(wall == first_wall[..., None, None], -velocities, velocities)
        # Equal masses exchange the parts of their velocities along the line between them.
        line = places[..., 1, :] - places[..., 0, :]
        line = line / jnp.sqrt(jnp.sum(line**2, axis=-1, keepdims=True) + 1e-12)
        exchanged = jnp.sum(faster * line, axis=-1, keepdims=True) * line
        pushed = velocities + jnp.stack([exchanged, -exchanged], axis=-2)
        changed = jnp.where(collides, pushed, bounced)
        return places, jnp.where(happens, changed, velocities), left - passed

    return jax.lax.fori_loop(0, COLLISIONS, hit, (places, velocities, left))
