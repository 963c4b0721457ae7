"""Kernels of Newton's method on the dual: what is kept at a point, and what is near it."""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["reduced", "tally"]

_ANY_ORDER = ("reassoc", "contract", "nsz")


@compiled(fastmath=_ANY_ORDER)
def reduced(scores, y, r):
    """r_i = c_i + λ·A_i − μ.

    Parameters
    ----------
    scores : float64, shape (1 + K, n)
    y : float64, shape (K + 1,)
        (λ, μ).
    r : float64, shape (n,), filled
    """
    K = len(y) - 1
    c, mu = scores[0], y[K]
    for i in range(len(r)):
        r[i] = c[i] - mu
    j = 0
    while j + 1 < K:  # two rows at a time: half the loads and stores of r
        one, two = y[j], y[j + 1]
        row, other = scores[1 + j], scores[2 + j]
        for i in range(len(r)):
            r[i] += one * row[i] + two * other[i]
        j += 2
    if j < K:
        one, row = y[j], scores[1 + j]
        for i in range(len(r)):
            r[i] += one * row[i]


@compiled(fastmath=_ANY_ORDER)
def _sum_positive(row, r):
    total = 0.0
    for i in range(len(row)):
        total += row[i] if r[i] > 0.0 else 0.0
    return total


@compiled
def tally(scores, r, window, held, moments):
    """Sum what is kept, and the second moments of what lies in a window around the threshold.

    Parameters
    ----------
    scores : float64, shape (1 + K, n)
    r : float64, shape (n,)
    window : float
    held : float64, shape (K + 1,), filled
        Σ (A_i, 1) over r > 0.
    moments : float64, shape (K + 1, K + 1), filled
        Σ (A_i, 1) (A_i, 1)ᵀ over |r| ≤ window.

    Returns
    -------
    int
        Weights in the window.
    """
    K, n = len(held) - 1, len(r)
    near = np.empty(n, np.int32)
    found = above = 0
    for i in range(n):
        near[found] = i
        found += abs(r[i]) <= window
        above += r[i] > 0.0
    held[K] = above
    for j in range(K):
        held[j] = _sum_positive(scores[1 + j], r)
    for j in range(K + 1):
        for t in range(j, K + 1):
            total = 0.0
            if t == K and j == K:
                total = float(found)
            elif t == K:
                for q in range(found):
                    total += scores[1 + j, near[q]]
            else:
                for q in range(found):
                    total += scores[1 + j, near[q]] * scores[1 + t, near[q]]
            moments[j, t] = moments[t, j] = total
    return found
