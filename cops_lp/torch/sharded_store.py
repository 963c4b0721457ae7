"""Scores of which each rank of a process group has a part, behind the driver's operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cops_lp.engine.masses import Masses
from cops_lp.engine.region import Ellipsoid, Region
from cops_lp.engine.stores import PARTS, Screened, Store, exact_parts, make_store
from cops_lp.kernels.screening import MASS
from cops_lp.pieces import Faults, Pieces, Score, fits_single

from .collectives import Collectives
from .layout import Layout
from .store import TensorMask

__all__ = ["ShardedMask", "ShardedScore", "ShardedStore"]


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

        return self.ranks.fill(self.ranks.each("read", work, start, stop))

    def gather(self, index: np.ndarray) -> np.ndarray:
        """See :meth:`Pieces.gather`."""
        order = np.argsort(index, kind="stable")

        def work() -> np.ndarray:
            out = np.zeros(len(index), self._dtype)
            places, own = self.layout.among_own(index[order])
            out[order[places]] = self.own.gather(own)
            return out

        return self.ranks.fill(self.ranks.each("take", work, index))

    def faults(self) -> Faults:
        """See :meth:`Pieces.faults`."""

        def work() -> np.ndarray:
            nans, infinities, first = self.own.faults()
            if first >= 0:
                first = int(self.layout.among_all(np.array([first]))[0])
            return np.array([nans, infinities, first])

        found = self.ranks.gather(self.ranks.each("faults", work))
        firsts = found[found[:, 2] >= 0, 2]
        nans, infinities = found[:, :2].sum(axis=0).tolist()
        return Faults(nans, infinities, int(firsts.min(initial=self.size)) if len(firsts) else -1)

    def largest(self) -> float:
        """See :meth:`Pieces.largest`."""
        own = self.ranks.each("largest", lambda: np.array([self.own.largest()]))
        return float(self.ranks.gather(own).max())

    def own_store(self, scores: Sequence[Score], threads: int) -> ShardedStore:
        """See :meth:`Pieces.own_store`."""
        own: list[Score] = [score.own for score in scores if isinstance(score, ShardedScore)]
        assert len(own) == len(scores)
        store = make_store(own, threads) if self.own.size else None
        single = all(fits_single(score.dtype) for score in own)
        return ShardedStore(store, len(scores) - 1, single, self.layout, self.ranks)


class ShardedMask:
    """A mask of which each rank has a part, indexed as an array of all of it would be.

    What is asked for comes to all ranks, which ask together. Writing is each rank's own.

    Attributes
    ----------
    own : ndarray of bool, or TensorMask
        This rank's part.
    ranks : Collectives
    """

    dtype = np.dtype(np.bool_)
    ndim = 1

    def __init__(self, own: np.ndarray | TensorMask, layout: Layout, ranks: Collectives) -> None:
        self.own, self.layout, self.ranks = own, layout, ranks
        self.size = layout.size
        self.shape = (self.size,)

    @property
    def states(self) -> torch.Tensor:
        """The own part as uint8, the same memory."""
        own = self.own
        return own.states if isinstance(own, TensorMask) else torch.from_numpy(own.view(np.uint8))

    def reshape(self, *shape: Any) -> ShardedMask:
        """Return the mask itself: flat is its only shape."""
        if shape in (self.shape, (self.shape,), (-1,)):
            return self
        raise ValueError(f"a sharded mask is flat; wanted shape {self.shape}, not {shape}")

    def any(self) -> bool:
        """Whether it keeps any weight."""
        own = self.ranks.each("any", lambda: np.array([self.states.any().item()], np.uint8))
        return bool(self.ranks.gather(own).any())

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(self.size)
            if step != 1:
                raise IndexError(f"a range with step {step}; wanted 1")
            return self._range(start, max(start, stop))
        key = np.asarray(key)
        order = np.argsort(key, kind="stable")

        def work() -> np.ndarray:
            out = np.zeros(len(key), np.uint8)
            places, own = self.layout.among_own(key[order])
            out[order[places]] = self.own[own]
            return out

        return self.ranks.fill(self.ranks.each("mask at", work, key)).view(np.bool_)

    def __setitem__(self, key: slice | np.ndarray, value: np.ndarray | np.bool_) -> None:
        if isinstance(key, slice):
            start, stop, _ = key.indices(self.size)
            whole = np.broadcast_to(value, stop - start)
            for there, here in self.layout.ranges(start, stop):
                self.own[here] = whole[there]
            return
        key = np.asarray(key)
        order = np.argsort(key, kind="stable")
        places, own = self.layout.among_own(key[order])
        self.own[own] = np.broadcast_to(value, len(key))[order[places]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the mask is on several ranks: an array of it is a copy")
        return np.array(self[:], dtype=dtype)

    def _range(self, start: int, stop: int) -> np.ndarray:
        def work() -> np.ndarray:
            out = np.zeros(stop - start, np.uint8)
            for there, here in self.layout.ranges(start, stop):
                out[there] = self.own[here]
            return out

        return self.ranks.fill(self.ranks.each("mask", work, start, stop)).view(np.bool_)


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

    def new_mask(self) -> ShardedMask:
        """See :meth:`cops_lp.engine.stores.Store.new_mask`; each rank has its part."""

        def work() -> Any:
            return np.empty(0, np.bool_) if self._own is None else self._own.new_mask()

        return ShardedMask(self._ranks.each("new mask", work), self._layout, self._ranks)

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

        what = self._ranks.each("gather", work, *(() if index is None else (index,)))
        return self._ranks.fill(what).astype(np.float64)

    def screen(
        self, region: Region, mask: ShardedMask | None, masses: np.ndarray | None = None
    ) -> Screened:
        """See :meth:`cops_lp.engine.stores.Store.screen`."""
        rows = 1 + self.controls

        def work() -> tuple[Screened, np.ndarray]:
            found = _nothing(rows, masses, self._dtype)
            if self._own is not None:
                found = self._own.screen(region, None if mask is None else mask.own, masses)
            said = np.concatenate(
                (found.parts_of_sums.ravel(), found.magnitudes, [float(found.kept)])
            )
            counts = np.concatenate((found.masses.counts, self._layout.per_piece(found.index)))
            return found, np.concatenate((said.view(np.int64), counts))

        own, said = self._ranks.each("screen", work, *_numbers(region), masses)
        all_said = self._ranks.gather(said)
        sums = rows * PARTS
        real = np.ascontiguousarray(all_said[:, : sums + rows + 1]).view(np.float64)
        m = len(own.masses.counts)
        counts = all_said[:, sums + rows + 1 :]
        opened = self._layout.part(counts[:, m:])
        places = opened.among_all(np.arange(opened.own_size))
        index = np.zeros(opened.size, np.int64)
        index[places] = self._layout.among_all(own.index)
        scores = np.zeros((rows, opened.size), self._dtype)
        scores[:, places] = own.scores
        return Screened(
            kept=int(real[:, -1].sum()),
            parts_of_sums=np.array(
                [exact_parts(real[:, PARTS * j : PARTS * (1 + j)].ravel()) for j in range(rows)]
            ),
            magnitudes=np.array([math.fsum(size) for size in real[:, sums:-1].T.tolist()]),
            index=self._ranks.fill(index),
            scores=self._ranks.fill(scores),
            masses=Masses(own.masses.scores, counts[:, :m].sum(axis=0)),
            parts=own.parts,
            starts=own.starts,
        )

    def hand_out(
        self, mask: ShardedMask, screened: Screened, amounts: np.ndarray, around: int
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

        per_piece = self._ranks.gather(self._ranks.each("count masses", count, amounts, around))
        takes = np.empty(m, np.int64)
        for j in range(m):
            taken = amounts[j] - layout.before(per_piece[:, j])
            takes[j] = np.clip(taken, 0, per_piece[:, j])[layout.rank].sum()

        def work() -> np.ndarray:
            near = np.full((m, 2, around), -1, np.int64)
            if self._own is not None:
                own = self._own.hand_out(mask.own, screened, takes, around)
                for j, places in enumerate(own):
                    few = min(int(takes[j]), around)
                    index = layout.among_all(places)
                    near[j, 0, :few] = index[:few]
                    near[j, 1, : len(index) - few] = index[few:]
            return near

        near = self._ranks.gather(self._ranks.each("hand out", work))
        found = []
        for j in range(m):
            kept, left = (np.sort(each[each >= 0]) for each in (near[:, j, 0], near[:, j, 1]))
            found.append(np.concatenate((kept[max(len(kept) - around, 0) :], left[:around])))
        return found


def _nothing(rows: int, masses: np.ndarray | None, dtype: np.dtype[Any]) -> Screened:
    """What a pass over no weights finds."""
    equal = np.empty((rows, 0)) if masses is None else masses
    none = np.empty(0, np.int64)
    return Screened(
        kept=0,
        parts_of_sums=np.zeros((rows, PARTS)),
        magnitudes=np.zeros(rows),
        index=none,
        scores=np.empty((rows, 0), dtype),
        masses=Masses(equal.astype(np.float64), np.zeros(equal.shape[1], np.int64)),
        parts=np.empty((0, equal.shape[1]), np.int64),
        starts=none,
    )


def _numbers(region: Region) -> tuple[Any, ...]:
    """What tells a region from another."""
    if isinstance(region, Ellipsoid):
        return (region.center, region.factor, region.beside)
    return (region.rays,)
