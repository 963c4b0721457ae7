"""Kernels of the screening pass: weights against a region of dual points.

A region is an ellipsoid (what Newton's estimate gives) or a cone of rays (which can reach
infinity). Scores are walked in tiles that stay in the L1 cache: a tile is decided, what is kept
of it summed, what is open gathered, before the next is read, so that memory is read once and
the arithmetic hides behind it.
"""

from __future__ import annotations

import math

import numpy as np

from ._bits import lowest_bit
from ._jit import compiled
from ._pointers import row_at

__all__ = ["BLOCK", "LANES", "MASS", "TILE", "screen"]

BLOCK = 1 << 16
"""Weights whose sums are one entry. Fixed: which weights are summed together decides the bits."""

TILE = 1024
"""Weights that are decided, summed and gathered before the next are read."""

LANES = 16
"""Sums side by side."""

MASS = 4
"""State of the first mass's weights; the next are its multiples."""

_GROUP = 8  # words of 8 states looked at together
_ONES = np.uint64(0x0101010101010101)
_TWOS = np.uint64(0x0202020202020202)
_NOT_TWOS = np.uint64(0xFDFDFDFDFDFDFDFD)
_PAIRS = np.uint64(0x00FF00FF00FF00FF)
# Three steps of transposing 8 bytes' bits (Warren, Hacker's Delight, §7-3).
_SWAP_1 = np.uint64(0x00AA00AA00AA00AA)
_SWAP_2 = np.uint64(0x0000CCCC0000CCCC)
_SWAP_3 = np.uint64(0x00000000F0F0F0F0)
_MAGNITUDE = np.int32(0x7FFFFFFF)  # of a float32's bits; larger ones are larger numbers
_ONE = np.int32(1)
_LARGEST = np.float32(3e38)

# No `nnan`, no `ninf`: NaN and infinities must end up open. Every order of these sums is
# covered by the margin.
_ANY_ORDER = ("reassoc", "contract", "nsz")
_CONTRACT = ("contract", "nsz")


@compiled(fastmath=_CONTRACT)
def _classify_one(c, center, factor, reach, state):
    """state[i] = 1 kept, 0 dropped, 2 open, without controls; see :func:`screen`."""
    alpha, mu = center[0], center[1]
    c_reach, half = reach[0], reach[1] + abs(factor[0, 0])
    for i in range(len(c)):
        x = c[i]
        form = alpha * x - mu
        decided = abs(form) > c_reach * abs(x) + half
        state[i] = (1 if form > 0 else 0) if decided else 2


@compiled(fastmath=_CONTRACT)
def _classify_pair(c, a, center, factor, reach, tiny, state):
    """state[i] = 1 kept, 0 dropped, 2 open; see :func:`screen`."""
    alpha, lam, mu = center[0], center[1], center[2]
    f00, f01, rest = factor[0, 0], factor[0, 1], factor[1, 1] * factor[1, 1] + tiny
    c_reach, a_reach, m_reach = reach[0], reach[1], reach[2]
    for i in range(len(c)):
        x, y = c[i], a[i]
        form = alpha * x + (lam * y - mu)
        room = c_reach * abs(x) + (a_reach * abs(y) + m_reach)
        g = f00 * y + f01
        beyond = abs(form) - room
        decided = (beyond > 0) & (beyond * beyond > g * g + rest)
        state[i] = (1 if form > 0 else 0) if decided else 2


@compiled(fastmath=_CONTRACT)
def _classify_ellipsoid(scores, rows, start, center, factor, reach, tiny, work, state):
    """The same for any number of controls; work, shape (4, at least n), in scores' dtype."""
    n = len(state)
    end = start + n
    form, room, square, g = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
    target = row_at(scores, 0, start, end, work)
    for i in range(n):
        form[i] = center[0] * target[i] - center[rows]
        room[i] = reach[0] * abs(target[i]) + reach[rows]
    last = factor[rows - 1, rows - 1]
    for i in range(n):
        square[i] = last * last + tiny
    for j in range(1, rows):
        row = row_at(scores, j, start, end, work)
        weight, size = center[j], reach[j]
        for i in range(n):
            form[i] += weight * row[i]
            room[i] += size * abs(row[i])
    for t in range(rows - 1):
        one, two = factor[t, t], factor[t, rows - 1]
        row = row_at(scores, 1 + t, start, end, work)
        for i in range(n):
            g[i] = one * row[i] + two
        j = t + 1
        while j + 1 < rows - 1:  # two rows at a time: half the loads and stores of g
            one, two = factor[t, j], factor[t, j + 1]
            row, other = (
                row_at(scores, 1 + j, start, end, work),
                row_at(scores, 2 + j, start, end, work),
            )
            for i in range(n):
                g[i] += one * row[i] + two * other[i]
            j += 2
        if j < rows - 1:
            one = factor[t, j]
            row = row_at(scores, 1 + j, start, end, work)
            for i in range(n):
                g[i] += one * row[i]
        for i in range(n):
            square[i] += g[i] * g[i]
    for i in range(n):
        beyond = abs(form[i]) - room[i]
        # Infinity is what a sum may have passed through, whatever it would have ended in.
        decided = (beyond > 0) & (beyond * beyond > square[i]) & (beyond < np.inf)
        state[i] = (1 if form[i] > 0 else 0) if decided else 2


@compiled(fastmath=_CONTRACT)
def _classify_cone(scores, rows, start, rays, reach, huge, work, state):
    """The same for a cone of rays."""
    n = len(state)
    end = start + n
    low, high, form = work[0, :n], work[1, :n], work[2, :n]
    for r in range(rays.shape[0]):
        for i in range(n):
            form[i] = -rays[r, rows]
        for j in range(rows):
            weight = rays[r, j]
            row = row_at(scores, j, start, end, work)
            for i in range(n):
                form[i] += weight * row[i]
        if r == 0:
            for i in range(n):
                low[i] = form[i]
                high[i] = form[i]
        else:
            for i in range(n):
                low[i] = min(low[i], form[i])
                high[i] = max(high[i], form[i])
    for i in range(n):
        form[i] = reach[rows]
    for j in range(rows):
        weight = reach[j]
        row = row_at(scores, j, start, end, work)
        for i in range(n):
            form[i] += weight * abs(row[i])
    for i in range(n):
        # Written so that NaN, infinity and what may overflow end up open.
        room = form[i]
        sound = room < huge
        kept = sound & (low[i] > room)
        dropped = sound & (high[i] < -room)
        state[i] = 1 if kept else (0 if dropped else 2)


@compiled(fastmath=_ANY_ORDER)
def _sum_single(row, state):
    """Sum of a tile's kept weights, in any order."""
    total = 0.0
    for i in range(len(row)):
        total += np.float64(row[i]) if state[i] == 1 else 0.0
    return total


@compiled(fastmath=_ANY_ORDER)
def _range_single(row, bits, state):
    """Sum a tile's kept absolute values, to three digits; and the bits of the least but 0, less 1.

    Integers, because a least float would hide NaN from the compiler.
    """
    total, least = np.float32(0.0), _MAGNITUDE
    for i in range(len(row)):
        kept = state[i] == 1
        total += abs(row[i]) if kept else np.float32(0.0)
        size = np.int32((bits[i] & _MAGNITUDE) - _ONE) & _MAGNITUDE  # of 0 the largest
        least = min(least, np.int32(size) if kept else _MAGNITUDE)
    return total, least


@compiled
def _two_sum(a, b):
    """a + b as a rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@compiled
def _sum_double(row, state, sums, errors, rests, sizes):
    """Add a tile's kept weights to sixteen sums side by side, with their rounding errors' sums.

    A floor multiplied by a large λ needs more than float64 here, and a sum that does not depend
    on which weights are one block more than two of them (Ogita, Rump, Oishi 2005: SumK, K = 3).
    """
    n = len(state)
    whole = n - n % LANES
    for i in range(0, whole, LANES):
        for j in range(LANES):
            x = np.float64(row[i + j]) if state[i + j] == 1 else 0.0
            sums[j], error = _two_sum(sums[j], x)
            errors[j], rest = _two_sum(errors[j], error)
            rests[j] += rest
            sizes[j] += abs(x)
    for i in range(whole, n):
        x = np.float64(row[i]) if state[i] == 1 else 0.0
        sums[0], error = _two_sum(sums[0], x)
        errors[0], rest = _two_sum(errors[0], error)
        rests[0] += rest
        sizes[0] += abs(x)


@compiled
def _add_tile(row, state, single, lanes):
    """Add a tile's kept weights to a score's lanes, shape (4, 16): sums, errors, rests, sizes.

    Numbers of 24 bits that sum up to less than 2^53 units in the last place of the least of
    them do so exactly in float64, in any order.
    """
    if single:
        size, least = _range_single(row, row.view(np.int32), state)
        if size == 0.0:
            return
        # Subnormal numbers have the last bits of the first binade.
        binade = max((least + 1) >> 23, 1)
        single = size < _LARGEST and math.frexp(np.float64(size))[1] + 98 <= binade
    if not single:
        _sum_double(row, state, lanes[0], lanes[1], lanes[2], lanes[3])
        return
    lanes[0, 0], error = _two_sum(lanes[0, 0], _sum_single(row, state))
    lanes[1, 0], rest = _two_sum(lanes[1, 0], error)
    lanes[2, 0] += rest
    lanes[3, 0] += size


@compiled
def _most_exact(center, single):
    """Up to what a tile's kept weights of one score add up exactly in float64; 0 if unknown.

    All of them are above μ / α: the same reasoning as in :func:`_add_tile` without a look at
    them.
    """
    least = 0.999 * np.float64(center[1]) / np.float64(center[0]) if center[0] > 0 else 0.0
    if not (single and 1e-30 < least < 1e30):
        return 0.0
    return math.ldexp(1.0, math.frexp(least)[1] + 28)


@compiled
def _add_positive(row, state, most, lanes):
    """Add a tile's kept weights, all positive, as :func:`_add_tile` does."""
    total = _sum_single(row, state)
    if not total <= most:
        _sum_double(row, state, lanes[0], lanes[1], lanes[2], lanes[3])
        return
    lanes[0, 0], error = _two_sum(lanes[0, 0], total)
    lanes[1, 0], rest = _two_sum(lanes[1, 0], error)
    lanes[2, 0] += rest
    lanes[3, 0] += total


@compiled
def _close_lanes(lanes, sums):
    """Lanes, shape (1 + K, 4, 16), into `sums`, shape (4, 1 + K); clears them.

    Each score's sum in three parts, and the sum of its absolute values.
    """
    for j in range(sums.shape[1]):
        total = error = rest = size = 0.0
        for lane in range(LANES):
            total, more = _two_sum(total, lanes[j, 0, lane])
            error, least = _two_sum(error, more)
            error, other = _two_sum(error, lanes[j, 1, lane])
            rest += least + other + lanes[j, 2, lane]
            size += lanes[j, 3, lane]
        lanes[j] = 0.0
        sums[0, j], sums[1, j], sums[2, j], sums[3, j] = total, error, rest, size


@compiled
def _find_open(state, start, index, found):
    """Write the open weights' positions from index[found] on; their state becomes 0.

    Returns (kept, found), the latter with the new ones. At most 2,000 states.
    """
    n = len(state)
    whole = n - n % (8 * _GROUP)
    words = state[:whole].view(np.uint64)
    count = np.uint64(0)  # in each byte: at most 250
    for first in range(0, len(words), _GROUP):
        seen = np.uint64(0)
        for j in range(_GROUP):  # a fixed count: vector instructions
            seen |= words[first + j]
            count += words[first + j] & _ONES
        if seen & _TWOS:
            # Bit 8 q + j is byte q of word j; the transpose has them in order.
            bits = np.uint64(0)
            for j in range(_GROUP):
                bits |= ((words[first + j] >> np.uint64(1)) & _ONES) << np.uint64(j)
                words[first + j] &= _NOT_TWOS
            swapped = (bits ^ (bits >> np.uint64(7))) & _SWAP_1
            bits ^= swapped ^ (swapped << np.uint64(7))
            swapped = (bits ^ (bits >> np.uint64(14))) & _SWAP_2
            bits ^= swapped ^ (swapped << np.uint64(14))
            swapped = (bits ^ (bits >> np.uint64(28))) & _SWAP_3
            bits ^= swapped ^ (swapped << np.uint64(28))
            while bits:
                index[found] = start + 8 * first + lowest_bit(bits)
                found += 1
                bits &= bits - np.uint64(1)
    count = (count & _PAIRS) + ((count >> np.uint64(8)) & _PAIRS)
    count += count >> np.uint64(32)
    kept = np.int64((count + (count >> np.uint64(16))) & np.uint64(0xFFFF))
    for i in range(whole, n):
        if state[i] == 2:
            state[i] = 0
            index[found] = start + i
            found += 1
        else:
            kept += state[i] & 1
    return kept, found


@compiled
def _set_apart(scores, masses, mass, start, work, state):
    """Mark a tile's open weights that belong to a mass; returns how many they are."""
    n = len(state)
    same = work[3].view(np.uint8)[:n]
    for j in range(masses.shape[0]):
        value = masses[j, mass]
        row = row_at(scores, j, start, start + n, work)
        for i in range(n):
            same[i] = (same[i] if j > 0 else state[i] == 2) & (row[i] == value)
    count = 0
    mark = np.uint8(MASS * (1 + mass))
    for i in range(n):
        state[i] = mark if same[i] else state[i]
        count += same[i]
    return count


@compiled
def screen(
    scores, begin, offset, found, rays, factor, reach, tiny, huge, single,
    masses, work, lanes, state, sums, index, opened, counts,
):  # fmt: skip
    """Decide weights by an ellipsoid or a cone.

    Parameters
    ----------
    scores : int64, shape (1 + K,)
        Addresses of the rows of scores: contiguous, aligned, of the dtype of `work`, not
        necessarily finite.
    begin : int
        Where in the rows the first weight to decide is.
    offset : int
        Its position, as `index` is to state it.
    found : int
        How many open weights `index` and `opened` hold already.
    rays : shape (m, K + 2)
        Rows (α, λ_1 … λ_K, μ): the ellipsoid's center, or the rays that span a cone.
    factor : shape (K + 1, K + 1), or (0, 0) for a cone
        Upper triangular; rows and columns in the order A_1 … A_K, 1.
    reach : shape (K + 2,)
        Of (|c|, |A_1| … |A_K|, 1): what rounding may change at any point of the region.
    tiny : float
        Added to squares, against underflow.
    huge : float
        Of a cone, forms as large as this may have overflowed: such weights are open.
    single : bool
        Whether the scores are float32.
    masses : shape (1 + K, m)
        Scores of open weights that are counted, not gathered; m ≤ 63.
    work : float32 or float64, shape (4, at least TILE)
    lanes : float64, shape (1 + K, 4, LANES), zeros; zeros again afterwards
    state : uint8, shape (n,), contiguous, filled
        1 where kept, MASS · (1 + j) where open and equal to column j of `masses`, else 0.
    sums : float64, shape (⌈n / BLOCK⌉, 4, 1 + K), filled
        For each block, over the kept weights: each score's sum in three parts, which are exact
        up to 2^-150, and the sum of its absolute values.
    index : int32, shape (at least found + n + 1,), filled
        Positions of the open weights, ascending.
    opened : shape (1 + K, at least found + n), filled
        Their scores.
    counts : int64, shape (m,)
        How many weights of each mass were open is added to it.

    Returns
    -------
    kept, found : int

    Notes
    -----
    O(n K^2) for an ellipsoid, O(m K n) for a cone. Sums are those of a fixed order: the same
    bits wherever the kernel runs.
    """
    rows, n = len(scores), len(state)
    most = _most_exact(rays[0], single) if factor.shape[0] == 1 else 0.0
    kept = 0
    for block in range(sums.shape[0]):
        stop = min(n, (block + 1) * BLOCK)
        for start in range(block * BLOCK, stop, TILE):
            end = min(start + TILE, stop)
            first, last = begin + start, begin + end
            decided = state[start:end]
            if factor.shape[0] == 1:
                c = row_at(scores, 0, first, last, work)
                _classify_one(c, rays[0], factor, reach, decided)
            elif factor.shape[0] == 2:
                c = row_at(scores, 0, first, last, work)
                a = row_at(scores, 1, first, last, work)
                _classify_pair(c, a, rays[0], factor, reach, tiny, decided)
            elif factor.shape[0] == 0:
                _classify_cone(scores, rows, first, rays, reach, huge, work, decided)
            else:
                _classify_ellipsoid(
                    scores, rows, first, rays[0], factor, reach, tiny, work, decided
                )
            for mass in range(masses.shape[1]):
                counts[mass] += _set_apart(scores, masses, mass, first, work, decided)
            before, place = found, offset + start
            more, found = _find_open(decided, place, index, found)
            kept += more
            for j in range(rows):
                row = row_at(scores, j, first, last, work)
                if most > 0.0:
                    _add_positive(row, decided, most, lanes[j])
                else:
                    _add_tile(row, decided, single, lanes[j])
                for q in range(before, found):
                    opened[j, q] = row[index[q] - place]
        _close_lanes(lanes, sums[block])
    return kept, found
