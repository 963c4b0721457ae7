"""Scores of which each rank of a process group has a part, behind the driver's operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cops_lp.engine.columns import Columns
from cops_lp.engine.region import Ellipsoid, Region
from cops_lp.engine.screened import ScreenedArrays
from cops_lp.engine.stores import (
    PARTS,
    ArrayStore,
    Drawn,
    Store,
    exact_parts,
    make_store,
    store_of_open,
)
from cops_lp.kernels.screening import MASS
from cops_lp.pieces import Score, fits_single

from .collectives import Collectives
from .layout import Layout
from .sharded_mask import ShardedMask
from .sharded_screened import ShardedScreened

__all__ = ["ShardedStore", "make_sharded_store"]

_FEW = 1 << 22  # bytes of open weights' scores that every rank gets


class ShardedStore:
    """Stores of a process group's ranks as one; every operation is for all ranks together.

    Decisions are made from the same numbers on every rank, so that all end alike.

    Parameters
    ----------
    own : Store or None
        This rank's weights; None for no weights.
    controls : int
    single : bool
        Whether float32 holds all scores of all ranks exactly.
    layout : Layout
    ranks : Collectives
    """

    def __init__(
        self, own: Store | None, controls: int, single: bool, layout: Layout, ranks: Collectives
    ) -> None:
        self.size, self.controls = layout.size, controls
        self._own, self._layout, self._ranks = own, layout, ranks
        self._dtype = np.dtype(np.float32 if single else np.float64)

    def control_store(self, j: int) -> ShardedStore:
        """See :meth:`cops_lp.engine.stores.Store.control_store`."""
        own = None if self._own is None else self._own.control_store(j)
        return ShardedStore(own, 0, self._dtype == np.float32, self._layout, self._ranks)

    def combined_store(self, weights: np.ndarray) -> ShardedStore:
        """See :meth:`cops_lp.engine.stores.Store.combined_store`."""
        own = None if self._own is None else self._own.combined_store(weights)
        return ShardedStore(own, 0, False, self._layout, self._ranks)

    def retargeted(self, weights: np.ndarray) -> ShardedStore:
        """See :meth:`cops_lp.engine.stores.Store.retargeted`."""
        own = None if self._own is None else self._own.retargeted(weights)
        return ShardedStore(own, self.controls, False, self._layout, self._ranks)

    def new_mask(self) -> ShardedMask:
        """See :meth:`cops_lp.engine.stores.Store.new_mask`; each rank has its part."""
        own: Any = np.empty(0, np.bool_) if self._own is None else self._own.new_mask()
        return ShardedMask(own, self._layout, self._ranks)

    def close(self) -> None:
        """See :meth:`cops_lp.engine.stores.Store.close`."""
        if self._own is not None:
            self._own.close()

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """See :meth:`cops_lp.engine.stores.Store.gather`."""

        def work() -> np.ndarray:
            if index is None:
                places, own = self._layout.among_all(np.arange(self._layout.own_size)), None
            else:
                order = np.argsort(index, kind="stable")
                places, own = self._layout.among_own(index[order])
                places = order[places]
            n = self.size if index is None else len(index)
            out = np.zeros((1 + self.controls, n), self._dtype)
            if self._own is not None:
                out[:, places] = self._own.gather(own)
            return out

        arguments = () if index is None else (index,)
        return self._ranks.fill("scores", work, *arguments).astype(np.float64)

    def total_sizes(self) -> np.ndarray:
        """See :meth:`cops_lp.engine.stores.Store.total_sizes`."""

        def work() -> np.ndarray:
            rows = 1 + self.controls
            return np.zeros(rows) if self._own is None else self._own.total_sizes()

        return np.asarray(self._ranks.gather("total sizes", work).sum(axis=0))

    def draw(
        self,
        base: float,
        units: np.ndarray,
        start: int = 0,
        stop: int | None = None,
        first: int = 0,
    ) -> Drawn:
        """See :meth:`cops_lp.engine.stores.Store.draw`; of all weights, on every rank."""
        assert (start, stop, first) == (0, None, 0)
        rows = 1 + self.controls
        own = Drawn.joined([], rows)

        def count() -> np.ndarray:
            nonlocal own
            if self._own is not None:
                own = Drawn.joined(
                    [
                        self._own.draw(base, units, here.start, here.stop, there.start)
                        for there, here in self._layout.ranges(0, self.size)
                    ],
                    rows,
                )
            return np.array([len(own.index)])

        counts = self._ranks.gather("drawn", count, base, units)[:, 0]
        before, n = int(counts[: self._ranks.rank].sum()), int(counts.sum())

        def work() -> np.ndarray:
            out = np.zeros((rows + 2, n))
            here = slice(before, before + len(own.index))
            out[0, here] = own.index.view(np.float64)
            out[1, here], out[2:, here] = own.upper, own.scores
            return out

        found = self._ranks.fill("sample", work)
        index = np.ascontiguousarray(found[0]).view(np.int64)
        return Drawn.joined([Drawn(index, found[2:], found[1])], rows)

    def screen(
        self, region: Region, mask: ShardedMask | None, masses: np.ndarray | None = None
    ) -> ShardedScreened:
        """See :meth:`cops_lp.engine.stores.Store.screen`."""
        rows = 1 + self.controls
        found: Any = _nothing(rows, masses, self._dtype)

        def work() -> np.ndarray:
            nonlocal found
            if self._own is not None:
                own: Any = self._own.screen(region, None if mask is None else mask.own, masses)
                found = own.arrays()
            numbers = (found.parts_of_sums.ravel(), found.magnitudes, found.largest())
            counts = (found.masses.counts, self._layout.per_piece(found.index))
            real = np.concatenate(numbers, dtype=np.float64).view(np.int64)
            return np.concatenate(([found.kept], real, *counts))

        kept, real, equal, opened = np.split(
            self._ranks.gather("screen", work, *_numbers(region), masses),
            np.cumsum([1, rows * (PARTS + 2), len(found.masses.counts)]),
            axis=1,
        )
        real = np.ascontiguousarray(real).view(np.float64)
        parts, sizes, largest = np.split(real, [rows * PARTS, rows * (PARTS + 1)], axis=1)
        sums = [exact_parts(parts[:, PARTS * j : PARTS * (1 + j)].ravel()) for j in range(rows)]
        return ShardedScreened(
            kept=int(kept.sum()),
            sums=np.array(sums)[:, :2],
            magnitudes=np.array([math.fsum(row) for row in sizes.T.tolist()]),
            masses=Columns(found.masses.scores, equal.sum(axis=0)),
            sizes=largest.max(axis=0),
            own=found,
            counts=opened,
            layout=self._layout,
            opened=self._layout.part(opened),
            ranks=self._ranks,
        )

    def open_store(self, screened: ShardedScreened) -> ShardedStore | ArrayStore:
        """See :meth:`cops_lp.engine.stores.Store.open_store`.

        On every rank a store of all open weights, where these are few; else a sharded one.
        """
        if (1 + self.controls) * screened.count * self._dtype.itemsize <= _FEW:
            return self._whole_store(screened)
        layout = self._layout.part(screened.counts)
        store = store_of_open(screened.own) if layout.own_size else None
        return ShardedStore(store, self.controls, self._dtype == np.float32, layout, self._ranks)

    def _whole_store(self, screened: ShardedScreened) -> ArrayStore:
        """Store of all ranks' open weights, in the memory of each."""

        def work() -> np.ndarray:
            out = np.zeros((1 + self.controls, screened.count), self._dtype)
            places = screened.opened.among_all(np.arange(screened.opened.own_size))
            out[:, places] = screened.own.scores
            return out

        return ArrayStore(tuple(self._ranks.fill("open weights", work)))

    def hand_out(
        self, mask: ShardedMask, screened: ShardedScreened, amounts: np.ndarray, around: int
    ) -> list[np.ndarray]:
        """See :meth:`cops_lp.engine.stores.Store.hand_out`."""
        m = len(amounts)
        layout = self._layout

        def count() -> np.ndarray:
            states = mask.states
            found = np.zeros((m, layout.counts.shape[1]), np.int64)
            ends = np.cumsum(layout.counts[layout.rank])
            for p, (end, size) in enumerate(
                zip(ends.tolist(), layout.counts[layout.rank].tolist(), strict=True)
            ):
                for j in range(m) if size else ():
                    found[j, p] = (states[end - size : end] == MASS * (1 + j)).sum().item()
            return found

        per_piece = self._ranks.gather("count masses", count, amounts, around)
        takes = np.empty(m, np.int64)
        for j in range(m):
            taken = amounts[j] - layout.before(per_piece[:, j])
            takes[j] = np.clip(taken, 0, per_piece[:, j])[layout.rank].sum()

        def work() -> np.ndarray:
            near = np.full((m, 2, around), -1, np.int64)
            if self._own is not None:
                own = self._own.hand_out(mask.own, screened.own, takes, around)
                for j, places in enumerate(own):
                    few = min(int(takes[j]), around)
                    index = layout.among_all(places)
                    near[j, 0, :few] = index[:few]
                    near[j, 1, : len(index) - few] = index[few:]
            return near

        near = self._ranks.gather("hand out", work)
        found = []
        for j in range(m):
            kept, left = (np.sort(each[each >= 0]) for each in (near[:, j, 0], near[:, j, 1]))
            found.append(np.concatenate((kept[max(len(kept) - around, 0) :], left[:around])))
        return found


def make_sharded_store(
    own: Sequence[Score], threads: int, layout: Layout, ranks: Collectives
) -> ShardedStore:
    """Store of all ranks' scores; `own` are this rank's target and controls."""
    store = make_store(own, threads) if own[0].size else None
    single = all(fits_single(score.dtype) for score in own)
    return ShardedStore(store, len(own) - 1, single, layout, ranks)


def _nothing(rows: int, masses: np.ndarray | None, dtype: np.dtype[Any]) -> ScreenedArrays:
    """What a pass over no weights finds."""
    equal = np.empty((rows, 0)) if masses is None else masses
    none = np.empty(0, np.int64)
    return ScreenedArrays(
        kept=0,
        parts_of_sums=np.zeros((rows, PARTS)),
        magnitudes=np.zeros(rows),
        index=none,
        scores=np.empty((rows, 0), dtype),
        masses=Columns(equal.astype(np.float64), np.zeros(equal.shape[1], np.int64)),
        parts=np.empty((0, equal.shape[1]), np.int64),
        starts=none,
    )


def _numbers(region: Region) -> tuple[Any, ...]:
    """What tells a region from another."""
    if isinstance(region, Ellipsoid):
        return (region.center, region.factor, region.beside, region.double)
    return (region.rays, region.double)
