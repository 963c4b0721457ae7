"""All subsets of some items up to a cost, to be found by what is wanted of them."""

from __future__ import annotations

import math

import numpy as np

from ..kernels import cells as kernel
from .items import Items
from .listed import Listed

__all__ = ["Table"]

_LEVELS = 5  # of what a set may leave to its partner: a filter each
_WORDS = 0.4  # of a filter to each listed set that it knows: some 16 bits to each of its cells
_ROUGH = 65_000.0  # steps of cost to sort by
_WIDTH = 0.7  # of the limit: what the table's cells are for


class Table:
    """Listed subsets by their count and the cells of up to three controls' sums.

    A partner exceeds a floor by less than limit / λ_j, and lacks at most what is in doubt: the
    controls for which this is the smallest part of how the sums spread say most about which
    subsets can be partners. Cells are about as wide as that, so that a set looks into a few of
    them. Most sets have no partner, which a filter tells from one word; there is one for each of
    some levels of how much a set leaves to its partner, and cells are the narrower the less.

    Attributes
    ----------
    sets : Listed
    sorted, reach, filter_per, offsets, words
        As :func:`cops_lp.kernels.partners.join_pairs` takes them.
    """

    def __init__(
        self,
        sets: Listed,
        telling: np.ndarray,
        cells: _Cells,
        limit: float,
        rooms: tuple[float, float],
    ) -> None:
        costs, sums = sets.costs, sets.sums
        used = np.argsort(-telling, kind="stable")[:3]
        used = used[telling[used] > 0.0]
        self.axes = np.ones(3, dtype=np.int64)
        self.axes[: len(used)] = 1 + used
        per = np.zeros(2)
        per[: len(used)] = cells.per_unit(_WIDTH * limit)[used[:2]]
        starts = np.empty((1 << max(4, len(costs).bit_length())) + 1, dtype=np.int32)
        order = np.empty(len(costs), dtype=np.int32)
        dearest = float(costs.max())
        # Sorting 16 bits takes a fifth of the time.
        rough = (costs * (_ROUGH / dearest)).astype(np.uint16) if dearest > 0.0 else costs
        by_cost = np.argsort(rough, kind="stable")
        kernel.sort_subsets(costs, sums, by_cost, self.axes, per, starts, order)
        near = 1.01 * dearest / _ROUGH
        self.sets, self.sorted = sets, (self.axes, per, starts, order, costs, sums, near)
        low, high = rooms[0], max(rooms[0], min(rooms[1], dearest))
        if high - low > 1e-9 * high:
            self.reach = np.linspace(low, high, _LEVELS + 1)[1:]
        else:
            self.reach = np.array([high])
        within = self.reach * (1.0 + 1e-9)  # a level may be missed by rounding
        within[-1] = max(within[-1], limit)
        self.filter_per = np.zeros((len(within), 3))
        for level, room in enumerate(within):
            self.filter_per[level, : len(used)] = cells.per_unit(room)[used]
        known = np.array([np.count_nonzero(costs <= room) for room in within])
        self.offsets = np.concatenate(([0], np.cumsum(1 + (_WORDS * known).astype(np.int64))))
        self.words = np.zeros(self.offsets[-1], dtype=np.uint64)
        kernel.fill_filters(
            costs, sums, cells.prices, cells.doubt,
            self.axes, within, self.filter_per, self.offsets, self.words,
        )  # fmt: skip

    @staticmethod
    def of(
        items: Items,
        listed: np.ndarray,
        cost: float,
        need: np.ndarray,
        prices: np.ndarray,
        doubt: np.ndarray,
        limit: float,
        rooms: tuple[float, float],
    ) -> Table | None:
        """Table of the subsets of some items that cost up to `cost`; None if they are too many.

        Parameters
        ----------
        items : Items
        listed : ndarray of int64, shape (n,)
            Which.
        cost : float
        need : ndarray of float64, shape (1 + K,)
            What sums of two partners are to be: the count, and at least for each control.
        prices : ndarray of float64, shape (K,), ≥ 0
            Of what a floor is exceeded by.
        doubt : ndarray of float64, shape (K,)
            A lack up to this counts as none.
        limit : float
            What two partners may cost and lose.
        rooms : tuple of float
            The least and the most that a set leaves to its partner.
        """
        sets = Listed.of(items, listed, cost)
        if sets is None:
            return None
        entries = items.entries[:, 1:]
        with np.errstate(over="ignore"):
            scale = np.abs(entries).max(axis=0, initial=0.0)
            scale[scale == 0.0] = 1.0
            spreads = scale * (entries / scale).std(axis=0)  # squares could overflow
            largest = np.abs(need[1:]) + np.abs(entries).sum(axis=0) + np.abs(doubt)
            cells = _Cells(prices, doubt, largest)
            telling = spreads * cells.per_unit(limit)
        return Table(sets, telling, cells, limit, rooms)


class _Cells:
    """Cells of each control's sums, as wide as where a partner's can be.

    Never more of them than the kernels number between `largest` and its negative.
    """

    def __init__(self, prices: np.ndarray, doubt: np.ndarray, largest: np.ndarray) -> None:
        self.prices, self.doubt, self._largest = prices, np.maximum(doubt, 0.0), largest

    def per_unit(self, room: float) -> np.ndarray:
        """Cells per unit where `room` is left to a partner; 0 is one cell in all."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            per = 1.0 / (room / self.prices + self.doubt)
            per = np.minimum(per, kernel.CELLS / self._largest)
        return np.where((per > 0.0) & (per < math.inf), per, 0.0)
