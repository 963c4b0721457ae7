"""Kernels that walk through sets of items whose costs sum up to little.

An item is a weight whose side of the threshold may change, its cost the absolute reduced cost.
Items are sorted by cost; an item with `after[i]` true is a copy of the one before it and may only
follow it.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["join_subsets", "list_subsets"]


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
def list_subsets(cost, after, entries, limit, costs, sums, bits):
    """List all subsets of at most 63 items that cost at most `limit`, the empty one first.

    Parameters
    ----------
    cost : float64, shape (n,), ascending, ≥ 0
    after : bool, shape (n,)
    entries : float64, shape (n, m)
        What an item adds to each of m sums.
    limit : float
    costs : float64, shape (most,), filled
    sums : float64, shape (most, m), filled
    bits : uint64, shape (most,), filled

    Returns
    -------
    int
        How many there are; most + 1 where they are more than fit.
    """
    n, m = entries.shape
    most = len(costs)
    stack = np.empty(n + 1, np.int64)
    place = np.empty(n + 1, np.int64)  # of the subsets on the stack in the list
    costs[0], bits[0] = 0.0, np.uint64(0)
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
            bits[count] = bits[own] | (np.uint64(1) << np.uint64(j))
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
def join_subsets(
    cost, after, entries, limit, best, need, price, doubt, axis, costs, sums,
    stack, own_cost, own, cursor, steps, chosen,
):  # fmt: skip
    """Join subsets of some items with listed ones of the others, for the least loss.

    A set's loss is its cost + Σ_j price_j · (its excess over the floors). Looks at every pair
    that costs at most `limit` and loses less than `best`, in as many calls as it takes.

    Parameters
    ----------
    cost, after, entries
        The items to walk through, as in :func:`list_subsets`; m = 1 + K sums: the count, and
        each control.
    limit, best : float
    need : float64, shape (1 + K,)
        The change of the count that is wanted, and what each floor still lacks.
    price : float64, shape (K,), ≥ 0
        The multipliers.
    doubt : float64, shape (K,), ≥ 0
        A lack up to this counts as none.
    axis : int
        The control by which the listed subsets are sorted after their count.
    costs, sums
        The listed subsets, sorted by (sums[:, 0], sums[:, axis]).
    stack, own_cost, own : int64, float64, float64, shapes (n + 1,), (n + 1,), (n + 1, m), changed
        The walk's state: at first stack[0] = −1, own_cost[0] = 0, own[0] = 0.
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
    listed = len(costs)
    depth, j, fresh = cursor[0], cursor[1], cursor[2] == 1
    known = best
    done = 0
    while done < steps and best == known:
        done += 1
        if fresh:
            fresh = False
            # Listed subsets with the count that is wanted, from the floor's need on.
            count = need[0] - own[depth, 0]
            least = need[axis] - own[depth, axis] - doubt[axis - 1]
            low, high = 0, listed
            while low < high:
                middle = (low + high) >> 1
                if sums[middle, 0] < count or (
                    sums[middle, 0] == count and sums[middle, axis] < least
                ):
                    low = middle + 1
                else:
                    high = middle
            for q in range(low, listed):
                done += 1
                if sums[q, 0] != count:
                    break
                loss = own_cost[depth] + price[axis - 1] * (
                    sums[q, axis] + own[depth, axis] - need[axis]
                )
                if loss >= best:
                    break
                if own_cost[depth] + costs[q] > limit:
                    continue
                loss = own_cost[depth] + costs[q]
                met = True
                for t in range(1, m):
                    excess = sums[q, t] + own[depth, t] - need[t]
                    met = met and excess >= -doubt[t - 1]
                    loss += price[t - 1] * excess
                if met and loss < best:
                    best = loss
                    chosen[0] = depth
                    for t in range(depth):
                        chosen[1 + t] = stack[1 + t]
                    chosen[1 + depth] = q
        j = _next_item(cost, after, j, stack[depth], own_cost[depth], limit)
        if j < n:
            own_cost[depth + 1] = own_cost[depth] + cost[j]
            for t in range(m):
                own[depth + 1, t] = own[depth, t] + entries[j, t]
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
