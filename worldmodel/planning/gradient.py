"""Planning by gradients through the model: Adam on the actions of a few plans at once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from worldmodel.planning.catalogue import check_sampling
from worldmodel.support.settings import require_positive

if TYPE_CHECKING:
    import jax

    from worldmodel.planning.catalogue import Score
    from worldmodel.planning.spaces import ActionSpace


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Gradient ascent: plans follow the gradient of their return through the model, and the best is taken."""

    horizon: int = 20
    """Steps that are looked ahead."""
    samples: int = 8
    """Plans that climb side by side: gradients alone stay in the valley where they begin."""
    iterations: int = 8
    """Steps of Adam."""
    learning_rate: float = 0.2
    """Of Adam, in half ranges of an action."""
    std: float = 0.75
    """Standard deviation of the plans to begin with, around the last one, in half ranges of an action."""
    correlation: float = 0.7
    """Of the noise of one step with that of the next."""

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        check_sampling(self)
        require_positive("--learning-rate", self.learning_rate)

    def search(
        self, score: Score, start: jax.Array, space: ActionSpace, proposals: jax.Array, key: jax.Array
    ) -> jax.Array:
        """As Planner.search."""
        import jax
        import jax.numpy as jnp
        import optax

        from worldmodel.planning.sampling import correlated_noise

        noise = correlated_noise(key, self.samples, start, self.correlation)
        tried = jnp.concatenate([start[None], proposals, space.bound(start[None] + self.std * noise)])
        adam = optax.adam(self.learning_rate)

        def climb(carry: tuple, _: None) -> tuple[tuple, None]:
            raw, state = carry
            slope = jax.grad(lambda raw: -jnp.sum(score(raw)))(raw)
            updates, state = adam.update(jnp.nan_to_num(slope), state)
            return (space.bound(raw + updates), state), None

        (climbed, _), _ = jax.lax.scan(climb, (tried, adam.init(tried)), length=self.iterations)
        every = jnp.concatenate([tried, climbed])
        return every[jnp.argmax(score(every))]
