"""Figures of a run as a table and JSON show them."""

from __future__ import annotations

from collections.abc import Iterable


def quantile(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def quantiles(seconds: Iterable[float]) -> dict[str, float]:
    """Return the number of values and, in milliseconds, the median, the 95th and 99th percentile and the largest."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0}
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {"count": len(ordered), **{name: round(1000 * quantile(ordered, share), 1) for name, share in named.items()}}
