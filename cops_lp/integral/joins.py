"""Every set of items that costs up to a limit, as two parts of which one is looked up.

After Horowitz and Sahni (1974), who join two lists of subsets, and Schroeppel and Shamir (1981),
who make one of them from pairs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ..engine.threads import map_parts
from ..kernels.partners import join_pairs
from .items import Best, Items
from .pairs import Pairs
from .table import Table

__all__ = ["Job", "jobs", "walk"]

_QUARTERED = 140  # items from which four parts are better than two
_SPLITS = (3, 4, 6, 8, 12, 16, 24, 32)  # one item in so many goes to the table
_DEAR = 0.6  # share of a set's cost from which one quarter is joined with the rest
_STEPS = 50_000_000  # between looks at the clock


def walk(
    items: Items,
    size: int,
    limit: float,
    need: np.ndarray,
    multipliers: np.ndarray,
    doubt: np.ndarray,
    best: Best,
    deadline: float,
    threads: int,
) -> bool:
    """Look at all sets of the first items that cost up to the limit.

    False if time ran out, or there are more sets than are to be listed.
    """
    limit = min(limit, best.loss)

    def join(job: Job) -> tuple[bool | None, Best]:
        own = Best(best.loss)  # not the others': what is found must not depend on who is first
        if time.perf_counter() > deadline:
            return False, own
        low = (1.0 - job.cap) * limit if job.cap < 1.0 else 0.0
        rooms = low, (1.0 - max(job.over, 0.0)) * limit
        pairs = Pairs.of(
            items, job.left, job.right, job.over, job.cap, job.each, limit, job.quarters
        )
        if pairs is None:
            return False, own  # with fewer items in the table there would be more pairs
        table = Table.of(
            items, job.listed, job.most * limit, need, multipliers, doubt, limit, rooms
        )
        if table is None:
            return None, own
        return _join(pairs, table, need, limit, multipliers, doubt, own, deadline), own

    for joins in (jobs(items, size), *([_split(items, size, split)] for split in _SPLITS)):
        joined = map_parts(join, joins, threads)
        if all(done is not None for done, _ in joined):
            break  # else masses of ties: too many sets that cost next to nothing
    for _, own in joined:
        if own.loss < best.loss:
            best.loss, best.items = own.loss, own.items
    return all(done for done, _ in joined)


@dataclass(frozen=True, slots=True)
class Job:
    """Join pairs of sets of two groups of items with listed sets of the others.

    A pair costs more than `over`, up to `cap`, one set of it up to `each`, and a listed one up to
    `most`: shares of what all of them may cost together. `quarters` is as of :class:`.Pairs`.
    """

    left: np.ndarray
    right: np.ndarray
    over: float
    cap: float
    each: float
    listed: np.ndarray
    most: float
    quarters: bool = False


def _split(items: Items, size: int, split: int) -> Job:
    parts = items.parts(size, split)
    left, right = _together(parts[1::2]), _together(parts[2::2])
    return Job(left, right, -1.0, 1.0, 1.0, parts[0], 1.0)


def _together(parts: list[np.ndarray]) -> np.ndarray:
    return np.sort(np.concatenate(parts))


def jobs(items: Items, size: int) -> list[Job]:
    """Joins that together look at every set.

    One of a set's two halves costs at most 1/2, and is looked up. The number of sets grows steeply
    with their cost, so with many items it pays to have four quarters: with the dearest paired with
    the cheapest, both halves cost at most 0.73, unless one quarter costs more than 0.6, and most
    pairs that cost as much are not to be looked at (:func:`.most_beside`).
    """
    eighths = items.parts(size, 8)
    quarters = [_together([eighths[j], eighths[4 + j]]) for j in range(4)]
    if size < _QUARTERED:
        return [
            Job(quarters[0], quarters[2], -1.0, 1.0, 1.0, _together(quarters[1::2]), 0.5),
            Job(quarters[1], quarters[3], 0.5, 1.0, 1.0, _together(quarters[0::2]), 0.5),
        ]
    joins = []
    cap, rest = _DEAR + (1.0 - _DEAR) / 3.0, 1.0 - _DEAR
    for mate in (1, 2, 3):
        a, b = quarters[0], quarters[mate]
        c, d = (quarters[j] for j in (1, 2, 3) if j != mate)
        joins += [
            Job(a, b, -1.0, cap, _DEAR, _together([c, d]), 0.5, quarters=True),
            Job(c, d, 0.5, cap, _DEAR, _together([a, b]), 0.5, quarters=True),
        ]
    for j, quarter in enumerate(quarters):
        one, two, three = (i for i in range(4) if i != j)
        left = _together([quarters[one], eighths[three]])
        right = _together([quarters[two], eighths[4 + three]])
        joins += [
            Job(left, right, -1.0, rest, rest, quarter, 0.8),
            Job(eighths[j], eighths[4 + j], 0.8, 1.0, 1.0, _together([left, right]), 0.2),
        ]
    return joins


def _join(
    pairs: Pairs,
    table: Table,
    need: np.ndarray,
    limit: float,
    multipliers: np.ndarray,
    doubt: np.ndarray,
    best: Best,
    deadline: float,
) -> bool:
    """Look at all pairs with all of a table's sets; False if time ran out."""
    left, right = pairs.left, pairs.right
    by_sum = np.ascontiguousarray(right.sums[:, [0, *table.axes]].T)
    cursor, found = np.zeros(2, dtype=np.int64), np.zeros(3, dtype=np.int64)
    while cursor[0] < len(left.costs):
        if time.perf_counter() > deadline:
            return False
        limit = min(limit, best.loss)
        loss = join_pairs(
            left.costs, left.sums, pairs.first, pairs.last, right.costs, right.sums, by_sum,
            need, limit, best.loss, multipliers, doubt,
            table.sorted, table.reach, table.filter_per, table.offsets, table.words,
            cursor, _STEPS, found,
        )  # fmt: skip
        if loss < best.loss:
            best.loss = loss
            best.items = np.concatenate((pairs.items(*found[:2]), table.sets.items(found[2])))
    return True
