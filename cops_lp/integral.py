"""The best 0/1 mask, proven: only weights near the threshold can differ from the relaxation.

For multipliers λ ≥ 0 and a threshold μ with reduced costs r = c + Aᵀλ − μ, let a mask's *loss* be
the dual bound less its target. For a mask m of k weights

    loss(m) = Σ |r_i| [m_i is not on the side of r_i] + λᵀ(A m − b),

so a mask that meets the floors and loses less than Δ differs from the sign of r only at weights
whose |r| sum up to less than Δ. All such sets are walked through, for a Δ that grows until it
reaches the least loss found. Ours; cores of knapsack problems go back to Balas and Zemel (1980),
joining two lists of subsets to Horowitz and Sahni (1974).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from .engine.driver import Relaxation
from .engine.nearest import weights_within
from .engine.stores import Store
from .engine.threads import map_parts
from .kernels import subsets as kernel
from .rounding import Rounded

__all__ = ["Core", "Search", "prove_mask", "search_core"]

_WEIGHTS = 512  # in the core at first
_MOST = 1 << 16

_FIRST, _GROWTH = 12, 1.25  # items whose subsets are looked at first, and by what they grow
_LISTED = 1 << 22  # subsets kept at once by a thread
_QUARTERED = 140  # items from which four parts are better than two
_SPLITS = (3, 4, 6, 8, 12, 16, 24, 32)  # one item in so many goes to the list
_LEVELS = (1.0, 0.4, 0.16, 0.06, 0.02)  # of the limit: what a set may leave to its partner
_STEPS = 20_000_000  # between looks at the clock
_ROUNDING = 2.0**-50  # of the absolute entries: what a sum of some of them may be off by


def prove_mask(
    store: Store,
    found: Relaxation,
    rounded: Rounded,
    floors: np.ndarray,
    slack: np.ndarray,
    bound: float,
    deadline: float,
    threads: int,
) -> tuple[float, int]:
    """Turn the mask into the best one, and return what no mask can beat.

    Parameters
    ----------
    store, found
        The scores, and the relaxation's optimum over them.
    rounded : Rounded
        A mask of k weights; changed where a better one is found.
    floors, slack : ndarray of float64, shape (K,)
        Lacks up to `slack` count as none.
    bound : float
        The relaxation's.
    deadline : float
    threads : int

    Returns
    -------
    integer_bound : float
        The mask's own target where it is proven to be the best.
    passes : int
        How often the scores were read: once, as a rule.
    """
    multipliers = found.multipliers + found.multipliers_rest
    passes, width = 0, 0.0
    while True:
        if time.perf_counter() >= deadline:
            return bound, passes
        near, more = weights_within(
            store,
            found.candidates,
            multipliers,
            found.threshold,
            rounded.mask,
            rounded.changed,
            count=_WEIGHTS,
            width=width,
        )
        passes += more
        index = np.arange(store.size) if near.index is None else near.index
        scores = near.scores.astype(np.float64)
        reduced = scores[0] + multipliers @ scores[1:] - found.threshold
        within = near.width
        if len(index) > _MOST:  # masses of ties; sets of them are proven as far as they reach
            within = min(within, float(np.partition(np.abs(reduced), _MOST)[_MOST]))
            inside = np.argsort(np.abs(reduced), kind="stable")[:_MOST]
        else:
            inside = np.flatnonzero(np.abs(reduced) <= within)
        index, scores, reduced = index[inside], scores[:, inside], reduced[inside]
        totals = rounded.totals
        lack = rounded.lacks(floors)
        met = bool(np.all(_sums(lack) <= slack))
        search = search_core(
            Core(index, scores, reduced, rounded.mask[index], within),
            multipliers,
            lack,
            slack,
            bound - float(totals[0]) if met else math.inf,
            deadline,
            threads,
        )
        if search.kept is not None:
            turned = search.kept != rounded.mask[index]
            rounded.turn(index[turned], scores[:, turned])
        if search.wanted <= within or within < near.width or passes > 3:
            break
        width = search.wanted
    own = float(rounded.totals[0])
    least = max(search.least, 0.0)  # below 0 for masks that lack what counts as rounding
    if search.kept is None and not met:
        return bound - least, passes
    return (own if search.proven else max(own, bound - least)), passes


@dataclass(frozen=True, slots=True)
class Core:
    """The weights nearest to the threshold, and what the mask does with the rest.

    Attributes
    ----------
    index : ndarray of int64, shape (n,)
        Flat indices.
    scores : ndarray of float64, shape (1 + K, n)
    reduced : ndarray of float64, shape (n,)
        r.
    kept : ndarray of bool, shape (n,)
        The mask that is known.
    width : float
        Every weight with |r| up to this is in the core; ∞ where all are.
    """

    index: np.ndarray
    scores: np.ndarray
    reduced: np.ndarray
    kept: np.ndarray
    width: float


@dataclass(frozen=True, slots=True)
class Search:
    """What the search found.

    Attributes
    ----------
    kept : ndarray of bool, shape (n,), or None
        The core's part of the best mask; None where none better than the known one was found.
    least : float
        No mask that meets the floors loses less, but for the best one found.
    wanted : float
        How wide a core the proof needs, where this one was too narrow; else 0.
    proven : bool
        Whether no mask that meets the floors loses less than the best one found, or known.
    """

    kept: np.ndarray | None
    least: float
    wanted: float
    proven: bool = False


def search_core(
    core: Core,
    multipliers: np.ndarray,
    lack: np.ndarray,
    slack: np.ndarray,
    loss: float,
    deadline: float,
    threads: int = 1,
) -> Search:
    """Find the mask that loses least among those that differ within a core.

    Parameters
    ----------
    core : Core
    multipliers : ndarray of float64, shape (K,), ≥ 0
    lack : ndarray of float64, shape (K, any)
        Parts of b − A m of the known mask.
    slack : ndarray of float64, shape (K,), ≥ 0
        A lack up to this counts as none.
    loss : float
        The known mask's; ∞ where it misses a floor.
    deadline : float
        On ``time.perf_counter``'s clock; ∞ for none.
    threads : int
        Two are of use; what is found does not depend on it.

    Returns
    -------
    Search

    Notes
    -----
    The number of subsets that cost up to Δ grows like exp(1.8 √n) with the n weights nearer to
    the threshold than Δ, and each control multiplies how many must be looked at: docs/integral.md
    has times. Each thread lists up to 2^22 sets, some 100 bytes each; thousands, as a rule.
    """
    items = _Items(core)
    count = float(int(core.kept.sum()) - int(items.base.sum()))
    need = np.concatenate(([count], _sums(_exchanged(core, lack, items.base))))
    how = (items, core.width, need, multipliers, slack)
    found = _search(*how, _Best(loss), deadline, threads, with_doubtful=True)
    if found.kept is None or _meets(core, lack, found.kept, slack):
        return found
    # Large entries cancel, and a set met the floors by rounding only: none loses less, though.
    sure = _search(*how, _Best(loss), deadline, threads, with_doubtful=False)
    kept = sure.kept if sure.kept is not None and _meets(core, lack, sure.kept, slack) else None
    return Search(kept, found.least, found.wanted)


def _search(
    items: _Items,
    width: float,
    need: np.ndarray,
    multipliers: np.ndarray,
    slack: np.ndarray,
    best: _Best,
    deadline: float,
    threads: int,
    *,
    with_doubtful: bool,
) -> Search:
    """Walk through the sets of more and more items, with those that may or that surely meet b."""
    n, count = len(items.cost), _FIRST
    least = 0.0
    spent = 0.0
    while True:
        size = min(count, n)
        limit = float(items.cost[size]) if size < n else width
        start = time.perf_counter()
        # The next round takes several times as long as the last one.
        if start + 4.0 * spent > deadline:
            return best.search(items, least, 0.0)
        rounding = _ROUNDING * (np.abs(need[1:]) + np.abs(items.entries[:size, 1:]).sum(axis=0))
        rounding = np.where(rounding > 0.25 * slack, rounding, 0.0)
        doubt = 0.5 * slack + (rounding if with_doubtful else -rounding)
        done = _walk(items, size, limit, need, multipliers, doubt, best, deadline, threads)
        spent = time.perf_counter() - start
        if not done:
            return best.search(items, least, 0.0)
        least = limit
        if best.loss <= limit or limit == math.inf:
            return best.search(items, min(least, best.loss), 0.0, proven=best.loss < math.inf)
        if size == n:
            return best.search(items, least, min(best.loss, 4.0 * width))
        count = math.ceil(count * _GROWTH)


def _sums(parts: np.ndarray) -> np.ndarray:
    """Each row's sum, rounded once."""
    return np.array([math.fsum(row) for row in parts.tolist()])


def _exchanged(core: Core, lack: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Parts of what another choice in the core lacks to the floors."""
    return np.hstack((lack, core.scores[1:, core.kept], -core.scores[1:, kept]))


def _meets(core: Core, lack: np.ndarray, kept: np.ndarray, slack: np.ndarray) -> bool:
    return bool(np.all(_sums(_exchanged(core, lack, kept)) <= slack))


class _Items:
    """Weights by their cost; of equal ones the next to change sides first."""

    def __init__(self, core: Core) -> None:
        cost = np.abs(core.reduced)
        self.base = core.reduced > 0.0
        turn = np.where(self.base, -core.index, core.index)
        self.order = np.lexsort((turn, *core.scores, cost))
        self.cost = cost[self.order]
        rows = core.scores[:, self.order]
        self.after = np.zeros(len(cost), dtype=bool)
        self.after[1:] = (rows[:, 1:] == rows[:, :-1]).all(axis=0)
        sign = np.where(self.base[self.order], -1.0, 1.0)
        self.entries = np.ascontiguousarray((np.vstack((np.ones_like(sign), rows[1:])) * sign).T)

    def parts(self, size: int, count: int) -> list[np.ndarray]:
        """The first items dealt out to so many parts, copies together."""
        group = np.cumsum(~self.after[:size])
        return [np.flatnonzero(group % count == part) for part in range(count)]


class _Best:
    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.items: np.ndarray | None = None

    def search(self, items: _Items, least: float, wanted: float, *, proven: bool = False) -> Search:
        kept = None
        if self.items is not None:
            kept = items.base.copy()
            turned = items.order[self.items]
            kept[turned] = ~kept[turned]
        return Search(kept, least, wanted, proven)


def _walk(
    items: _Items,
    size: int,
    limit: float,
    need: np.ndarray,
    multipliers: np.ndarray,
    doubt: np.ndarray,
    best: _Best,
    deadline: float,
    threads: int,
) -> bool:
    """Look at all sets of the first items that cost up to the limit; False if time ran out."""
    limit = min(limit, best.loss)

    def join(job: _Job) -> tuple[bool | None, _Best]:
        own = _Best(best.loss)  # not the others': what is found must not depend on who is first
        table = _Table.of(items, job.listed, job.most * limit, multipliers, doubt, limit)
        if table is None:
            return None, own
        question = _Question(items, need, multipliers, doubt, own, deadline)
        return question.join(job.walked, table, job.over * limit, job.cap * limit, limit), own

    for jobs in (_jobs(items, size), *([_split(items, size, split)] for split in _SPLITS)):
        joined = map_parts(join, jobs, threads)
        if all(done is not None for done, _ in joined):
            break  # else masses of ties: too many sets that cost next to nothing
    for _, own in joined:
        if own.loss < best.loss:
            best.loss, best.items = own.loss, own.items
    return all(done for done, _ in joined)


@dataclass(frozen=True, slots=True)
class _Job:
    """Join sets of some items that cost more than `over`, up to `cap`, with listed ones of others.

    These cost up to `most`. Costs are shares of what the two may cost together.
    """

    walked: np.ndarray
    over: float
    cap: float
    listed: np.ndarray
    most: float


def _split(items: _Items, size: int, split: int) -> _Job:
    parts = items.parts(size, split)
    return _Job(np.sort(np.concatenate(parts[1:])), -1.0, 1.0, parts[0], 1.0)


def _jobs(items: _Items, size: int) -> list[_Job]:
    """Joins that together look at every set.

    One of a set's two halves costs at most 1/2, and is looked up. The number of sets grows steeply
    with their cost, so with many items it pays to have four quarters: then in one of the three
    ways to pair them both halves cost at most 0.7, unless one quarter costs more than 0.55. For
    with v the costs in descending order, v_2 + v_3 ≤ 2/3, and v_1 + v_4 > 0.7 with
    v_4 ≤ (1 − v_1) / 3 needs v_1 > 0.55.
    """
    if size < _QUARTERED:
        left, right = items.parts(size, 2)
        return [_Job(left, -1.0, 1.0, right, 0.5), _Job(right, 0.5, 1.0, left, 0.5)]
    quarters = items.parts(size, 4)
    jobs = []
    for mate in (1, 2, 3):
        left = np.sort(np.concatenate((quarters[0], quarters[mate])))
        right = np.sort(np.concatenate([quarters[j] for j in (1, 2, 3) if j != mate]))
        jobs += [_Job(left, -1.0, 0.7, right, 0.5), _Job(right, 0.5, 0.7, left, 0.5)]
    for j, quarter in enumerate(quarters):
        rest = np.sort(np.concatenate(quarters[:j] + quarters[j + 1 :]))
        jobs += [_Job(rest, -1.0, 0.45, quarter, 0.8), _Job(quarter, 0.8, 1.0, rest, 0.2)]
    return jobs


@dataclass(frozen=True, slots=True)
class _Question:
    """What sets are looked for, and the best one so far."""

    items: _Items
    need: np.ndarray
    multipliers: np.ndarray
    doubt: np.ndarray
    best: _Best
    deadline: float

    def join(
        self, walked: np.ndarray, table: _Table, over: float, cap: float, limit: float
    ) -> bool:
        """Look at a part's sets that cost more than `over`, up to `cap`, with all of a table's."""
        items, best, n = self.items, self.best, len(walked)
        m = items.entries.shape[1]
        cost, after, entries = items.cost[walked], items.after[walked], items.entries[walked]
        chosen = np.zeros(n + 2, dtype=np.int64)
        stack, own_cost, rest = np.full(n + 1, -1), np.zeros(n + 1), np.empty((n + 1, m))
        rest[0] = self.need
        cursor = np.array([0, 0, 1])
        while cursor[0] >= 0:
            if time.perf_counter() > self.deadline:
                return False
            limit = min(limit, best.loss)
            loss = kernel.join_subsets(
                cost, after, entries, over, cap, limit, best.loss,
                self.multipliers, self.doubt,
                table.axes, table.reach, table.per, table.seen, table.offsets, table.starts,
                table.costs, table.sums,
                stack, own_cost, rest, cursor, _STEPS, chosen,
            )  # fmt: skip
            if loss < best.loss:
                depth = int(chosen[0])
                own_items = walked[chosen[1 : 1 + depth]]
                best.loss = loss
                best.items = np.concatenate((own_items, table.subset(int(chosen[1 + depth]))))
        return True


def _cells(prices: np.ndarray, doubt: np.ndarray, reach: float) -> np.ndarray:
    """Cells per unit of each control's sums, where `reach` is left; 0: one in all."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        per = 1.0 / (reach / prices + np.maximum(doubt, 0.0))
    return np.where((per > 0.0) & (per < math.inf), per, 0.0)


class _Table:
    """Listed subsets by their count and the cells of up to two controls' sums.

    A partner exceeds a floor by less than limit / λ_j, and lacks at most what is in doubt: the
    controls for which this is the smallest part of how the sums spread say most about which
    subsets can be partners. Cells as wide as that, so that a set looks into a few of them.
    """

    def __init__(
        self,
        listed: np.ndarray,
        costs: np.ndarray,
        sums: np.ndarray,
        origin: tuple[np.ndarray, np.ndarray],
        spreads: np.ndarray,
        prices: np.ndarray,
        doubt: np.ndarray,
        limit: float,
    ) -> None:
        self._listed, (self._parent, self._last) = listed, origin
        self.axes = np.ones(2, dtype=np.int64)
        with np.errstate(over="ignore"):
            telling = spreads * _cells(prices, doubt, limit)
        used = np.argsort(-telling, kind="stable")[:2]
        self.axes[: len(used)] = 1 + used
        # Most sets leave little room: for them a level of few partners, which stays in the cache.
        self.reach = limit * np.array(_LEVELS)
        self.per = np.zeros((len(_LEVELS), 2))
        self.seen = np.zeros((len(_LEVELS), kernel.FILTER), dtype=bool)
        sizes, starts, orders = [0], [], []
        done = 0
        for level, reach in enumerate(self.reach):
            inside = np.flatnonzero(costs <= reach) if level else np.arange(len(costs))
            per = _cells(prices, doubt, reach)
            self.per[level, : len(used)] = np.where(telling[used] > 0.0, per[used], 0.0)
            slots = 1 << max(4, (4 * len(inside)).bit_length())
            places = np.empty(len(inside), dtype=np.int64)
            kernel.find_slots(
                sums[inside], self.axes, self.per[level], slots, places, self.seen[level]
            )
            order = np.lexsort((costs[inside], places))
            starts.append(done + np.searchsorted(places[order], np.arange(slots + 1)))
            orders.append(inside[order])
            sizes.append(slots + 1)
            done += len(inside)
        self.offsets, self.starts = np.cumsum(sizes), np.concatenate(starts)
        self._order = np.concatenate(orders)
        self.costs, self.sums = costs[self._order], sums[self._order]

    @staticmethod
    def of(
        items: _Items,
        listed: np.ndarray,
        cost: float,
        multipliers: np.ndarray,
        doubt: np.ndarray,
        limit: float,
    ) -> _Table | None:
        """Table of the subsets of some items that cost up to `cost`; None if they are too many."""
        m = items.entries.shape[1]
        most = _LISTED
        costs, sums = np.empty(most), np.empty((most, m))
        origin = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
        found = kernel.list_subsets(
            items.cost[listed], items.after[listed], items.entries[listed], cost,
            costs, sums, *origin,
        )  # fmt: skip
        if found > most:
            return None
        sums_of_one = items.entries[:, 1:]
        scale = np.abs(sums_of_one).max(axis=0, initial=0.0)
        scale[scale == 0.0] = 1.0
        spreads = scale * (sums_of_one / scale).std(axis=0)  # squares could overflow
        origin = origin[0][:found].copy(), origin[1][:found].copy()
        listing = listed, costs[:found], sums[:found], origin
        return _Table(*listing, spreads, multipliers, doubt, limit)

    def subset(self, place: int) -> np.ndarray:
        """Items of a subset."""
        found: list[int] = []
        at = int(self._order[place])
        while at > 0:
            found.append(int(self._last[at]))
            at = int(self._parent[at])
        return self._listed[np.array(found, dtype=np.int64)]
