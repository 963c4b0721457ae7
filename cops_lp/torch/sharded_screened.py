"""What a pass over the scores of all ranks found; the open weights stay where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cops_lp.engine.candidates import CandidateArrays, Candidates, distances
from cops_lp.engine.columns import Columns
from cops_lp.engine.screened import ScreenedArrays

from .collectives import Collectives
from .layout import Layout
from .sharded_mask import ShardedMask

__all__ = ["ShardedCandidates", "ShardedScreened"]


@dataclass(frozen=True, slots=True)
class ShardedScreened:
    """:class:`cops_lp.engine.screened.Screened` of all ranks.

    Attributes
    ----------
    kept, sums, magnitudes, masses
        Of all ranks.
    sizes : ndarray of float64, shape (1 + K,)
        What `largest` is.
    own : ScreenedArrays
        What this rank's pass found, by the positions of its own weights.
    counts : ndarray of int64, shape (ranks, P)
        How many weights are open in each piece of `layout`, but for masses.
    layout, opened : Layout
        Of all weights, and of the open ones.
    ranks : Collectives
    """

    kept: int
    sums: np.ndarray
    magnitudes: np.ndarray
    masses: Columns
    sizes: np.ndarray
    own: ScreenedArrays
    counts: np.ndarray
    layout: Layout
    opened: Layout
    ranks: Collectives

    @property
    def count(self) -> int:
        """See :attr:`Screened.count`."""
        return self.opened.size

    @property
    def open_count(self) -> int:
        """See :attr:`Screened.open_count`."""
        return self.opened.size + int(self.masses.counts.sum())

    def largest(self) -> np.ndarray:
        """See :meth:`Screened.largest`."""
        return self.sizes

    def ends(self, weights: np.ndarray, kept: ShardedMask | np.ndarray) -> tuple[float, float]:
        """See :meth:`Screened.ends`."""

        def work() -> np.ndarray:
            return np.array(self.own.ends(weights, self._own_part(kept)))

        found = self.ranks.gather("ends", work, weights)
        return float(found[:, 0].min()), float(found[:, 1].max())

    def write(self, mask: ShardedMask, kept: ShardedMask | np.ndarray) -> None:
        """See :meth:`Screened.write`; each rank its own."""
        self.own.write(mask.own, self._own_part(kept))

    def _own_part(self, kept: ShardedMask | np.ndarray) -> Any:
        """Own part of a mask of the open weights, which may be one on all ranks."""
        if isinstance(kept, ShardedMask):
            return kept.own
        return kept[self.opened.among_all(np.arange(self.opened.own_size))]

    def places(self, positions: np.ndarray) -> np.ndarray:
        """See :meth:`Screened.places`."""
        if not len(positions):
            return np.empty(0, np.int64)
        order = np.argsort(positions)

        def work() -> np.ndarray:
            out = np.zeros(len(positions), np.int64)
            there, here = self.opened.among_own(positions[order])
            out[order[there]] = self.layout.among_all(self.own.index[here])
            return out

        return self.ranks.fill("places", work, positions)

    def candidates(self, index: np.ndarray, scores: np.ndarray, width: float) -> ShardedCandidates:
        """See :meth:`Screened.candidates`."""
        order = np.argsort(index)
        there, here = self.layout.among_own(index[order])
        own = self.own.candidates(here, scores[:, order[there]], width)
        return ShardedCandidates(own, self.layout, self.ranks)


class ShardedCandidates:
    """:class:`cops_lp.engine.candidates.Candidates` of all ranks.

    Parameters
    ----------
    own : CandidateArrays
        This rank's, by the positions of its own weights.
    layout : Layout
    ranks : Collectives
    """

    def __init__(self, own: CandidateArrays, layout: Layout, ranks: Collectives) -> None:
        self._own, self._layout, self._ranks = own, layout, ranks

    @property
    def width(self) -> float:
        """See :attr:`Candidates.width`."""
        return self._own.width

    def nearest(
        self,
        multipliers: np.ndarray,
        threshold: float,
        mask: ShardedMask,
        fractional: np.ndarray,
        count: int,
    ) -> CandidateArrays:
        """See :meth:`Candidates.nearest`; two exchanges."""
        index, scores = self._index, self._own.scores

        distance, inside, kept = np.empty(0), np.empty(0, np.bool_), np.empty(0, np.bool_)

        def work() -> np.ndarray:
            nonlocal distance, inside, kept
            distance = distances(scores, multipliers, threshold)
            inside = np.isin(index, self._layout.among_own(fractional)[1])
            kept = np.array(mask.own[index]) & ~inside
            least = np.full((2, count), np.inf)
            for row, side in zip(least, (kept, ~kept), strict=True):
                some = distance[side]
                if len(some) > count:
                    some = np.partition(some, count - 1)[:count]
                row[: len(some)] = some
            return least

        least = self._ranks.gather("nearest", work, multipliers, threshold, fractional)
        nearest = np.sort(np.concatenate([*least], axis=1), axis=1)
        limit = np.where(kept, nearest[0, count - 1], nearest[1, count - 1])
        return self._gathered(np.flatnonzero((distance <= limit) | inside))

    def gathered(self) -> CandidateArrays:
        """See :meth:`Candidates.gathered`."""
        return self._gathered(np.arange(len(self._index)))

    def check_agree(
        self,
        wider: Candidates,
        multipliers: np.ndarray,
        threshold: float,
        mask: ShardedMask,
        changed: np.ndarray,
    ) -> None:
        """See :meth:`Candidates.check_agree`; each rank compares its own."""
        if not isinstance(wider, ShardedCandidates):
            self.gathered().check_agree(wider, multipliers, threshold, mask, changed)
            return
        others = wider._own

        def work() -> None:
            own = self._layout.among_own(changed)[1]
            self._own.check_agree(others, multipliers, threshold, mask.own, own)

        self._ranks.each("agree", work, multipliers, threshold)

    @property
    def _index(self) -> np.ndarray:
        assert self._own.index is not None
        return self._own.index

    def _gathered(self, chosen: np.ndarray) -> CandidateArrays:
        """Some of each rank's, on all ranks."""
        scores = self._own.scores
        counts = self._ranks.gather("how many", lambda: np.array([len(chosen)]))[:, 0]
        start, n = int(counts[: self._ranks.rank].sum()), int(counts.sum())

        def work() -> np.ndarray:
            index, found = np.zeros(n, np.int64), np.zeros((len(scores), n), scores.dtype)
            index[start : start + len(chosen)] = self._layout.among_all(self._index[chosen])
            found[:, start : start + len(chosen)] = scores[:, chosen]
            return np.concatenate((index.view(np.uint8), found.reshape(-1).view(np.uint8)))

        both = self._ranks.fill("candidates", work)
        index = both[: 8 * n].view(np.int64)
        found = both[8 * n :].view(scores.dtype).reshape(len(scores), n)
        order = np.argsort(index)
        return CandidateArrays(index[order], found[:, order], self.width)
