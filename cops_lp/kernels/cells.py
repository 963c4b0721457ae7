"""Where listed sets of items lie: slots by their count and by cells of two sums, and filters.

What is looked up for a set is anywhere in some 100 MB. So many sets are looked up at once, in loops
of which one says what the next will read.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled
from ._prefetch import prefetch

__all__ = ["CELLS", "fill_filters", "sort_subsets"]

CELLS = 2.0**26
EDGE = 2e-6  # of a cell: more than rounding may move a sum, up to 2^26 cells from 0
_ROOM = 1 << 12  # sets, or cells, at once


@compiled
def _cell(place):
    """Number of a cell, above 0; sums are below ±CELLS cells."""
    return np.int32(place + 2.0 * CELLS)


@compiled
def _hash(count, x, y, z):
    """Hash of a count and a cell of three sums; 32 bits, of which processors mix eight at once."""
    h = np.uint32(np.int32(count)) * np.uint32(0x9E3779B1)
    h = np.uint32(h + np.uint32(x) * np.uint32(0x85EBCA77))
    h = np.uint32(h + np.uint32(y) * np.uint32(0xC2B2AE3D))
    h = np.uint32(h + np.uint32(z) * np.uint32(0x27D4EB2F))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@compiled
def _word(h, words):
    """Place of a cell in a filter of so many words, up to 2^32."""
    return (np.uint64(h) * words) >> np.uint64(32)


@compiled
def _bits(h):
    """Two bits of that word."""
    one, h = np.uint64(1), np.uint64(h)
    return one << (h & np.uint64(63)) | one << ((h >> np.uint64(6)) & np.uint64(63))


@compiled
def sort_subsets(costs, sums, by_cost, axes, per, starts, order):
    """Sort listed subsets by the slot of their count and the cells of two sums, then by cost.

    Parameters
    ----------
    costs, sums : float64, shapes (n,) and (n, 1 + K)
    by_cost : int64, shape (n,)
        Their places by ascending cost, about.
    axes : int64, shape (any,)
        Which sums, the first two.
    per : float64, shape (2,)
        Cells per unit of each; 0 leaves it out. Sums have less than CELLS.
    starts : int32, shape (slots + 1,), filled
        Where each slot starts; slots is a power of two.
    order : int32, shape (n,), filled
    """
    n = len(costs)
    slots = np.uint32(len(starts) - 2)
    place = np.empty(n, np.int32)
    starts[:] = 0
    for block in range(0, n, _ROOM):
        end = min(block + _ROOM, n)
        for q in range(block, end):
            x, y = _cell(sums[q, axes[0]] * per[0]), _cell(sums[q, axes[1]] * per[1])
            place[q] = np.int64(_hash(sums[q, 0], x, y, 0) & slots)
            prefetch(starts, np.int64(place[q]) + 1)
        for q in range(block, end):
            starts[place[q] + 1] += 1
    for slot in range(1, len(starts)):
        starts[slot] += starts[slot - 1]
    free = starts.copy()
    for block in range(0, n, _ROOM):
        end = min(block + _ROOM, n)
        for at in range(block, end):
            prefetch(place, by_cost[at])
        for at in range(block, end):
            prefetch(free, np.int64(place[by_cost[at]]))
        for at in range(block, end):
            q = by_cost[at]
            prefetch(order, np.int64(free[place[q]]))
        for at in range(block, end):
            q = by_cost[at]
            order[free[place[q]]] = q
            free[place[q]] += 1


@compiled
def _mark(hashes, places, count, words):
    """Mark the first so many cells in a filter's words."""
    for e in range(count):
        words[places[e]] |= _bits(hashes[e])


@compiled
def fill_filters(costs, sums, price, doubt, axes, rooms, per, offsets, words):
    """Mark the cells in which a set may be that has a listed one as partner.

    A partner's cost and what it exceeds the floors by are together at most what is left to it:
    expensive ones, and these are nearly all, may be the partner of sets in few cells.

    Parameters
    ----------
    costs, sums : float64, shapes (n,) and (n, 1 + K)
    price, doubt : float64, shape (K,)
        As in :func:`.partners.join_pairs`.
    axes : int64, shape (3,)
        Which sums.
    rooms : float64, shape (levels,)
        A level is for sets that leave up to so much to a partner.
    per : float64, shape (levels, 3)
        Cells per unit; 0 is one cell in all.
    offsets : int64, shape (levels + 1,)
        Where a level's words start.
    words : uint64, shape (any,), changed
    """
    hashes, places = np.empty(_ROOM, np.uint32), np.empty(_ROOM, np.uint64)
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    lacks, exceeds = np.empty(3), np.empty(3)
    for level in range(len(rooms)):
        start, size = np.uint64(offsets[level]), np.uint64(offsets[level + 1] - offsets[level])
        for t in range(3):
            j = axes[t] - 1
            lacks[t] = max(doubt[j], 0.0) * per[level, t] + EDGE
            exceeds[t] = per[level, t] / price[j] if per[level, t] > 0.0 else 0.0
        waiting = 0
        for q in range(len(costs)):
            room = rooms[level] - costs[q]
            if room < 0.0:
                continue
            for t in range(3):
                last = sums[q, axes[t]] * per[level, t]
                high[t] = _cell(last + EDGE)
                if per[level, t] > 0.0:  # else what is left may be infinite
                    last -= room * exceeds[t]
                low[t] = _cell(last - lacks[t])
            for x in range(low[0], high[0] + 1):
                for y in range(low[1], high[1] + 1):
                    for z in range(low[2], high[2] + 1):
                        if waiting == _ROOM:
                            _mark(hashes, places, waiting, words)
                            waiting = 0
                        h = _hash(sums[q, 0], x, y, z)
                        hashes[waiting], places[waiting] = h, start + _word(h, size)
                        prefetch(words, np.int64(places[waiting]))
                        waiting += 1
        _mark(hashes, places, waiting, words)
