"""Pairs of sets of items, one of each of two groups of items."""

from __future__ import annotations

import numpy as np

from .items import Items
from .listed import Listed

__all__ = ["Pairs", "most_beside"]

_ROUNDING = 1e-9  # of a limit: more than the order of adding up may change a cost by


class Pairs:
    """Pairs that together cost more than a limit's share `over`, up to its share `cap`.

    Attributes
    ----------
    left, right : Listed
        The latter by ascending cost.
    first, last : ndarray of int64
        Each set on the left is paired with those on the right from `first` to before `last`.
    """

    def __init__(
        self, left: Listed, right: Listed, over: float, cap: float, limit: float, quarters: bool
    ) -> None:
        self.left, self.right = left, right.ordered(np.argsort(right.costs, kind="stable"))
        most = cap * limit - left.costs
        if quarters and limit > 0.0:
            most = np.minimum(most, most_beside(left.costs / limit) * limit)
        costs = self.right.costs
        self.last = np.searchsorted(costs, most + _ROUNDING * limit, "right")
        least = over * limit * (1.0 - _ROUNDING) - left.costs
        self.first = np.searchsorted(costs, least, "right") if over >= 0.0 else 0 * self.last

    @staticmethod
    def of(
        items: Items,
        left: np.ndarray,
        right: np.ndarray,
        over: float,
        cap: float,
        each: float,
        limit: float,
        quarters: bool,
    ) -> Pairs | None:
        """Pairs of sets of two groups of items; None if they are too many to list.

        Parameters
        ----------
        items : Items
        left, right : ndarray of int64
            The groups.
        over, cap, each : float
            What the two cost together, and at most what one does: shares of the limit.
        limit : float
        quarters : bool
            The groups are quarters of all items, and only pairs as in :func:`most_beside` wanted.
        """
        most = each * limit * (1.0 + _ROUNDING)
        lists = Listed.of(items, left, most), Listed.of(items, right, most)
        if lists[0] is None or lists[1] is None:
            return None
        return Pairs(lists[0], lists[1], over, cap, limit, quarters)

    def items(self, left: int, right: int) -> np.ndarray:
        """Items of a pair."""
        return np.concatenate((self.left.items(left), self.right.items(right)))


def most_beside(share: np.ndarray) -> np.ndarray:
    """Most that one quarter of a set costs beside another, in the pairs that are looked for.

    With v the shares of the quarters of a set in descending order, these pairs are v_1 with v_4
    and v_2 with v_3. The lower share l of two is then at most (1 − h)/3 or 1 − 2h, with h the
    higher: v_4 ≤ (1 − v_1)/3, and v_3 ≤ 1 − v_1 − v_2 ≤ 1 − 2 v_2.
    """
    as_lower = np.maximum(1.0 - 3.0 * share, 0.5 - 0.5 * share)
    as_higher = np.maximum((1.0 - share) / 3.0, 1.0 - 2.0 * share)
    return np.where(share <= 1.0 / 3.0, as_lower, as_higher)
