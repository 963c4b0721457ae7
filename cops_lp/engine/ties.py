"""The tie rule: of weights that are equal in every score, the lowest indices are kept."""

from __future__ import annotations

import numpy as np

__all__ = ["lowest_first"]


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
    moved = np.setdiff1d(fractional, near)
    fractional_x = np.zeros(len(kept))
    fractional_x[fractional] = values
    fractional_x[index] = np.where(inside, x, 0.0)
    fractional = np.sort(np.concatenate((moved, index[inside])))
    return fractional, fractional_x[fractional]
