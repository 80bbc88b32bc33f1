"""Medians, how sure they are, and ratios of pairs. Pure functions, no distribution assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from statistics import linear_regression

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and the interval that holds the true median with :data:`CONFIDENCE`."""

    median: float
    low: float
    high: float
    count: int
    """Of how many values."""

    def scaled(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        return Estimate(self.median * factor, self.low * factor, self.high * factor, self.count)

    def text(self, digits: int = 2) -> str:
        """Return ``4.31 (4.20 to 4.40)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"

    def percent(self) -> str:
        """Return a ratio as what it is above 1: ``+3.1 % (+2.0 to +4.4)``."""
        middle, low, high = (100 * (value - 1) for value in (self.median, self.low, self.high))
        return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of ``values``, with the interval between two of them that the binomial test gives.

    Of fewer than six values no two are sure enough: then all of them lie in the interval. Raises
    ValueError where there are none.
    """
    if not values:
        raise ValueError("no values to take the median of")
    ordered = sorted(values)
    outside = _outside(len(ordered))
    return Estimate(
        percentile(ordered, 50), ordered[outside], ordered[len(ordered) - 1 - outside], len(ordered)
    )


def _outside(count: int) -> int:
    """Return how many values on each side the confidence interval of the median leaves out."""
    allowed = (1 - Fraction(str(CONFIDENCE))) / 2 * 2**count
    below, ways, outside = 1, 1, 0  # ways in which none of the values is below the median
    while below <= allowed and outside < (count - 1) // 2:
        outside += 1
        ways = ways * (count - outside + 1) // outside
        below += ways
    return max(outside - int(below > allowed), 0)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of the values do not exceed; of an even number, between two."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to take a percentile of")
    if percent == 50 and len(ordered) % 2 == 0:
        middle = len(ordered) // 2
        return (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[max(ceil(len(ordered) * percent / 100) - 1, 0)]


def ratios(with_: Sequence[float], without: Sequence[float]) -> list[float]:
    """Return the ratio of each pair. Raises ValueError where the two are not pairs."""
    return [a / b for a, b in zip(with_, without, strict=True)]


def differences(with_: Sequence[float], without: Sequence[float]) -> list[float]:
    """Return the difference of each pair. Raises ValueError where the two are not pairs."""
    return [a - b for a, b in zip(with_, without, strict=True)]


@dataclass(frozen=True, slots=True)
class StraightLine:
    """A value that grows in proportion."""

    at_zero: float
    slope: float

    def at(self, place: float) -> float:
        """Return the value there."""
        return self.at_zero + self.slope * place


def straight_line(points: Sequence[tuple[float, float]]) -> StraightLine:
    """Return the line of least squares. Raises ValueError for points at fewer than two places."""
    places, values = zip(*points, strict=True)
    slope, at_zero = linear_regression(places, values)
    return StraightLine(at_zero, slope)
