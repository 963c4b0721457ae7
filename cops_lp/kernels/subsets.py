"""Kernels that walk through sets of items whose costs sum up to little.

An item is a weight whose side of the threshold may change, its cost the absolute reduced cost.
Items are sorted by cost; an item with `after[i]` true is a copy of the one before it and may only
follow it.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled
from .partners import _best_partners, _find_cells, _passing

__all__ = ["join_subsets", "list_subsets"]

_SETS, _NODES = 1 << 12, 1 << 10  # sets, and sets without their last item, that wait


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
        As in :func:`.partners.sort_subsets`.
    costs, sums
        The listed subsets, in that order.
    near : float
        By how much one in a slot may be dearer than the next.
    reach : float64, shape (levels,)
        A set looks into the filter of the first level that reaches what it leaves to its partner,
        or of the last. Ascending in equal steps.
    filter_per, offsets, words
        As in :func:`.partners.fill_filters`.
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
    known, most = best, min(cap, limit)
    table = axes, per, starts, costs, sums, near
    filters = axes, reach, filter_per, offsets
    by_sum = np.ascontiguousarray(entries.T)
    found = np.zeros(3, np.int64)
    node_cost, node_rest = np.empty(_NODES), np.empty((_NODES, m))
    node_stack, node_depth = np.empty((_NODES, n + 1), np.int32), np.empty(_NODES, np.int64)
    node_of, item_of = np.empty(_SETS + n, np.int32), np.empty(_SETS + n, np.int32)
    hashes, places = np.empty(_SETS + n, np.uint64), np.empty(_SETS + n, np.int64)
    nodes = node_cost, node_rest, node_stack, node_depth
    sets = node_of, item_of, hashes, places
    used = waiting = 0
    if j < 0 and depth == 0 and over < 0.0:
        best = _best_partners(np.zeros(1), rest, 1, limit, best, price, doubt, table, found)
        if best < known:
            chosen[0], chosen[1] = 0, found[1]
    while depth >= 0 and found[2] < steps and best == known:
        least = own_cost[depth]
        if j < 0:  # the sets of one more item wait to be looked up: as good as all time goes there
            j = stack[depth] + 1
            if used == _NODES or waiting > _SETS:
                best = _join_waiting(
                    cost, after, entries, over, limit, best, price, doubt, table, words,
                    nodes, sets, waiting, found, chosen,
                )  # fmt: skip
                used = waiting = 0
            end = j
            while end < n and least + cost[end] <= most:
                end += 1
            if end > j:
                node_cost[used], node_rest[used], node_depth[used] = least, rest[depth], depth
                node_stack[used, : depth + 1] = stack[: depth + 1]
                room = min(limit, best, 1e300) - least
                _find_cells(
                    cost, by_sum, j, end, room, rest[depth], doubt, filters, words,
                    hashes[waiting:], places[waiting:],
                )  # fmt: skip
                for i in range(end - j):
                    node_of[waiting + i], item_of[waiting + i] = used, j + i
                used += 1
                waiting += end - j
                found[2] += end - j
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
        else:
            j = stack[depth] + 1
            depth -= 1
    best = _join_waiting(
        cost, after, entries, over, limit, best, price, doubt, table, words,
        nodes, sets, waiting, found, chosen,
    )  # fmt: skip
    cursor[0], cursor[1] = depth, j
    return best


@compiled
def _join_waiting(
    cost, after, entries, over, limit, best, price, doubt, table, words,
    nodes, sets, waiting, found, chosen,
):  # fmt: skip
    """Look for partners of the sets that wait; for the best found, fill `chosen`."""
    node_cost, node_rest, node_stack, node_depth = nodes
    node_of, item_of, hashes, places = sets
    m = entries.shape[1]
    passed = np.empty(waiting, np.int64)
    hits = _passing(hashes, places, waiting, words, passed)
    costs, rests, count = np.empty(hits), np.empty((hits, m)), 0
    for at in range(hits):
        node, i = node_of[passed[at]], item_of[passed[at]]
        last = node_stack[node, node_depth[node]]
        costs[count] = node_cost[node] + cost[i]
        for t in range(m):
            rests[count, t] = node_rest[node, t] - entries[i, t]
        passed[count] = passed[at]
        count += np.int64(costs[count] > over and (not after[i] or i == last + 1))
    known = best
    best = _best_partners(costs, rests, count, limit, best, price, doubt, table, found)
    if best < known:
        node, i = node_of[passed[found[0]]], item_of[passed[found[0]]]
        depth = node_depth[node]
        chosen[1 : 1 + depth] = node_stack[node, 1 : 1 + depth]
        chosen[0], chosen[1 + depth], chosen[2 + depth] = depth + 1, i, found[1]
    return best
