"""Rates over turns: their ratios, and how they are written."""

from statistics import median
from typing import Any

from baselines.speed.measures import Rates

MISSING = "-"


def divided(some: list[float], others: list[float]) -> list[float]:
    """Turn by turn."""
    return [one / other for one, other in zip(some, others, strict=True)]


def ratios(rates: Rates) -> list[float]:
    """Ours over the twin's; empty without the twin."""
    return divided(rates["dvbf"], rates["twin"]) if "twin" in rates else []


def over_twin(rate: float, rates: Rates) -> str:
    """A rate over the median of the twin's; empty without the twin."""
    return number(rate / median(rates["twin"])) if "twin" in rates else ""


def spread(values: list[float], factor: float = 1) -> str:
    """The median (smallest to largest), with three digits."""
    if not values:
        return MISSING
    middle, least, most = (number(factor * each(values)) for each in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits, no exponent: 0.123, 12.3, 1,230."""
    return f"{float(f'{value:.3g}'):,.10g}"


def total(products: list[dict[str, Any]], what: str) -> float:
    """Flops, or seconds, of matrix products, as often as an update needs them."""
    return sum(product["count"] * product[what] for product in products)


def matmul_share(limits: dict[str, Any]) -> float:
    """Of an update's time, what its matrix products alone would take."""
    return total(limits["products"], "seconds") * median(limits["rates"]["update"])
