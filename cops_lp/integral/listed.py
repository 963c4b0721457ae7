"""All sets of some items up to a cost, in a list."""

from __future__ import annotations

import numpy as np

from ..kernels.subsets import list_subsets
from .items import Items

__all__ = ["Listed"]

_LISTED = 1 << 23  # sets at most


class Listed:
    """Sets of some items.

    Attributes
    ----------
    costs : ndarray of float64, shape (n,)
    sums : ndarray of float64, shape (n, 1 + K)
        Each set's count and sum of each control.
    """

    def __init__(
        self,
        costs: np.ndarray,
        sums: np.ndarray,
        origin: tuple[np.ndarray, np.ndarray, np.ndarray],
        order: np.ndarray | None = None,
    ) -> None:
        self.costs, self.sums = costs, sums
        self._origin, self._order = origin, order

    @staticmethod
    def of(items: Items, which: np.ndarray, cost: float) -> Listed | None:
        """All sets that cost up to `cost`, the empty one first; None if they are too many."""
        costs, sums = np.empty(_LISTED), np.empty((_LISTED, items.entries.shape[1]))
        parent, last = np.empty(_LISTED, dtype=np.int32), np.empty(_LISTED, dtype=np.int32)
        n = list_subsets(
            items.cost[which], items.after[which], items.entries[which], cost,
            costs, sums, parent, last,
        )  # fmt: skip
        if n > _LISTED:
            return None
        return Listed(costs[:n], sums[:n], (which, parent[:n].copy(), last[:n].copy()))

    def ordered(self, order: np.ndarray) -> Listed:
        """Return the same sets, or some of them, in another order; of an unordered list."""
        return Listed(self.costs.take(order), self.sums.take(order, axis=0), self._origin, order)

    def items(self, place: int) -> np.ndarray:
        """Items of one of the sets."""
        which, parent, last = self._origin
        at = place if self._order is None else int(self._order[place])
        found: list[int] = []
        while at > 0:
            found.append(int(last[at]))
            at = int(parent[at])
        return which[np.array(found, dtype=np.int64)]
