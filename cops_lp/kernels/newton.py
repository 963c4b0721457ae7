"""Kernels of Newton's method on the dual: what is kept at a point, and what is near it."""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["advance", "reduced"]

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
def _sum_positive(row, upper, r):
    total = 0.0
    if len(upper) == 0:
        for i in range(len(row)):
            total += row[i] if r[i] > 0.0 else 0.0
    else:
        for i in range(len(row)):
            total += upper[i] * row[i] if r[i] > 0.0 else 0.0
    return total


@compiled
def _tally(scores, upper, r, window, held, moments):
    """Sum what is kept, and the second moments of what lies in a window around the threshold.

    Returns how many columns lie there.
    """
    K, n = len(held) - 1, len(r)
    near = np.empty(n, np.int32)
    found = above = 0
    for i in range(n):
        near[found] = i
        found += abs(r[i]) <= window
        above += r[i] > 0.0
    held[K] = above if len(upper) == 0 else _sum_positive(upper, np.empty(0), r)
    for j in range(K):
        held[j] = _sum_positive(scores[1 + j], upper, r)
    weight = np.ones(found)
    if len(upper) > 0:
        for q in range(found):
            weight[q] = upper[near[q]]
    for j in range(K + 1):
        for t in range(j, K + 1):
            total = 0.0
            for q in range(found):
                one = scores[1 + j, near[q]] if j < K else 1.0
                two = scores[1 + t, near[q]] if t < K else 1.0
                total += weight[q] * one * two
            moments[j, t] = moments[t, j] = total
    return found


@compiled
def _solve(matrix, right, x):
    """Solve by elimination without pivoting, for a positive definite matrix; False otherwise.

    Both are overwritten.
    """
    n = len(right)
    for j in range(n):
        if not matrix[j, j] > 1e-14:  # of a unit diagonal
            return False
        for i in range(j + 1, n):
            f = matrix[i, j] / matrix[j, j]
            for t in range(j + 1, n):
                matrix[i, t] -= f * matrix[j, t]
            right[i] -= f * right[j]
    for j in range(n - 1, -1, -1):
        total = right[j]
        for t in range(j + 1, n):
            total -= matrix[j, t] * x[t]
        x[j] = total / matrix[j, j]
    return True


@compiled
def advance(scores, upper, y, wanted, window, r, held, moments, scale, move):
    """Look at a point, and where Newton's method goes from it while no multiplier gets below 0.

    Parameters
    ----------
    scores : float64, shape (1 + K, n)
    upper : float64, shape (n,) or (0,)
        Upper bounds u; 1 where there are none.
    y : float64, shape (K + 1,)
        (λ, μ).
    wanted : float64, shape (K + 1,)
        (b, k).
    window : float, > 0
    r : float64, shape (n,), filled
        Reduced costs.
    held : float64, shape (K + 1,), filled
        Σ u (A_i, 1) over r > 0.
    moments : float64, shape (K + 1, K + 1), filled
        Σ u (A_i, 1) (A_i, 1)ᵀ over |r| ≤ window.
    scale : float64, shape (K + 1,), filled
        Roots of their diagonal.
    move : float64, shape (K + 1,), filled
        Of (λ, −μ), in units of 1 / scale; not where `usual` is False.

    Returns
    -------
    count : int
        Columns in the window.
    usual : bool
        Whether `move` is a step from positive definite moments that leaves λ ≥ 0.
    """
    m = len(y)
    reduced(scores, y, r)
    count = _tally(scores, upper, r, window, held, moments)
    for j in range(m):
        scale[j] = np.sqrt(moments[j, j])
    curvature = np.empty((m, m))
    right = np.empty(m)
    for j in range(m):
        if not scale[j] > 0.0:
            return count, False
        for t in range(m):
            curvature[j, t] = moments[j, t] / (scale[j] * scale[t])
        right[j] = (wanted[j] - held[j]) / scale[j] * (2.0 * window)
    usual = _solve(curvature, right, move)
    for j in range(m - 1):
        usual = usual and y[j] * scale[j] + move[j] >= 0.0
    return count, usual
