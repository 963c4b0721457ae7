"""The first region to screen by: from order statistics, or by Newton's method."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .calibration import Sampled
from .newton import FEW, estimate_region
from .pushing import Repeated
from .region import Ellipsoid

__all__ = ["guess_region"]

_FIRST = 1024  # weights solved exactly to start from
_KEPT = 96  # of which at least so many on either side of the threshold
_SPREAD = 3.3  # standard deviations of a rank: missed one time in a thousand


def guess_region(
    sample: Sampled,
    k: float,
    floors: np.ndarray,
    start: np.ndarray | None,
    exact: bool,
    beside: float,
    deadline: float = math.inf,
) -> Ellipsoid | None:
    """Ellipsoid that very likely holds the dual optimum; None where that can't be told.

    Parameters
    ----------
    sample : Sampled
    k : float
    floors : ndarray of float64, shape (K,)
        Both scaled to the sample.
    start : ndarray of float64, shape (K + 2,), or None
        Ray of a point that is known to be near.
    exact : bool
        Whether the sample is all there is.
    beside : float
        How many of its weights on either side of the optimum's threshold to leave open in any
        case.
    deadline : float
        On ``time.perf_counter``'s clock. OutOfTimeError where it comes first.
    """
    r = sample.scores.shape[1]
    few = min(k, r - k)
    if few < FEW:
        return None
    if len(floors) == 0:
        return _interval(sample.scores[0], k, exact)
    if start is not None:
        return estimate_region(sample, k, floors, start, r / 4, exact, beside, deadline)
    count = min(r, max(_FIRST, int(_KEPT * r / few)))
    stride = r // count
    part = replace(
        sample,
        scores=np.ascontiguousarray(sample.scores[:, ::stride]),
        upper=np.ascontiguousarray(sample.upper[::stride]),
    )
    share = float(part.bounds().sum() / sample.bounds().sum())
    part = replace(part, share=sample.share * share)
    bounds = part.upper if len(part.upper) else None
    wanted = part.like_own_best(k * share, floors * share)
    ray, _ = Repeated(part.scores, upper=bounds, deadline=deadline).solve(round(k * share), wanted)
    rough = 3.0 * math.sqrt(few * (1.0 / share - 1.0)) + 1.0 / share
    return estimate_region(sample, k, floors, ray, rough, exact, beside, deadline)


def _interval(c: np.ndarray, k: float, exact: bool) -> Ellipsoid | None:
    """Thresholds between two order statistics, which ties don't disturb."""
    r = len(c)
    push = 1.0 if exact else _SPREAD * math.sqrt(k * (1.0 - k / r)) + 2.0
    first, last = math.floor(k - push), math.ceil(k + push)
    if first < 1 or last > r:
        return None
    ends = np.partition(c, (r - last, r - first))[[r - last, r - first]]
    center, half = 0.5 * float(ends[0] + ends[1]), 0.5 * float(ends[1] - ends[0])
    unit = 2.0 ** -math.frexp(max(half, 1e-9 * abs(center), 1e-290))[1]
    return Ellipsoid(np.array([1.0, center]) * unit, np.array([[half * unit]]))
