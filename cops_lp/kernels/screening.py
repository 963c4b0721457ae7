"""Kernels of the screening pass: one block of weights against a region of dual points."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["DROPPED", "KEPT", "OPEN", "screen_block"]

DROPPED, KEPT, OPEN = 0, 1, 2


@njit(nogil=True, cache=True, error_model="numpy")
def _classify(scores, rays, reach, margin, low, high, form, state):
    """state[i] = KEPT, DROPPED or OPEN; see :func:`screen_block`."""
    rows, n = scores.shape
    for i in range(n):
        low[i] = np.inf
        high[i] = -np.inf
    for r in range(rays.shape[0]):
        for i in range(n):
            form[i] = -rays[r, rows]
        for j in range(rows):
            weight = rays[r, j]
            for i in range(n):
                form[i] += weight * scores[j, i]
        for i in range(n):
            low[i] = min(low[i], form[i])
            high[i] = max(high[i], form[i])
    for i in range(n):
        form[i] = margin * reach[rows]
    for j in range(rows):
        weight = margin * reach[j]
        for i in range(n):
            form[i] += weight * abs(scores[j, i])
    for i in range(n):
        # Written so that NaN and infinity, whose margin is the same, end up OPEN.
        kept = low[i] > form[i]
        dropped = high[i] < -form[i]
        state[i] = 1 if kept else (0 if dropped else 2)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _magnitude_kept(row, state):
    total = 0.0
    for i in range(len(state)):
        x = row[i] if state[i] == 1 else 0.0
        total += abs(x)
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_kept(row, state):
    """Sum over the kept weights and its rounding error (Ogita, Rump, Oishi 2005: Sum2).

    A floor multiplied by a large λ needs more than float64 here. Sixteen sums side by side,
    which the compiler turns into vector instructions.
    """
    lanes = 16
    sums = np.zeros(lanes)
    errors = np.zeros(lanes)
    n = len(state)
    whole = n - n % lanes
    for i in range(0, whole, lanes):
        for j in range(lanes):
            x = row[i + j] if state[i + j] == 1 else 0.0
            h = sums[j]
            s = h + x
            t = s - h
            errors[j] += (h - (s - t)) + (x - t)
            sums[j] = s
    for i in range(whole, n):
        x = row[i] if state[i] == 1 else 0.0
        h = sums[0]
        s = h + x
        t = s - h
        errors[0] += (h - (s - t)) + (x - t)
        sums[0] = s
    total = error = 0.0
    for j in range(lanes):
        h = total
        total = h + sums[j]
        t = total - h
        error += (h - (total - t)) + (sums[j] - t) + errors[j]
    return total, error


@njit(nogil=True, cache=True, error_model="numpy")
def screen_block(scores, rays, reach, margin, work, state, sums):
    """Decide a block's weights by the sign of s − μ at every ray of the region.

    Parameters
    ----------
    scores : float64, shape (1 + K, n)
        The block's target and controls; not necessarily finite.
    rays : float64, shape (m, K + 2)
        Rows (α, λ_1 … λ_K, μ) of the cone; the sign of α c_i + λ·A_i − μ counts.
    reach : float64, shape (K + 2,)
        Largest absolute value of each column of `rays`.
    margin : float
        Relative rounding margin: |form| ≤ margin · (reach · |scores_i, 1|) leaves i open.
    work : float64, shape (3, ≥ n)
    state : uint8, shape (n,), filled
    sums : float64, shape (3, 1 + K), filled
        Over the kept weights: each score's sum, that sum's rounding error, and the sum of its
        absolute values.

    Returns
    -------
    int
        How many are kept.

    Notes
    -----
    O(m K n), every loop without branches over one row at a time, so the compiler vectorizes
    it. Sums are those of a fixed order: the same bits wherever the block runs.
    """
    n = scores.shape[1]
    _classify(scores, rays, reach, margin, work[0, :n], work[1, :n], work[2, :n], state)
    kept = 0
    for i in range(n):
        kept += state[i] == 1
    for j in range(scores.shape[0]):
        sums[0, j], sums[1, j] = _sum_kept(scores[j], state)
        sums[2, j] = _magnitude_kept(scores[j], state)
    return kept
