"""The cross-entropy method (Rubinstein 1999; for planning: Chua et al. 2018, Pinneri et al. 2020)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from worldmodel.planning.catalogue import check_sampling
from worldmodel.support.settings import require_positive, require_share

if TYPE_CHECKING:
    import jax

    from worldmodel.planning.catalogue import Score
    from worldmodel.planning.spaces import ActionSpace

SMALLEST_STD = 0.02
"""of raw actions"""


@dataclasses.dataclass(frozen=True)
class CEM:
    """Cross-entropy method: try random plans around the last one, go on around the best."""

    horizon: int = 20
    """Steps that are looked ahead."""
    samples: int = 100
    """Plans that are tried in an iteration."""
    iterations: int = 2
    """How often they are drawn anew around the best."""
    elites: float = 0.1
    """Share of the plans that are the best."""
    std: float = 1.0
    """Standard deviation of the first plans, in half ranges of an action."""
    correlation: float = 0.8
    """Of the noise of one step with that of the next."""

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        check_sampling(self)
        require_positive("--elites", self.elites)
        require_share("--elites", self.elites)

    def search(
        self, score: Score, start: jax.Array, space: ActionSpace, proposals: jax.Array, key: jax.Array
    ) -> jax.Array:
        """As Planner.search: the mean of the last elites or, where it is better, the best plan of all."""
        import jax
        import jax.numpy as jnp

        from worldmodel.planning.sampling import correlated_noise

        count = max(1, round(self.elites * self.samples))
        mean, std = start, jnp.full_like(start, self.std)
        best = jnp.concatenate([start[None], proposals])
        for each in jax.random.split(key, self.iterations):
            noise = correlated_noise(each, self.samples, start, self.correlation)
            tried = jnp.concatenate([best, space.bound(mean[None] + std[None] * noise)])
            elites = tried[jax.lax.top_k(score(tried), count)[1]]
            mean, std = jnp.mean(elites, axis=0), jnp.std(elites, axis=0) + SMALLEST_STD
            best = jnp.stack([elites[0], mean])
        return best[jnp.argmax(score(best))]
