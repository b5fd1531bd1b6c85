"""Model predictive path integral control (Williams et al. 2017)."""

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
class MPPI:
    """Path integral control: the mean of random plans around the last one, each weighted by the exponential of its
    return."""

    horizon: int = 20
    """Steps that are looked ahead."""
    samples: int = 256
    """Plans that are tried."""
    iterations: int = 1
    """How often they are drawn anew around the mean."""
    std: float = 0.5
    """Standard deviation of the plans, in half ranges of an action."""
    correlation: float = 0.7
    """Of the noise of one step with that of the next."""
    temperature: float = 0.05
    """In standard deviations of the returns of the plans: near 0 the best plan alone counts."""

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        check_sampling(self)
        require_positive("--temperature", self.temperature)

    def search(
        self, score: Score, start: jax.Array, space: ActionSpace, proposals: jax.Array, key: jax.Array
    ) -> jax.Array:
        """As Planner.search: the mean or, where it is better, a proposal."""
        import jax
        import jax.numpy as jnp

        from worldmodel.planning.sampling import correlated_noise

        mean = start
        for each in jax.random.split(key, self.iterations):
            noise = correlated_noise(each, self.samples, start, self.correlation)
            tried = jnp.concatenate([mean[None], proposals, space.bound(mean[None] + self.std * noise)])
            returns = score(tried)
            weights = jax.nn.softmax(returns / (self.temperature * jnp.std(returns) + 1e-6))
            mean = jnp.einsum("s,sha->ha", weights, tried)
        if not len(proposals):
            return mean
        every = jnp.concatenate([mean[None], proposals])
        return every[jnp.argmax(score(every))]
