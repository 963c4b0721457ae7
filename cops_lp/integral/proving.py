"""The best 0/1 mask, proven: only weights near the threshold can differ from the relaxation.

For multipliers λ ≥ 0 and a threshold μ with reduced costs r = c + Aᵀλ − μ, let a mask's *loss* be
the dual bound less its target. For a mask m of k weights

    loss(m) = Σ |r_i| [m_i is not on the side of r_i] + λᵀ(A m − b),

so a mask that meets the floors and loses less than Δ differs from the sign of r only at weights
whose |r| sum up to less than Δ. Ours; cores of knapsack problems go back to Balas and Zemel (1980).
"""

from __future__ import annotations

import math
import time

import numpy as np

from ..engine.nearest import weights_within
from ..engine.stores import Store
from ..engine.whole import Relaxation
from ..rounding import Rounded
from .core import Core, search_core, sums_of
from .enumerating import MOST_MASKS, best_of_all

__all__ = ["prove_mask"]

_WEIGHTS = 512  # in the core at first
_MOST = 1 << 16
_FEW_MASKS = 500  # that are tried one by one: fewer than many sets of weights to be searched


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
        if near.width == math.inf and _are_few(rounded, store.size, _FEW_MASKS):
            return _tried(scores, rounded, floors, slack), passes
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
        met = bool(np.all(sums_of(lack) <= slack))
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
    known = search.proven or search.least == math.inf
    untold = not known and near.width == math.inf and time.perf_counter() < deadline
    if untold and _are_few(rounded, store.size, MOST_MASKS):
        return _tried(near.scores.astype(np.float64), rounded, floors, slack), passes
    own = float(rounded.totals[0])
    least = max(search.least, 0.0)  # below 0 for masks that lack what counts as rounding
    if search.kept is None and not met:
        return bound - least, passes
    return (own if search.proven else max(own, bound - least)), passes


def _are_few(rounded: Rounded, d: int, most: int) -> bool:
    """Whether there are so few masks of k of d weights."""
    return d <= most and math.comb(d, int(rounded.mask[np.arange(d)].sum())) <= most


def _tried(scores: np.ndarray, rounded: Rounded, floors: np.ndarray, slack: np.ndarray) -> float:
    """Turn the mask into the best of all; what no mask can beat."""
    kept = np.array(rounded.mask[np.arange(scores.shape[1])])
    best = best_of_all(scores, int(kept.sum()), floors, slack)
    if best is None:
        return -math.inf
    turned = np.flatnonzero(best != kept)
    rounded.turn(turned, scores[:, turned])
    return float(rounded.totals[0])
