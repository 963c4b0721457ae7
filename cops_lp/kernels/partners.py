"""Where listed sets of items lie, and the partners among them of many sets at once.

Listed sets are sorted into slots by their count and by cells of two sums. What is looked up for a
set is anywhere in some 100 MB. So thousands of sets are looked up at once, in loops of which one
says what the next will read: with each set by itself, as good as all of the time was spent waiting.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled
from ._prefetch import prefetch

__all__ = ["CELLS", "fill_filters", "sort_subsets"]

CELLS = 2.0**26
EDGE = 2e-6  # of a cell: more than rounding may move a sum, up to 2^26 cells from 0
_ROOM = 1 << 12  # cells that wait to be looked at


@compiled
def _hash(count, x, y):
    """Hash of a count and a cell of two sums."""
    h = np.uint64(np.int64(count)) * np.uint64(0xFF51AFD7ED558CCD)
    h += np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    h += np.uint64(y) * np.uint64(0xC2B2AE3D27D4EB4F)
    h = (h ^ (h >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return h ^ (h >> np.uint64(29))


@compiled
def _cell(place):
    """Number of a cell, above 0; sums are below ±CELLS cells."""
    return np.int64(place + 2.0 * CELLS)


@compiled
def _word(h, words):
    """Place of a cell in a filter of so many words, up to 2^32."""
    return np.int64(((h >> np.uint64(32)) * np.uint64(words)) >> np.uint64(32))


@compiled
def _bits(h):
    """Two bits of that word."""
    one = np.uint64(1)
    return one << (h & np.uint64(63)) | one << ((h >> np.uint64(6)) & np.uint64(63))


@compiled
def sort_subsets(costs, sums, by_cost, axes, per, starts, order):
    """Sort listed subsets by the slot of their count and the cells of two sums, then by cost.

    Parameters
    ----------
    costs, sums : float64, shapes (n,) and (n, 1 + K)
    by_cost : int64, shape (n,)
        Their places by ascending cost, about.
    axes : int64, shape (2,)
        Which sums.
    per : float64, shape (2,)
        Cells per unit of each; 0 leaves it out. Sums have less than CELLS.
    starts : int32, shape (slots + 1,), filled
        Where each slot starts; slots is a power of two.
    order : int32, shape (n,), filled
    """
    n = len(costs)
    slots = np.uint64(len(starts) - 2)
    place = np.empty(n, np.int32)
    starts[:] = 0
    for block in range(0, n, _ROOM):
        end = min(block + _ROOM, n)
        for q in range(block, end):
            x, y = _cell(sums[q, axes[0]] * per[0]), _cell(sums[q, axes[1]] * per[1])
            place[q] = np.int64(_hash(sums[q, 0], x, y) & slots)
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
        As in :func:`.subsets.join_subsets`.
    axes : int64, shape (2,)
    rooms : float64, shape (levels,)
        A level is for sets that leave up to so much to a partner.
    per : float64, shape (levels, 2)
        Cells per unit; 0 is one cell in all.
    offsets : int64, shape (levels + 1,)
        Where a level's words start.
    words : uint64, shape (any,), changed
    """
    one, two = axes[0], axes[1]
    hashes, places = np.empty(_ROOM, np.uint64), np.empty(_ROOM, np.int64)
    for level in range(len(rooms)):
        start, size = offsets[level], offsets[level + 1] - offsets[level]
        per_one, per_two = per[level, 0], per[level, 1]
        lack_one = max(doubt[one - 1], 0.0) * per_one + EDGE
        lack_two = max(doubt[two - 1], 0.0) * per_two + EDGE
        waiting = 0
        for q in range(len(costs)):
            room = rooms[level] - costs[q]
            if room < 0.0:
                continue
            x_last, y_last = sums[q, one] * per_one, sums[q, two] * per_two
            x, y = x_last - lack_one, y_last - lack_two
            if per_one > 0.0:
                x -= room / price[one - 1] * per_one
            if per_two > 0.0:
                y -= room / price[two - 1] * per_two
            for x_cell in range(_cell(x), _cell(x_last + EDGE) + 1):
                for y_cell in range(_cell(y), _cell(y_last + EDGE) + 1):
                    if waiting == _ROOM:
                        _mark(hashes, places, waiting, words)
                        waiting = 0
                    h = _hash(sums[q, 0], x_cell, y_cell)
                    hashes[waiting], places[waiting] = h, start + _word(h, size)
                    prefetch(words, places[waiting])
                    waiting += 1
        _mark(hashes, places, waiting, words)


@compiled
def _find_cells(cost, entries, first, end, room, rest, doubt, filters, words, hashes, places):
    """Hash of the cell that a partner must be in, and its word, for sets of one more item each.

    Parameters
    ----------
    cost, entries : float64, shapes (n,) and (1 + K, n)
    first, end : int
        The items.
    room : float
        What the set without them leaves to them and a partner.
    rest : float64, shape (1 + K,)
        What their and a partner's sums are to be.
    doubt : float64, shape (K,)
    filters : tuple
        axes, reach, per, offsets: see :func:`.subsets.join_subsets`.
    hashes, places : uint64 and int64, shape (any,), filled from 0 on
    """
    axes, reach, per, offsets = filters
    one, two = axes[0], axes[1]
    step = reach[1] - reach[0] if len(reach) > 1 else 0.0
    low_room, per_room = reach[0] - step, 1.0 / step if step > 0.0 else 0.0
    last_level, zero = float(len(reach) - 1), np.int64(0)
    count = rest[0]
    least_one, least_two = rest[one] - doubt[one - 1], rest[two] - doubt[two - 1]
    for i in range(first, end):
        level = max(np.int64(min((room - cost[i] - low_room) * per_room, last_level)), zero)
        x = _cell((least_one - entries[one, i]) * per[level, 0])
        y = _cell((least_two - entries[two, i]) * per[level, 1])
        h = _hash(count - entries[0, i], x, y)
        hashes[i - first] = h
        places[i - first] = offsets[level] + _word(h, offsets[level + 1] - offsets[level])
        prefetch(words, places[i - first])


@compiled
def _passing(hashes, places, count, words, passed):
    """Which of the first so many cells a filter knows, to passed; how many."""
    hits = 0
    for e in range(count):
        bits = _bits(hashes[e])
        passed[hits] = e
        hits += np.int64(words[places[e]] & bits == bits)
    return hits


@compiled
def _best_partners(cost, rest, count, limit, best, price, doubt, table, found):
    """Least loss of the first so many sets, each with a listed one, if below `best`.

    Parameters
    ----------
    cost, rest : float64, shapes (any,) and (any, 1 + K)
        What a set costs, and what its partner's sums are to be.
    count : int
    limit, best : float
        A pair that costs a little more than the limit is as good.
    price, doubt : float64, shape (K,)
    table : tuple
        axes, per, starts, costs, sums, near of :func:`.subsets.join_subsets`.
    found : int64, shape (3,), changed
        Set and listed set of the least loss go to found[0] and found[1]; found[2] counts what
        was looked at.

    Returns
    -------
    float
    """
    axes, per, starts, costs, sums, near = table
    one, two = axes[0], axes[1]
    slots = np.uint64(len(starts) - 2)
    slot, owner = np.empty(_ROOM, np.int64), np.empty(_ROOM, np.int64)
    cells = 0
    for h in range(count):
        # A partner meets the floors, by less than what the loss found allows.
        room = min(limit, best) - cost[h]
        one_more = room / price[one - 1] if per[0] > 0.0 else 0.0
        two_more = room / price[two - 1] if per[1] > 0.0 else 0.0
        low = _cell((rest[h, one] - doubt[one - 1]) * per[0] - EDGE)
        high = _cell(min((rest[h, one] + one_more) * per[0], CELLS) + EDGE)
        first = _cell((rest[h, two] - doubt[two - 1]) * per[1] - EDGE)
        last = _cell(min((rest[h, two] + two_more) * per[1], CELLS) + EDGE)
        for x in range(low, high + 1):
            for y in range(first, last + 1):
                if cells == _ROOM:
                    best = _best_of_slots(
                        cost, rest, limit + near, best, price, doubt, starts, costs, sums,
                        slot, owner, cells, found,
                    )  # fmt: skip
                    cells = 0
                slot[cells] = np.int64(_hash(rest[h, 0], x, y) & slots)
                prefetch(starts, slot[cells])
                owner[cells] = h
                cells += 1
    return _best_of_slots(
        cost, rest, limit + near, best, price, doubt, starts, costs, sums,
        slot, owner, cells, found,
    )  # fmt: skip


@compiled
def _best_of_slots(
    cost, rest, most, best, price, doubt, starts, costs, sums, slot, owner, cells, found
):  # fmt: skip
    """Least loss of sets with what is in their slots; of pairs that cost up to `most`."""
    begin, end = np.empty(cells, np.int64), np.empty(cells, np.int64)
    used = 0
    for c in range(cells):
        begin[used], end[used], owner[used] = starts[slot[c]], starts[slot[c] + 1], owner[c]
        prefetch(costs, begin[used])
        prefetch(sums, begin[used])
        used += np.int64(end[used] > begin[used])
    found[2] += cells
    for c in range(used):
        h = owner[c]
        found[2] += end[c] - begin[c]
        for q in range(begin[c], end[c]):
            loss = cost[h] + costs[q]
            if loss > most:
                break
            if sums[q, 0] != rest[h, 0]:
                continue
            met = True
            for t in range(1, rest.shape[1]):
                excess = sums[q, t] - rest[h, t]
                met = met and excess >= -doubt[t - 1]
                loss += price[t - 1] * excess
            if met and loss < best:
                best = loss
                found[0], found[1] = h, q
    return best
