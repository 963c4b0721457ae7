"""Of weights that tie at the threshold, those that leave the floors something to spare.

Where much of the target is equal, masks of the same target abound, and a vertex of the relaxation
is a poor one to round: it may meet floors exactly that others meet with ease. Among the weights
that tie, another linear program asks for the most of the controls whose floors have no price.
"""

from __future__ import annotations

import numpy as np

from .engine.candidates import CandidateArrays, distances
from .engine.exact import scaled_floors, solve_exact
from .engine.failures import OutOfTimeError
from .engine.nearest import NEAREST
from .engine.screened import largest_sizes
from .engine.ties import lowest_first
from .rounding import Rounded, assign_fractional, repair_by_swaps

__all__ = ["spare_ties"]

_ROUNDING = 1e-12  # of its terms: a reduced cost that may be 0
_MOST = 1 << 20  # weights that tie, beyond which none is looked at

_NONE, _NOTHING = np.empty(0, np.int64), np.empty(0)


def spare_ties(
    candidates: CandidateArrays,
    multipliers: np.ndarray,
    threshold: float,
    rounded: Rounded,
    floors: np.ndarray,
    slack: np.ndarray,
    deadline: float,
) -> None:
    """Choose anew among the weights that tie, if that meets the floors.

    Parameters
    ----------
    candidates : CandidateArrays
        All weights that tie at the threshold, and others.
    multipliers : ndarray of float64, shape (K,)
    threshold : float
    rounded : Rounded
        A mask that misses a floor; changed where one is found that misses none.
    floors, slack : ndarray of float64, shape (K,)
        Lacks up to `slack` count as none.
    deadline : float
        On ``time.perf_counter``'s clock: nothing is chosen anew where it comes first.

    Notes
    -----
    The target changes by no more than the price of what floors with a price are exceeded by. One
    exact solve of the weights that tie.
    """
    free = multipliers == 0.0
    distance = distances(candidates.scores, multipliers, threshold)
    sizes = np.append(1.0, multipliers) @ np.abs(candidates.scores) + abs(threshold)
    tied = np.flatnonzero(distance <= _ROUNDING * sizes)
    if not free.any() or not 2 <= len(tied) <= _MOST:
        return
    index = tied if candidates.index is None else candidates.index[tied]
    scores = candidates.scores[:, tied].astype(np.float64)
    before = np.array(rounded.mask[index])
    need = floors - rounded.totals[1:] + scores[1:, before].sum(axis=1)
    try:
        after = _chosen(scores[1:], int(before.sum()), need, slack, free, deadline)
    except OutOfTimeError:
        return
    if after is not None:
        lowest_first(scores, np.arange(len(index)), after, _NONE, _NOTHING)
        rounded.turn(index[before != after], scores[:, before != after])


def _chosen(
    A: np.ndarray,
    count: int,
    need: np.ndarray,
    slack: np.ndarray,
    free: np.ndarray,
    deadline: float,
) -> np.ndarray | None:
    """Choose `count` weights that meet what the floors need, with most of the free controls.

    `A`, shape (K, n); None where none are found.
    """
    exponents = np.frexp(largest_sizes(A))[1]
    unit = np.ldexp(A, -exponents[:, None])
    mean = np.abs(unit[free]).mean(axis=1)
    spare = (unit[free] / np.where(mean > 0.0, mean, 1.0)[:, None]).sum(axis=0)
    spare /= max(float(np.abs(spare).max()), 1.0)
    scores = np.ascontiguousarray(np.vstack((spare, unit)))
    wanted = scaled_floors(need, exponents)
    room = np.ldexp(slack, -exponents)
    parts = np.stack((wanted, np.zeros_like(wanted)), axis=1)
    vertex = solve_exact(scores, count, parts, deadline=deadline)
    if not vertex.feasible:
        return None
    kept, inside = vertex.kept.copy(), vertex.fractional
    left = wanted - scores[1:, kept].sum(axis=1)
    kept[inside] = assign_fractional(
        vertex.values, scores[0, inside], scores[1:, inside], count - int(kept.sum()), left, room
    )
    left = wanted - scores[1:, kept].sum(axis=1)
    if np.any(left > room):
        s = scores[0] + vertex.multipliers @ scores[1:] - float(sum(vertex.threshold))
        near = [
            side[np.argsort(np.abs(s[side]), kind="stable")[:NEAREST]]
            for side in (np.flatnonzero(kept), np.flatnonzero(~kept))
        ]
        some = np.sort(np.concatenate(near))
        kept[some] = repair_by_swaps(kept[some], scores[0, some], scores[1:, some], left, room)
        left = wanted - scores[1:, kept].sum(axis=1)
    return None if np.any(left > room) else kept
