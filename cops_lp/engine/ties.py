"""The tie rule: of weights that are equal in every score, the lowest indices are kept."""

from __future__ import annotations

import numpy as np

__all__ = ["lowest_first"]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_BITS = 16


def lowest_first(
    scores: np.ndarray,
    near: np.ndarray,
    kept: np.ndarray,
    fractional: np.ndarray,
    values: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Hand each group of equal weights its shares of x anew, the largest to the lowest index.

    Parameters
    ----------
    scores : ndarray of float64, shape (1 + K, n)
    near : ndarray of int64
        Ascending; weights tied with the threshold, the only ones that can be in a group of
        which some are kept and some not.
    kept : ndarray of bool, shape (n,)
        Where x = 1; changed in place.
    fractional, values : ndarray
        Where 0 < x < 1, and x there.

    Returns
    -------
    fractional, values : ndarray
        Of the new x, ascending.

    Notes
    -----
    O(m log m) for m = len(near). Changes no sum: equal weights are exchanged.
    """
    rows = scores[:, near]
    inside = np.flatnonzero(np.isin(near, fractional))
    part = _mixed(rows, kept[near], inside)
    if len(part) == 0:
        return fractional, values
    near, rows = near[part], rows[:, part]
    order = np.lexsort(rows[::-1])  # stable: equal weights stay in the order of their indices
    rows = rows[:, order]
    first = np.concatenate(([True], (rows[:, 1:] != rows[:, :-1]).any(axis=0)))
    if first.all():
        return fractional, values
    x = np.zeros(len(kept))
    x[fractional] = values
    x += kept
    x = x[near[order]]
    group = np.cumsum(first)
    x = x[np.lexsort((-x, group))]
    index = near[order]
    kept[index] = x >= 1.0
    inside = (x > 0.0) & (x < 1.0)
    elsewhere = ~np.isin(fractional, near)
    fractional = np.concatenate((fractional[elsewhere], index[inside]))
    values = np.concatenate((values[elsewhere], x[inside]))
    order = np.argsort(fractional)
    return fractional[order], values[order]


def _mixed(rows: np.ndarray, kept: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Positions of all columns that are equal to one with another x, ascending; and some more.

    `kept` is where x = 1, `inside` the positions of fractional ones. By hashes: one sort of
    numbers where the columns' own would be K + 1.
    """
    hashes = np.zeros(rows.shape[1], dtype=np.uint64)
    for row in rows:
        hashes ^= (row + 0.0).view(np.uint64)  # one zero only
        hashes *= _ODD
        hashes ^= hashes >> np.uint64(29)
    hashes &= ~_ONE
    marked = np.sort(hashes | kept)
    both = np.flatnonzero((marked[1:] ^ marked[:-1]) == _ONE)
    wanted = np.zeros(1 << _BITS, dtype=bool)
    shift = np.uint64(64 - _BITS)
    wanted[marked[both] >> shift] = True
    wanted[hashes[inside] >> shift] = True
    return np.flatnonzero(wanted[hashes >> shift])
