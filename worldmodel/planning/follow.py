"""No search: what the policy proposes is done."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from worldmodel.support.files import UserError
from worldmodel.support.settings import require_at_least

if TYPE_CHECKING:
    import jax

    from worldmodel.planning.catalogue import Score
    from worldmodel.planning.spaces import ActionSpace


@dataclasses.dataclass(frozen=True)
class Follow:
    """The policy that was learnt in the dream, without a search."""

    horizon: int = 20
    """Steps of its future that are shown."""

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        require_at_least("--horizon", self.horizon, 1)

    def search(
        self, score: Score, start: jax.Array, space: ActionSpace, proposals: jax.Array, key: jax.Array
    ) -> jax.Array:
        """As Planner.search; the first proposal."""
        if not len(proposals):
            raise UserError("--planner policy: the run has no policy; learn one with scripts/learn_policy.py")
        return proposals[0]
