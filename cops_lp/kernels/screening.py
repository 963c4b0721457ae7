"""Kernel of the screening pass: one block of weights against a region of dual points."""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["screen_block", "screen_pair"]

_TILE = 1024  # weights whose forms stay in the L1 cache
_LANES = 16


@compiled
def _classify(scores, rays, reach, margin, tiny, huge, low, high, form, state):
    """state[i] = 1 kept, 0 dropped, 2 open; see :func:`screen_block`."""
    rows, n = scores.shape
    for start in range(0, n, _TILE):
        m = min(_TILE, n - start)
        for r in range(rays.shape[0]):
            for i in range(m):
                form[i] = -rays[r, rows]
            for j in range(rows):
                weight = rays[r, j]
                row = scores[j, start : start + m]
                for i in range(m):
                    form[i] += weight * row[i]
            if r == 0:
                for i in range(m):
                    low[i] = form[i]
                    high[i] = form[i]
            else:
                for i in range(m):
                    low[i] = min(low[i], form[i])
                    high[i] = max(high[i], form[i])
        for i in range(m):
            form[i] = reach[rows] + tiny
        for j in range(rows):
            weight = reach[j]
            row = scores[j, start : start + m]
            for i in range(m):
                form[i] += weight * abs(row[i])
        out = state[start : start + m]
        for i in range(m):
            # Written so that NaN, infinity and what may overflow end up open.
            room = margin * form[i] + tiny
            sound = form[i] < huge
            kept = sound & (low[i] > room)
            dropped = sound & (high[i] < -room)
            out[i] = 1 if kept else (0 if dropped else 2)


@compiled
def _classify_four(c, a, rays, reach, margin, tiny, huge, state):
    """The same for at most one control and four rays, in one loop and in registers."""
    r0, r1, r2, r3 = rays[0], rays[1], rays[2], rays[3]
    c0, a0, m0 = r0[0], r0[1], r0[2]
    c1, a1, m1 = r1[0], r1[1], r1[2]
    c2, a2, m2 = r2[0], r2[1], r2[2]
    c3, a3, m3 = r3[0], r3[1], r3[2]
    c_reach, a_reach, m_reach = reach[0], reach[1], reach[2] + tiny
    for i in range(len(c)):
        x, y = c[i], a[i]
        f0 = c0 * x + a0 * y - m0
        f1 = c1 * x + a1 * y - m1
        f2 = c2 * x + a2 * y - m2
        f3 = c3 * x + a3 * y - m3
        size = c_reach * abs(x) + a_reach * abs(y) + m_reach
        room = margin * size + tiny
        sound = size < huge
        kept = sound & (f0 > room) & (f1 > room) & (f2 > room) & (f3 > room)
        dropped = sound & (f0 < -room) & (f1 < -room) & (f2 < -room) & (f3 < -room)
        state[i] = 1 if kept else (0 if dropped else 2)


@compiled
def _sum_kept(row, state, sums, errors, sizes):
    """Sum over the kept weights, its rounding error, and the sum of absolute values.

    A floor multiplied by a large λ needs more than float64 here (Ogita, Rump, Oishi 2005:
    Sum2). Sixteen sums side by side, which the compiler turns into vector instructions.
    """
    for j in range(_LANES):
        sums[j] = errors[j] = sizes[j] = 0.0
    n = len(state)
    whole = n - n % _LANES
    for i in range(0, whole, _LANES):
        for j in range(_LANES):
            x = np.float64(row[i + j]) if state[i + j] == 1 else 0.0
            h = sums[j]
            s = h + x
            t = s - h
            errors[j] += (h - (s - t)) + (x - t)
            sums[j] = s
            sizes[j] += abs(x)
    for i in range(whole, n):
        x = np.float64(row[i]) if state[i] == 1 else 0.0
        h = sums[0]
        s = h + x
        t = s - h
        errors[0] += (h - (s - t)) + (x - t)
        sums[0] = s
        sizes[0] += abs(x)
    total = error = size = 0.0
    for j in range(_LANES):
        h = total
        total = h + sums[j]
        t = total - h
        error += (h - (total - t)) + (sums[j] - t) + errors[j]
        size += sizes[j]
    return total, error, size


@compiled
def _gather(scores, state, index, opened):
    """Copy the open weights to `index` and `opened`; their state becomes 0. Returns how many."""
    n = len(state)
    found = 0
    for start in range(0, n, _LANES):
        seen = np.uint8(2)
        if start + _LANES <= n:
            seen = np.uint8(0)
            for i in range(_LANES):  # a fixed count: one vector instruction
                seen |= state[start + i]
        if seen & 2:
            for i in range(start, min(start + _LANES, n)):
                if state[i] == 2:
                    state[i] = 0
                    index[found] = i
                    for j in range(scores.shape[0]):
                        opened[j, found] = scores[j, i]
                    found += 1
    return found


@compiled
def screen_block(scores, rays, reach, margin, tiny, huge, work, lanes, state, sums, index, opened):
    """Decide a block's weights by the sign of s − μ at every ray of the region.

    Parameters
    ----------
    scores : float32 or float64, shape (1 + K, n)
        The block's target and controls; not necessarily finite. The other arrays but
        `lanes` and `sums` have its dtype.
    rays : shape (m, K + 2)
        Rows (α, λ_1 … λ_K, μ) of the cone; the sign of α c_i + λ·A_i − μ counts.
    reach : shape (K + 2,)
        Largest absolute value of each column of `rays`.
    margin, tiny, huge : float
        |form| ≤ margin · size + tiny leaves i open, size = reach · |scores_i, 1|: rounding and
        underflow. So does size ≥ huge: overflow.
    work : shape (3, at least 1024)
    lanes : float64, shape (3, 16)
    state : uint8, shape (n,), filled
        1 where kept, else 0.
    sums : float64, shape (3, 1 + K), filled
        Over the kept weights: each score's sum, that sum's rounding error, and the sum of its
        absolute values.
    index : int32, shape (n,), filled
        Positions of the open weights in the block, ascending.
    opened : shape (1 + K, n), filled
        Their scores.

    Returns
    -------
    kept, open : int

    Notes
    -----
    O(m K n), every loop without branches over one row at a time, so that the compiler
    vectorizes it. Sums are those of a fixed order: the same bits wherever the block runs.
    """
    _classify(scores, rays, reach, margin, tiny, huge, work[0], work[1], work[2], state)
    kept = 0
    for i in range(len(state)):
        kept += state[i] == 1
    for j in range(scores.shape[0]):
        sums[0, j], sums[1, j], sums[2, j] = _sum_kept(
            scores[j], state, lanes[0], lanes[1], lanes[2]
        )
    return kept, _gather(scores, state, index, opened)


@compiled
def screen_pair(c, a, rays, reach, margin, tiny, huge, lanes, state, sums, index, opened):
    """Decide a block's weights as :func:`screen_block` does, for at most one control and four rays.

    Parameters
    ----------
    c, a : float32 or float64, shape (n,)
        Target and control, read in place; without a control the target again.
    rays : shape (4, 3)
        Rows (α, λ, μ); λ = 0 without a control.
    reach : shape (3,)
    margin, tiny, huge, lanes, state, index
        As there.
    sums : float64, shape (3, 1 + K), filled
    opened : shape (1 + K, n), filled

    Returns
    -------
    kept, open : int
    """
    _classify_four(c, a, rays, reach, margin, tiny, huge, state)
    kept = 0
    for i in range(len(state)):
        kept += state[i] == 1
    sums[0, 0], sums[1, 0], sums[2, 0] = _sum_kept(c, state, lanes[0], lanes[1], lanes[2])
    pair = sums.shape[1] == 2
    if pair:
        sums[0, 1], sums[1, 1], sums[2, 1] = _sum_kept(a, state, lanes[0], lanes[1], lanes[2])
    n = len(state)
    found = 0
    for start in range(0, n, _LANES):
        seen = np.uint8(2)
        if start + _LANES <= n:
            seen = np.uint8(0)
            for i in range(_LANES):
                seen |= state[start + i]
        if seen & 2:
            for i in range(start, min(start + _LANES, n)):
                if state[i] == 2:
                    state[i] = 0
                    index[found] = i
                    opened[0, found] = c[i]
                    if pair:
                        opened[1, found] = a[i]
                    found += 1
    return kept, found
