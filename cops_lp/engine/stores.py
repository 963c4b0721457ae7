"""Stores: where scores live, behind the few operations the driver needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..kernels.screening import screen_block, screen_pair

__all__ = ["ArrayStore", "Screened", "Store"]

_BLOCK = 1 << 16  # weights a kernel call holds: its rows stay in the L2 cache
_CHUNK = 16  # most blocks handed to a thread at once
_SAFE = 1e25  # ray entries within this of 1 can be multiplied in single precision


@dataclass(frozen=True, slots=True)
class Screened:
    """What one screening pass found.

    `kept` counts the weights kept; `sums`, shape (1 + K, 2), are their scores' sums as
    double-doubles, `magnitudes`, shape (1 + K,), those of the absolute scores; `index`
    (ascending) and `scores` (1 + K, n), float32 or float64, are the open weights.
    """

    kept: int
    sums: np.ndarray
    magnitudes: np.ndarray
    index: np.ndarray
    scores: np.ndarray


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

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """Scores at the given flat indices (all when None); float64, shape (1 + K, n)."""
        ...

    def screen(self, rays: np.ndarray, margin: float, mask: np.ndarray | None) -> Screened:
        """Decide every weight whose side is the same at all rays; one read of the scores.

        `mask` (bool, shape (size,)), where given, becomes True where a weight is kept.
        """
        ...


class ArrayStore:
    """NumPy arrays and memory maps, read in place block by block.

    Parameters
    ----------
    scores : sequence of ndarray
        Target and controls, all of one shape and any supported dtype.
    threads : int
        How many threads screen; the result does not depend on it.
    """

    def __init__(self, scores: Sequence[np.ndarray], threads: int = 1) -> None:
        self.size = scores[0].size
        self.controls = len(scores) - 1
        self._scores = scores
        self._threads = threads
        # Open weights are copied: in single precision where that holds every score exactly.
        single = all(_fits_single(score.dtype) for score in scores)
        self._dtype = np.dtype(np.float32 if single else np.float64)
        # A contiguous array is a flat view; others are walked in C order by their iterator.
        self._flat: list[Any] = [
            score.reshape(-1) if score.flags.c_contiguous else score.flat for score in scores
        ]

    def control_store(self, j: int) -> ArrayStore:
        """See :meth:`Store.control_store`."""
        return ArrayStore((self._scores[1 + j],), self._threads)

    def combined_store(self, weights: np.ndarray) -> ArrayStore:
        """See :meth:`Store.combined_store`; the sums are formed block by block."""
        view = ArrayStore((self._scores[0],), self._threads)
        view._dtype = np.dtype(np.float64)
        view._flat = [_Combined(self._flat[1:], weights)]
        return view

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """See :meth:`Store.gather`."""
        n = self.size if index is None else len(index)
        out = np.empty((1 + self.controls, n))
        for row, flat in zip(out, self._flat, strict=True):
            row[:] = flat[:] if index is None else flat[index]
        return out

    def screen(self, rays: np.ndarray, margin: float, mask: np.ndarray | None) -> Screened:
        """See :meth:`Store.screen`."""
        dtype: np.dtype[Any] = self._dtype if _fits_range(rays) else np.dtype(np.float64)
        # Rounding of rays and forms: K + 3 operations; what underflows is below `tiny`.
        margin = max(margin, (2 * self.controls + 8) * float(np.finfo(dtype).eps))
        region = _Region(rays, margin, dtype)
        share = self.size // (4 * self._threads * _BLOCK)  # four chunks a thread, for balance
        step = _BLOCK * min(max(share, 1), _CHUNK)
        starts = range(0, self.size, step)

        def run(start: int) -> _Chunk:
            return self._screen_chunk(start, min(start + step, self.size), region, mask)

        if self._threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                chunks = list(pool.map(run, starts))
        else:
            chunks = [run(start) for start in starts]
        sums = np.concatenate([chunk.sums for chunk in chunks])
        kept = sum(chunk.kept for chunk in chunks)
        n = sum(len(chunk.index) for chunk in chunks)
        index = np.empty(n, dtype=np.int64)
        scores = np.empty((1 + self.controls, n), dtype=self._dtype)
        while chunks:  # from the last, each freed at once: no second copy of the open weights
            chunk = chunks.pop()
            m = n - len(chunk.index)
            index[m:n] = chunk.index
            index[m:n] += chunk.start
            scores[:, m:n] = chunk.scores
            n = m
        return Screened(
            kept=kept,
            sums=np.array([_sum(sums[:, :2, j]) for j in range(1 + self.controls)]),
            magnitudes=sums[:, 2].sum(axis=0),
            index=index,
            scores=scores,
        )

    def _block(self, j: int, begin: int, n: int, room: np.ndarray) -> np.ndarray:
        """Weights begin … begin + n of score j: in place where they are of room's dtype."""
        flat = self._flat[j]
        if isinstance(flat, np.ndarray) and flat.dtype == room.dtype and flat.dtype.isnative:
            # A plain array: Numba would compile once more for a memory map.
            return flat[begin : begin + n].view(np.ndarray)
        room[:n] = flat[begin : begin + n]
        return room[:n]

    def _screen_chunk(
        self, start: int, stop: int, region: _Region, mask: np.ndarray | None
    ) -> _Chunk:
        shape = (1 + self.controls, min(_BLOCK, stop - start))
        rows, opened = np.empty(shape, region.dtype), np.empty(shape, region.dtype)
        work, lanes = np.empty((3, 1024), region.dtype), np.empty((3, 16))
        index = np.empty(shape[1], dtype=np.int32)
        states = np.empty(shape[1], dtype=np.uint8) if mask is None else mask.view(np.uint8)
        kept = 0
        sums, indices, scores = [], [], []
        for begin in range(start, stop, _BLOCK):
            n = min(_BLOCK, stop - begin)
            sums.append(np.empty((3, shape[0])))
            state = states[:n] if mask is None else states[begin : begin + n]
            if region.four is None:
                for row, flat in zip(rows, self._flat, strict=True):
                    row[:n] = flat[begin : begin + n]
                more, found = screen_block(
                    rows[:, :n], region.rays, region.reach, region.margin, region.tiny,
                    region.huge, work, lanes, state, sums[-1], index, opened,
                )  # fmt: skip
            else:
                block = [self._block(j, begin, n, rows[j]) for j in range(len(rows))]
                more, found = screen_pair(
                    block[0], block[-1], region.four, region.four_reach, region.margin,
                    region.tiny, region.huge, lanes, state, sums[-1], index, opened,
                )  # fmt: skip
            kept += more
            indices.append(index[:found] + np.int32(begin - start))
            scores.append(opened[:, :found].astype(self._dtype))
        return _Chunk(
            start, kept, np.stack(sums), np.concatenate(indices), np.concatenate(scores, axis=1)
        )


class _Region:
    """A region's rays as the kernel takes them."""

    def __init__(self, rays: np.ndarray, margin: float, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.rays = np.ascontiguousarray(rays, dtype=dtype)
        self.reach = np.abs(self.rays).max(axis=0)
        self.margin = dtype.type(margin)
        self.tiny = dtype.type(1e-37 if dtype == np.float32 else 1e-300)
        self.huge = dtype.type(1e37 if dtype == np.float32 else 1e300)
        self.four: np.ndarray | None = None
        m, columns = self.rays.shape
        if columns <= 3 and m <= 4:  # at most one control: rays padded by the last one
            self.four = np.zeros((4, 3), dtype)
            self.four[:, : columns - 1] = self.rays[np.minimum(np.arange(4), m - 1), :-1]
            self.four[:, 2] = self.rays[np.minimum(np.arange(4), m - 1), -1]
            self.four_reach = np.abs(self.four).max(axis=0)


class _Combined:
    """Reads Σ w_j A_j where a flat array would read one score."""

    def __init__(self, flats: Sequence[Any], weights: np.ndarray) -> None:
        self._terms = [(w, flat) for w, flat in zip(weights, flats, strict=True) if w != 0.0]

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
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


def _fits_single(dtype: np.dtype) -> bool:
    return dtype.itemsize <= (2 if dtype.kind in "iub" else 4)


def _fits_range(rays: np.ndarray) -> bool:
    sizes = np.abs(rays[rays != 0.0])
    return bool(np.all((sizes < _SAFE) & (sizes > 1.0 / _SAFE)))


def _sum(parts: np.ndarray) -> tuple[float, float]:
    """Sum the blocks' parts, correctly rounded, so that their order cannot matter."""
    terms = parts.ravel().tolist()
    total = math.fsum(terms)
    return total, math.fsum([*terms, -total])
