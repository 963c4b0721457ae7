"""Kernels that draw weights with probabilities that grow with their scores' sizes."""

from __future__ import annotations

import numpy as np

from ._jit import compiled
from ._pointers import row_at

__all__ = ["add_sizes", "draw"]

_POWER = np.uint64(0xFFF0000000000000)  # of a float64's bits: sign and exponent
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@compiled(fastmath=("reassoc", "contract", "nsz"))
def _size(row):
    total = 0.0
    for i in range(len(row)):
        total += abs(np.float64(row[i]))
    return total


@compiled
def add_sizes(scores, start, end, like):
    """Sums of absolute values; float64, shape (1 + K,).

    Parameters
    ----------
    scores : int64, shape (1 + K,)
        Addresses of the rows of scores, of the dtype of `like`.
    start, end : int
        Of the entries.
    like : float32 or float64
    """
    total = np.empty(len(scores))
    for j in range(len(scores)):
        total[j] = _size(row_at(scores, j, start, end, like))
    return total


@compiled
def draw(scores, start, end, base, units, offset, like, index, upper):
    """Draw weight i with the largest power of two up to base + Σ_j units_j |s_ji|, or surely.

    Parameters
    ----------
    scores, start, end, like
        As of :func:`add_sizes`.
    base : float, > 0
    units : float64, shape (1 + K,)
    offset : int
        Index of the first weight: a hash of the index decides (Steele, Lea, Flood 2014:
        SplitMix64).
    index : int64, shape (end - start,), filled
        Of those drawn, ascending.
    upper : float64, shape (end - start,), filled
        One over their probability.

    Returns
    -------
    n : int
        How many were drawn.
    """
    m = end - start
    size = np.empty(m)
    for i in range(m):
        size[i] = base
    for j in range(len(scores)):
        row = row_at(scores, j, start, end, like)
        unit = units[j]
        for i in range(m):
            size[i] += unit * abs(np.float64(row[i]))
    power = size.view(np.uint64)
    for i in range(m):
        power[i] &= _POWER
    n = 0
    for i in range(m):
        h = (np.uint64(offset + i) + np.uint64(1)) * _STEP
        h = (h ^ (h >> np.uint64(30))) * _FIRST
        h = (h ^ (h >> np.uint64(27))) * _SECOND
        h ^= h >> np.uint64(31)
        index[n] = offset + i
        n += np.float64(h >> np.uint64(11)) * 2.0**-53 < size[i]
    for q in range(n):
        upper[q] = max(1.0, 1.0 / size[index[q] - offset])
    return n
