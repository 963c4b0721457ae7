"""Double-doubles in NumPy: sums and floors that keep what float64 would round off.

Arrays of shape (n, 2): the value is the sum of a row, its second entry below half a unit in
the last place of the first. What is beyond float64 raises OverflowError.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

__all__ = ["add", "of_fractions", "subtract"]


def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """X + y."""
    with np.errstate(over="ignore"):
        total = x[:, 0] + y[:, 0]
    if not np.isfinite(total).all():
        raise OverflowError
    part = total - x[:, 0]
    error = (x[:, 0] - (total - part)) + (y[:, 0] - part) + (x[:, 1] + y[:, 1])
    high = total + error
    return np.stack((high, error - (high - total)), axis=1)


def subtract(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """X − y."""
    return add(x, -y)


def of_fractions(values: Iterable[Fraction]) -> np.ndarray:
    """Nearest double-doubles of exact numbers within float64's range."""
    rows = []
    for value in values:
        high = float(value)
        rows.append((high, float(value - Fraction(high))))
    return np.array(rows).reshape(-1, 2)
