"""The list of all sets of items whose costs sum up to little.

An item is a weight whose side of the threshold may change, its cost the absolute reduced cost.
Items are sorted by cost; an item with `after[i]` true is a copy of the one before it and may only
follow it.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = ["list_subsets"]


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
