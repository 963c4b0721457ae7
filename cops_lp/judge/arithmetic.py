"""Exact sums and double-double arithmetic, vectorized."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["BEYOND", "ExactSum", "combined", "ldexp", "scaled_floors", "two_product", "two_sum"]

BEYOND = 2.0**900
"""What is clipped to this, in scaled units, is beyond any sum and any multiplier."""


class ExactSum:
    """Adds float64 arrays with an error below 2^-90 of the largest term.

    Each array is split into parts on common grids whose sums are exact (Rump, Ogita, Oishi,
    "Accurate floating-point summation", 2008); the parts' sums meet in ``math.fsum``.
    """

    def __init__(self) -> None:
        self._parts: list[float] = []

    def add(self, values: np.ndarray) -> None:
        """Add the entries of a float64 array of shape (n,), all of them finite."""
        values = np.asarray(values, dtype=np.float64)
        for _ in range(4):
            largest = float(np.abs(values).max(initial=0.0))
            if largest == 0.0:
                return
            _, exponent = math.frexp(largest)
            grid = math.ldexp(1.0, exponent + max(len(values), 2).bit_length())
            high = (values + grid) - grid
            self._parts.append(float(high.sum()))
            values = values - high
        self._parts.append(float(values.sum()))

    def value(self, *more: float) -> float:
        """Return the sum of all that was added, and of `more`, rounded once."""
        return math.fsum([*self._parts, *more])

    def less(self, other: ExactSum) -> float:
        """Return this sum less the other, rounded once."""
        return math.fsum([*self._parts, *(-part for part in other._parts)])


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a + b as a rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a · b as a rounded product and its exact error (Dekker)."""
    p = a * b
    t = 134217729.0 * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = 134217729.0 * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def combined(scores: np.ndarray, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s = c + Aᵀλ as normalized double-doubles.

    `scores` has shape (1 + K, n), `multipliers` (K, 2): double-doubles.
    """
    high, low = scores[0], np.zeros(scores.shape[1])
    for (weight, rest), row in zip(multipliers, scores[1:], strict=True):
        p, e = two_product(weight, row)
        high, f = two_sum(high, p)
        high, low = two_sum(high, low + (f + e + rest * row))
    return high, low


def ldexp(values: Any, exponents: Any) -> np.ndarray:
    """Return values · 2^exponents; what leaves float64's range becomes an infinity or 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.ldexp(values, exponents))


def scaled_floors(floors: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Return floors · 2^-exponents, clipped to ±BEYOND; one that is not 0 keeps its sign."""
    scaled = np.clip(ldexp(floors, -exponents), -BEYOND, BEYOND)
    return np.asarray(np.where(scaled == 0.0, np.sign(floors) * 2.0**-1074, scaled))
