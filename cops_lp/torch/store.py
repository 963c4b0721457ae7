"""Scores on a device behind the operations that the driver needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from cops_lp.engine.masses import Masses
from cops_lp.engine.region import Region
from cops_lp.engine.screened import ScreenedArrays
from cops_lp.engine.stores import (
    PARTS,
    ArrayStore,
    Prepared,
    check_magnitudes,
    exact_parts,
    store_of_open,
)
from cops_lp.kernels.screening import MASS
from cops_lp.pieces import fits_single

from .pieces import TensorPieces
from .sieve import Sieve
from .sums import ExactSum

__all__ = ["TensorMask", "TorchStore"]

_BLOCKS = 16  # a pass takes: some operations and waits each, whatever their size
_LEAST, _MOST = 1 << 20, 1 << 26  # weights in one of them, some 20 bytes of temporary tensors each


class TensorMask:
    """A mask on a device, indexed as an array would be: what is asked for comes to the CPU.

    Attributes
    ----------
    tensor : Tensor of bool, shape (d,)
    """

    dtype = np.dtype(np.bool_)
    ndim = 1

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.size = tensor.numel()
        self.shape = (self.size,)

    @property
    def states(self) -> torch.Tensor:
        """The same memory as uint8."""
        return self.tensor.view(torch.uint8)

    def reshape(self, *shape: Any) -> TensorMask:
        """Return the mask itself: flat is its only shape."""
        if shape in (self.shape, (self.shape,), (-1,)):
            return self
        raise ValueError(f"a mask on a device is flat; wanted shape {self.shape}, not {shape}")

    def any(self) -> bool:
        """Whether it keeps any weight."""
        return bool(self.tensor.any())

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        found: np.ndarray = self.tensor[self._key(key)].cpu().numpy()
        return found

    def __setitem__(self, key: slice | np.ndarray, value: np.ndarray | np.bool_) -> None:
        self.tensor[self._key(key)] = torch.from_numpy(np.array(value)).to(self.tensor.device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the mask is on a device: an array of it is a copy")
        return np.array(self[:], dtype=dtype)

    def _key(self, key: slice | np.ndarray) -> slice | torch.Tensor:
        if isinstance(key, slice):
            return key
        return torch.from_numpy(np.array(key)).to(self.tensor.device)


class Row(Protocol):
    """What a store reads one score by; see :class:`TensorPieces`."""

    def block(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """Entries start … stop."""
        ...

    def take(self, index: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """Entries at ascending flat indices."""
        ...


class TorchStore:
    """Tensors on one device, screened there block by block.

    The device tells in its own arithmetic what is surely kept and surely dropped, with margins
    beyond all rounding; the few weights left go to the CPU, where an :class:`ArrayStore` of
    them decides. So what is open is the same as if all scores were in arrays.

    Parameters
    ----------
    scores : sequence of TensorPieces
        Target and controls, of one size and on one device.
    threads : int
        For what is done on the CPU; the result does not depend on it.
    """

    def __init__(self, scores: Sequence[TensorPieces], threads: int = 1) -> None:
        self.size = scores[0].size
        self.controls = len(scores) - 1
        self._device = scores[0].device
        self._scores = scores
        self._threads = threads
        self._rows: Sequence[Row] = scores
        single = all(fits_single(score.dtype) for score in scores)
        self._dtype = np.dtype(np.float32 if single else np.float64)

    def control_store(self, j: int) -> TorchStore:
        """See :meth:`cops_lp.engine.stores.Store.control_store`."""
        return TorchStore((self._scores[1 + j],), self._threads)

    def combined_store(self, weights: np.ndarray) -> TorchStore:
        """See :meth:`cops_lp.engine.stores.Store.combined_store`; formed block by block."""
        view = TorchStore((self._scores[0],), self._threads)
        view._dtype = np.dtype(np.float64)
        view._rows = [_Combined(self._rows[1:], weights)]
        return view

    def new_mask(self) -> TensorMask:
        """See :meth:`cops_lp.engine.stores.Store.new_mask`; on the scores' device."""
        return TensorMask(torch.empty(self.size, dtype=torch.bool, device=self._device))

    def close(self) -> None:
        """See :meth:`cops_lp.engine.stores.Store.close`; nothing runs on."""

    def gather(self, index: np.ndarray | None) -> np.ndarray:
        """See :meth:`cops_lp.engine.stores.Store.gather`."""
        if index is not None:
            rows = [row.take(index, torch.float64) for row in self._rows]
            found: np.ndarray = torch.stack(rows).cpu().numpy()
            return found
        out = np.empty((1 + self.controls, self.size))
        for start, stop in self._blocks():
            for values, row in zip(out, self._rows, strict=True):
                values[start:stop] = row.block(start, stop, torch.float64).cpu().numpy()
        return out

    def screen(
        self, region: Region, mask: TensorMask | None, masses: np.ndarray | None = None
    ) -> ScreenedArrays:
        """See :meth:`cops_lp.engine.stores.Store.screen`."""
        if masses is None:
            masses = np.empty((1 + self.controls, 0))
        prepared = Prepared(region, self.controls, self._dtype)
        dtype = torch.float32 if prepared.single else torch.float64
        sieve = Sieve(prepared)
        equal = np.ascontiguousarray(masses, dtype=prepared.dtype)
        opened = _decided(equal, region, 1).opened.tolist()
        blocks = self._blocks()
        counts = torch.zeros((len(blocks), equal.shape[1]), dtype=torch.int64, device=self._device)
        kept = 0
        sums = [ExactSum(self._device) for _ in self._rows]
        indices, scores = [], []
        for b, (start, stop) in enumerate(blocks):
            rows = [row.block(start, stop, dtype) for row in self._rows]
            sure, left, values = sieve(rows)
            count = int(sure.count_nonzero())
            if count:
                kept += count
                few = sure.nonzero().squeeze(1) if 2 * count < stop - start else None
                for total, row in zip(sums, rows, strict=True):
                    total.add(torch.where(sure, row, 0.0) if few is None else row[few])
            if mask is not None:
                mask.tensor[start:stop] = sure
            for j in opened:
                own = torch.ones_like(left, dtype=torch.bool)
                for row, value in zip(values, equal[:, j].tolist(), strict=True):
                    own &= row == value
                counts[b, j] = own.count_nonzero()
                if mask is not None:
                    mask.states[start + left[own]] = MASS * (1 + j)
                left, values = left[~own], [row[~own] for row in values]
            indices.append(left + start)
            scores.append(torch.stack(values))
        index, near_scores = (torch.cat(each, dim=-1).cpu().numpy() for each in (indices, scores))
        near = _decided(near_scores, region, self._threads)
        if mask is not None:
            mask[index[near.kept]] = np.True_
        totals = [total.parts() for total in sums]
        with np.errstate(over="ignore"):
            magnitudes = np.array([size for _, size in totals]) + near.magnitudes
        check_magnitudes(magnitudes)
        parts = counts.cpu().numpy()
        return ScreenedArrays(
            kept=kept + len(near.kept),
            parts_of_sums=np.array(
                [
                    exact_parts(np.array([*sure, *own]))
                    for (sure, _), own in zip(totals, near.sums, strict=True)
                ]
            ),
            magnitudes=magnitudes,
            index=index[near.opened],
            scores=np.ascontiguousarray(near_scores[:, near.opened], dtype=self._dtype),
            masses=Masses(equal.astype(np.float64), parts.sum(axis=0)),
            parts=parts,
            starts=np.array([start for start, _ in blocks]),
        )

    def open_store(self, screened: ScreenedArrays, copies: np.ndarray | None = None) -> ArrayStore:
        """See :meth:`cops_lp.engine.stores.Store.open_store`; in memory."""
        return store_of_open(screened, copies)

    def hand_out(
        self, mask: TensorMask, screened: ScreenedArrays, amounts: np.ndarray, around: int
    ) -> list[np.ndarray]:
        """See :meth:`cops_lp.engine.stores.Store.hand_out`."""
        before = np.zeros_like(amounts)
        near: list[list[np.ndarray]] = [[] for _ in amounts]
        for (start, stop), counts in zip(self._blocks(), screened.parts, strict=True):
            if not counts.any():
                continue
            part = mask.states[start:stop]
            kept = part == 1
            for mass in np.flatnonzero(counts):
                own = part == MASS * (1 + int(mass))
                left = int(amounts[mass] - before[mass])
                if -around < left < counts[mass] + around:
                    index = own.nonzero().squeeze(1)
                    own[index[max(left, 0) :]] = False
                    beside = index[max(left - around, 0) : left + around]
                    near[mass].append((beside + start).cpu().numpy())
                if left > 0:
                    kept |= own
            before += counts
            part.copy_(kept)
        return [np.concatenate([np.empty(0, np.int64), *found]) for found in near]

    def _blocks(self) -> list[tuple[int, int]]:
        step = _block(self.size)
        return [(start, min(start + step, self.size)) for start in range(0, self.size, step)]


def _block(size: int) -> int:
    """Weights that are screened at once."""
    return min(max(-(-size // _BLOCKS), _LEAST), _MOST)


class _Combined:
    """Reads Σ w_j A_j, in float64, where a score would be read; added up as arrays are."""

    def __init__(self, rows: Sequence[Row], weights: np.ndarray) -> None:
        self._terms = [(float(w), row) for w, row in zip(weights, rows, strict=True) if w != 0.0]

    def block(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        return self._sum([(w, row.block(start, stop, dtype)) for w, row in self._terms])

    def take(self, index: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return self._sum([(w, row.take(index, dtype)) for w, row in self._terms])

    def _sum(self, terms: list[tuple[float, torch.Tensor]]) -> torch.Tensor:
        total = torch.zeros_like(terms[0][1])
        for weight, values in terms:
            total = total + weight * values  # two roundings, as NumPy has
        return total


@dataclass(frozen=True, slots=True)
class _Decided:
    """Positions of the weights kept and open, and what :class:`Screened` says of the kept."""

    kept: np.ndarray
    opened: np.ndarray
    sums: np.ndarray
    magnitudes: np.ndarray


def _decided(scores: np.ndarray, region: Region, threads: int) -> _Decided:
    """Decide weights on the CPU; `scores`, shape (1 + K, n)."""
    n = scores.shape[1]
    if n == 0:
        nothing = np.empty(0, np.int64)
        return _Decided(nothing, nothing, np.zeros((len(scores), PARTS)), np.zeros(len(scores)))
    store = ArrayStore(tuple(scores), threads)
    mask = store.new_mask()
    screened = store.screen(region, mask)
    return _Decided(
        np.flatnonzero(mask), screened.index, screened.parts_of_sums, screened.magnitudes
    )
