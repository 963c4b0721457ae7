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
from .kernels import subsets as kernel
from .rounding import Rounded

__all__ = ["Core", "Search", "prove_mask", "search_core"]

_WEIGHTS = 512  # in the core at first
_MOST = 1 << 16

_FIRST, _GROWTH = 12, 1.25  # items whose subsets are looked at first, and by what they grow
_LISTED = 1 << 19  # subsets kept at once
_BITS = 63  # items that they are made of, at most
_SPLITS = (2, 3, 4, 6, 8, 12, 16, 24, 32)  # one item in so many goes to the list
_STEPS = 20_000_000  # between looks at the clock


def prove_mask(
    store: Store,
    found: Relaxation,
    rounded: Rounded,
    floors: np.ndarray,
    slack: np.ndarray,
    bound: float,
    deadline: float,
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
        near, more = weights_within(
            store, found.candidates, multipliers, found.threshold, count=_WEIGHTS, width=width
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
        lack = floors - totals[1:]
        met = bool(np.all(lack <= slack))
        search = search_core(
            Core(index, scores, reduced, rounded.mask[index], within),
            multipliers,
            lack,
            slack,
            bound - float(totals[0]) if met else math.inf,
            deadline,
        )
        if search.kept is not None:
            turned = search.kept != rounded.mask[index]
            rounded.turn(index[turned], scores[:, turned])
        if search.wanted <= within or within < near.width or passes > 3:
            break
        width = search.wanted
    own = float(rounded.totals[0])
    if search.kept is None and not met:
        return bound - search.least, passes
    return max(own, bound - search.least), passes


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
    """

    kept: np.ndarray | None
    loss: float
    least: float
    wanted: float


def search_core(
    core: Core,
    multipliers: np.ndarray,
    lack: np.ndarray,
    slack: np.ndarray,
    loss: float,
    deadline: float,
) -> Search:
    """Find the mask that loses least among those that differ within a core.

    Parameters
    ----------
    core : Core
    multipliers : ndarray of float64, shape (K,), ≥ 0
    lack : ndarray of float64, shape (K,)
        b − A m of the known mask.
    slack : ndarray of float64, shape (K,), ≥ 0
        A lack up to this counts as none.
    loss : float
        The known mask's; ∞ where it misses a floor.
    deadline : float
        On ``time.perf_counter``'s clock; ∞ for none.

    Returns
    -------
    Search

    Notes
    -----
    The number of subsets that cost up to Δ grows like exp(1.8 √n) with the n weights nearer to
    the threshold than Δ, and each control multiplies how many must be looked at: docs/integral.md
    has times. Up to 2^19 sets are listed, 8 (K + 3) bytes each.
    """
    items = _Items(core)
    need = np.concatenate(
        (
            [float(int(core.kept.sum()) - int(items.base.sum()))],
            [
                math.fsum([wanted, *(row[core.kept]), *(-row[items.base])])
                for wanted, row in zip(lack, core.scores[1:], strict=True)
            ],
        )
    )
    best = _Best(loss)
    n, count = len(items.cost), _FIRST
    least = 0.0
    spent = 0.0
    while True:
        size = min(count, n)
        limit = float(items.cost[size]) if size < n else core.width
        start = time.perf_counter()
        # The next round takes several times as long as the last one.
        if start + 4.0 * spent > deadline:
            return best.search(items, least, 0.0)
        done = _walk(items, size, limit, need, multipliers, 0.5 * slack, best, deadline)
        spent = time.perf_counter() - start
        if not done:
            return best.search(items, least, 0.0)
        least = limit
        if best.loss <= limit or limit == math.inf:
            return best.search(items, min(least, best.loss), 0.0)
        if size == n:
            return best.search(items, least, min(best.loss, 4.0 * core.width))
        count = math.ceil(count * _GROWTH)


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

    def parts(self, size: int, split: int) -> tuple[np.ndarray, np.ndarray]:
        """The first items in two parts, copies together: to walk through, and to list."""
        group = np.cumsum(~self.after[:size])
        listed = group % split == 0
        return np.flatnonzero(~listed), np.flatnonzero(listed)


class _Best:
    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.items: np.ndarray | None = None

    def search(self, items: _Items, least: float, wanted: float) -> Search:
        kept = None
        if self.items is not None:
            kept = items.base.copy()
            turned = items.order[self.items]
            kept[turned] = ~kept[turned]
        return Search(kept, self.loss, least, wanted)


def _walk(
    items: _Items,
    size: int,
    limit: float,
    need: np.ndarray,
    multipliers: np.ndarray,
    doubt: np.ndarray,
    best: _Best,
    deadline: float,
) -> bool:
    """Look at all sets of the first items that cost up to the limit; False if time ran out."""
    K = len(multipliers)
    limit = min(limit, best.loss)
    for split in _SPLITS:
        left, right = items.parts(size, split)
        if len(right) > _BITS:
            continue
        costs, sums = np.empty(_LISTED), np.empty((_LISTED, 1 + K))
        bits = np.empty(_LISTED, dtype=np.uint64)
        found = kernel.list_subsets(
            items.cost[right], items.after[right], items.entries[right], limit, costs, sums, bits
        )
        if found <= _LISTED:
            break
    else:
        return False
    spread = items.entries[:size, 1:].std(axis=0)
    axis = 1 + int(np.argmax(multipliers * spread))
    order = np.lexsort((sums[:found, axis], sums[:found, 0]))
    costs, sums, bits = costs[order], sums[order], bits[order]
    cost, after, entries = items.cost[left], items.after[left], items.entries[left]
    n = len(left)
    chosen = np.zeros(n + 2, dtype=np.int64)
    stack, own_cost, own = np.full(n + 1, -1), np.zeros(n + 1), np.zeros((n + 1, 1 + K))
    cursor = np.array([0, 0, 1])
    while cursor[0] >= 0:
        if time.perf_counter() > deadline:
            return False
        loss = kernel.join_subsets(
            cost, after, entries, limit, best.loss, need, multipliers, doubt, axis, costs, sums,
            stack, own_cost, own, cursor, _STEPS, chosen,
        )  # fmt: skip
        if loss < best.loss:
            depth = int(chosen[0])
            word = int(bits[chosen[1 + depth]])
            taken = [right[j] for j in range(len(right)) if word >> j & 1]
            best.loss = loss
            best.items = np.array([*left[chosen[1 : 1 + depth]], *taken], dtype=np.int64)
            limit = min(limit, loss)
    return True
