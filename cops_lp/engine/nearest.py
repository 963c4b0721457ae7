"""The weights nearest to the threshold, to swap where a rounding misses a floor.

Which they are depends on the optimum alone, never on what happened to be open: a region that is
wider by a known width leaves everything within that width open, and where that is not enough
the scores are read once more. The two reads must agree: scores that change between them would
make a mask of neither.
"""

from __future__ import annotations

import math
import time

import numpy as np

from .candidates import CandidateArrays, Candidates, distances
from .failures import NotFiniteError
from .region import Ellipsoid
from .stores import Mask, Store

__all__ = ["NEAREST", "nearest_weights", "weights_within"]

NEAREST = 64
"""Weights on either side of the threshold."""

_SEEN = 4 * NEAREST  # of each side, where more are read
_MANY, _LOOK = 1 << 13, 1 << 11  # candidates of which not all are looked at; by how many


def nearest_weights(
    store: Store,
    candidates: Candidates,
    multipliers: np.ndarray,
    threshold: float,
    mask: Mask,
    fractional: np.ndarray,
    count: int,
    deadline: float,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights nearest to the threshold, NEAREST with x = 1 and as many with x < 1.

    Of the candidates only where the deadline has passed.

    Parameters
    ----------
    store : Store
    candidates : Candidates
    multipliers, threshold
        The optimum's.
    mask : ndarray of bool, shape (d,)
        Where x = 1; anything where x is fractional.
    fractional : ndarray of int64
    count : int
        How many weights have x = 1.
    deadline : float
        On ``time.perf_counter``'s clock: the store is not read after it.

    Returns
    -------
    index : ndarray of int64
        Ascending.
    scores : ndarray of float64, shape (1 + K, len(index))
    passes : int
        How often the store was read.

    Raises
    ------
    NotFiniteError, ChangedError
        Of another read.

    Notes
    -----
    O(nK) for n candidates; O(dK) a pass.
    """
    passes = 0
    while True:
        near = candidates.nearest(multipliers, threshold, mask, fractional, _SEEN + 1)
        distance = distances(near.scores, multipliers, threshold)
        totals = (count, store.size - count)
        places, reached = _chosen(near, distance, _closest(distance), mask, fractional, totals)
        if not math.isfinite(reached):  # of one side there were too few among these
            every = np.arange(len(distance))
            places, reached = _chosen(near, distance, every, mask, fractional, totals)
        everything = near.index is None
        if everything or reached <= candidates.width or time.perf_counter() >= deadline:
            found = near.scores[:, places].astype(np.float64)
            return places if near.index is None else near.index[places], found, passes
        passes += 1
        rank = min(_SEEN, len(distance) - 1)
        enough = float(np.partition(distance, rank)[rank]) if len(distance) else 0.0
        if not math.isfinite(reached):  # too few of them: how far the rest is is not known
            reached = max(enough, 4.0 * candidates.width)
        wider = _read(store, multipliers, threshold, reached)
        candidates.check_agree(wider, multipliers, threshold, mask, fractional)
        candidates = wider


def weights_within(
    store: Store,
    candidates: Candidates,
    multipliers: np.ndarray,
    threshold: float,
    mask: np.ndarray,
    changed: np.ndarray,
    *,
    count: int = 0,
    width: float = 0.0,
) -> tuple[CandidateArrays, int]:
    """All weights within some width of the threshold, and how often the store was read for them.

    At least so wide, and wide enough for about `count` weights. Parameters and errors as in
    :func:`nearest_weights`; `changed` are the weights of which the mask says nothing.
    """
    candidates = candidates.gathered()
    distance = distances(candidates.scores, multipliers, threshold)
    if len(distance) > count:
        width = max(width, 1.5 * float(np.partition(distance, count)[count]))
    elif len(distance):
        width = max(width, 4.0 * float(distance.max()))
    if width <= candidates.width:
        return candidates, 0
    wider = _read(store, multipliers, threshold, width).gathered()
    candidates.check_agree(wider, multipliers, threshold, mask, changed)
    return wider, 1


def _closest(distance: np.ndarray) -> np.ndarray:
    """Positions, ascending, of all that are as near as some hundreds: of many the rest is far."""
    if len(distance) < _MANY:
        return np.arange(len(distance))
    part = distance[:: len(distance) // _LOOK]
    rank = min(len(part) - 1, len(part) * 4 * _SEEN // len(distance))
    return np.flatnonzero(distance <= np.partition(part, rank)[rank])


def _chosen(
    near: CandidateArrays,
    distance: np.ndarray,
    among: np.ndarray,
    mask: Mask,
    fractional: np.ndarray,
    totals: tuple[int, int],
) -> tuple[np.ndarray, float]:
    """Positions of the nearest on either side among some candidates, and how far those reach.

    `among`, ascending, holds all that are as near as any in it. `totals` are how many weights
    have x = 1, and how many not; the reach is infinite where a side's were not enough.
    """
    index = among if near.index is None else near.index[among]
    kept = np.array(mask[index])
    kept &= ~np.isin(index, fractional)
    chosen = []
    reached = 0.0
    for side, total in (
        (among[kept][::-1], totals[0]),  # of equal weights the last is the first to leave
        (among[~kept], totals[1]),
    ):
        order = _first(near.scores, distance, side, NEAREST + 1)
        chosen.append(order[:NEAREST])
        if len(order) > NEAREST:  # what ties with the last one must be there too
            reached = max(reached, float(distance[order[-1]]))
        elif len(order) < total:
            reached = math.inf
    return np.sort(np.concatenate(chosen)), reached


def _first(scores: np.ndarray, distance: np.ndarray, side: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest of some weights, nearest first.

    Of those as near as each other, first one of each kind of equal weights, then a second,
    and so on: swaps need weights that differ. Then in the order of `side`.
    """
    part = distance[side]
    if len(side) > count:
        inside = part <= np.partition(part, count - 1)[count - 1]
        side, part = side[inside], part[inside]
    turn = _turns(scores[:, side]) if len(side) > count else np.zeros(len(side))
    return side[np.lexsort((turn, part))][:count]


def _turns(scores: np.ndarray) -> np.ndarray:
    """For each column, how many before it are equal to it."""
    order = np.lexsort(scores)
    rows = scores[:, order]
    starts = np.concatenate(([True], (rows[:, 1:] != rows[:, :-1]).any(axis=0)))
    place = np.arange(len(order))
    turn = np.empty_like(place)
    turn[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return turn


def _read(store: Store, multipliers: np.ndarray, threshold: float, width: float) -> Candidates:
    """Everything within a width of the threshold; all weights where that can't be told."""
    K = len(multipliers)
    unit = math.ldexp(1.0, min(-math.frexp(width)[1], 1000)) if 0.0 < width < math.inf else 0.0
    with np.errstate(over="ignore"):
        center = np.concatenate(([1.0], multipliers, [threshold])) * unit
    if unit == 0.0 or not np.isfinite(center).all():
        return CandidateArrays(None, _all(store), math.inf)
    factor = np.zeros((K + 1, K + 1))
    factor[K, K] = width * unit
    screened = store.screen(Ellipsoid(center, factor), None)
    if not np.isfinite(screened.largest()).all():
        raise NotFiniteError
    within = math.inf if screened.count == store.size else width
    none = np.empty(0, np.int64)
    return screened.candidates(none, np.empty((1 + K, 0)), within)


def _all(store: Store) -> np.ndarray:
    scores = store.gather(None)
    if not np.isfinite(scores).all():
        raise NotFiniteError
    return scores
