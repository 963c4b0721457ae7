"""Columns: scores with an upper bound, of which a weight is one with u = 1.

n weights that are equal in every score are one column with u = n. How many of them are kept is
one number; which, the tie rule says at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .vertex import Vertex

__all__ = [
    "Columns",
    "exact_sum",
    "find_columns",
    "first_amounts",
    "nearest_to",
    "solve_selection",
    "top_amounts",
]

_LOOK = 512  # weights looked at first
_OFTEN = 16  # of which so many must be equal to look further
_MOST = 16  # columns: more make a pass slower than they make its rest faster


@dataclass(frozen=True, slots=True)
class Columns:
    """Scores and sizes of what is equal in every score.

    Attributes
    ----------
    scores : ndarray of float64, shape (1 + K, m)
        No two columns equal.
    counts : ndarray of int64, shape (m,)
    """

    scores: np.ndarray
    counts: np.ndarray

    def present(self) -> Columns:
        """Those that there are any of."""
        some = self.counts > 0
        return Columns(self.scores[:, some], self.counts[some])

    def joined(self, other: Columns) -> Columns:
        """These, then others."""
        return Columns(
            np.hstack((self.scores, other.scores)), np.concatenate((self.counts, other.counts))
        )

    @staticmethod
    def none(rows: int) -> Columns:
        """No columns of `rows` scores."""
        return Columns(np.empty((rows, 0)), np.empty(0, np.int64))


def find_columns(scores: np.ndarray) -> np.ndarray:
    """Scores that many of some weights share; shape (1 + K, m), m = 0 to 16.

    `scores`, shape (1 + K, n). One that is missed costs time only. O(1) where a few hundred
    of the weights show none.
    """
    scores = scores[:, :: max(1, scores.shape[1] // _LOOK)]
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


def top_amounts(s: np.ndarray, k: float, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the columns that hold the largest k of s, and how much of each.

    `s` and `upper`, shape (n,); k > 0 is at most Σ u. O(n) where all bounds are 1.
    """
    if len(s) and upper.max() == 1.0 == upper.min():
        count = int(k)
        return np.argpartition(-s, count - 1)[:count], np.ones(count)
    return first_amounts(np.argsort(-s, kind="stable"), k, upper)


def first_amounts(order: np.ndarray, k: float, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first columns, in an order of them, that hold k; and how much of each."""
    ends = np.cumsum(upper[order])
    count = min(int(np.searchsorted(ends, k)) + 1, len(order))  # k may be all, rounded
    x = upper[order[:count]].copy()
    x[-1] -= max(ends[count - 1] - k, 0.0)
    return order[:count], x


def exact_sum(values: np.ndarray, amounts: np.ndarray) -> list[float]:
    """Σ amounts · values as three parts; whole amounts below 2^53."""
    single = amounts == 1.0
    terms = values[single].tolist()
    for value, amount in zip(values[~single].tolist(), amounts[~single].tolist(), strict=True):
        product = Fraction(value) * Fraction(amount)
        terms.append(float(product))
        terms.append(float(product - Fraction(terms[-1])))
    parts: list[float] = []
    for _ in range(3):
        parts.append(math.fsum([*terms, *(-part for part in parts)]))
    return parts


def nearest_to(y: np.ndarray, scores: np.ndarray, k: float, upper: np.ndarray) -> Vertex:
    """The top k of the combined control of a certificate y: what comes nearest to the floors."""
    combined = y @ scores[1:]
    top, x = top_amounts(combined, k, upper)
    whole = np.zeros(scores.shape[1])
    whole[top] = x
    return Vertex(
        False,
        np.full(len(y), np.inf),
        np.zeros(len(y)),
        (float(combined[top].min()), 0.0),
        whole >= upper,
        np.empty(0, np.int64),
        np.empty(0),
        certificate=y,
        whole=whole,
    )


def solve_selection(c: np.ndarray, k: int, upper: np.ndarray) -> Vertex:
    """The top k of columns of one score, ties to the lowest index; 0 < k ≤ Σ u."""
    top, x = top_amounts(c, k, upper)
    whole = np.zeros(len(c))
    whole[top] = x
    nothing = np.empty(0)
    return Vertex(
        True,
        nothing,
        nothing,
        (float(c[top].min()), 0.0),
        whole >= upper,
        np.empty(0, np.int64),
        nothing,
        whole=whole,
    )
