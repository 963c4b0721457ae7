"""Kernels that walk through sets of items whose costs sum up to little.

An item is a weight whose side of the threshold may change, its cost the absolute reduced cost.
Items are sorted by cost; an item with `after[i]` true is a copy of the one before it and may only
follow it.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["FILTER", "find_slots", "join_subsets", "list_subsets"]

FILTER = 1 << 15


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
def _mixed(count, x):
    """Hash of a count and a cell of the first axis."""
    h = np.uint64(np.int64(count)) * np.uint64(0xFF51AFD7ED558CCD)
    h ^= np.uint64(np.int64(x)) * np.uint64(0x9E3779B97F4A7C15)
    return (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


@compiled
def _slot(h, y, slots):
    """Place of a cell in a table of `slots`, a power of two up to 2^31; cells may share one."""
    h ^= np.uint64(np.int64(y)) * np.uint64(0xC2B2AE3D27D4EB4F)
    h = (h ^ (h >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    return np.int64((h >> np.uint64(32)) & np.uint64(slots - 1))


@compiled
def _bit(h):
    """Place of a cell of the first axis among FILTER."""
    return np.int64((h >> np.uint64(40)) & np.uint64(FILTER - 1))


@compiled
def _cell(value, per):
    """Number of the cell of a sum; `per` is cells per unit, 0 for one cell in all."""
    return np.int64(np.floor(max(-1e9, min(1e9, value * per))))


@compiled
def find_slots(sums, axes, per, slots, places, seen):
    """Slot of each listed subset, by its count and the cells of two of its sums.

    Parameters
    ----------
    sums : float64, shape (n, 1 + K)
    axes : int64, shape (2,)
        Which sums.
    per : float64, shape (2,)
        Cells per unit of each; 0 leaves it out.
    slots : int
        A power of two.
    places : int64, shape (n,), filled
        From 0 to slots − 1.
    seen : bool, shape (FILTER,), changed
        True where the count and the first cell of one of them lead.
    """
    for q in range(len(sums)):
        h = _mixed(np.int64(sums[q, 0]), _cell(sums[q, axes[0]], per[0]))
        seen[_bit(h)] = True
        places[q] = _slot(h, _cell(sums[q, axes[1]], per[1]), slots)


@compiled
def _first_cell(least, per):
    """First cell in which a sum of at least so much can be, up to rounding at a cell's border."""
    return _cell(least - 1e-6 / per, per) if per > 0.0 else np.int64(0)


@compiled
def _last_cell(most, per):
    return _cell(most + 1e-6 / per, per) if per > 0.0 else np.int64(0)


@compiled
def join_subsets(
    cost, after, entries, over, cap, limit, best, price, doubt,
    axes, reach, per, seen, offsets, starts, costs, sums,
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
    axes : int64, shape (2,)
    reach : float64, shape (levels,), descending
        Level l lists what costs at most reach[l], for sets that leave no more room than that.
        All of the listed ones are in level 0.
    per, seen : float64 and bool, shapes (levels, 2) and (levels, FILTER)
        As in :func:`find_slots`.
    offsets : int64, shape (levels + 1,)
        A level's slots start at `offsets[l]`, one more than it has.
    starts : int64, shape (any,)
        Where the listed subsets of each slot start.
    costs, sums
        The listed subsets by level and slot, those of a slot by ascending cost.
    stack, own_cost, rest : int64, float64, float64, shapes (n + 1,), (n + 1,), (n + 1, m), changed
        The walk's state: at first stack[0] = −1, own_cost[0] = 0, and rest[0] the change of the
        count that is wanted, and what each floor still lacks.
    cursor : int64, shape (3,), changed
        Depth, next item, and whether the set on the stack is to be joined: (0, 0, 1) at first.
        Depth −1: all is done.
    steps : int
        After about so many, stop.
    chosen : int64, shape (n + 2,), filled where something is found
        How many items, the items, and the listed subset's place. The call ends with it.

    Returns
    -------
    float
        The least loss found, or `best`.
    """
    n, m = entries.shape
    levels = len(reach)
    depth, j, fresh = cursor[0], cursor[1], cursor[2] == 1
    known = best
    done = 0
    one, two = axes[0], axes[1]
    per_one = 1.0 / price[one - 1] if price[one - 1] > 0.0 else 0.0
    per_two = 1.0 / price[two - 1] if price[two - 1] > 0.0 else 0.0
    while done < steps and best == known:
        done += 1
        if fresh and own_cost[depth] > over:
            # A partner meets the floors, by less than what the loss found allows.
            room = min(limit, best) - own_cost[depth]
            level = 0
            while level + 1 < levels and room <= reach[level + 1]:
                level += 1
            count = rest[depth, 0]
            least = rest[depth, one]
            low = _first_cell(least - doubt[one - 1], per[level, 0])
            high = _last_cell(least + room * per_one, per[level, 0])
            for x in range(low, high + 1):
                h = _mixed(np.int64(count), x)
                if not seen[level, _bit(h)]:
                    continue
                least = rest[depth, two]
                first = _first_cell(least - doubt[two - 1], per[level, 1])
                last = _last_cell(least + room * per_two, per[level, 1])
                slots = offsets[level + 1] - offsets[level] - 1
                for y in range(first, last + 1):
                    slot = offsets[level] + _slot(h, y, slots)
                    done += 1
                    for q in range(starts[slot], starts[slot + 1]):
                        done += 1
                        loss = own_cost[depth] + costs[q]
                        if loss > limit:
                            break
                        if sums[q, 0] != count:
                            continue
                        met = True
                        for t in range(1, m):
                            excess = sums[q, t] - rest[depth, t]
                            met = met and excess >= -doubt[t - 1]
                            loss += price[t - 1] * excess
                        if met and loss < best:
                            best = loss
                            chosen[0] = depth
                            for t in range(depth):
                                chosen[1 + t] = stack[1 + t]
                            chosen[1 + depth] = q
        fresh = False
        j = _next_item(cost, after, j, stack[depth], own_cost[depth], min(cap, limit))
        if j < n:
            own_cost[depth + 1] = own_cost[depth] + cost[j]
            for t in range(m):
                rest[depth + 1, t] = rest[depth, t] - entries[j, t]
            depth += 1
            stack[depth] = j
            fresh = True
            j += 1
        elif depth == 0:
            depth = -1
            break
        else:
            j = stack[depth] + 1
            depth -= 1
    cursor[0], cursor[1], cursor[2] = depth, j, 1 if fresh else 0
    return best
