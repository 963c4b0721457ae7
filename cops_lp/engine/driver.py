"""The driver: sample, guess a region, screen in one pass, solve what is open, verify.

The answer never depends on the sample; only the time does. On the region, the dual of the
whole problem and that of the open weights differ by a linear function, so an optimum of the
latter inside the region is one of the former (docs/screening.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from ..tolerances import slack_alone, slack_together
from . import doubles
from .calibration import Known, Sampled
from .columns import Columns, find_columns, top_amounts
from .exact import BEYOND
from .failures import NotFiniteError, check_time
from .guess import guess_region
from .nearest import NEAREST
from .pushing import guess_rays, sample_solver, widened_rays
from .region import Cone, Ellipsoid, Region
from .screened import Screened, ends_of, largest_sizes
from .stores import ArrayStore, Mask, Store
from .whole import Relaxation, exponents_of, scaled_by, solve_all

__all__ = ["best_sum", "solve_relaxation"]

_DIRECT = (1 << 14, 1 << 14, 1 << 10)  # weights, by K, up to which nothing is guessed
_WHOLE = 1 << 15  # weights up to which the sample is all of them
_WHOLE_NEAR = 1 << 16  # the same where a point near the optimum is known
_GROUPED = 1 << 16  # weights up to which nothing is guessed where columns of many are with them
_SMALL = 1 << 16  # weights up to which, where no region can be guessed, all are solved
_SAMPLE = (1 << 13, 1 << 18)  # least and most weights sampled at first
_LOOK = 1 << 11  # sampled weights among which masses are looked for
_CROWDED = 64  # masses are looked for where more than one in so many sampled weights is open
_HEAVY = 1 / 16  # share of a sample that its scores are worth, below which it is drawn by size
_DOUBT = 3.0  # standard deviations of a sampled sum by which a floor may be missed
_TIED = 0.25  # share of weights with one target from which they are looked at as a face
_SHRINK = 2  # open weights are a problem to guess for when fewer by this factor
_SPREADS = (4.0, 6.0, 10.0, 20.0)  # standard deviations of a cone, a round each
_SEED = 20_210_712
_OUTGROWN = 400  # powers of two by which open weights beyond the sample's range may overflow
_LEAST = 2.0**-1074
_NOTHING = np.empty(0)
_CLEAR = 1e-6  # of the floors and of what can be kept: floors beyond doubt too high


def solve_relaxation(
    store: Store,
    k: int,
    floors: np.ndarray,
    mask: np.ndarray | None,
    magnitudes: np.ndarray | None = None,
    start: np.ndarray | None = None,
    deadline: float = math.inf,
    columns: Columns | None = None,
    known: Known | None = None,
    face: bool = False,
) -> Relaxation:
    """Solve the relaxation over a store exactly.

    Parameters
    ----------
    store : Store
    k : int, 0 ≤ k ≤ d
    floors : ndarray of float64, shape (K, 2)
        Double-doubles.
    mask : ndarray of bool, shape (d,), or None
        Filled with x = 1 where given; not where a whole problem turns out to be infeasible.
    magnitudes : ndarray of float64, shape (K,), optional
        Of a part of a larger problem: summed absolute controls of weights kept outside the store,
        for the tolerance of a floor just above the attainable best.
    start : ndarray of float64, shape (K + 2,), optional
        Ray of a dual point near the optimum. It saves time only.
    deadline : float
        On ``time.perf_counter``'s clock: no pass over the whole store is begun after it, and
        guesses and exact solvers end at it.
    columns : Columns, optional
        Equal weights outside the store to be solved with it: `Relaxation.columns` tells how many
        of them are kept.
    known : Known, optional
        What is known of the controls for this budget. It saves time only.
    face : bool
        Whether the store is what ties in another problem's target.

    Returns
    -------
    Relaxation

    Raises
    ------
    NotFiniteError, OutOfTimeError
    OverflowError
        A sum of scores is beyond float64.

    Notes
    -----
    O(dK) a pass, one pass unless the guess fails; memory for the open weights only, which
    are solved in the same way while they are many.
    """
    d, K = store.size, store.controls
    part = magnitudes is not None
    if magnitudes is None:
        magnitudes = np.zeros(K)
    if columns is None:
        columns = Columns.none(1 + K)
    beside_store = int(columns.counts.sum())
    if d <= (_GROUPED if beside_store else _DIRECT[min(K, 2)]):
        check_time(deadline)
        return solve_all(store, k, floors, mask, magnitudes, columns=columns, deadline=deadline)
    scaling: np.ndarray | None = None
    region: Region | None = None
    found: Relaxation | None = None
    passes = 0
    by_size, first = False, K > 0 and not face
    for attempt, spread in enumerate(_SPREADS):
        whole = attempt == 0 and d <= (_WHOLE if start is None else _WHOLE_NEAR)
        upper: np.ndarray | None = None
        by_size = by_size or (attempt > 0 and K > 0)
        if not by_size:
            sample = store.gather(None if whole else _sample_index(d, K, attempt))
            by_size = K > 0 and not whole and _is_heavy(sample)
        if by_size:
            check_time(deadline)
            sample, upper = _drawn(store, _sample_size(d, K, attempt), attempt)
        exponents = exponents_of(largest_sizes(sample))
        if scaling is None:
            scaling = exponents
        np.ldexp(sample, -scaling[:, None], out=sample)
        share = sample.shape[1] / d
        if upper is not None:
            upper *= share
        others = Columns(scaled_by(columns.scores, -scaling[:, None]), columns.counts * share)
        expected = np.clip(scaled_by(floors[:, 0], -scaling[1:]), -BEYOND, BEYOND) * share
        told = Sampled(
            sample,
            _NOTHING if upper is None else upper,
            share,
            d,
            None if known is None or whole else known.scaled(scaling[1:]),
        )
        previous, region = region, None
        level = (
            _tied_level(told, k * share, expected, deadline) if first and not beside_store else None
        )
        first = False
        if level is not None:
            on_face = _solve_face(
                store, k, floors, mask, magnitudes, float(np.ldexp(level, scaling[0])), deadline
            )
            passes += 1
            if on_face is not None:
                return on_face
        if not (attempt > 1 or isinstance(previous, Cone) or beside_store):
            near = None if start is None or attempt else _scaled(start, scaling)
            beside = 2.5 * NEAREST * share if K > 1 and start is None else 0.0
            region = guess_region(told, k * share, expected, near, whole, beside, deadline)
        if region is None and whole and not beside_store:
            if d <= _SMALL:
                break
            continue  # too many to push
        if region is None:
            ended = None if found is None else _scaled_ray(found, scaling)
            region = _cone(told, others, k / d, expected, spread, previous, ended, deadline)
        region = replace(region, double=_needs_double(sample, region))
        found = None
        raw = region.unscaled(scaling)
        if not raw.finite():
            break  # multipliers beyond float64 in the scores' units: not to be screened by
        if (
            isinstance(region, Cone)
            and K > 1
            and not (attempt or part or beside_store or region.rays[:, 0].any())
        ):
            # The sample says by far that floors contradict each other: to prove that takes one
            # pass, and another to see that the other scores are finite.
            y = _best_certificate(sample, k * share, expected, region, upper)
            y = scaled_by(y, -scaling[1:])
            check_time(deadline)
            refuted = _refuted(store, k, floors, y, deadline)
            passes += 1
            if refuted is not None:
                check_time(deadline)
                exponents_of(store.screen(raw, None).largest())
                return replace(refuted, passes=passes + 1)
        # Where the sample is everything, the exact solver takes care of masses.
        equal = None if whole else _masses(sample, region, scaling)
        check_time(deadline)
        screened = store.screen(raw, mask, equal)
        passes += 1
        if K > 0 and attempt == 0 and not by_size and screened.count * _SHRINK > d > _SMALL:
            continue  # a sample that says too little: few weights hold most of a score
        left = k - screened.kept
        if not 0 <= left <= screened.open_count + beside_store:
            continue  # wrong by more than the open weights can mend
        if np.any(exponents_of(screened.largest()) > scaling + _OUTGROWN):
            scaling = region = None
            continue
        inner = _solve_open(
            store,
            screened,
            left,
            doubles.subtract(floors, screened.sums[1:]),
            magnitudes + screened.magnitudes[1:],
            raw,
            d,
            columns,
            deadline,
        )
        found = inner.found
        if not found.feasible:
            sizes = magnitudes + screened.magnitudes[1:] + found.magnitudes[1:]
            if _proves_infeasible(store, k, floors, sizes, found.certificate, columns, deadline):
                return _joined(store, screened, inner, 0.0, mask if part else None, passes + 1)
        elif any(region.contains(ray) for ray in _optimal_rays(screened, inner, region, scaling)):
            return _joined(store, screened, inner, raw.width(), mask, passes)
    check_time(deadline)
    return solve_all(store, k, floors, mask, magnitudes, passes, columns=columns, deadline=deadline)


def _tied_level(told: Sampled, k: float, floors: np.ndarray, deadline: float) -> float | None:
    """The target of a mass of weights at the threshold, where no floor seems to have a price.

    k and floors scaled to the sample. Then the target alone decides on all the others.
    """
    c, bounds = told.scores[0], told.bounds()
    total = float(bounds.sum())
    top, _ = top_amounts(c, min(max(k, 1.0), total), bounds)
    level = float(c[top].min()) + 0.0  # one zero only
    above, tied = c > level, c == level
    more, ties = float(bounds[above].sum()), float(bounds[tied].sum())
    # Those equal in every score are few columns: no face is needed for them.
    own = told.scores[:, tied]
    equal = [(own == column[:, None]).all(axis=0) for column in find_columns(own).T]
    differ = ties - sum(float(bounds[tied][each].sum()) for each in equal)
    if differ < _TIED * total:
        return None
    push = 5.0 * math.sqrt(total)
    if (more > 0.0 and k < more + push) or (more + ties < total and k > more + ties - push):
        return None
    A = own[1:]
    # A floor within the sample's error may be met: to try costs a pass.
    error = _DOUBT * np.sqrt(told.scores[1:] ** 2 @ bounds**2 * (k / total))
    wanted = floors - told.scores[1:, above] @ bounds[above] - error
    weights = _even(A)
    solve = sample_solver(
        np.vstack((weights @ A, A)), Columns.none(len(told.scores)), bounds[tied], deadline
    )
    return level if solve(round(k - more), wanted)[0][0] > 0.0 else None


def _even(A: np.ndarray) -> np.ndarray:
    """Powers of two that bring the controls' mean sizes to about 1."""
    exponents = np.frexp(np.abs(A).mean(axis=1))[1]
    return np.asarray(np.ldexp(np.ones(len(A)), np.clip(-exponents, -1000, 1000)))


def _solve_face(
    store: Store,
    k: int,
    floors: np.ndarray,
    mask: Mask | None,
    magnitudes: np.ndarray,
    level: float,
    deadline: float,
) -> Relaxation | None:
    """Optimum with λ = 0 and the threshold `level`, if there is one.

    What has more of the target is kept, what has less is dropped; of those that tie any will do
    that meet the floors: those with most of the controls together are taken, an ordinary problem.
    """
    K = len(floors)
    check_time(deadline)
    center = np.zeros(K + 2)
    center[0], center[-1] = 1.0, level
    screened = store.screen(Ellipsoid(center, np.zeros((K + 1, K + 1)), double=True), mask)
    exponents_of(screened.largest())
    left = k - screened.kept
    if not 0 <= left <= screened.open_count:
        return None
    inner = store.open_store(screened)
    kept = inner.new_mask()
    only_target = np.append(1.0, np.zeros(K))
    kept[:] = True
    least, _ = screened.ends(only_target, kept)
    kept[:] = False
    _, largest = screened.ends(only_target, kept)
    if not least == level == largest:
        return None  # some only nearly tie
    sizes = magnitudes + screened.magnitudes[1:]
    some = inner.gather(_sample_index(inner.size, K, 0))
    found = solve_relaxation(
        inner.retargeted(_even(some[1:])),
        left,
        doubles.subtract(floors, screened.sums[1:]),
        kept,
        sizes,
        deadline=deadline,
        face=True,
    )
    if not found.feasible:
        return None
    if mask is not None:
        screened.write(mask, kept)
    whole = Fraction(level) * (left - round(float(found.values.sum())))
    sums, scores = found.kept_sums.copy(), found.fractional_scores.copy()
    sums[0], scores[0] = doubles.of_fractions([whole])[0], level
    taken = found.magnitudes.copy()
    taken[0] = abs(float(whole))
    fractional = screened.places(found.fractional)
    return replace(
        found,
        multipliers=np.zeros(K),
        multipliers_rest=np.zeros(K),
        threshold=level,
        kept_sums=doubles.add(screened.sums, sums),
        magnitudes=screened.magnitudes + taken,
        fractional=fractional,
        fractional_scores=scores,
        gap=0.0,
        floors_gap=0.0,
        candidates=screened.candidates(np.empty(0, np.int64), np.empty((1 + K, 0)), 0.0),
        passes=1,
        open_count=screened.open_count,
    )


def _cone(
    told: Sampled,
    columns: Columns,
    share: float,
    floors: np.ndarray,
    spread: float,
    previous: Region | None,
    ended: np.ndarray | None,
    deadline: float,
) -> Cone:
    """Cone of a sample's optima, or where one has failed, that one and where it ended."""
    if isinstance(previous, Cone) and ended is not None:
        rays = previous.rays
    else:
        rays = guess_rays(told, columns, share, floors, spread, deadline)
    return Cone(rays if ended is None else widened_rays(rays, told, columns, share, ended, spread))


def best_sum(
    store: Store, k: int, deadline: float = math.inf, columns: Columns | None = None
) -> tuple[float, float, float] | None:
    """Sum of the k largest entries of a store of one score, of their absolute values, and the k-th.

    Entries of `columns` count as the store's own.

    None when a score is not finite. OutOfTimeError where a pass would begin after the deadline.
    """
    try:
        found = solve_relaxation(
            store, k, np.empty((0, 2)), None, deadline=deadline, columns=columns
        )
    except NotFiniteError:
        return None
    return float(found.kept_sums[0, 0]), float(found.magnitudes[0]), found.threshold


@dataclass(frozen=True, slots=True)
class _Inner:
    """Optimum of the open weights and of columns beside them.

    `kept`, where x = 1, is a mask of the open weights. `columns` are those that came from outside,
    `outside` of them, then the store's own masses; `found.columns` says of them what is kept.
    """

    found: Relaxation
    kept: Mask
    columns: Columns
    outside: int


def _solve_open(
    store: Store,
    screened: Screened,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray,
    region: Region,
    d: int,
    outside: Columns,
    deadline: float,
) -> _Inner:
    """Solve for the open weights, less than all d of them by guessing again."""
    K = len(floors)
    columns = outside.joined(screened.masses.present())
    middle = None if isinstance(region, Cone) else region.center / region.center[0]
    inner = store.open_store(screened)
    kept = inner.new_mask()
    how: dict[str, Any] = {"columns": columns, "deadline": deadline}
    # After a cone another one is likely, which costs more than some ten thousand weights.
    least = _SMALL if middle is None and K == 1 else _DIRECT[min(K, 2)]
    if inner.size * _SHRINK <= d and inner.size > least:
        found = solve_relaxation(inner, k, floors, kept, magnitudes, start=middle, **how)
    else:
        hints = region.lam_range() if K == 1 else None
        found = solve_all(inner, k, floors, kept, magnitudes, hints=hints, **how)
    return _Inner(found, kept, columns, len(outside.counts))


def _joined(
    store: Store,
    screened: Screened,
    inner: _Inner,
    width: float,
    mask: np.ndarray | None,
    passes: int,
) -> Relaxation:
    """The whole store's optimum from what was kept at once and the open weights' optimum."""
    found, n = inner.found, screened.count
    K = len(found.multipliers)
    near, near_scores = np.empty(0, np.int64), np.empty((1 + K, 0))
    if mask is not None:
        screened.write(mask, inner.kept)
    amounts = found.columns[inner.outside :].astype(np.int64)
    places: list[np.ndarray] = []
    around = NEAREST + 2 * K + 2
    if len(amounts) and mask is not None:
        every = np.zeros_like(screened.masses.counts)
        every[screened.masses.counts > 0] = amounts
        handed = store.hand_out(mask, screened, every, around)
        places = [handed[m] for m in np.flatnonzero(screened.masses.counts)]
        # As many of each mass as could be asked for stand for it among the candidates.
        near = np.concatenate(places)
        lengths = [len(place) for place in places]
        near_scores = np.repeat(inner.columns.scores[:, inner.outside :], lengths, axis=1)
    fractional = found.fractional.copy()
    fractional[fractional < n] = screened.places(fractional[fractional < n])
    for position in np.flatnonzero(found.fractional >= n):
        column = int(found.fractional[position]) - n
        own = column - inner.outside
        if own < 0:
            fractional[position] = store.size + column
        elif mask is not None:  # the first that is not kept
            fractional[position] = places[own][min(int(amounts[own]), around)]
    order = np.argsort(fractional)
    return replace(
        found,
        kept_sums=doubles.add(screened.sums, found.kept_sums),
        magnitudes=screened.magnitudes + found.magnitudes,
        fractional=fractional[order],
        values=found.values[order],
        fractional_scores=found.fractional_scores[:, order],
        candidates=screened.candidates(near, near_scores, width),
        passes=passes,
        open_count=screened.open_count,
        columns=found.columns[: inner.outside],
    )


def _masses(sample: np.ndarray, region: Region, scaling: np.ndarray) -> np.ndarray:
    """Masses among what a region leaves open of a sample, in raw units; shape (1 + K, m)."""
    some = np.ascontiguousarray(sample[:, :: max(1, sample.shape[1] // _LOOK)])
    opened = ArrayStore(tuple(some)).screen(region, None).scores
    if opened.shape[1] * _CROWDED < some.shape[1]:
        opened = opened[:, :0]
    return scaled_by(find_columns(opened), scaling[:, None])


def _optimal_rays(
    screened: Screened, inner: _Inner, region: Region, scaling: np.ndarray
) -> Iterator[np.ndarray]:
    """Rays of one λ and thresholds that are optimal with it.

    With no fractional weight these are all from the largest dropped to the least kept
    combined score, or beyond where the open weights are all kept or all dropped.
    """
    ray = _scaled_ray(inner.found, scaling)
    yield ray
    if len(inner.found.fractional):
        return
    weights = np.ldexp(np.append(1.0, ray[1:-1]), -scaling)
    least, largest = screened.ends(weights, inner.kept)
    amounts, counts = inner.found.columns, inner.columns.counts
    for some, kept in ((amounts > 0, True), (amounts < counts, False)):
        chosen = inner.columns.scores[:, some]
        end = ends_of(chosen, weights, np.full(chosen.shape[1], kept))
        least, largest = min(least, end[0]), max(largest, end[1])
    likely = np.clip(region.thresholds(ray[1:-1]), largest, least)
    for mu in (least, largest, *likely):
        if math.isfinite(mu) and largest <= mu <= least:
            yield np.concatenate((ray[:-1], [mu]))


def _scaled(ray: np.ndarray, scaling: np.ndarray) -> np.ndarray:
    """A finite ray in scaled units."""
    scaled = ray.copy()
    scaled[1:-1] = scaled_by(ray[1:-1], scaling[1:] - scaling[0])
    scaled[-1] = np.ldexp(ray[-1], -scaling[0])
    return scaled


def _scaled_ray(found: Relaxation, scaling: np.ndarray) -> np.ndarray:
    """Dual point of an optimum as a ray in scaled units; λ = ∞ when it is infeasible."""
    K = len(found.multipliers)
    ray = np.empty(K + 2)
    ray[0] = 1.0 if found.feasible else 0.0
    if found.feasible:
        ray[1:-1] = np.ldexp(found.multipliers, scaling[1:] - scaling[0])
        ray[-1] = np.ldexp(found.threshold, -scaling[0])
    else:
        assert found.certificate is not None
        ray[1:-1] = np.ldexp(found.certificate, scaling[1:])
        ray[-1] = found.threshold
        ray /= np.abs(ray[1:-1]).max()
    return ray


def _proves_infeasible(
    store: Store,
    k: int,
    floors: np.ndarray,
    sizes: np.ndarray,
    certificate: np.ndarray | None,
    columns: Columns,
    deadline: float,
) -> bool:
    """Check yᵀb > T_k(Aᵀy) over the store and columns, beyond what counts as rounding.

    `sizes`, shape (K,): summed absolute controls of the mask that y proves too little.
    """
    assert certificate is not None
    used = np.flatnonzero(certificate)
    single = len(used) == 1
    y = np.ones(1) if single else certificate[used]
    view = store.control_store(int(used[0])) if single else store.combined_store(certificate)
    own = columns.scores[1 + used[0]] if single else certificate @ columns.scores[1:]
    found = best_sum(view, k, deadline, Columns(own[None, :], columns.counts))
    if found is None:
        raise NotFiniteError
    if single:
        excess = math.fsum([*floors[used[0]], -found[0]])
        return bool(excess > slack_alone(found[1]))
    scale = float(y @ np.maximum(sizes, np.abs(floors[:, 0]))[used])
    excess = math.fsum([*(y[:, None] * floors[used]).ravel(), -found[0]])
    if slack_together(scale) < excess <= _CLEAR * scale:  # floors that count as bests are those
        for weight, j in zip(y, used, strict=True):
            alone = best_sum(store.control_store(int(j)), k, deadline)
            if alone is None:
                raise NotFiniteError
            above = math.fsum([*floors[j], -alone[0]])
            excess -= weight * above if 0.0 < above <= slack_alone(alone[1]) else 0.0
    return bool(excess > slack_together(scale))


def _best_certificate(
    sample: np.ndarray, k: float, floors: np.ndarray, region: Cone, upper: np.ndarray | None
) -> np.ndarray:
    """Of a cone's rays at infinity the y by which floors exceed the most of the sample most."""
    bounds = np.ones(sample.shape[1]) if upper is None else upper
    count = min(max(round(k), 1), math.floor(bounds.sum()))
    excess = []
    for y in region.rays[:, 1:-1]:
        combined = y @ sample[1:]
        top, x = top_amounts(combined, count, bounds)
        most = float(combined[top] @ x)
        excess.append(float(y @ floors - most) / max(float(np.abs(y) @ np.abs(floors)), _LEAST))
    return np.asarray(region.rays[int(np.argmax(excess)), 1:-1])


def _refuted(
    store: Store, k: int, floors: np.ndarray, y: np.ndarray, deadline: float
) -> Relaxation | None:
    """Infeasibility by a guessed certificate, with its best mask left out; None if it proves none.

    By so much that no tolerance matters.
    """
    used = np.flatnonzero(y)
    if not (len(used) and np.isfinite(y).all()):
        return None
    view = store.control_store(int(used[0])) if len(used) == 1 else store.combined_store(y)
    found = solve_relaxation(view, k, np.empty((0, 2)), None, deadline=deadline)
    own = np.ones(1) if len(used) == 1 else y[used]
    excess = math.fsum([*(own[:, None] * floors[used]).ravel(), *(-found.kept_sums[0])])
    scale = float(own @ np.abs(floors[used, 0])) + float(found.magnitudes[0])
    if not excess > _CLEAR * scale:
        return None
    lam = np.full(len(y), np.inf)
    return replace(
        found, feasible=False, multipliers=lam, multipliers_rest=np.zeros(len(y)), certificate=y
    )


def _sample_size(d: int, K: int, attempt: int) -> int:
    """d^(2/3) weights at first.

    That balances the sample's problem, O(r), and the open weights', about d / √r. More
    controls need more weights to tell their effects apart.
    """
    least, most = _SAMPLE
    return min(min(max(int(d ** (2 / 3)), least * max(1, K // 2)), most) << attempt, d)


def _is_heavy(sample: np.ndarray) -> bool:
    """Whether few of some weights hold most of a score, or hardly any have one."""
    sizes = np.abs(sample)
    largest = sizes.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        return False
    sizes /= np.where(largest > 0.0, largest, 1.0)
    total = sizes.sum(axis=1)
    return bool(np.any(total**2 <= _HEAVY * sample.shape[1] * (sizes**2).sum(axis=1)))


def _drawn(store: Store, r: int, attempt: int) -> tuple[np.ndarray, np.ndarray]:
    """About r weights, drawn half by their sizes, and how many each stands for.

    The relative scatter of a sampled sum is then about 1 / √r whatever the scores' distribution.
    """
    d, rows = store.size, 1 + store.controls
    with np.errstate(over="ignore"):
        sizes = store.total_sizes()
    if not np.isfinite(sizes).all():  # not finite scores are found by the pass
        return store.gather(_sample_index(d, store.controls, attempt)), np.full(r, d / r)
    exponents = np.frexp(sizes)[1]  # powers of two: the same wherever sums are rounded otherwise
    with np.errstate(over="ignore"):
        units = np.ldexp(np.where(sizes > 0.0, 0.5 * r / rows, 0.0), -exponents)
    drawn = store.draw(0.5 * r / d, np.where(np.isfinite(units), units, 0.0))
    return drawn.scores, drawn.upper


def _needs_double(sample: np.ndarray, region: Region) -> bool:
    """Whether single precision would leave far more of a sample open than the region does."""
    some = sample[:, :: max(1, sample.shape[1] // _LOOK)]
    fine, coarse = (
        ArrayStore(tuple(some.astype(kind))).screen(replace(region, double=double), None).open_count
        for kind, double in ((np.float64, True), (np.float32, False))
    )
    return bool(coarse > 2 * fine + some.shape[1] // 64)


@lru_cache(maxsize=2)
def _sample_index(d: int, K: int, attempt: int) -> np.ndarray:
    """Weights of a sample, one at random in each of as many strata; fixed by d and K."""
    r = _sample_size(d, K, attempt)
    offsets = np.random.default_rng(_SEED + attempt).random(r)
    index = np.minimum(((np.arange(r) + offsets) * (d / r)).astype(np.int64), d - 1)
    index.flags.writeable = False  # shared by the solves of one size
    return index
