"""Tables in Markdown, and what stands in them."""

import statistics
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Every row has as many cells as there are heads."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows))


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the least to the most where they differ."""
    least, middle, most = (f"{value:{form}}" for value in (min(values), statistics.median(values), max(values)))
    return middle if least == most else f"{middle} ({least} to {most})"
