"""The sum of the k largest of values that come in blocks, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .arithmetic import ExactSum

__all__ = ["Blocks", "TopSum", "top_sum"]

Blocks = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
"""Starts a walk over pairs (values, magnitudes), both float64 of shape (n,), finite; the same
blocks in the same order every time. The magnitudes are what rounding is measured by."""

_DIGIT = 16  # bits that one counting pass decides
_DIGITS = 1 << _DIGIT
_GATHERED = 1 << 18  # values of one prefix that are few enough to be held at once


class TopSum(NamedTuple):
    """T_k: the exact sum of the k largest values, and the sum of their magnitudes."""

    total: ExactSum
    magnitude: float


def top_sum(blocks: Blocks, size: int, k: int) -> TopSum:
    """Sum the k largest of `size` values exactly.

    Parameters
    ----------
    blocks : Blocks
    size : int
        How many values all blocks hold together.
    k : int, in [0, size]

    Returns
    -------
    TopSum

    Notes
    -----
    A radix selection on the values' 64 bits: each pass counts how many values have each
    continuation of the prefix that the k-th largest is known to have, until few enough share
    it; a last pass adds what is above and selects among those. Two passes for most scores, five
    at most, O(size) each, 4 MB whatever the size and however many values tie.
    """
    total, magnitude = ExactSum(), 0.0
    if k == 0:
        return TopSum(total, magnitude)
    shift, prefix, above, sharing = 64, 0, 0, size
    while sharing > _GATHERED and shift > 0:
        shift -= _DIGIT
        counts = np.zeros(_DIGITS, dtype=np.int64)
        for values, _ in blocks():
            digits = _keys(values) >> shift
            if shift + _DIGIT < 64:
                digits = digits[digits >> _DIGIT == prefix]
            counts += np.bincount(_unsigned(digits, shift), minlength=_DIGITS)
        most = np.cumsum(counts[::-1])  # values whose digit is the largest, or the next, …
        rank = int(np.searchsorted(most, k - above))
        digit = _DIGITS - 1 - rank
        sharing = int(counts[digit])
        above += int(most[rank]) - sharing
        prefix = digit - _DIGITS // 2 if shift + _DIGIT == 64 else (prefix << _DIGIT) | digit

    wanted = k - above
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for values, magnitudes in blocks():
        if shift == 64:
            held.append((values, magnitudes))
            continue
        leading = _keys(values) >> shift
        over = leading > prefix
        total.add(values[over])
        magnitude += float(magnitudes[over].sum())
        if shift:
            tied = leading == prefix
            held.append((values[tied], magnitudes[tied]))
        elif wanted:  # all of them equal: the first ones do
            tied = np.flatnonzero(leading == prefix)[:wanted]
            total.add(values[tied])
            magnitude += float(magnitudes[tied].sum())
            wanted -= len(tied)
    if held and wanted:
        values, magnitudes = (np.concatenate(parts) for parts in zip(*held, strict=True))
        best = np.argpartition(values, len(values) - wanted)[len(values) - wanted :]
        total.add(values[best])
        magnitude += float(magnitudes[best].sum())
    return TopSum(total, magnitude)


def _keys(values: np.ndarray) -> np.ndarray:
    """Integers in the values' order: negative floats have their lower bits turned."""
    bits = np.ascontiguousarray(values).view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))


def _unsigned(digits: np.ndarray, shift: int) -> np.ndarray:
    """The digit in [0, 65536); the leading one carries the sign."""
    return digits + _DIGITS // 2 if shift + _DIGIT == 64 else digits & (_DIGITS - 1)
