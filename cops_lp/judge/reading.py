"""Walks over the scores, the relaxed point and the mask, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cops_lp.errors import ProblemError
from cops_lp.problem import Problem

from .selection import TopSum, top_sum

__all__ = ["Scores"]

_BLOCK = 1 << 17  # weights


class Scores:
    """The scores in blocks of float64, scaled by powers of two to at most 1.

    The scaling is exact, so nothing overflows and nothing is rounded. Every block is a copy
    of 10^5 weights; arrays in any order, byte order and alignment are read as they lie.

    Attributes
    ----------
    size : int
        d.
    exponents : ndarray of int, shape (1 + K,)
        Score j is 2^exponents[j] times what the blocks hold.

    Raises
    ------
    ProblemError
        A score holds NaN or an infinity.
    """

    def __init__(self, problem: Problem) -> None:
        self._rows = [_flat(score) for score in problem.scores]
        self.size = problem.size
        self.exponents = np.array([self._exponent(row, problem) for row in self._rows])
        self._top: dict[tuple[int, int], TopSum] = {}

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Walk over (start, scores): scores[j, i] is the scaled score j of weight start + i."""
        for start in range(0, self.size, _BLOCK):
            stop = min(start + _BLOCK, self.size)
            yield start, np.stack([self._scaled(j, start, stop) for j in range(len(self._rows))])

    def points(
        self, mask: Any, indices: np.ndarray, values: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Walk over (scores, x, mask) for x = mask with `values` at the ascending `indices`."""
        flat = _flat(mask)
        for start, scores in self.blocks():
            stop = start + scores.shape[1]
            kept = np.asarray(flat[start:stop])
            x = kept.astype(np.float64)
            first, last = np.searchsorted(indices, (start, stop))
            x[indices[first:last] - start] = values[first:last]
            yield scores, x, kept

    def at(self, index: int) -> np.ndarray:
        """Return the scaled scores of one weight, shape (1 + K, 1)."""
        rows = range(len(self._rows))
        return np.stack([self._scaled(j, index, index + 1) for j in rows])

    def top(self, j: int, k: int) -> TopSum:
        """T_k of scaled score j and the sum of the k absolute values; computed once."""
        if (j, k) not in self._top:
            weights = np.zeros(len(self._rows))
            weights[j] = 1.0
            self._top[j, k] = self.top_of(weights, k)
        return self._top[j, k]

    def top_of(self, weights: np.ndarray, k: int) -> TopSum:
        """T_k of Σ_j weights[j] · scaled score j, and of Σ_j |weights[j]| |scaled score j|."""
        used = np.flatnonzero(weights).tolist()

        def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start in range(0, self.size, _BLOCK):
                stop = min(start + _BLOCK, self.size)
                values = np.zeros(stop - start)
                magnitudes = np.zeros(stop - start)
                for j in used:
                    part = weights[j] * self._scaled(j, start, stop)
                    values += part
                    magnitudes += np.abs(part)
                yield values, magnitudes

        return top_sum(blocks, self.size, k)

    def _scaled(self, j: int, start: int, stop: int) -> np.ndarray:
        block = np.asarray(self._rows[j][start:stop]).astype(np.float64)
        block *= math.ldexp(1.0, -int(self.exponents[j]))
        return block

    def _exponent(self, row: Any, problem: Problem) -> int:
        largest = 0.0
        for start in range(0, self.size, _BLOCK):
            block = np.asarray(row[start : start + _BLOCK]).astype(np.float64)
            most = float(np.abs(block).max())
            if not math.isfinite(most):
                problem.check_finite()
                raise ProblemError("a score held a value that was not finite while it was read")
            largest = max(largest, most)
        return min(max(math.frexp(largest)[1], -1000), 1000)


def _flat(array: Any) -> Any:
    """The entries in C order, to be sliced: a view, or an iterator over what lies otherwise."""
    if not isinstance(array, np.ndarray):
        return array  # pieces, or a mask on a device: flat, and read in ranges
    array = np.asarray(array)
    return array.reshape(-1) if array.flags.c_contiguous else array.flat
