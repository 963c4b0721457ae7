"""The driver: sample, guess a region, screen in one pass, solve what is open, verify.

The answer never depends on the sample; only the time does. On the region, the dual of the
whole problem and that of the open weights differ by a linear function, so an optimum of the
latter inside the region is one of the former (docs/screening.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial

import numpy as np

from ..problem import FLOOR_TOLERANCE, JOINT_TOLERANCE
from . import doubles
from .exact import BEYOND, kept_copies
from .failures import NotFiniteError, OutOfTimeError
from .guess import guess_region
from .masses import Windows, find_masses, solve_by_windows, told_signs
from .nearest import NEAREST
from .pushing import SampleSearch, guess_rays, widened_rays
from .region import Cone, Region
from .screened import Screened, ends_of, largest_sizes
from .stores import ArrayStore, Mask, Store
from .whole import Relaxation, exponents_of, scaled_by, solve_all

__all__ = ["best_sum", "solve_relaxation"]

_DIRECT = (1 << 14, 1 << 14, 1 << 10)  # weights, by K, up to which nothing is guessed
_WHOLE = 1 << 15  # weights up to which the sample is all of them
_WHOLE_NEAR = 1 << 16  # the same where a point near the optimum is known
_WHOLE_LATE = 1 << 21  # the same where a sample has failed
_SMALL = 1 << 16  # weights up to which, where no region can be guessed, all are solved
_SAMPLE = (1 << 13, 1 << 18)  # least and most weights sampled at first
_LOOK = 1 << 11  # sampled weights among which masses are looked for
_CROWDED = 64  # masses are looked for where more than one in so many sampled weights is open
_SHRINK = 2  # open weights are a problem to guess for when fewer by this factor
_SPREADS = (4.0, 6.0, 10.0, 20.0)  # standard deviations of a cone, a round each
_SEED = 20_210_712
_OUTGROWN = 400  # powers of two by which open weights beyond the sample's range may overflow
_LEAST = 2.0**-1074
_CLEAR = 1e-6  # of the floors and of what can be kept: floors beyond doubt too high


def solve_relaxation(
    store: Store,
    k: int,
    floors: np.ndarray,
    mask: np.ndarray | None,
    magnitudes: np.ndarray | None = None,
    start: np.ndarray | None = None,
    late: bool = False,
    deadline: float = math.inf,
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
    late : bool
        Guess from all weights at first: a sample has failed. It saves time only.
    deadline : float
        On ``time.perf_counter``'s clock: no pass over the whole store is begun after it.

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
    if d <= _DIRECT[min(K, 2)]:
        _check_time(deadline)
        return solve_all(store, k, floors, mask, magnitudes)
    scaling: np.ndarray | None = None
    region: Region | None = None
    found: Relaxation | None = None
    passes = 0
    for attempt, spread in enumerate(_SPREADS):
        whole = attempt == 0 and (late or d <= (_WHOLE if start is None else _WHOLE_NEAR))
        sample = store.gather(None if whole else _sample_index(d, K, attempt))
        exponents = exponents_of(largest_sizes(sample))
        if scaling is None:
            scaling = exponents
        np.ldexp(sample, -scaling[:, None], out=sample)
        share = sample.shape[1] / d
        expected = np.clip(scaled_by(floors[:, 0], -scaling[1:]), -BEYOND, BEYOND) * share
        previous, region = region, None
        if not (attempt > 1 or isinstance(previous, Cone)):
            near = None if start is None or attempt else _scaled(start, scaling)
            beside = 2.5 * NEAREST * share if K > 1 and start is None else 0.0
            region = guess_region(sample, k * share, expected, near, whole, beside)
        if region is None and whole:
            if late or d <= _SMALL:
                break
            continue  # too many to push
        if region is None:
            ended = None if found is None else _scaled_ray(found, scaling)
            region = _cone(sample, k / d, expected, spread, previous, ended)
        found = None
        raw = region.unscaled(scaling)
        if not raw.finite():
            break  # multipliers beyond float64 in the scores' units: not to be screened by
        if isinstance(region, Cone) and K > 1 and not (attempt or part or region.rays[:, 0].any()):
            # The sample says by far that floors contradict each other: to prove that takes one
            # pass, and another to see that the other scores are finite.
            y = scaled_by(_best_certificate(sample, k * share, expected, region), -scaling[1:])
            _check_time(deadline)
            refuted = _refuted(store, k, floors, y, deadline)
            passes += 1
            if refuted is not None:
                _check_time(deadline)
                exponents_of(store.screen(raw, None).largest())
                return replace(refuted, passes=passes + 1)
        # Where the sample is everything, the exact solver takes care of masses.
        equal = None if whole else _masses(sample, region, scaling)
        _check_time(deadline)
        screened = store.screen(raw, mask, equal)
        passes += 1
        left = k - screened.kept
        if not 0 <= left <= screened.open_count:
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
            late,
        )
        found = inner.found
        if not found.feasible:
            sizes = magnitudes + screened.magnitudes[1:] + found.magnitudes[1:]
            if _proves_infeasible(store, k, floors, sizes, found.certificate, deadline):
                return _joined(store, screened, inner, 0.0, mask if part else None, passes + 1)
        elif any(region.contains(ray) for ray in _optimal_rays(screened, inner, region, scaling)):
            return _joined(store, screened, inner, raw.width(), mask, passes)
    _check_time(deadline)
    return solve_all(store, k, floors, mask, magnitudes, passes)


def _check_time(deadline: float) -> None:
    if time.perf_counter() >= deadline:
        raise OutOfTimeError


def _cone(
    sample: np.ndarray,
    share: float,
    floors: np.ndarray,
    spread: float,
    previous: Region | None,
    ended: np.ndarray | None,
) -> Cone:
    """Cone of a sample's optima, or where one has failed, that one and where it ended."""
    if isinstance(previous, Cone) and ended is not None:
        rays = previous.rays
    else:
        rays = guess_rays(sample, share, floors, spread, SampleSearch(sample))
    return Cone(rays if ended is None else widened_rays(rays, sample, share, ended, spread))


def best_sum(store: Store, k: int, deadline: float = math.inf) -> tuple[float, float] | None:
    """Sum of the k largest entries of a store of one score, and of their absolute values.

    None when a score is not finite. OutOfTimeError where a pass would begin after the deadline.
    """
    try:
        found = solve_relaxation(store, k, np.empty((0, 2)), None, deadline=deadline)
    except NotFiniteError:
        return None
    return float(found.kept_sums[0, 0]), float(found.magnitudes[0])


@dataclass(frozen=True, slots=True)
class _Inner:
    """Optimum of the open weights.

    `kept`, where x = 1, is a mask of the open weights' store: of the weights left open, then
    of the copies that stand for masses, of which `windows` and `amounts` speak. `copies`
    are the latter's scores, and `copies_kept` says of them what `kept` does; `found` counts all.
    """

    found: Relaxation
    kept: Mask
    windows: Windows | None
    amounts: np.ndarray
    copies: np.ndarray
    copies_kept: np.ndarray


def _solve_open(
    store: Store,
    screened: Screened,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray,
    region: Region,
    d: int,
    late: bool,
) -> _Inner:
    """Solve for the open weights, less than all d of them by guessing again."""
    K = len(floors)
    masses = screened.masses.present()
    middle = None if isinstance(region, Cone) else region.center / region.center[0]

    def solve(
        copies: np.ndarray | None, left: int, floors: np.ndarray, magnitudes: np.ndarray
    ) -> tuple[Relaxation, Mask]:
        inner = store.open_store(screened, copies)
        kept = inner.new_mask()
        solver = partial(solve_all, hints=region.lam_range() if K == 1 else None)
        # After a cone another one is likely, which costs more than some ten thousand weights.
        least = _SMALL if middle is None and K == 1 else _DIRECT[min(K, 2)]
        if inner.size * _SHRINK <= d and inner.size > least:
            solver = partial(solve_relaxation, start=middle)
        elif K > 0 and _SMALL < inner.size <= _WHOLE_LATE and not late:
            # A sample said too little: few weights hold most of a score. All of them say it.
            solver = partial(solve_relaxation, start=middle, late=True)
        return solver(inner, left, floors, kept, magnitudes), kept

    if len(masses.counts) == 0:
        found, kept = solve(None, k, floors, magnitudes)
        return _Inner(found, kept, None, masses.counts, masses.scores, np.empty(0, dtype=bool))

    def solve_windows(
        windows: Windows, left: int
    ) -> tuple[_Inner, np.ndarray, np.ndarray, np.ndarray]:
        copies = windows.copies(masses)
        taken = windows.sums(masses.scores)
        with np.errstate(over="ignore"):  # a sum beyond float64 fails the caller's checks
            sizes = np.abs(masses.scores) @ windows.first
        found, kept = solve(
            copies, left, doubles.subtract(floors, taken[1:]), magnitudes + sizes[1:]
        )
        inside = np.zeros(copies.shape[1], dtype=bool)
        inside[found.fractional[found.fractional >= screened.count] - screened.count] = True
        copies_kept = np.asarray(kept[screened.count :])
        found = replace(
            found,
            kept_sums=doubles.add(found.kept_sums, taken),
            magnitudes=found.magnitudes + sizes,
        )
        inner = _Inner(found, kept, windows, masses.counts, copies, copies_kept)
        if found.feasible:
            weights = np.append(1.0, found.multipliers + found.multipliers_rest)
        else:
            assert found.certificate is not None
            weights = np.append(0.0, found.certificate)
        return inner, copies_kept, inside, told_signs(weights, found.threshold, masses.scores)

    @cache
    def others() -> Store:
        return store.open_store(screened)

    def coarse(windows: Windows, copies: np.ndarray, step: int, left: int) -> np.ndarray:
        index = np.arange(step // 2, screened.count, step)
        rest = others().gather(index) if len(index) else masses.scores[:, :0]
        beyond = doubles.subtract(floors, windows.sums(masses.scores[1:]))
        return kept_copies(rest, masses.scores, copies, step, left, beyond)

    rays = region.rays if isinstance(region, Cone) else region.center[None, :]
    guess = rays[:, :-1].mean(axis=0)
    above = screened.at_least(guess, masses.scores)
    inner, windows, amounts = solve_by_windows(
        above, masses, screened.count, k, guess, solve_windows, coarse
    )
    found = inner.found
    if found.feasible:
        combined = np.append(1.0, found.multipliers + found.multipliers_rest)
        reduced = combined @ masses.scores - found.threshold
        found = replace(found, gap=found.gap + windows.gap(masses, reduced))
    return replace(inner, found=found, amounts=amounts)


def _joined(
    store: Store,
    screened: Screened,
    inner: _Inner,
    width: float,
    mask: np.ndarray | None,
    passes: int,
) -> Relaxation:
    """The whole store's optimum from what was kept at once and the open weights' optimum."""
    found, n, fractional = inner.found, screened.count, inner.found.fractional
    near, near_scores = np.empty(0, np.int64), inner.copies[:, :0]
    if mask is not None:
        screened.write(mask, inner.kept)
    if inner.windows is not None and mask is not None:
        around = NEAREST + 2 * len(found.multipliers) + 2
        amounts = np.zeros_like(screened.masses.counts)
        amounts[screened.masses.counts > 0] = inner.amounts
        places = store.hand_out(mask, screened, amounts, around)
        mass, rank = inner.windows.ranks(inner.amounts, fractional[fractional >= n] - n)
        mass = np.flatnonzero(screened.masses.counts)[mass]
        copies = [
            places[m][r - max(amounts[m] - around, 0)] for m, r in zip(mass, rank, strict=True)
        ]
        own = screened.places(fractional[fractional < n])
        fractional = np.concatenate((own, copies)).astype(np.int64)
        # As many of each mass as could be asked for stand for it among the candidates.
        near = np.concatenate(places)
        lengths = [len(place) for place in places]
        near_scores = np.repeat(screened.masses.scores, lengths, axis=1)
    elif len(fractional):
        fractional = screened.places(fractional)
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
    )


def _masses(sample: np.ndarray, region: Region, scaling: np.ndarray) -> np.ndarray:
    """Masses among what a region leaves open of a sample, in raw units; shape (1 + K, m)."""
    some = np.ascontiguousarray(sample[:, :: max(1, sample.shape[1] // _LOOK)])
    opened = ArrayStore(tuple(some)).screen(region, None).scores
    if opened.shape[1] * _CROWDED < some.shape[1]:
        opened = opened[:, :0]
    return scaled_by(find_masses(opened), scaling[:, None])


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
    ends = screened.ends(weights, inner.kept), ends_of(inner.copies, weights, inner.copies_kept)
    least, largest = min(end for end, _ in ends), max(end for _, end in ends)
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
    deadline: float,
) -> bool:
    """Check yᵀb > T_k(Aᵀy) over the whole store, beyond what counts as rounding.

    `sizes`, shape (K,): summed absolute controls of the mask that y proves too little.
    """
    assert certificate is not None
    used = np.flatnonzero(certificate)
    single = len(used) == 1
    y = np.ones(1) if single else certificate[used]
    view = store.control_store(int(used[0])) if single else store.combined_store(certificate)
    found = best_sum(view, k, deadline)
    if found is None:
        raise NotFiniteError
    wanted = math.fsum((y[:, None] * floors[used]).ravel())
    if single:
        return bool(wanted - found[0] > FLOOR_TOLERANCE * float(sizes[used[0]]))
    scale = float(y @ np.maximum(sizes, np.abs(floors[:, 0]))[used])
    return bool(wanted - found[0] > JOINT_TOLERANCE * scale)


def _best_certificate(sample: np.ndarray, k: float, floors: np.ndarray, region: Cone) -> np.ndarray:
    """Of a cone's rays at infinity the y by which floors exceed the most of the sample most."""
    r = sample.shape[1]
    count = min(max(round(k), 1), r)
    excess = []
    for y in region.rays[:, 1:-1]:
        most = np.partition(y @ sample[1:], r - count)[r - count :].sum()
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


@lru_cache(maxsize=2)
def _sample_index(d: int, K: int, attempt: int) -> np.ndarray:
    """d^(2/3) indices at first, one at random in each of as many strata; fixed by d and K.

    That balances the sample's problem, O(r), and the open weights', about d / √r. More
    controls need more weights to tell their effects apart.
    """
    least, most = _SAMPLE
    r = min(min(max(int(d ** (2 / 3)), least * max(1, K // 2)), most) << attempt, d)
    offsets = np.random.default_rng(_SEED + attempt).random(r)
    index = np.minimum(((np.arange(r) + offsets) * (d / r)).astype(np.int64), d - 1)
    index.flags.writeable = False  # shared by the solves of one size
    return index
