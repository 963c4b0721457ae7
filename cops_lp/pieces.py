"""Scores that lie in several places, such as a network's layers, taken as one flat score.

Nothing is concatenated: whoever reads them asks for a range or for some entries.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from .engine.stores import Store

__all__ = [
    "ArrayPieces",
    "Faults",
    "Pieces",
    "Score",
    "address_of",
    "common_dtype",
    "faults_of",
    "fits_single",
    "flat_range",
    "largest_of",
]

_BLOCK = 1 << 18  # weights a walk over a score holds at once


class Faults(NamedTuple):
    """How many entries of a score are NaN and infinite, and the first such; −1 for none."""

    nans: int
    infinities: int
    first: int


class Pieces(ABC):
    """One flat score in several pieces, one after the other, each in C order.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Of the pieces; any may be empty.
    labels : sequence of str, optional
        What to call them in messages.

    Attributes
    ----------
    size : int
        Entries of all pieces together.
    starts : list of int
        Where each piece begins, and at the end `size`.
    """

    ndim = 1

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], labels: Sequence[str] | None = None
    ) -> None:
        self.shapes = tuple(shapes)
        self.labels = None if labels is None else tuple(labels)
        self.starts = [0]
        for shape in self.shapes:
            self.starts.append(self.starts[-1] + math.prod(shape))
        self.size = self.starts[-1]

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype that holds the entries of all pieces exactly."""

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Entries start … stop, in memory; a view where they lie in one piece."""

    @abstractmethod
    def gather(self, index: np.ndarray) -> np.ndarray:
        """Entries at flat indices (int64, any order), in memory."""

    def own_store(
        self,
        scores: Sequence[Score],  # noqa: ARG002
        threads: int,  # noqa: ARG002
    ) -> Store | None:
        """Return the store for such scores where arrays' own does not read them."""
        return None

    def faults(self) -> Faults:
        """Read all entries for what is not finite."""
        return _faults(self)

    def largest(self) -> float:
        """Read all entries for the largest absolute value; 0 of none."""
        return _largest(self)

    @property
    def shape(self) -> tuple[int]:
        """(size,)."""
        return (self.size,)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(self.size)
            if step != 1:
                raise IndexError(f"a range with step {step}; wanted 1")
            return self.read(start, max(start, stop))
        return self.gather(key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All entries in one new array: for code that takes nothing else."""
        if copy is False:
            raise ValueError("the pieces lie apart: an array of them is a copy")
        return np.array(self.read(0, self.size), dtype=dtype)

    def place(self, index: int) -> str:
        """Say where an entry is: the piece, and its index there."""
        i = self.piece(index)
        at = tuple(int(n) for n in np.unravel_index(index - self.starts[i], self.shapes[i]))
        where = f"index {at[0] if len(at) == 1 else at}"
        return where if self.labels is None else f"{where} of {self.labels[i]!r}"

    def piece(self, index: int) -> int:
        """Which piece an entry is in; `index` in [0, size)."""
        return bisect_right(self.starts, index) - 1

    def parts(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(piece, first, last) of what lies in start … stop; positions are the piece's own."""
        found = []
        i = self.piece(start)
        while start < stop:
            first, end = self.starts[i], min(self.starts[i + 1], stop)
            if end > start:
                found.append((i, start - first, end - first))
            start, i = max(start, end), i + 1
        return found

    def groups(self, index: np.ndarray) -> list[tuple[int, int, int]]:
        """(piece, first, last): index[first:last], ascending, are in that piece."""
        ends = np.searchsorted(index, self.starts).tolist()
        return [(i, a, b) for i, (a, b) in enumerate(pairwise(ends)) if b > a]


Score: TypeAlias = np.ndarray | Pieces
"""What the package reads: an array of any shape, or pieces."""


def faults_of(score: Score) -> Faults:
    """Read a score for what is not finite."""
    return score.faults() if isinstance(score, Pieces) else _faults(score)


def largest_of(score: Score) -> float:
    """Read a score for its largest absolute value; 0 of none."""
    return score.largest() if isinstance(score, Pieces) else _largest(score)


def _faults(score: Score) -> Faults:
    nans = infinities = 0
    first = -1
    if score.dtype.kind in "iub":
        return Faults(nans, infinities, first)
    for start, block in _blocks(score):
        bad = ~np.isfinite(block)
        if bad.any():
            if first < 0:
                first = start + int(bad.argmax())
            block_nans = int(np.isnan(block).sum())
            nans += block_nans
            infinities += int(bad.sum()) - block_nans
    return Faults(nans, infinities, first)


def _largest(score: Score) -> float:
    return max((float(np.abs(block).max()) for _, block in _blocks(score)), default=0.0)


def _blocks(score: Score) -> Iterator[tuple[int, np.ndarray]]:
    """Walk over a score's entries in C order, as float64, with the index of each block's first."""
    flat: Any = score if isinstance(score, Pieces) else score.flat
    for start in range(0, score.size, _BLOCK):
        yield start, np.asarray(flat[start : start + _BLOCK]).astype(np.float64)


class ArrayPieces(Pieces):
    """Pieces that are NumPy arrays or memory maps, of any shapes, strides and supported dtypes.

    Read as `dtype`, where given: one that holds all entries exactly.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        labels: Sequence[str] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        super().__init__([array.shape for array in arrays], labels)
        # A contiguous array is a flat view; others are read in ranges.
        self._arrays = [
            array.reshape(-1) if array.flags.c_contiguous else array for array in arrays
        ]
        self._dtypes = [array.dtype for array in arrays]
        self._dtype = common_dtype(self._dtypes) if dtype is None else dtype
        self._addresses = [address_of(array, array.dtype) for array in self._arrays]

    @property
    def dtype(self) -> np.dtype[Any]:
        """See :attr:`Pieces.dtype`."""
        return self._dtype

    def lying(self, index: int, dtype: np.dtype[Any]) -> tuple[int, int, int]:
        """(address, first, last) of the piece that entry `index` is in, as :func:`address_of`."""
        i = self.piece(index)
        address = self._addresses[i] if self._dtypes[i] == dtype else 0
        return address, self.starts[i], self.starts[i + 1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """See :meth:`Pieces.read`."""
        parts = self.parts(start, stop)
        if len(parts) == 1:
            return self._range(*parts[0]).astype(self._dtype, copy=False)
        out = np.empty(stop - start, self._dtype)
        self.fill(out, start)
        return out

    def fill(self, out: np.ndarray, start: int) -> None:
        """Copy the entries from `start` on into a flat array."""
        done = 0
        for part in self.parts(start, start + len(out)):
            entries = self._range(*part)
            out[done : done + len(entries)] = entries
            done += len(entries)

    def gather(self, index: np.ndarray) -> np.ndarray:
        """See :meth:`Pieces.gather`."""
        if np.any(index[1:] < index[:-1]):
            order = np.argsort(index, kind="stable")
            found = np.empty(len(index), self._dtype)
            found[order] = self.gather(index[order])
            return found
        out = np.empty(len(index), self._dtype)
        for i, first, last in self.groups(index):
            array, own = self._arrays[i], index[first:last] - self.starts[i]
            out[first:last] = array[own if array.ndim == 1 else np.unravel_index(own, array.shape)]
        return out

    def _range(self, i: int, start: int, stop: int) -> np.ndarray:
        found: np.ndarray = flat_range(
            self._arrays[i], start, stop, lambda array: array.flags.c_contiguous, np.concatenate
        )
        return found


def address_of(array: np.ndarray, dtype: np.dtype[Any]) -> int:
    """Where compiled code can read an array of that dtype one entry after the other; else 0."""
    flags = array.flags
    sound = array.dtype == dtype and dtype.isnative and flags.aligned and flags.c_contiguous
    address: int = array.__array_interface__["data"][0] if sound and array.ndim == 1 else 0
    return address


def fits_single(dtype: np.dtype[Any]) -> bool:
    """Whether float32 holds every number of a dtype exactly."""
    return dtype.itemsize <= (2 if dtype.kind in "iub" else 4)


def common_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype itself where there is one, else float32 or float64, as they need."""
    if all(dtype == dtypes[0] for dtype in dtypes):
        return dtypes[0]
    return np.dtype(np.float32 if all(map(fits_single, dtypes)) else np.float64)


def flat_range(
    array: Any,
    start: int,
    stop: int,
    contiguous: Callable[[Any], bool],
    join: Callable[[list[Any]], Any],
) -> Any:
    """Entries start … stop of a strided array or tensor in C order, and no copy of the others.

    `contiguous` tells whether ``reshape(-1)`` is a view, `join` concatenates flat parts.
    """
    if contiguous(array):
        return array.reshape(-1)[start:stop]
    if array.ndim == 1:
        return array[start:stop]
    inner = 1
    for n in array.shape[1:]:
        inner *= n
    first, last = -(-start // inner), stop // inner  # whole rows
    if first > last:  # less than a row
        return flat_range(array[last], start - last * inner, stop - last * inner, contiguous, join)
    parts = []
    if start < first * inner:
        rest = inner - (first * inner - start)
        parts.append(flat_range(array[first - 1], rest, inner, contiguous, join))
    if first < last:
        parts.append(array[first:last].reshape(-1))
    if last * inner < stop:
        parts.append(flat_range(array[last], 0, stop - last * inner, contiguous, join))
    return parts[0] if len(parts) == 1 else join(parts)
