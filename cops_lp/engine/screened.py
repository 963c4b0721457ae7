"""What a screening pass found: sums of what it kept, and the weights that it left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .candidates import CandidateArrays, Candidates
from .columns import Columns

__all__ = ["Screened", "ScreenedArrays", "combined", "ends_of", "largest_sizes"]


class Screened(Protocol):
    """What the driver asks of a pass.

    Of the open weights it knows how many there are, `count`, not where they lie: the position
    of one is its place among them, in the order of all weights.
    """

    @property
    def kept(self) -> int:
        """How many weights were kept."""
        ...

    @property
    def sums(self) -> np.ndarray:
        """The sums of their scores as double-doubles, correctly rounded; shape (1 + K, 2)."""
        ...

    @property
    def magnitudes(self) -> np.ndarray:
        """The sums of their absolute scores, shape (1 + K,)."""
        ...

    @property
    def masses(self) -> Columns:
        """Open weights that were counted."""
        ...

    @property
    def count(self) -> int:
        """How many other weights are open."""
        ...

    @property
    def open_count(self) -> int:
        """How many weights are open, masses included."""
        ...

    def largest(self) -> np.ndarray:
        """Of each score the largest absolute value of an open weight; NaN where one is NaN."""
        ...

    def ends(self, weights: np.ndarray, kept: Any) -> tuple[float, float]:
        """Least combined score of the open weights that are kept, and largest of the others.

        `kept`, a mask of the open weights' store; ∞ and −∞ of none.
        """
        ...

    def write(self, mask: Any, kept: Any) -> None:
        """Write what is kept of the open weights into the mask of all."""
        ...

    def places(self, positions: np.ndarray) -> np.ndarray:
        """Flat indices of open weights; int64."""
        ...

    def candidates(self, index: np.ndarray, scores: np.ndarray, width: float) -> Candidates:
        """All open weights, and others that are given by flat index, with their scores."""
        ...


@dataclass(frozen=True, slots=True)
class ScreenedArrays:
    """What one pass found, in arrays.

    `kept` counts the weights kept; `parts_of_sums`, shape (1 + K, PARTS), are their scores' sums
    to so many parts, `magnitudes`, shape (1 + K,), the sums of the absolute scores; `index`
    (ascending) and `scores` (1 + K, n), float32 or float64, are the open weights, but for
    those of `masses`. Of these `parts` says how many each part of the store has, parts of
    consecutive weights, from `starts[i]` on.
    """

    kept: int
    parts_of_sums: np.ndarray
    magnitudes: np.ndarray
    index: np.ndarray
    scores: np.ndarray
    masses: Columns
    parts: np.ndarray
    starts: np.ndarray

    def arrays(self) -> ScreenedArrays:
        """Itself: what a store of another kind found is put in arrays by its own method."""
        return self

    @property
    def sums(self) -> np.ndarray:
        """See :attr:`Screened.sums`."""
        return self.parts_of_sums[:, :2]

    @property
    def count(self) -> int:
        """See :attr:`Screened.count`."""
        return len(self.index)

    @property
    def open_count(self) -> int:
        """See :attr:`Screened.open_count`."""
        return len(self.index) + int(self.masses.counts.sum())

    def largest(self) -> np.ndarray:
        """See :meth:`Screened.largest`."""
        return largest_sizes(self.scores)

    def ends(self, weights: np.ndarray, kept: Any) -> tuple[float, float]:
        """See :meth:`Screened.ends`."""
        return ends_of(self.scores, weights, np.asarray(kept[: len(self.index)]))

    def write(self, mask: Any, kept: Any) -> None:
        """See :meth:`Screened.write`."""
        mask[self.index] = kept[: len(self.index)]

    def places(self, positions: np.ndarray) -> np.ndarray:
        """See :meth:`Screened.places`."""
        return np.asarray(self.index[positions])

    def candidates(self, index: np.ndarray, scores: np.ndarray, width: float) -> CandidateArrays:
        """See :meth:`Screened.candidates`."""
        if not len(index):
            return CandidateArrays(self.index, self.scores, width)
        index = np.concatenate((self.index, index))
        order = np.argsort(index)
        scores = np.hstack((self.scores, scores.astype(self.scores.dtype)))
        return CandidateArrays(index[order], scores[:, order], width)


def largest_sizes(scores: np.ndarray) -> np.ndarray:
    """Largest absolute value of each row, 0 of none; NaN where one is NaN."""
    return np.asarray(np.maximum(scores.max(axis=1, initial=0.0), -scores.min(axis=1, initial=0.0)))


def ends_of(scores: np.ndarray, weights: np.ndarray, kept: np.ndarray) -> tuple[float, float]:
    """Least combined score where `kept`, and largest elsewhere."""
    s = combined(weights, scores)
    least, largest = s[kept].min(initial=np.inf), s[~kept].max(initial=-np.inf)
    return float(least), float(largest)


def combined(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Σ_j weights_j scores_j, the same bits wherever a column is: no matrix product."""
    total = np.zeros(scores.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # not finite: no use as a threshold
        for weight, row in zip(weights, scores, strict=True):
            total += np.multiply(row, weight, dtype=np.float64)
    return total
