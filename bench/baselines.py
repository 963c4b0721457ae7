"""What people use without this package: selections for one score, bisection for two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = [
    "SELECTIONS",
    "Bisected",
    "Selection",
    "bisection",
    "set_torch_threads",
    "torch_is_missing",
]


@dataclass(frozen=True, slots=True)
class Selection:
    """A way to find the k largest entries of one score.

    Attributes
    ----------
    gives : {"threshold", "indices", "mask"}
        What it ends with; ours ends with a mask, k True, ties decided.
    run : callable
        (score, k) to that; for "threshold" a float.
    torch : bool
        Whether it needs torch.
    """

    gives: str
    run: Callable[[np.ndarray, int], object]
    torch: bool = False


def _partition(score: np.ndarray, k: int) -> float:
    return float(np.partition(score, len(score) - k)[len(score) - k])


def _partition_mask(score: np.ndarray, k: int) -> np.ndarray:
    """Find the threshold, compare, and let ties go to the lowest index."""
    threshold = np.partition(score, len(score) - k)[len(score) - k]
    mask: np.ndarray = score > threshold
    ties = np.flatnonzero(score == threshold)
    mask[ties[: k - np.count_nonzero(mask)]] = True
    return mask


def _argpartition(score: np.ndarray, k: int) -> np.ndarray:
    return np.argpartition(score, len(score) - k)[len(score) - k :]


def _topk(score: np.ndarray, k: int) -> np.ndarray:
    import torch

    return np.asarray(torch.topk(torch.from_numpy(score), k, sorted=False).indices)


def _kthvalue(score: np.ndarray, k: int) -> float:
    import torch

    return float(torch.kthvalue(torch.from_numpy(score), len(score) - k + 1).values)


SELECTIONS: dict[str, Selection] = {
    "np.partition": Selection("threshold", _partition),
    "np.partition and mask": Selection("mask", _partition_mask),
    "np.argpartition": Selection("indices", _argpartition),
    "torch.topk": Selection("indices", _topk, torch=True),
    "torch.kthvalue": Selection("threshold", _kthvalue, torch=True),
}


def torch_is_missing() -> bool:
    """Whether torch cannot be imported."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return True
    return False


def set_torch_threads(threads: int | None) -> None:
    """Give torch as many threads as ours has; None leaves it all it takes."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class Bisected:
    """What bisection ends with.

    Attributes
    ----------
    mask : ndarray of bool
        Keeps k and meets the floor; whole, so not the relaxation's optimum.
    multiplier : float
    bound : float
        g(λ) at that multiplier, by ordinary float64 sums.
    objective, kept : float
        The mask's sums of target and control.
    steps : int
        How many multipliers were tried.
    """

    mask: np.ndarray
    multiplier: float
    bound: float
    objective: float
    kept: float
    steps: int


def bisection(
    target: np.ndarray, control: np.ndarray, k: int, floor: float, tolerance: float = 1e-9
) -> Bisected:
    """Bisect on the multiplier of the floor, the code a careful user would write.

    For each λ the top k of ``c + λ a`` by `numpy.partition` in float64; λ doubles until the
    floor is met, then its interval is halved until it is shorter than `tolerance` of its
    upper end.

    Parameters
    ----------
    target, control : ndarray, shape (d,)
    k : int, 1 ≤ k ≤ d
    floor : float
        At most what the k best of the control keep.
    tolerance : float
        Of λ, relative.

    Returns
    -------
    Bisected

    Raises
    ------
    ArithmeticError
        The floor is met at no multiplier up to 2^200.
    """
    c, a = target.astype(np.float64), control.astype(np.float64)
    combined = np.empty_like(c)
    steps = 0

    def top(multiplier: float) -> tuple[np.ndarray, float]:
        nonlocal steps
        steps += 1
        np.multiply(a, multiplier, out=combined)
        np.add(combined, c, out=combined)
        mask = _partition_mask(combined, k)
        return mask, float(a[mask].sum())

    mask, kept = top(0.0)
    low = high = 0.0
    if kept < floor:
        high = float(np.abs(c).mean() / (np.abs(a).mean() or 1.0))
        mask, kept = top(high)
        for _ in range(200):
            if kept >= floor:
                break
            low, high = high, 2.0 * high
            mask, kept = top(high)
        else:
            raise ArithmeticError("the floor is met at no multiplier tried")
        while high - low > tolerance * high:
            middle = 0.5 * (low + high)
            trial, trial_kept = top(middle)
            if trial_kept >= floor:
                high, mask, kept = middle, trial, trial_kept
            else:
                low = middle
    objective = float(c[mask].sum())
    # At its own λ the mask is a top k, so the bound needs no other selection.
    bound = objective + high * (kept - floor)
    return Bisected(mask, high, bound, objective, kept, steps)
