"""Where a rank's weights are in the order of all of them."""

from __future__ import annotations

import numpy as np

__all__ = ["Layout"]

_BEYOND = np.iinfo(np.int64).max


class Layout:
    """The pieces that each rank has, in the order of all weights.

    A rank's weights are its pieces one after the other, in ascending order, so that its own
    order is that of all weights too.

    Parameters
    ----------
    rank : int
        The own one.
    firsts, counts : ndarray of int64, shape (ranks, P)
        Position of each rank's pieces in the order of all weights, and how many weights they
        have; ranks with fewer pieces have empty ones.

    Attributes
    ----------
    size, own_size : int
        Weights of all ranks, and of the own one.
    """

    def __init__(self, rank: int, firsts: np.ndarray, counts: np.ndarray) -> None:
        self.rank = rank
        self.firsts, self.counts = firsts, counts
        self.size, self.own_size = int(counts.sum()), int(counts[rank].sum())
        some = counts[rank] > 0
        self._some = np.flatnonzero(some)
        self._firsts, self._counts = firsts[rank, some], counts[rank, some]
        self._ends = np.cumsum(self._counts)
        self._starts = self._ends - self._counts

    def among_all(self, own: np.ndarray) -> np.ndarray:
        """Positions among all weights of some of the own ones."""
        piece = np.searchsorted(self._ends, own, side="right")
        return np.asarray(own + (self._firsts - self._starts)[piece], dtype=np.int64)

    def among_own(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of some weights, ascending, are own ones, and their positions among these."""
        if not len(self._firsts):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        piece = np.searchsorted(self._firsts, index, side="right") - 1
        inside = (piece >= 0) & (index < (self._firsts + self._counts)[piece])
        places = np.flatnonzero(inside)
        piece = piece[places]
        return places, index[places] - (self._firsts - self._starts)[piece]

    def ranges(self, start: int, stop: int) -> list[tuple[slice, slice]]:
        """Where the own weights of a range are, in it and among the own."""
        found = []
        for first, count, own in zip(
            self._firsts.tolist(), self._counts.tolist(), self._starts.tolist(), strict=True
        ):
            a, b = max(first, start), min(first + count, stop)
            if a < b:
                found.append((slice(a - start, b - start), slice(own + a - first, own + b - first)))
        return found

    def per_piece(self, own: np.ndarray) -> np.ndarray:
        """How many of some of the own weights, ascending, each piece has; shape (P,)."""
        counts = np.zeros(self.counts.shape[1], np.int64)
        ends = np.searchsorted(own, self._ends)
        counts[self._some] = np.diff(ends, prepend=0)
        return counts

    def before(self, counts: np.ndarray) -> np.ndarray:
        """For some weights of each piece, (ranks, P) counts, how many are before the piece."""
        flat = counts.reshape(-1)
        order = np.argsort(np.where(self.counts > 0, self.firsts, _BEYOND).reshape(-1))
        before = np.empty_like(flat)
        before[order] = np.cumsum(flat[order]) - flat[order]
        return before.reshape(counts.shape)

    def part(self, counts: np.ndarray) -> Layout:
        """Layout of some weights of each piece, (ranks, P) counts."""
        return Layout(self.rank, self.before(counts), counts)
