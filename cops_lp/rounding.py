"""From the relaxed vertex to a 0/1 mask: exactly k weights, floors met where that can be."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

__all__ = ["Rounded", "assign_fractional", "repair_by_swaps"]

_MOST_ASSIGNMENTS = 5_000
_MOST_SWAPS = 16


class Rounded:
    """A mask that comes from a vertex: what it holds, and where the two differ.

    Parameters
    ----------
    mask : ndarray of bool, shape (d,)
        The weights with x = 1; changed in place.
    kept_sums : ndarray of float64, shape (1 + K, any)
        Parts of each score's sum over them.
    fractional : ndarray of int64, values, scores : ndarray of float64
        The others with x > 0, x there, and their scores, shape (1 + K, f).
    chosen : ndarray of bool, shape (f,)
        Which of them the mask keeps.
    """

    def __init__(
        self,
        mask: np.ndarray,
        kept_sums: np.ndarray,
        fractional: np.ndarray,
        values: np.ndarray,
        scores: np.ndarray,
        chosen: np.ndarray,
    ) -> None:
        self.mask = mask
        mask[fractional] = chosen
        self.changed, self.values = fractional, values
        self._parts = [kept_sums, scores[:, chosen]]

    @property
    def totals(self) -> np.ndarray:
        """What the mask holds of each score, rounded once; shape (1 + K,).

        OverflowError where that is beyond float64.
        """
        return np.array([math.fsum(row) for row in np.hstack(self._parts).tolist()])

    def lacks(self, floors: np.ndarray) -> np.ndarray:
        """Parts of what the mask lacks to floors of shape (K,); shape (K, any)."""
        return np.hstack((floors[:, None], *(-part[1:] for part in self._parts)))

    def turn(self, index: np.ndarray, scores: np.ndarray) -> None:
        """Put weights, given with their scores, on the mask's other side."""
        self.mask[index] = ~self.mask[index]
        self._parts.append(scores * np.where(self.mask[index], 1.0, -1.0))
        new = np.setdiff1d(index, self.changed, assume_unique=True)
        changed = np.concatenate((self.changed, new))
        # Where a whole weight was turned, the vertex has the opposite of the mask.
        values = np.concatenate((self.values, ~self.mask[new]))
        differ = values != self.mask[changed]
        order = np.argsort(changed[differ])
        self.changed, self.values = changed[differ][order], values[differ][order]


def assign_fractional(
    x: np.ndarray, c: np.ndarray, A: np.ndarray, count: int, need: np.ndarray, slack: np.ndarray
) -> np.ndarray:
    """Choose which `count` of the fractional weights the mask keeps.

    Tries every assignment: among those that meet the floors the one with the most of the
    target, otherwise the one that lacks least. With more than 5,000 assignments (the point
    is then no vertex: an interior solver's) the `count` largest x are kept.

    Parameters
    ----------
    x : ndarray of float64, shape (f,)
        The fractional values.
    c : ndarray of float64, shape (f,)
        Their target scores.
    A : ndarray of float64, shape (K, f)
        Their control scores.
    count : int
        How many to keep, 0 ≤ count ≤ f.
    need : ndarray of float64, shape (K,)
        What the floors still lack without any of them.
    slack : ndarray of float64, shape (K,), ≥ 0
        A lack up to this is rounding and counts as none.

    Returns
    -------
    ndarray of bool, shape (f,)
    """
    f = len(x)
    chosen = np.zeros(f, dtype=bool)
    if count == 0:
        return chosen
    if f > 64 or comb(f, count) > _MOST_ASSIGNMENTS:
        chosen[np.argsort(-x, kind="stable")[:count]] = True
        return chosen
    subsets = _subsets(f, count)
    lacks = _lack(need[:, None] - A.take(subsets, axis=1).sum(axis=2), slack)
    chosen[subsets[_first_best(lacks, -c.take(subsets).sum(axis=1))]] = True
    return chosen


@lru_cache(maxsize=16)
def _subsets(f: int, count: int) -> np.ndarray:
    """All choices of `count` of f, one a row, in lexicographic order."""
    rows = np.array(list(combinations(range(f), count)), dtype=np.int64)
    rows = rows.reshape(comb(f, count), count)
    rows.flags.writeable = False  # shared
    return rows


def repair_by_swaps(
    kept: np.ndarray, c: np.ndarray, A: np.ndarray, need: np.ndarray, slack: np.ndarray
) -> np.ndarray:
    """Swap weights near the threshold until the floors are met, or no swap helps.

    Parameters
    ----------
    kept : ndarray of bool, shape (n,)
        The mask on the candidates, the weights nearest to the threshold.
    c, A : ndarray of float64, shapes (n,) and (K, n)
        Their scores.
    need : ndarray of float64, shape (K,)
        What the mask lacks to each floor; ≤ 0 where it is met.
    slack : ndarray of float64, shape (K,), ≥ 0
        A lack up to this is rounding and counts as none.

    Returns
    -------
    ndarray of bool, shape (n,)
        As many True as in `kept`.

    Notes
    -----
    Each step looks at all pairs (one out, one in): the pair that meets all floors at the
    least loss of target, otherwise the pair that leaves the least lack. O(K n²) a step.
    """
    kept = kept.copy()
    need = need.astype(np.float64)
    for _ in range(_MOST_SWAPS):
        lack = float(_lack(need, slack))
        if lack == 0.0:
            break
        out, into = np.flatnonzero(kept), np.flatnonzero(~kept)
        if len(out) == 0 or len(into) == 0:
            break
        # The difference first: a swap of equal weights then changes nothing, not even by rounding.
        left = need[:, None, None] + (A[:, out, None] - A[:, None, into])
        lacks = _lack(left, slack)
        loss = c[out, None] - c[None, into]
        p, q = np.unravel_index(_first_best(lacks, loss), loss.shape)
        if lacks[p, q] >= lack:
            break
        need = left[:, p, q]
        kept[out[p]], kept[into[q]] = False, True
    return kept


def _first_best(lacks: np.ndarray, loss: np.ndarray) -> int:
    """Flat position of the least lack, of these the least loss, of these the first."""
    return int(np.where(lacks == lacks.min(), loss, np.inf).argmin())


def _lack(need: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Sum of the lacks, each over its slack so that scaling a score changes no choice."""
    slack = slack.reshape((-1,) + (1,) * (need.ndim - 1))
    short = need > slack
    if not short.any():
        return np.zeros(need.shape[1:])
    unit = np.where(slack > 0.0, slack, 1.0)
    with np.errstate(over="ignore"):  # a lack beyond float64 is infinitely large
        return np.asarray(np.where(short, need / unit, 0.0).sum(axis=0))
