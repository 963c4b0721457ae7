"""The weights of a core as items of sets that change sides, and the best set so far."""

from __future__ import annotations

import numpy as np

__all__ = ["Best", "Items"]


class Items:
    """Weights by their cost; of equal ones the next to change sides first."""

    def __init__(self, index: np.ndarray, scores: np.ndarray, reduced: np.ndarray) -> None:
        cost = np.abs(reduced)
        self.base = reduced > 0.0
        turn = np.where(self.base, -index, index)
        self.order = np.lexsort((turn, *scores, cost))
        self.cost = cost[self.order]
        rows = scores[:, self.order]
        self.after = np.zeros(len(cost), dtype=bool)
        self.after[1:] = (rows[:, 1:] == rows[:, :-1]).all(axis=0)
        sign = np.where(self.base[self.order], -1.0, 1.0)
        self.entries = np.ascontiguousarray((np.vstack((np.ones_like(sign), rows[1:])) * sign).T)

    def parts(self, size: int, count: int) -> list[np.ndarray]:
        """The first items dealt out to so many parts, copies together."""
        group = np.cumsum(~self.after[:size])
        return [np.flatnonzero(group % count == part) for part in range(count)]

    def turned(self, chosen: np.ndarray) -> np.ndarray:
        """Whether each weight of the core is kept where the chosen items change sides."""
        kept = self.base.copy()
        turned = self.order[chosen]
        kept[turned] = ~kept[turned]
        return kept


class Best:
    """The least loss found, and the items that change sides for it; None: the mask known before."""

    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.items: np.ndarray | None = None
