"""Scores on a device behind the operations that the driver needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol
from warnings import warn

import numpy as np
import torch

from cops_lp.engine.columns import Columns
from cops_lp.engine.region import Region
from cops_lp.engine.stores import (
    PARTS,
    ArrayStore,
    Drawn,
    Prepared,
    check_magnitudes,
    exact_parts,
    store_of_open,
)
from cops_lp.kernels.screening import MASS
from cops_lp.pieces import fits_single

from .pieces import TensorPieces
from .sieve import Sift, TorchSieve
from .sums import ExactSum
from .tensor_mask import TensorMask
from .tensor_screened import TensorScreened

__all__ = ["TorchStore"]

_BLOCKS = 16  # that a pass takes: some operations and waits each, whatever their size
_DRAWN = 1 << 24  # weights that a sample is drawn from at once
_POWER = -(1 << 52)  # of a float64's bits: sign and exponent
_AT_ONCE = 1 << 26  # weights that come to the CPU at once, where all do


class Row(Protocol):
    """What a store reads one score by; see :class:`TensorPieces`."""

    @property
    def own_dtype(self) -> torch.dtype:
        """Which a block can be had in without rounding, and costs least."""
        ...

    def block(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """Entries start … stop."""
        ...

    def take(self, index: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """Entries at ascending flat indices."""
        ...


class TorchStore:
    """Tensors on one device, screened there block by block.

    The device tells in its own arithmetic what is surely kept, surely dropped and surely open, with
    margins beyond all rounding; the few weights in doubt go to the CPU, where an
    :class:`ArrayStore` of them decides. So what is open is the same as if all scores were in
    arrays. Open weights stay on the device while they are many, and are screened there in turn.

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

    @property
    def _torch_dtype(self) -> torch.dtype:
        return torch.float32 if self._dtype == np.float32 else torch.float64

    def control_store(self, j: int) -> TorchStore:
        """See :meth:`cops_lp.engine.stores.Store.control_store`."""
        return TorchStore((self._scores[1 + j],), self._threads)

    def combined_store(self, weights: np.ndarray) -> TorchStore:
        """See :meth:`cops_lp.engine.stores.Store.combined_store`; formed block by block."""
        view = TorchStore((self._scores[0],), self._threads)
        view._dtype = np.dtype(np.float64)
        view._rows = [_Combined(self._rows[1:], weights)]
        return view

    def retargeted(self, weights: np.ndarray) -> TorchStore:
        """See :meth:`cops_lp.engine.stores.Store.retargeted`; formed block by block."""
        view = TorchStore(self._scores, self._threads)
        view._dtype = np.dtype(np.float64)
        view._rows = [_Combined(self._rows[1:], weights), *self._rows[1:]]
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
        for start, stop in self._blocks(_AT_ONCE):
            for values, row in zip(out, self._rows, strict=True):
                values[start:stop] = row.block(start, stop, torch.float64).cpu().numpy()
        return out

    def total_sizes(self) -> np.ndarray:
        """See :meth:`cops_lp.engine.stores.Store.total_sizes`."""
        total = torch.zeros(1 + self.controls, dtype=torch.float64, device=self._device)
        for start, stop in self._blocks(_DRAWN):
            rows = [row.block(start, stop, row.own_dtype) for row in self._rows]
            total += torch.stack([row.abs().sum(dtype=torch.float64) for row in rows])
        found: np.ndarray = total.cpu().numpy()
        return found

    def draw(
        self,
        base: float,
        units: np.ndarray,
        start: int = 0,
        stop: int | None = None,
        first: int = 0,
    ) -> Drawn:
        """See :meth:`cops_lp.engine.stores.Store.draw`."""
        stop = self.size if stop is None else stop
        found = []
        for begin in range(start, stop, _DRAWN):
            end = min(begin + _DRAWN, stop)
            rows = [row.block(begin, end, torch.float64) for row in self._rows]
            size = torch.full((end - begin,), base, dtype=torch.float64, device=self._device)
            for row, unit in zip(rows, units.tolist(), strict=True):
                size += unit * row.abs()
            size = (size.view(torch.int64) & _POWER).view(torch.float64)
            offset = first + begin - start
            index = torch.arange(offset, offset + end - begin, device=self._device)
            left = (_uniform(index) < size).nonzero().squeeze(1)
            scores = torch.stack([row[left] for row in rows])
            upper = (1.0 / size[left]).clamp_(min=1.0)
            found.append(Drawn(*(each.cpu().numpy() for each in (index[left], scores, upper))))
        return Drawn.joined(found, 1 + self.controls)

    def screen(
        self, region: Region, mask: TensorMask | None, masses: np.ndarray | None = None
    ) -> TensorScreened:
        """See :meth:`cops_lp.engine.stores.Store.screen`."""
        if masses is None:
            masses = np.empty((1 + self.controls, 0))
        prepared = Prepared(region, self.controls, self._dtype)
        kinds = [row.own_dtype for row in self._rows]
        sift = _sieve(prepared, self._device, kinds)
        dtype = sift.dtype(kinds)
        equal = np.ascontiguousarray(masses, dtype=prepared.dtype)
        massive = _decided(equal, region, 1).opened.tolist()
        blocks = self._blocks(_block(self.size, sift))
        counts = torch.zeros((len(blocks), equal.shape[1]), dtype=torch.int64, device=self._device)
        kept = torch.zeros((), dtype=torch.int64, device=self._device)
        sums = [ExactSum(self._device) for _ in self._rows]
        pieces: list[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]] = []
        for b, (start, stop) in enumerate(blocks):
            rows = [row.block(start, stop, dtype) for row in self._rows]
            if mask is None:
                sure = torch.empty(stop - start, dtype=torch.bool, device=self._device)
            else:
                sure = mask.tensor[start:stop]
            found = sift(rows, sure, sums)
            kept += found.kept
            left, opened = found.index, found.opened
            values = [row[left].to(self._torch_dtype) for row in rows]
            for j in massive:
                own = torch.ones_like(opened)
                for row, value in zip(values, equal[:, j].tolist(), strict=True):
                    own &= row == value
                counts[b, j] = own.count_nonzero()
                if mask is not None:
                    mask.states[start + left[own]] = MASS * (1 + j)
                left, opened = left[~own], opened[~own]
                values = [row[~own] for row in values]
            pieces.append((left + start, opened, values))
        index = torch.cat([left for left, _, _ in pieces])
        opened = torch.cat([opened for _, opened, _ in pieces])
        scores = [torch.cat([values[j] for _, _, values in pieces]) for j in range(len(sums))]
        doubtful = (~opened).nonzero().squeeze(1)
        near = _decided(
            torch.stack([row[doubtful] for row in scores]).cpu().numpy(), region, self._threads
        )
        on_device = [torch.from_numpy(each).to(index) for each in (near.kept, near.opened)]
        if mask is not None:
            mask.tensor[index[doubtful[on_device[0]]]] = True
        opened[doubtful[on_device[1]]] = True
        totals = [total.parts() for total in sums]
        with np.errstate(over="ignore"):
            magnitudes = np.array([size for _, size in totals]) + near.magnitudes
        check_magnitudes(magnitudes)
        parts = counts.cpu().numpy()
        return TensorScreened(
            kept=int(kept) + len(near.kept),
            parts_of_sums=np.array(
                [
                    exact_parts(np.array([*sure, *own]))
                    for (sure, _), own in zip(totals, near.sums, strict=True)
                ]
            ),
            magnitudes=magnitudes,
            index=index[opened],
            scores=[row[opened] for row in scores],
            masses=Columns(equal.astype(np.float64), parts.sum(axis=0)),
            parts=parts,
            starts=np.array([start for start, _ in blocks]),
        )

    def open_store(self, screened: TensorScreened) -> TorchStore | ArrayStore:
        """See :meth:`cops_lp.engine.stores.Store.open_store`; in memory where they are few."""
        if screened.few:
            return store_of_open(screened.arrays())
        return TorchStore([TensorPieces([row]) for row in screened.scores], self._threads)

    def hand_out(
        self, mask: TensorMask, screened: Any, amounts: np.ndarray, around: int
    ) -> list[np.ndarray]:
        """See :meth:`cops_lp.engine.stores.Store.hand_out`."""
        before = np.zeros_like(amounts)
        near: list[list[np.ndarray]] = [[] for _ in amounts]
        stops = np.append(screened.starts[1:], self.size).tolist()
        for start, stop, counts in zip(
            screened.starts.tolist(), stops, screened.parts, strict=True
        ):
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

    def _blocks(self, step: int) -> list[tuple[int, int]]:
        return [(start, min(start + step, self.size)) for start in range(0, self.size, step)]


def _uniform(index: torch.Tensor) -> torch.Tensor:
    """What kernels.sampling makes of an index: integers wrap, shifts bring in zeros."""
    h = (index + 1) * _signed(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        h = (h ^ ((h >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)
    return ((h >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def _signed(word: int) -> int:
    """The int64 that has the same bits."""
    return word - (1 << 64) if word >> 63 else word


def _block(size: int, sift: Sift) -> int:
    """Weights that are screened at once."""
    return min(max(-(-size // _BLOCKS), sift.least), sift.most)


def _sieve(prepared: Prepared, device: torch.device, own: list[torch.dtype]) -> Sift:
    """The test of a region that is fastest on a device: see docs/torch.md."""
    if prepared.single and device.type == "cuda" and find_spec("triton") is not None:
        fused = _fused()
        if fused is not None and fused.takes(prepared):
            found: Any = fused.FusedSieve(prepared)
            if found.works(device, found.dtype(own)):
                sift: Sift = found
                return sift
    return TorchSieve(prepared)


@cache
def _fused() -> Any:
    """The module that needs Triton; None, with a warning, where Triton cannot be imported."""
    try:
        from . import fused
    except Exception as error:  # an installation that is broken in whatever way
        warn(
            f"Triton is installed but fails ({type(error).__name__}: {error}): scores on a GPU are "
            "screened by torch operations, which takes several times longer",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return fused


class _Combined:
    """Reads Σ w_j A_j, in float64, where a score would be read; added up as arrays are."""

    def __init__(self, rows: Sequence[Row], weights: np.ndarray) -> None:
        self._terms = [(float(w), row) for w, row in zip(weights, rows, strict=True) if w != 0.0]
        self.own_dtype = torch.float64

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
