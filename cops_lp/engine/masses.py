"""Masses: weights that are equal in every score, by the thousands.

Zeros, constant layers, scores of a few bits. Which of them are kept is the tie rule's to say; how
many is one number. So they are counted, not gathered, and a window of a few copies stands for
them: so many are taken to be kept, so many dropped, the copies between are left to the solver.
The optimum of that is one of the whole when no mass that ends up with a positive reduced cost has
copies dropped beyond its window, and none with a negative one copies kept: so always where a window
is neither all kept nor all dropped. Otherwise a coarse problem, in which a copy stands for many,
says where about the windows belong; where that was wrong too, they move, eight times wider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np

from . import doubles

__all__ = [
    "Masses",
    "Windows",
    "combined",
    "count_at_least",
    "find_masses",
    "solve_by_windows",
    "told_signs",
]

_LOOK = 512  # weights looked at first
_OFTEN = 16  # of which so many must be equal to look further
_MOST = 16
_COPIES = 256  # in a window at first
_AROUND = 16  # copies of a coarse problem around which the next finer one's windows lie
_GROWTH = 8
_ROUNDING = 2e-15  # of its terms: a reduced cost that may be 0

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Masses:
    """Scores and sizes of masses.

    Attributes
    ----------
    scores : ndarray of float64, shape (1 + K, m)
        No two columns equal.
    counts : ndarray of int64, shape (m,)
    """

    scores: np.ndarray
    counts: np.ndarray

    def present(self) -> Masses:
        """Those that there are any of."""
        some = self.counts > 0
        return Masses(self.scores[:, some], self.counts[some])


@dataclass(frozen=True, slots=True)
class Windows:
    """What was taken for each mass: `first` copies kept, then `width` left to the solver."""

    first: np.ndarray
    width: np.ndarray

    def copies(self, masses: Masses) -> np.ndarray:
        """The windows' scores, shape (1 + K, Σ width), mass by mass."""
        return np.repeat(masses.scores, self.width, axis=1)

    def counts(self, flags: np.ndarray) -> np.ndarray:
        """How many of each window's copies are flagged; `flags`, shape (Σ width,)."""
        ends = np.concatenate(([0], np.cumsum(flags)))
        stops = np.cumsum(self.width)
        return np.asarray(ends[stops] - ends[stops - self.width])

    def ranks(self, amounts: np.ndarray, copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mass and rank of each fractional copy: those come after the kept ones.

        `copies`, ascending: positions among the windows' copies.
        """
        mass = np.searchsorted(np.cumsum(self.width), copies, side="right")
        before = np.searchsorted(mass, mass)
        return mass, amounts[mass] + np.arange(len(mass)) - before

    def sums(self, scores: np.ndarray) -> np.ndarray:
        """Of what was taken to be kept, double-doubles of shape (len(scores), 2)."""
        counts = [Fraction(int(n)) for n in self.first]
        return doubles.of_fractions(
            sum((n * Fraction(x) for n, x in zip(counts, row, strict=True)), Fraction(0))
            for row in scores.tolist()
        )

    def gap(self, masses: Masses, reduced: np.ndarray) -> float:
        """What the copies outside add to Σ max(0, r) − x r; reduced costs of shape (m,)."""
        beyond = masses.counts - self.first - self.width
        return float(beyond @ np.maximum(reduced, 0.0) + self.first @ np.maximum(-reduced, 0.0))


def find_masses(scores: np.ndarray) -> np.ndarray:
    """Scores of the masses among some weights; shape (1 + K, m), m = 0 to 16.

    `scores`, shape (1 + K, n). One that is missed costs time only. O(1) where a few hundred
    of the weights show none.
    """
    n = scores.shape[1]
    return _repeated(scores[:, :: max(1, n // _LOOK)])


def _repeated(scores: np.ndarray) -> np.ndarray:
    """Columns that occur often, the most frequent first."""
    n = scores.shape[1]
    if n < _OFTEN:
        return scores[:, :0]
    row = np.sort(scores[0])
    if not np.any(row[_OFTEN - 1 :] == row[: n - _OFTEN + 1]):
        return scores[:, :0]
    rows = scores[:, np.lexsort(scores)]
    starts = np.flatnonzero(np.concatenate(([True], (rows[:, 1:] != rows[:, :-1]).any(axis=0))))
    counts = np.diff(starts, append=n)
    order = np.argsort(-counts, kind="stable")[:_MOST]
    return np.ascontiguousarray(rows[:, starts[order[counts[order] >= _OFTEN]]])


def count_at_least(rest: np.ndarray, weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many of some weights have a combined score of at least that of each mass.

    Parameters
    ----------
    rest : ndarray, shape (1 + K, n)
        The weights' scores.
    weights : ndarray of float64, shape (1 + K,)
        Of the scores in the combined one.
    scores : ndarray of float64, shape (1 + K, m)
        The masses' scores.

    Returns
    -------
    ndarray of int64, shape (m,)
    """
    s = combined(weights, rest)
    return np.array([np.count_nonzero(s >= x) for x in combined(weights, scores)], np.int64)


def solve_by_windows(
    above: np.ndarray,
    masses: Masses,
    others: int,
    k: int,
    guess: np.ndarray,
    solve: Callable[[Windows, int], tuple[Found, np.ndarray, np.ndarray, np.ndarray]],
    coarse: Callable[[Windows, np.ndarray, int, int], np.ndarray],
) -> tuple[Found, Windows, np.ndarray]:
    """Solve a problem with masses.

    Parameters
    ----------
    above : ndarray of int64, shape (m,)
        What :func:`count_at_least` says of the n other weights by `guess`.
    masses : Masses
    others : int
        n.
    k : int, 0 ≤ k ≤ n + Σ counts
    guess : ndarray of float64, shape (1 + K,)
        Multipliers of all scores to guess by. They save time only.
    solve : callable
        (windows, how many of the other weights and the copies to keep) to what it found, and of
        the copies where x = 1 and where 0 < x < 1, both of shape (Σ width,); and each mass's
        reduced cost, 0 where that may be rounding, shape (m,).
    coarse : callable
        (windows, copies that stand for each of them, how many weights such a copy, or one of the
        other weights, stands for, how many of all to keep) to the sums of the copies' x, shape
        (m,). What it says saves time only.

    Returns
    -------
    found
        For the windows that hold.
    windows : Windows
    amounts : ndarray of int64, shape (m,)
        How many of each mass have x = 1.
    """
    counts = masses.counts
    width = np.minimum(counts, _COPIES)
    amount = _amounts(above, combined(guess, masses.scores), counts, k)
    first = np.clip(amount - width // 2, 0, counts - width)
    looked = False
    while True:
        windows = Windows(first, width)
        left = k - int(first.sum())
        if not 0 <= left <= others + int(width.sum()):  # compiled code would not look
            raise AssertionError(f"windows that leave {left} of {others} weights and copies")
        found, kept, inside, reduced = solve(windows, left)
        whole, some = windows.counts(kept), windows.counts(kept | inside)
        high = (whole == width) & (first + width < counts) & (reduced > 0.0)
        low = (some == 0) & (first > 0) & (reduced < 0.0)
        if not (high.any() or low.any()):
            return found, windows, first + whole
        if not looked:
            looked = True
            nearer = _narrowed(counts, others, k, coarse)
            if nearer is not None:
                first, width = nearer.first, nearer.width
                continue
        # The new windows hold the point just found, and go on where it stopped.
        wider = np.where(high | low, np.minimum(_GROWTH * width, counts), width)
        first = np.where(high, first + width // 2, first)
        first = np.where(low, first + (width + 1) // 2 - wider, first)
        width, first = wider, np.clip(first, 0, counts - wider)


def _narrowed(
    counts: np.ndarray,
    others: int,
    k: int,
    coarse: Callable[[Windows, np.ndarray, int, int], np.ndarray],
) -> Windows | None:
    """Windows by coarse problems that become finer; None where these contradict each other.

    Parameters as of :func:`solve_by_windows`.
    """
    windows = Windows(np.zeros_like(counts), counts)
    while (widest := int(windows.width.max())) > _COPIES:
        step = -(-widest // _COPIES)
        copies = np.maximum(windows.width // step, 1)
        kept = coarse(windows, copies, step, k - int(windows.first.sum()))
        amount = windows.first + np.rint(kept * (windows.width / copies)).astype(np.int64)
        width = np.minimum(counts, max(_AROUND * step, _COPIES))
        first = np.clip(amount - width // 2, 0, counts - width)
        if not 0 <= k - int(first.sum()) <= others + int(width.sum()):
            return None
        if not width.max() < widest:
            break
        windows = Windows(first, width)
    return windows


def told_signs(weights: np.ndarray, threshold: float, scores: np.ndarray) -> np.ndarray:
    """Reduced costs Σ_j weights_j scores_j − threshold, 0 where rounding hides the sign.

    `scores`, shape (1 + K, m); returns shape (m,).
    """
    sizes = combined(np.abs(weights), np.abs(scores)) + abs(threshold)
    reduced = combined(weights, scores) - threshold
    return np.where(np.abs(reduced) <= _ROUNDING * sizes, 0.0, reduced)


def combined(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Σ_j weights_j scores_j, the same bits wherever a column is: no matrix product."""
    total = np.zeros(scores.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # not finite: no use as a threshold
        for weight, row in zip(weights, scores, strict=True):
            total += np.multiply(row, weight, dtype=np.float64)
    return total


def _amounts(above: np.ndarray, s: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """How many of each mass are among the k largest of some combined scores.

    `above` counts other weights before it, `s` is its own.
    """
    order = np.argsort(-s, kind="stable")
    before = np.empty_like(counts)
    before[order] = np.cumsum(counts[order]) - counts[order]
    return np.asarray(np.clip(k - above - before, 0, counts))
