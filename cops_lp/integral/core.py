"""The best choice of the weights in a core: sets that cost more and more, until none can be better.

A mask that meets the floors and loses less than Δ changes sides, against the signs of the reduced
costs, in a set of weights whose costs add up to less than Δ. All such sets are looked at, for a Δ
that grows until it reaches the least loss found.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from .items import Best, Items
from .joins import walk

__all__ = ["Core", "Search", "search_core", "sums_of"]

_FIRST, _GROWTH = 12, 1.25  # items whose subsets are looked at first, and by what they grow
_LAST = 12.0  # times the time of a round to look at all that may be better than the best set
_ROUNDING = 2.0**-50  # of the absolute entries: what a sum of some of them may be off by


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
    has times. Each thread has three lists of up to 2^23 sets, some 60 bytes each; thousands, as
    a rule.
    """
    items = Items(core.index, core.scores, core.reduced)
    count = float(int(core.kept.sum()) - int(items.base.sum()))
    need = np.concatenate(([count], sums_of(_exchanged(core, lack, items.base))))
    how = (items, core.width, need, multipliers, slack)
    found = _search(*how, Best(loss), deadline, threads, with_doubtful=True)
    if found.kept is None or _meets(core, lack, found.kept, slack):
        return found
    # Large entries cancel, and a set met the floors by rounding only: none loses less, though.
    sure = _search(*how, Best(loss), deadline, threads, with_doubtful=False)
    kept = sure.kept if sure.kept is not None and _meets(core, lack, sure.kept, slack) else None
    return Search(kept, found.least, found.wanted)


def _search(
    items: Items,
    width: float,
    need: np.ndarray,
    multipliers: np.ndarray,
    slack: np.ndarray,
    best: Best,
    deadline: float,
    threads: int,
    *,
    with_doubtful: bool,
) -> Search:
    """Walk through the sets of more and more items, with those that may or that surely meet b."""
    n, size = len(items.cost), min(_FIRST, len(items.cost))
    least = 0.0
    while True:
        limit = float(items.cost[size]) if size < n else width
        rounding = _ROUNDING * (np.abs(need[1:]) + np.abs(items.entries[:size, 1:]).sum(axis=0))
        rounding = np.where(rounding > 0.25 * slack, rounding, 0.0)
        doubt = 0.5 * slack + (rounding if with_doubtful else -rounding)
        start = time.perf_counter()
        done = walk(items, size, limit, need, multipliers, doubt, best, deadline, threads)
        end = time.perf_counter()
        if not done:
            return _found(items, best, least, 0.0)
        least = limit
        if best.loss <= limit or limit == math.inf:
            return _found(items, best, min(least, best.loss), 0.0, proven=best.loss < math.inf)
        if size == n:
            return _found(items, best, least, min(best.loss, 4.0 * width))
        # The last round takes about as long as all before it: near the end, go there at once.
        last = int(np.searchsorted(items.cost, best.loss))
        sizes = [min(math.ceil(size * _GROWTH), n)]
        sizes += [last] if last > size and _times_more(size, last) <= _LAST else []
        left = deadline - end
        sizes = [more for more in sizes if _times_more(size, more) * (end - start) <= left]
        if not sizes:
            return _found(items, best, least, 0.0)
        size = sizes[-1]


def _times_more(size: int, more: int) -> float:
    """How many times longer a round with more items takes, as measured."""
    return math.exp(1.15 * (math.sqrt(more) - math.sqrt(size)))


def sums_of(parts: np.ndarray) -> np.ndarray:
    """Each row's sum, rounded once."""
    return np.array([math.fsum(row) for row in parts.tolist()])


def _exchanged(core: Core, lack: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Parts of what another choice in the core lacks to the floors."""
    return np.hstack((lack, core.scores[1:, core.kept], -core.scores[1:, kept]))


def _meets(core: Core, lack: np.ndarray, kept: np.ndarray, slack: np.ndarray) -> bool:
    return bool(np.all(sums_of(_exchanged(core, lack, kept)) <= slack))


def _found(
    items: Items, best: Best, least: float, wanted: float, *, proven: bool = False
) -> Search:
    kept = None if best.items is None else items.turned(best.items)
    return Search(kept, least, wanted, proven)
