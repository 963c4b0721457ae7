"""Every set of items that costs up to a limit, as two parts of which one is looked up.

After Horowitz and Sahni (1974), who join two lists of subsets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ..engine.threads import map_parts
from ..kernels import subsets as kernel
from .items import Best, Items
from .table import Table

__all__ = ["Job", "jobs", "walk"]

_QUARTERED = 140  # items from which four parts are better than two
_SPLITS = (3, 4, 6, 8, 12, 16, 24, 32)  # one item in so many goes to the list
_STEPS = 20_000_000  # between looks at the clock


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
    """Look at all sets of the first items that cost up to the limit; False if time ran out."""
    limit = min(limit, best.loss)

    def join(job: Job) -> tuple[bool | None, Best]:
        own = Best(best.loss)  # not the others': what is found must not depend on who is first
        low = (1.0 - job.cap) * limit if job.cap < 1.0 else 0.0
        rooms = low, (1.0 - max(job.over, 0.0)) * limit
        table = Table.of(
            items, job.listed, job.most * limit, need, multipliers, doubt, limit, rooms
        )
        if table is None:
            return None, own
        question = _Question(items, need, multipliers, doubt, own, deadline)
        return question.join(job.walked, table, job.over * limit, job.cap * limit, limit), own

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
    """Join sets of some items that cost more than `over`, up to `cap`, with listed ones of others.

    These cost up to `most`. Costs are shares of what the two may cost together.
    """

    walked: np.ndarray
    over: float
    cap: float
    listed: np.ndarray
    most: float


def _split(items: Items, size: int, split: int) -> Job:
    parts = items.parts(size, split)
    return Job(np.sort(np.concatenate(parts[1:])), -1.0, 1.0, parts[0], 1.0)


def jobs(items: Items, size: int) -> list[Job]:
    """Joins that together look at every set.

    One of a set's two halves costs at most 1/2, and is looked up. The number of sets grows steeply
    with their cost, so with many items it pays to have four quarters: then in one of the three
    ways to pair them both halves cost at most 0.7, unless one quarter costs more than 0.55. For
    with v the costs in descending order, v_2 + v_3 ≤ 2/3, and v_1 + v_4 > 0.7 with
    v_4 ≤ (1 − v_1) / 3 needs v_1 > 0.55.
    """
    if size < _QUARTERED:
        left, right = items.parts(size, 2)
        return [Job(left, -1.0, 1.0, right, 0.5), Job(right, 0.5, 1.0, left, 0.5)]
    quarters = items.parts(size, 4)
    joins = []
    for mate in (1, 2, 3):
        left = np.sort(np.concatenate((quarters[0], quarters[mate])))
        right = np.sort(np.concatenate([quarters[j] for j in (1, 2, 3) if j != mate]))
        joins += [Job(left, -1.0, 0.7, right, 0.5), Job(right, 0.5, 0.7, left, 0.5)]
    for j, quarter in enumerate(quarters):
        rest = np.sort(np.concatenate(quarters[:j] + quarters[j + 1 :]))
        joins += [Job(rest, -1.0, 0.45, quarter, 0.8), Job(quarter, 0.8, 1.0, rest, 0.2)]
    return joins


@dataclass(frozen=True, slots=True)
class _Question:
    """What sets are looked for, and the best one so far."""

    items: Items
    need: np.ndarray
    multipliers: np.ndarray
    doubt: np.ndarray
    best: Best
    deadline: float

    def join(self, walked: np.ndarray, table: Table, over: float, cap: float, limit: float) -> bool:
        """Look at a part's sets that cost more than `over`, up to `cap`, with all of a table's."""
        items, best, n = self.items, self.best, len(walked)
        m = items.entries.shape[1]
        cost, after, entries = items.cost[walked], items.after[walked], items.entries[walked]
        chosen = np.zeros(n + 2, dtype=np.int64)
        stack, own_cost, rest = np.full(n + 1, -1), np.zeros(n + 1), np.empty((n + 1, m))
        rest[0] = self.need
        cursor = np.array([0, -1])
        while cursor[0] >= 0:
            if time.perf_counter() > self.deadline:
                return False
            limit = min(limit, best.loss)
            loss = kernel.join_subsets(
                cost, after, entries, over, cap, limit, best.loss,
                self.multipliers, self.doubt,
                table.axes, table.per, table.starts, table.costs, table.sums, table.near,
                table.reach, table.filter_per, table.offsets, table.words,
                stack, own_cost, rest, cursor, _STEPS, chosen,
            )  # fmt: skip
            if loss < best.loss:
                depth = int(chosen[0])
                own_items = walked[chosen[1 : 1 + depth]]
                best.loss = loss
                best.items = np.concatenate((own_items, table.subset(int(chosen[1 + depth]))))
        return True
