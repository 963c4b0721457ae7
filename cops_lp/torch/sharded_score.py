"""A score of which each rank of a process group has a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cops_lp.pieces import Faults, Pieces, Score, fits_single

from .collectives import Collectives
from .layout import Layout

if TYPE_CHECKING:
    from .sharded_store import ShardedStore

__all__ = ["ShardedScore"]


class ShardedScore(Pieces):
    """A score of which this rank has `own`; reading entries is for all ranks together.

    Parameters
    ----------
    own : Pieces
        This rank's entries; of the same dtype on all ranks.
    layout : Layout
    ranks : Collectives
    shapes, labels
        As of :class:`cops_lp.pieces.Pieces`, for messages: the pieces of the whole score.
    """

    def __init__(
        self,
        own: Pieces,
        layout: Layout,
        ranks: Collectives,
        shapes: Sequence[tuple[int, ...]],
        labels: Sequence[str],
    ) -> None:
        super().__init__(shapes, labels)
        self.own, self.layout, self.ranks = own, layout, ranks
        self._dtype = np.dtype(np.float32 if fits_single(own.dtype) else np.float64)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 where that holds every entry exactly, else float64."""
        return self._dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """See :meth:`Pieces.read`."""

        def work() -> np.ndarray:
            out = np.zeros(stop - start, self._dtype)
            for there, here in self.layout.ranges(start, stop):
                out[there] = self.own[here]
            return out

        return self.ranks.fill("read", work, start, stop)

    def gather(self, index: np.ndarray) -> np.ndarray:
        """See :meth:`Pieces.gather`."""
        order = np.argsort(index, kind="stable")

        def work() -> np.ndarray:
            out = np.zeros(len(index), self._dtype)
            places, own = self.layout.among_own(index[order])
            out[order[places]] = self.own.gather(own)
            return out

        return self.ranks.fill("take", work, index)

    def faults(self) -> Faults:
        """See :meth:`Pieces.faults`."""

        def work() -> np.ndarray:
            nans, infinities, first = self.own.faults()
            if first >= 0:
                first = int(self.layout.among_all(np.array([first]))[0])
            return np.array([nans, infinities, first])

        found = self.ranks.gather("faults", work)
        firsts = found[found[:, 2] >= 0, 2]
        nans, infinities = found[:, :2].sum(axis=0).tolist()
        return Faults(nans, infinities, int(firsts.min(initial=self.size)) if len(firsts) else -1)

    def largest(self) -> float:
        """See :meth:`Pieces.largest`."""
        return float(self.ranks.gather("largest", lambda: np.array([self.own.largest()])).max())

    def own_store(self, scores: Sequence[Score], threads: int) -> ShardedStore:
        """See :meth:`Pieces.own_store`."""
        from .sharded_store import make_sharded_store

        own: list[Score] = [score.own for score in scores if isinstance(score, ShardedScore)]
        assert len(own) == len(scores)
        return make_sharded_store(own, threads, self.layout, self.ranks)
