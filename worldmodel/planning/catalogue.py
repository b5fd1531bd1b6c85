"""The planners that there are, and what an entry point of theirs must name.

A planner is one file and one entry point in the group "worldmodel.planners", which names a frozen dataclass: its fields
are options of scripts/plan.py. It knows scores of raw actions (spaces.py) and nothing of models, worlds or rewards.
Nothing heavy is imported here, nor on top of a planner's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from worldmodel.support.catalogue import Catalogue
from worldmodel.support.settings import require_at_least, require_positive, require_share

if TYPE_CHECKING:
    import jax

    from worldmodel.planning.spaces import ActionSpace

PLANNERS = Catalogue("worldmodel.planners", "planner")

Score = Callable[["jax.Array"], "jax.Array"]
"""raw actions `[S, H, A]` to the returns `[S]` that are dreamt of; differentiable"""


class Planner(Protocol):
    """A way to search for actions. Frozen and hashable: it is compiled in."""

    @property
    def horizon(self) -> int:
        """H, steps that are looked ahead."""
        ...

    def check(self) -> None:
        """Raise UserError for options that cannot be."""
        ...

    def search(
        self, score: Score, start: jax.Array, space: ActionSpace, proposals: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Better raw actions `[H, A]` than `start` `[H, A]`, what was planned a step ago, moved on by that step.

        Args:
            proposals: `[K, H, A]` raw actions of a policy that are worth a try; K may be 0.
            key: consumed.
        """
        ...


def check_sampling(planner: Any) -> None:
    """Raise UserError for what no planner can have that draws random plans: `horizon`, `samples`, `iterations`, `std`
    and `correlation`."""
    for name in ("horizon", "samples", "iterations"):
        require_at_least(f"--{name}", getattr(planner, name), 1)
    require_positive("--std", planner.std)
    require_share("--correlation", planner.correlation)
