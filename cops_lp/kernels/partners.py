"""Pairs of listed sets of items, and their partners among other listed sets.

An item is a weight whose side of the threshold may change, its cost the absolute reduced cost.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled
from ._prefetch import prefetch
from .cells import CELLS, EDGE, _bits, _cell, _hash, _word

__all__ = ["join_pairs"]

_SETS = 1 << 12  # pairs that wait to be looked up
_CELLS = 1 << 12  # cells that wait to be looked at


@compiled
def join_pairs(
    costs, sums, first, last, mate_costs, mate_sums, by_sum, need, limit, best, price, doubt,
    table, reach, filter_per, offsets, words, cursor, steps, found,
):  # fmt: skip
    """Join pairs of sets, one of each of two lists, with a third of a table, for the least loss.

    The loss of the three is their cost + Σ_j price_j · (their excess over the floors). Looks at
    all that cost at most `limit` and lose less than `best`, in as many calls as it takes.

    Parameters
    ----------
    costs, sums : float64, shapes (p,) and (p, 1 + K)
        One list: what a set costs, its count, and its sum of each control.
    first, last : int64, shape (p,)
        It is paired with sets first[i] … last[i] − 1 of the other list.
    mate_costs, mate_sums : float64, shapes (q,) and (q, 1 + K)
        The other list, by ascending cost.
    by_sum : float64, shape (4, q)
        Its count and its sums of the three axes.
    need : float64, shape (1 + K,)
        The count that is wanted, and what each floor lacks.
    limit, best : float
    price : float64, shape (K,), ≥ 0
        The multipliers.
    doubt : float64, shape (K,)
        A lack up to this counts as none.
    table : tuple of axes, per, starts, order, costs, sums, near
        The third list, and how :func:`.cells.sort_subsets` sorts it; `near` is by how much one in
        a slot may be dearer than the next.
    reach : float64, shape (levels,)
        A pair looks into the filter of the first level that reaches what it leaves to its partner,
        or of the last. Ascending.
    filter_per, offsets, words
        As in :func:`.cells.fill_filters`.
    cursor : int64, shape (2,), changed
        Where in the two lists to go on; (0, 0) at first. All is done at (p, any).
    steps : int
        After about so many, stop.
    found : int64, shape (3,), filled where something is found
        Where the three are in their lists. The call ends soon after.

    Returns
    -------
    float
        The least loss found, or `best`.
    """
    p, m = sums.shape
    at, mate = cursor[0], cursor[1]
    known, room = best, min(limit, best, 1e300)
    axes, top = table[0], len(reach) - 1
    wanted = np.empty(4)
    hashes, places = np.empty(_SETS, np.uint32), np.empty(_SETS, np.uint64)
    own_of, mate_of = np.empty(_SETS, np.int32), np.empty(_SETS, np.int32)
    passed = np.empty(_SETS, np.int64)
    own_costs, rests = np.empty(_SETS), np.empty((_SETS, m))
    partner = np.zeros(3, np.int64)
    waiting = 0
    while True:
        ended = at == p or partner[2] >= steps
        if ended or waiting == _SETS:
            hits = _passing(hashes, places, waiting, words, passed)
            for h in range(hits):
                i, j = own_of[passed[h]], mate_of[passed[h]]
                own_costs[h] = costs[i] + mate_costs[j]
                for t in range(m):
                    rests[h, t] = need[t] - sums[i, t] - mate_sums[j, t]
            before = best
            best = _best_partners(own_costs, rests, hits, limit, best, price, doubt, table, partner)
            if best < before:
                chosen = passed[partner[0]]
                found[0], found[1], found[2] = own_of[chosen], mate_of[chosen], partner[1]
            waiting = 0
            if ended or best < known:
                break
        mate = max(mate, first[at])
        if mate >= last[at]:
            at, mate = at + 1, 0
            continue
        left = room - costs[at]
        level = min(np.searchsorted(reach, left - mate_costs[mate]), top)
        end = min(last[at], mate + _SETS - waiting)
        if level > 0 and left - mate_costs[end - 1] <= reach[level - 1]:
            # Where less is left, a lower level knows more.
            low = mate
            while low + 1 < end:
                middle = (low + end) // 2
                if left - mate_costs[middle] <= reach[level - 1]:
                    end = middle
                else:
                    low = middle
        wanted[0] = need[0] - sums[at, 0]
        for t in range(3):
            wanted[1 + t] = need[axes[t]] - sums[at, axes[t]] - doubt[axes[t] - 1]
        _find_cells(
            by_sum[:, mate:end], wanted, filter_per[level],
            np.uint64(offsets[level]), np.uint64(offsets[level + 1] - offsets[level]), words,
            hashes[waiting:], places[waiting:],
        )  # fmt: skip
        for j in range(end - mate):
            own_of[waiting + j], mate_of[waiting + j] = at, mate + j
        partner[2] += end - mate
        waiting += end - mate
        mate = end
    cursor[0], cursor[1] = at, mate
    return best


@compiled
def _find_cells(by_sum, wanted, per, start, size, words, hashes, places):
    """Hash of the cell that a partner must be in, and its word, for some of the other list.

    Two plain loops, of which the first is done for several at once.
    """
    counts, ones, twos, threes = by_sum[0], by_sum[1], by_sum[2], by_sum[3]
    count, one, two, three = wanted[0], wanted[1], wanted[2], wanted[3]
    per_one, per_two, per_three = per[0], per[1], per[2]
    for j in range(len(counts)):
        x, y = _cell((one - ones[j]) * per_one), _cell((two - twos[j]) * per_two)
        h = _hash(count - counts[j], x, y, _cell((three - threes[j]) * per_three))
        hashes[j], places[j] = h, start + _word(h, size)
    for j in range(len(counts)):
        prefetch(words, np.int64(places[j]))


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
        axes, per, starts, costs, sums, near of :func:`join_pairs`.
    found : int64, shape (3,), changed
        Set and listed set of the least loss go to found[0] and found[1]; found[2] counts what
        was looked at.

    Returns
    -------
    float
    """
    axes, per, starts, order, costs, sums, near = table
    one, two = axes[0], axes[1]
    slots = np.uint32(len(starts) - 2)
    slot, owner = np.empty(_CELLS, np.int64), np.empty(_CELLS, np.int64)
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
                if cells == _CELLS:
                    best = _best_of_slots(
                        cost, rest, limit + near, best, price, doubt, starts, order, costs, sums,
                        slot, owner, cells, found,
                    )  # fmt: skip
                    cells = 0
                slot[cells] = np.int64(_hash(rest[h, 0], x, y, 0) & slots)
                prefetch(starts, slot[cells])
                owner[cells] = h
                cells += 1
    return _best_of_slots(
        cost, rest, limit + near, best, price, doubt, starts, order, costs, sums,
        slot, owner, cells, found,
    )  # fmt: skip


@compiled
def _best_of_slots(
    cost, rest, most, best, price, doubt, starts, order, costs, sums, slot, owner, cells, found
):  # fmt: skip
    """Least loss of sets with what is in their slots; of pairs that cost up to `most`."""
    begin, end = np.empty(cells, np.int64), np.empty(cells, np.int64)
    used = 0
    for c in range(cells):
        begin[used], end[used], owner[used] = starts[slot[c]], starts[slot[c] + 1], owner[c]
        prefetch(order, begin[used])
        used += np.int64(end[used] > begin[used])
    found[2] += cells
    for c in range(used):
        h = owner[c]
        found[2] += end[c] - begin[c]
        for place in range(begin[c], end[c]):
            q = order[place]
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
