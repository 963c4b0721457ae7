"""Stores: where scores live, behind the few operations the driver needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..kernels.screening import OPEN, screen_block

__all__ = ["ArrayStore", "Screened", "Store"]

_BLOCK = 1 << 14  # weights a kernel call holds: its float64 rows stay in the L2 cache
_CHUNK = 64  # blocks handed to a thread at once


@dataclass(frozen=True, slots=True)
class Screened:
    """What one screening pass found.

    `kept` counts the weights kept; `sums`, shape (1 + K, 2), are their scores' sums as
    double-doubles, `magnitudes`, shape (1 + K,), those of the absolute scores; `index` (ascending) and `scores` (1 + K, n), float64, are the open
    weights.
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

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """Scores at the given flat indices (all when None); float64, shape (1 + K, n)."""
        ...

    def screen(self, rays: np.ndarray, margin: float, mask: np.ndarray | None) -> Screened:
        """Decide every weight whose side is the same at all rays; one read of the scores.

        Where `mask` (bool, shape (size,)) is given, decided weights are written to it.
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
        # A contiguous array is a flat view; others are walked in C order by their iterator.
        self._flat = [
            score.reshape(-1) if score.flags.c_contiguous else score.flat for score in scores
        ]

    def control_store(self, j: int) -> ArrayStore:
        return ArrayStore((self._scores[1 + j],), self._threads)

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        n = self.size if index is None else len(index)
        out = np.empty((1 + self.controls, n))
        for row, flat in zip(out, self._flat, strict=True):
            row[:] = flat[:] if index is None else flat[index]
        return out

    def screen(self, rays: np.ndarray, margin: float, mask: np.ndarray | None) -> Screened:
        rays = np.ascontiguousarray(rays, dtype=np.float64)
        reach = np.abs(rays).max(axis=0)
        step = _BLOCK * _CHUNK
        starts = range(0, self.size, step)

        def run(start: int) -> list[_Block]:
            return self._screen_chunk(start, min(start + step, self.size), rays, reach, margin, mask)

        if self._threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                chunks = list(pool.map(run, starts))
        else:
            chunks = [run(start) for start in starts]
        blocks = [block for chunk in chunks for block in chunk]
        sums = np.stack([block.sums for block in blocks])
        return Screened(
            kept=sum(block.kept for block in blocks),
            sums=np.array([_sum(sums[:, :2, j]) for j in range(1 + self.controls)]),
            magnitudes=sums[:, 2].sum(axis=0),
            index=np.concatenate([block.index for block in blocks]),
            scores=np.concatenate([block.scores for block in blocks], axis=1),
        )

    def _screen_chunk(
        self,
        start: int,
        stop: int,
        rays: np.ndarray,
        reach: np.ndarray,
        margin: float,
        mask: np.ndarray | None,
    ) -> list[_Block]:
        rows = np.empty((1 + self.controls, _BLOCK))
        work = np.empty((3, _BLOCK))
        state = np.empty(_BLOCK, dtype=np.uint8)
        blocks = []
        for begin in range(start, stop, _BLOCK):
            n = min(_BLOCK, stop - begin)
            scores = rows[:, :n]
            for row, flat in zip(scores, self._flat, strict=True):
                row[:] = flat[begin : begin + n]
            sums = np.empty((3, 1 + self.controls))
            kept, _ = screen_block(scores, rays, reach, margin, work, state[:n], sums)
            index = np.flatnonzero(state[:n] == OPEN)
            blocks.append(_Block(kept, sums, index + begin, scores[:, index]))
            if mask is not None:
                mask[begin : begin + n] = state[:n] == 1
        return blocks


@dataclass(frozen=True, slots=True)
class _Block:
    kept: int
    sums: np.ndarray
    index: np.ndarray
    scores: np.ndarray


def _sum(parts: np.ndarray) -> tuple[float, float]:
    """Sum the blocks' parts, correctly rounded, so that their order cannot matter."""
    terms = parts.ravel().tolist()
    total = math.fsum(terms)
    return total, math.fsum([*terms, -total])
