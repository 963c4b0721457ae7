"""Stores: where scores live, behind the few operations the driver needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from ..kernels.sampling import add_sizes, draw
from ..kernels.screening import BLOCK, LANES, MASS, TILE, screen
from ..pieces import ArrayPieces, Pieces, Score, address_of, fits_single
from .columns import Columns
from .failures import NotFiniteError
from .region import MARGIN, Ellipsoid, Region
from .screened import Screened, ScreenedArrays
from .threads import Beside, map_parts

__all__ = [
    "PARTS",
    "ArrayStore",
    "Drawn",
    "Mask",
    "Prepared",
    "Store",
    "check_magnitudes",
    "exact_parts",
    "make_store",
    "store_of_open",
]

PARTS = 4
"""Of a sum over many weights: two would do here, but not where such sums are added up."""

_PAD = 272  # keeps rows from starting at the same place of a page, where they share cache sets
_MOST = 8  # blocks handed to a thread at once: fewer, and threads wait for one another
_GATHERED = 1 << 17  # scores from which one thread gathers more slowly than two
_FILL = 1 << 23  # weights from which the pages of a mask are made beside the sampling
_SHORT = 4 * TILE  # weights that are worth a call of a kernel
_SAFE = 1e25  # entries within this of 1 can be multiplied in single precision

_T = TypeVar("_T")

Mask: TypeAlias = Any
"""What a store's `new_mask` gives: a bool array of shape (d,), or what is indexed like one by
flat indices and by ``[:]``, reads as one through ``__array__`` and lies where the scores do."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Weights drawn with different probabilities.

    Attributes
    ----------
    index : ndarray of int64, shape (n,), ascending
    scores : ndarray of float64, shape (1 + K, n)
    upper : ndarray of float64, shape (n,)
        One over the probability: how many weights each stands for.
    """

    index: np.ndarray
    scores: np.ndarray
    upper: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Drawn], rows: int) -> Drawn:
        """Some of disjoint ranges together."""
        index = np.concatenate([np.empty(0, np.int64), *(part.index for part in parts)])
        scores = np.hstack([np.empty((rows, 0)), *(part.scores for part in parts)])
        upper = np.concatenate([np.empty(0), *(part.upper for part in parts)])
        order = np.argsort(index)
        return Drawn(index[order], scores[:, order], upper[order])


class Store(Protocol):
    """Scores of `size` weights: a target and `controls` many controls."""

    size: int
    controls: int

    def control_store(self, j: int) -> Store:
        """Store of control j alone."""
        ...

    def combined_store(self, weights: np.ndarray) -> Store:
        """Store of the one score Σ w_j A_j; weights of shape (K,)."""
        ...

    def retargeted(self, weights: np.ndarray) -> Store:
        """Store of the same controls with Σ w_j A_j for a target; weights of shape (K,)."""
        ...

    def new_mask(self) -> Mask:
        """A mask to fill; bool, shape (size,)."""
        ...

    def close(self) -> None:
        """End what may still run for the store."""
        ...

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """Scores at the given flat indices (all when None); float64, shape (1 + K, n)."""
        ...

    def total_sizes(self) -> np.ndarray:
        """Σ |s_ji| of each score, to some ten digits; shape (1 + K,). One read of the scores."""
        ...

    def draw(
        self,
        base: float,
        units: np.ndarray,
        start: int = 0,
        stop: int | None = None,
        first: int = 0,
    ) -> Drawn:
        """Draw weights, each with a probability that grows with its size. One read.

        Weight i from `start` to `stop` is drawn with the largest power of two up to base +
        Σ_j units_j |s_ji|, or surely; whether it is, a hash of its index says, which is
        first + i - start: the sample is the same wherever the scores lie.
        """
        ...

    def screen(
        self, region: Region, mask: Mask | None, masses: np.ndarray | None = None
    ) -> Screened:
        """Decide every weight whose side is the same on all of the region; one read of the scores.

        `mask` (bool, shape (size,)), where given, becomes True where a weight is kept. Open
        weights that are equal to a column of `masses`, shape (1 + K, m), are counted: what
        the mask says of them is for :meth:`hand_out` to write.

        OverflowError where what is kept sums to more than float64 holds, NotFiniteError where
        it is NaN: NaN is never kept, so a score has changed meanwhile.
        """
        ...

    def open_store(self, screened: Any) -> Store:
        """Store of the weights that the last :meth:`screen` left open, but for masses."""
        ...

    def hand_out(
        self, mask: Mask, screened: Any, amounts: np.ndarray, around: int
    ) -> list[np.ndarray]:
        """Keep the first `amounts[j]` weights of each mass of the last :meth:`screen`.

        Returns for each mass the flat indices of `around` weights before the first that is
        not kept, and of as many from it on; fewer where there are fewer. Reads the mask only.
        """
        ...


class ArrayStore:
    """NumPy arrays and memory maps, read in place block by block.

    Parameters
    ----------
    scores : sequence of ndarray or ArrayPieces
        Target and controls, all of one shape and any supported dtype.
    threads : int
        How many threads screen; the result does not depend on it.
    """

    def __init__(self, scores: Sequence[Score], threads: int = 1) -> None:
        self.size = scores[0].size
        self.controls = len(scores) - 1
        self._scores = scores
        self._threads = threads
        self._filling: Beside | None = None
        # Open weights are copied: in single precision where that holds every score exactly.
        single = all(fits_single(score.dtype) for score in scores)
        self._dtype = np.dtype(np.float32 if single else np.float64)
        self._flat: list[Any] = [_flat(score) for score in scores]

    def control_store(self, j: int) -> ArrayStore:
        """See :meth:`Store.control_store`."""
        return ArrayStore((self._scores[1 + j],), self._threads)

    def combined_store(self, weights: np.ndarray) -> ArrayStore:
        """See :meth:`Store.combined_store`; the sums are formed block by block."""
        view = ArrayStore((self._scores[0],), self._threads)
        view._dtype = np.dtype(np.float64)
        view._flat = [_Combined(self._flat[1:], weights)]
        return view

    def retargeted(self, weights: np.ndarray) -> ArrayStore:
        """See :meth:`Store.retargeted`; the sums are formed block by block."""
        view = ArrayStore(self._scores, self._threads)
        view._dtype = np.dtype(np.float64)
        view._flat = [_Combined(self._flat[1:], weights), *self._flat[1:]]
        return view

    def new_mask(self) -> np.ndarray:
        """See :meth:`Store.new_mask`.

        Two threads that take a large mask's page faults stand in each other's way: a thread
        of its own takes them while the calling one samples.
        """
        mask = np.empty(self.size, dtype=bool)
        if self._threads > 1 and self.size >= _FILL:
            self._filling = Beside(lambda: mask.fill(False))
        return mask

    def close(self) -> None:
        """See :meth:`Store.close`."""
        if self._filling is not None:
            self._filling.join()
            self._filling = None

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """See :meth:`Store.gather`."""
        n = self.size if index is None else len(index)
        out = np.empty((1 + self.controls, n))

        def fill(j: int) -> None:
            out[j] = self._flat[j][:] if index is None else self._flat[j][index]

        map_parts(fill, range(len(out)), self._threads if out.size >= _GATHERED else 1)
        return out

    def total_sizes(self) -> np.ndarray:
        """See :meth:`Store.total_sizes`."""

        def add(start: int, stop: int, room: np.ndarray | None) -> np.ndarray:
            parts = self._rows(start, stop, self._dtype, room)
            return sum(
                (
                    add_sizes(np.array(rows), 0, end - begin, self._like())
                    for begin, end, rows in parts
                ),
                np.zeros(1 + self.controls),
            )

        return np.asarray(sum(self._each_block(0, self.size, add)))

    def draw(
        self,
        base: float,
        units: np.ndarray,
        start: int = 0,
        stop: int | None = None,
        first: int = 0,
    ) -> Drawn:
        """See :meth:`Store.draw`."""
        stop = self.size if stop is None else stop

        def some(begin: int, end: int, room: np.ndarray | None) -> list[Drawn]:
            found = []
            for left, right, rows in self._rows(begin, end, self._dtype, room):
                index = np.empty(right - left, np.int64)
                upper = np.empty(right - left)
                offset = first + left - start
                n = draw(
                    np.array(rows), 0, right - left, base, units, offset, self._like(), index, upper
                )
                scores = self.gather(index[:n] + (left - offset))
                found.append(Drawn(index[:n].copy(), scores, upper[:n].copy()))
            return found

        return Drawn.joined(
            [each for part in self._each_block(start, stop, some) for each in part],
            1 + self.controls,
        )

    def _like(self) -> np.ndarray:
        return np.empty(0, self._dtype)

    def _each_block(
        self, start: int, stop: int, work: Callable[[int, int, np.ndarray | None], _T]
    ) -> list[_T]:
        """What `work` makes of each block, and of room for a copy where it has to be copied."""
        end, addresses = self._stretch(0, self._dtype)
        in_place = end == self.size and len(addresses) > 0

        def run(begin: int) -> _T:
            room = None if in_place else np.empty((1 + self.controls, BLOCK + _PAD), self._dtype)
            return work(begin, min(begin + BLOCK, stop), room)

        return map_parts(run, range(start, stop, BLOCK), self._threads)

    def _rows(
        self, start: int, stop: int, dtype: np.dtype, room: np.ndarray | None
    ) -> Iterator[tuple[int, int, list[int]]]:
        """Stretches of a range, and where each score's entries lie, copied where need be."""
        begin = start
        while begin < stop:
            end, addresses = self._run(begin, start, stop, dtype)
            if not addresses:
                assert room is not None
                for row, flat in zip(room, self._flat, strict=True):
                    _copy(flat, begin, row[: end - begin])
                    addresses.append(row.ctypes.data)
            yield begin, end, addresses
            begin = end

    def screen(
        self, region: Region, mask: Mask | None, masses: np.ndarray | None = None
    ) -> ScreenedArrays:
        """See :meth:`Store.screen`."""
        self.close()
        if masses is None:
            masses = np.empty((1 + self.controls, 0))
        prepared = Prepared(region, self.controls, self._dtype)
        equal = masses.astype(prepared.dtype)
        step = BLOCK * min(max(self.size // (2 * self._threads * BLOCK), 1), _MOST)
        starts = range(0, self.size, step)
        workers = min(self._threads, len(starts))
        end, addresses = self._stretch(0, prepared.dtype)
        in_place = end == self.size and len(addresses) > 0
        rooms = [
            _Room(1 + self.controls, min(step, self.size), prepared, mask is None, not in_place)
            for _ in range(workers)
        ]

        def run(start: int) -> _Chunk:
            room = rooms.pop()
            stop = min(start + step, self.size)
            chunk = self._screen_chunk(start, stop, prepared, equal, room, mask)
            rooms.append(room)
            return chunk

        chunks = map_parts(run, starts, workers)
        sums = np.concatenate([chunk.sums for chunk in chunks])
        with np.errstate(over="ignore"):
            magnitudes = check_magnitudes(sums[:, 3].sum(axis=0))
        kept = int(sum(chunk.kept for chunk in chunks))
        parts = np.array([chunk.counts for chunk in chunks])
        n = sum(len(chunk.index) for chunk in chunks)
        index = np.empty(n, dtype=np.int64)
        scores = np.empty((1 + self.controls, n), dtype=self._dtype)
        while chunks:  # from the last, each freed at once: no second copy of the open weights
            chunk = chunks.pop()
            m = n - len(chunk.index)
            np.add(chunk.index, np.int64(chunk.start), out=index[m:n])  # beyond int32
            scores[:, m:n] = chunk.scores
            n = m
        return ScreenedArrays(
            kept=kept,
            parts_of_sums=np.array(
                [exact_parts(sums[:, :3, j].ravel()) for j in range(1 + self.controls)]
            ),
            magnitudes=magnitudes,
            index=index,
            scores=scores,
            masses=Columns(equal.astype(np.float64), parts.sum(axis=0)),
            parts=parts,
            starts=np.array(starts),
        )

    def open_store(self, screened: ScreenedArrays) -> ArrayStore:
        """See :meth:`Store.open_store`."""
        return store_of_open(screened)

    def hand_out(
        self, mask: Mask, screened: ScreenedArrays, amounts: np.ndarray, around: int
    ) -> list[np.ndarray]:
        """See :meth:`Store.hand_out`."""
        states = mask.view(np.uint8)
        before = np.zeros_like(amounts)
        near: list[list[np.ndarray]] = [[] for _ in amounts]
        stops = np.append(screened.starts[1:], self.size)
        for start, stop, counts in zip(screened.starts, stops, screened.parts, strict=True):
            if not counts.any():
                continue
            part = states[start:stop]
            kept = part == 1
            for mass in np.flatnonzero(counts):
                own = part == MASS * (1 + mass)
                left = int(amounts[mass] - before[mass])
                if -around < left < counts[mass] + around:
                    index = np.flatnonzero(own)
                    own[index[max(left, 0) :]] = False
                    near[mass].append(start + index[max(left - around, 0) : left + around])
                if left > 0:
                    kept |= own
            before += counts
            part[:] = kept
        return [np.concatenate([np.empty(0, np.int64), *found]) for found in near]

    def _screen_chunk(
        self,
        start: int,
        stop: int,
        region: Prepared,
        masses: np.ndarray,
        room: _Room,
        mask: np.ndarray | None,
    ) -> _Chunk:
        states = room.state[: stop - start] if mask is None else mask.view(np.uint8)[start:stop]
        sums = []
        counts = np.zeros(masses.shape[1], np.int64)
        kept = found = 0
        for begin, end, addresses in self._rows(start, stop, region.dtype, room.rows):
            first, last = begin - start, end - start
            parts = np.empty((-(-(end - begin) // BLOCK), 4, 1 + self.controls))
            more, found = screen(
                np.array(addresses), 0, first, found,
                region.rays, region.factor, region.reach, region.tiny, region.huge,
                region.single, masses, room.work, room.lanes,
                states[first:last], parts, room.index, room.opened, counts,
            )  # fmt: skip
            sums.append(parts)
            kept += more
        return _Chunk(
            start,
            kept,
            np.concatenate(sums),
            room.index[:found].copy(),
            room.opened[:, :found].astype(self._dtype),
            counts,
        )

    def _run(self, begin: int, start: int, stop: int, dtype: np.dtype) -> tuple[int, list[int]]:
        """Up to where to screen at once, and where `begin` is; nowhere where it must be copied.

        Whole tiles from `start` on. Pieces too short for a call of their own are copied together.
        """
        end, addresses = self._stretch(begin, dtype)
        if end >= stop and addresses:
            return stop, addresses
        whole = end - (end - start) % TILE
        if whole - begin >= _SHORT and addresses:
            return whole, addresses
        last = min(begin + BLOCK, stop)
        while end < last:
            end += -(end - start) % TILE
            after, addresses = self._stretch(end, dtype) if end < last else (last, [])
            if addresses and min(after, stop) - end >= _SHORT:
                break
            end = max(after, end + 1)
        return min(end, last), []

    def _stretch(self, begin: int, dtype: np.dtype) -> tuple[int, list[int]]:
        """Up to where no score goes on elsewhere, and where `begin` is if a kernel can read it."""
        end, addresses = self.size, []
        for flat in self._flat:
            address, first, last = 0, 0, self.size
            if isinstance(flat, ArrayPieces):
                address, first, last = flat.lying(begin, dtype)
            elif isinstance(flat, np.ndarray):
                address = address_of(flat, dtype)
            end = min(end, last)
            if address:
                addresses.append(address + (begin - first) * dtype.itemsize)
        return end, addresses if len(addresses) == len(self._flat) else []


def store_of_open(screened: ScreenedArrays) -> ArrayStore:
    """Store of open weights in memory."""
    return ArrayStore(tuple(screened.scores))


class _Room:
    """What a thread screens in."""

    def __init__(self, rows: int, n: int, region: Prepared, states: bool, copies: bool) -> None:
        self.rows = np.empty((rows, BLOCK + _PAD), region.dtype) if copies else None
        self.opened = np.empty((rows, n + 1), region.dtype)  # touched as far as it is filled
        self.index = np.empty(n + 1, np.int32)
        self.state = np.empty(n if states else 0, np.uint8)
        self.work = np.empty((4, TILE + _PAD), region.dtype)
        self.lanes = np.zeros((rows, 4, LANES))


class Prepared:
    """A region as the kernels take it."""

    def __init__(self, region: Region, controls: int, dtype: np.dtype) -> None:
        oval = isinstance(region, Ellipsoid)
        if isinstance(region, Ellipsoid):
            rays, factor, beside = region.center[None, :], region.factor, region.beside
        else:
            rays, factor, beside = region.rays, np.empty((0, 0)), 0.0
        if region.double or not (_fits_range(rays) and _fits_range(factor)):
            dtype = np.dtype(np.float64)
        eps = float(np.finfo(dtype).eps)
        # Rounding of rays and forms, K + 3 operations each; what underflows is below `tiny`.
        self.margin = margin = max(MARGIN, (4 * controls + 10) * eps)
        self.dtype = dtype
        self.single = dtype == np.float32
        self.tiny = dtype.type(1e-37 if self.single else 1e-300)
        # Margins above this may belong to forms that overflow on the way.
        self.huge = dtype.type(margin * (1e37 if self.single else 1e300))
        reach = np.abs(rays).max(axis=0)
        if oval:
            reach[1:] += np.abs(factor).sum(axis=0)
            factor = factor * (1.0 + margin)
        self.reach = (margin * reach).astype(dtype)
        self.beside = dtype.type(beside * (1.0 + margin))
        self.reach[-1] += self.tiny + self.beside
        self.rays = np.ascontiguousarray(rays, dtype=dtype)
        self.factor = np.ascontiguousarray(factor, dtype=dtype)


class _Combined:
    """Reads Σ w_j A_j where a flat array would read one score."""

    def __init__(self, flats: Sequence[Any], weights: np.ndarray) -> None:
        self._terms = [(w, flat) for w, flat in zip(weights, flats, strict=True) if w != 0.0]

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        if not self._terms:  # no control has a size
            return np.zeros(len(key) if isinstance(key, np.ndarray) else key.stop - key.start)
        total: np.ndarray | float = 0.0
        for weight, flat in self._terms:
            total = total + weight * np.asarray(flat[key]).astype(np.float64)
        return np.asarray(total)


@dataclass(frozen=True, slots=True)
class _Chunk:
    start: int
    kept: int
    sums: np.ndarray
    index: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def _fits_range(rays: np.ndarray) -> bool:
    sizes = np.abs(rays[rays != 0.0])
    return bool(np.all((sizes < _SAFE) & (sizes > 1.0 / _SAFE)))


def _flat(score: Score) -> Any:
    """A flat view where there is one, else what is read in ranges."""
    if isinstance(score, Pieces):
        return score
    return score.reshape(-1) if score.flags.c_contiguous else ArrayPieces((score,))


def _copy(flat: Any, start: int, out: np.ndarray) -> None:
    if isinstance(flat, ArrayPieces):
        flat.fill(out, start)
    else:
        out[:] = flat[start : start + len(out)]


def exact_parts(terms: np.ndarray) -> list[float]:
    """Sum of finite numbers, shape (n,), in PARTS parts: their order cannot matter.

    The first two are the sum's nearest double-double; together they tell it from any number
    within 2^-200 of it, so that sums of several such sums are correctly rounded too.
    OverflowError where the sum is beyond float64.
    """
    left = terms.tolist()
    parts: list[float] = []
    for _ in range(PARTS):
        parts.append(math.fsum(left))
        left.append(-parts[-1])
    return parts


def check_magnitudes(magnitudes: np.ndarray) -> np.ndarray:
    """Return summed absolute scores of the weights kept, if they are numbers.

    Raises
    ------
    NotFiniteError
        Scores that changed since they were decided.
    OverflowError
        A sum beyond float64.
    """
    if np.isnan(magnitudes).any():
        raise NotFiniteError
    if np.isinf(magnitudes).any():
        raise OverflowError
    return magnitudes


def make_store(scores: Sequence[Score], threads: int = 1) -> Store:
    """Make the store for some scores: arrays' own, unless they bring another."""
    for score in scores:
        own = score.own_store(scores, threads) if isinstance(score, Pieces) else None
        if own is not None:
            return own
    return ArrayStore(scores, threads)
