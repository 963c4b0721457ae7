"""The best mask of a handful of weights, by trying all.

For scores over so many decades that sums of a few cancel to nothing but rounding: there the
search tells no set from another by its loss.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

__all__ = ["MOST_MASKS", "best_of_all"]

MOST_MASKS = 13_000
"""All masks of up to 16 weights."""


def best_of_all(
    scores: np.ndarray, k: int, floors: np.ndarray, slack: np.ndarray
) -> np.ndarray | None:
    """Of all masks that meet the floors, the one with the most of the target.

    Of several the first, by its weights' indices in order. Sums are rounded once.

    Parameters
    ----------
    scores : ndarray of float64, shape (1 + K, d)
    k : int, 0 ≤ k ≤ d
    floors, slack : ndarray of float64, shape (K,)
        Lacks up to `slack` count as none.

    Returns
    -------
    ndarray of bool, shape (d,), or None
        None where no mask meets the floors.

    Notes
    -----
    O(K k) for each of the d over k masks.
    """
    target, *controls = scores.tolist()
    wanted = list(zip(controls, floors.tolist(), slack.tolist(), strict=True))
    most, best = -math.inf, None
    for chosen in combinations(range(len(target)), k):
        own = math.fsum(target[i] for i in chosen)
        if own > most and all(
            math.fsum([floor, *(-row[i] for i in chosen)]) <= less for row, floor, less in wanted
        ):
            most, best = own, chosen
    if best is None:
        return None
    kept = np.zeros(len(target), dtype=bool)
    kept[list(best)] = True
    return kept
