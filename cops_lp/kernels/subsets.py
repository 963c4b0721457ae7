"""Kernels that walk through sets of items whose costs sum up to little.

An item is a weight whose side of the threshold may change, its cost the absolute reduced cost.
Items are sorted by cost; an item with `after[i]` true is a copy of the one before it and may only
follow it.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["CELLS", "fill_filters", "join_subsets", "list_subsets", "sort_subsets"]

CELLS = 2.0**26
EDGE = 2e-6  # of a cell: more than rounding may move a sum, up to 2^26 cells from 0


@compiled
def _next_item(cost, after, j, last, sum_, limit):
    """First item from j on that can follow `last`; the number of items where none can."""
    n = len(cost)
    while j < n:
        if sum_ + cost[j] > limit:
            return n
        if not after[j] or last == j - 1:
            return j
        j += 1
    return n


@compiled
def list_subsets(cost, after, entries, limit, costs, sums, parent, last):
    """List all subsets of items that cost at most `limit`, the empty one first.

    Parameters
    ----------
    cost : float64, shape (n,), ascending, ≥ 0
    after : bool, shape (n,)
    entries : float64, shape (n, m)
        What an item adds to each of m sums.
    limit : float
    costs : float64, shape (most,), filled
    sums : float64, shape (most, m), filled
    parent, last : int32, shape (most,), filled
        A subset is the one at place `parent`, an earlier one, and item `last`; −1: no item.

    Returns
    -------
    int
        How many there are; most + 1 where they are more than fit.
    """
    n, m = entries.shape
    most = len(costs)
    stack = np.empty(n + 1, np.int64)
    place = np.empty(n + 1, np.int64)  # of the subsets on the stack in the list
    costs[0], parent[0], last[0] = 0.0, -1, -1
    for j in range(m):
        sums[0, j] = 0.0
    count, depth = 1, 0
    place[0] = 0
    stack[0] = -1
    j = 0
    while True:
        own = place[depth]
        j = _next_item(cost, after, j, stack[depth], costs[own], limit)
        if j < n:
            if count >= most:
                return most + 1
            costs[count] = costs[own] + cost[j]
            for t in range(m):
                sums[count, t] = sums[own, t] + entries[j, t]
            parent[count], last[count] = own, j
            depth += 1
            stack[depth], place[depth] = j, count
            count += 1
            j += 1
        elif depth == 0:
            return count
        else:
            j = stack[depth] + 1
            depth -= 1


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
    for q in range(n):
        x, y = _cell(sums[q, axes[0]] * per[0]), _cell(sums[q, axes[1]] * per[1])
        place[q] = np.int64(_hash(sums[q, 0], x, y) & slots)
        starts[place[q] + 1] += 1
    for slot in range(1, len(starts)):
        starts[slot] += starts[slot - 1]
    free = starts.copy()
    for at in range(n):
        q = by_cost[at]
        order[free[place[q]]] = q
        free[place[q]] += 1


@compiled
def fill_filters(costs, sums, price, doubt, axes, rooms, per, offsets, words):
    """Mark the cells in which a set may be that has a listed one as partner.

    A partner's cost and what it exceeds the floors by are together at most what is left to it:
    expensive ones, and these are nearly all, may be the partner of sets in few cells.

    Parameters
    ----------
    costs, sums : float64, shapes (n,) and (n, 1 + K)
    price, doubt : float64, shape (K,)
        As in :func:`join_subsets`.
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
    for level in range(len(rooms)):
        start, size = offsets[level], offsets[level + 1] - offsets[level]
        per_one, per_two = per[level, 0], per[level, 1]
        lack_one = max(doubt[one - 1], 0.0) * per_one + EDGE
        lack_two = max(doubt[two - 1], 0.0) * per_two + EDGE
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
                    h = _hash(sums[q, 0], x_cell, y_cell)
                    words[start + _word(h, size)] |= _bits(h)


@compiled
def _best_partner(
    cost, rest, limit, best, price, doubt, axes, per, starts, costs, sums, near, found
):  # fmt: skip
    """Least loss with a listed subset, if below `best`; its place goes to found[0].

    found[1] counts what was looked at. One that costs a little more than the limit is as good.
    """
    # A partner meets the floors, by less than what the loss found allows.
    room = min(limit, best) - cost
    one, two = axes[0], axes[1]
    slots = np.uint64(len(starts) - 2)
    one_more = room / price[one - 1] if per[0] > 0.0 else 0.0
    two_more = room / price[two - 1] if per[1] > 0.0 else 0.0
    low = _cell((rest[one] - doubt[one - 1]) * per[0] - EDGE)
    high = _cell(min((rest[one] + one_more) * per[0], CELLS) + EDGE)
    first = _cell((rest[two] - doubt[two - 1]) * per[1] - EDGE)
    last = _cell(min((rest[two] + two_more) * per[1], CELLS) + EDGE)
    for x in range(low, high + 1):
        for y in range(first, last + 1):
            slot = np.int64(_hash(rest[0], x, y) & slots)
            found[1] += 1 + starts[slot + 1] - starts[slot]
            for q in range(starts[slot], starts[slot + 1]):
                loss = cost + costs[q]
                if loss > limit + near:
                    break
                if sums[q, 0] != rest[0]:
                    continue
                met = True
                for t in range(1, len(rest)):
                    excess = sums[q, t] - rest[t]
                    met = met and excess >= -doubt[t - 1]
                    loss += price[t - 1] * excess
                if met and loss < best:
                    best = loss
                    found[0] = q
    return best


@compiled
def _look_up(
    cost, entries, first, least, most, room, count, least_one, least_two, one, two,
    low_room, per_room, filter_per, offsets, words, hashes, places, passed,
):  # fmt: skip
    """Which items from `first` on make a set that may have a partner; of copies, any of them.

    They go to passed[1:], their number to passed[0]. Returns how many were looked at. Two plain
    loops, since as good as all of the search's time goes here, waiting for `words`.
    """
    n, last_level, zero = len(cost), float(len(filter_per) - 1), np.int64(0)
    end = first
    while end < n and least + cost[end] <= most:
        end += 1
    for i in range(first, end):
        level = max(np.int64(min((room - cost[i] - low_room) * per_room, last_level)), zero)
        x = _cell((least_one - entries[one, i]) * filter_per[level, 0])
        y = _cell((least_two - entries[two, i]) * filter_per[level, 1])
        hashes[i] = _hash(count - entries[0, i], x, y)
        places[i] = offsets[level] + _word(hashes[i], offsets[level + 1] - offsets[level])
    hits = 0
    for i in range(first, end):
        bits = _bits(hashes[i])
        passed[1 + hits] = i
        hits += np.int64(words[places[i]] & bits == bits)
    passed[0] = hits
    return end - first


@compiled
def join_subsets(
    cost, after, entries, over, cap, limit, best, price, doubt,
    axes, per, starts, costs, sums, near, reach, filter_per, offsets, words,
    stack, own_cost, rest, cursor, steps, chosen,
):  # fmt: skip
    """Join subsets of some items with listed ones of the others, for the least loss.

    A set's loss is its cost + Σ_j price_j · (its excess over the floors). Looks at every pair
    that costs at most `limit` and loses less than `best`, in as many calls as it takes.

    Parameters
    ----------
    cost, after, entries
        The items to walk through, as in :func:`list_subsets`; m = 1 + K sums: the count, and
        each control.
    over, cap : float
        Sets of these items are joined that cost more than `over` and at most `cap`.
    limit, best : float
    price : float64, shape (K,), ≥ 0
        The multipliers.
    doubt : float64, shape (K,), ≥ 0
        A lack up to this counts as none.
    axes, per, starts
        As in :func:`sort_subsets`.
    costs, sums
        The listed subsets, in that order.
    near : float
        By how much one in a slot may be dearer than the next.
    reach : float64, shape (levels,)
        A set looks into the filter of the first level that reaches what it leaves to its partner,
        or of the last. Ascending in equal steps.
    filter_per, offsets, words
        As in :func:`fill_filters`.
    stack, own_cost, rest : int64, float64, float64, shapes (n + 1,), (n + 1,), (n + 1, m), changed
        The walk's state: at first stack[0] = −1, own_cost[0] = 0, and rest[0] the change of the
        count that is wanted, and what each floor still lacks.
    cursor : int64, shape (2,), changed
        Depth of the set on the stack, and the item to follow next; −1: the set is new. (0, −1)
        at first. Depth −1: all is done.
    steps : int
        After about so many, stop.
    chosen : int64, shape (n + 2,), filled where something is found
        How many items, the items, and the listed subset's place. The call ends soon after.

    Returns
    -------
    float
        The least loss found, or `best`.
    """
    n, m = entries.shape
    depth, j = cursor[0], cursor[1]
    known = best
    one, two = axes[0], axes[1]
    step = reach[1] - reach[0] if len(reach) > 1 else 0.0
    low_room, per_room = reach[0] - step, 1.0 / step if step > 0.0 else 0.0
    found = np.zeros(2, np.int64)
    own = np.empty(m)
    by_sum = np.ascontiguousarray(entries.T)
    passed = np.empty(n + 1, np.int64)
    hashes, places = np.empty(n, np.uint64), np.empty(n, np.int64)
    if j < 0 and depth == 0 and over < 0.0:
        best = _best_partner(
            0.0, rest[0], limit, best, price, doubt, axes, per, starts, costs, sums, near, found
        )  # fmt: skip
        if best < known:
            chosen[0], chosen[1] = 0, found[0]
    while found[1] < steps and best == known:
        least, most = own_cost[depth], min(cap, limit)
        if j < 0:  # look up the sets of one more item: as good as all of the time goes here
            j = stack[depth] + 1
            count = rest[depth, 0]
            least_one = rest[depth, one] - doubt[one - 1]
            least_two = rest[depth, two] - doubt[two - 1]
            room = min(limit, best, 1e300) - least
            found[1] += _look_up(
                cost, by_sum, j, least, most, room, count, least_one, least_two, one, two,
                low_room, per_room, filter_per, offsets, words, hashes, places, passed,
            )  # fmt: skip
            for at in range(1, 1 + passed[0]):
                i = passed[at]
                cost_now = least + cost[i]
                if (after[i] and i > j) or cost_now <= over:
                    continue
                for t in range(m):
                    own[t] = rest[depth, t] - entries[i, t]
                before = best
                best = _best_partner(
                    cost_now, own, limit, best, price, doubt, axes, per, starts, costs, sums, near,
                    found,
                )  # fmt: skip
                if best < before:
                    for t in range(depth):
                        chosen[1 + t] = stack[1 + t]
                    chosen[0], chosen[1 + depth], chosen[2 + depth] = depth + 1, i, found[0]
        while j < n and after[j] and j > stack[depth] + 1:
            j += 1
        if j + 1 < n and least + cost[j] + cost[j + 1] <= most:
            own_cost[depth + 1] = least + cost[j]
            for t in range(m):
                rest[depth + 1, t] = rest[depth, t] - entries[j, t]
            depth += 1
            stack[depth], j = j, -1
        elif depth == 0:
            depth = -1
            break
        else:
            j = stack[depth] + 1
            depth -= 1
    cursor[0], cursor[1] = depth, j
    return best
