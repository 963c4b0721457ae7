"""Two controls or more, exactly: the dual simplex, its vertex in floating point, and its proof.

The kernel works in double-double; what is returned are float64. This module rounds, measures
what rounding costs, and refuses what does not pass: such a vertex has an infinite gap.
"""

from __future__ import annotations

import math
import operator
import time
from fractions import Fraction

import numpy as np

from ..kernels import dual_simplex as kernel
from ..tolerances import JOINT_TOLERANCE, slack_alone, slack_met, slack_together
from .columns import exact_sum, first_amounts, nearest_to, top_amounts
from .failures import OutOfTimeError, check_time
from .vertex import Vertex

__all__ = ["Search", "solve_several"]

_LIMIT = 3_000  # iterations; a few hundred have been enough for any input that has an end
_FIRST_SLICE = 1e7  # entries read in a search before a first look at the clock: some 50 ms
_SLICE = 0.2  # seconds between later looks
_LOWERINGS = 8
_UNEVEN = 0.7
_TIED = 1e-14  # of its terms: a combined score that may be the threshold
_COUNT = 1e-12  # of one weight: what fractional values may lack to a whole number of them
_GAP = 1e-15  # of the kept weights' summed |target|: rounding is improved above this
_GOOD = 2e-13  # the same: a vertex up to this is taken
_NEAR = 1e-9  # of its terms: a reduced cost that moving λ by a few units can turn


class Search:
    """The dual simplex on fixed scores, for one budget and set of floors after another.

    Each run starts from the basis that the one before ended in: dual feasibility depends on
    the scores alone.

    Parameters
    ----------
    scores : ndarray of float64, shape (1 + K, n), K ≥ 1
        Scaled to absolute values of about 1 at most. Contiguous rows.
    upper : ndarray of float64, shape (n,), > 0, optional
        Upper bounds; 1 where not given.
    deadline : float
        On ``time.perf_counter``'s clock: runs that take more than a moment end at it by
        OutOfTimeError.
    """

    def __init__(
        self, scores: np.ndarray, upper: np.ndarray | None = None, deadline: float = math.inf
    ) -> None:
        K, n = len(scores) - 1, scores.shape[1]
        self.scores = scores
        self.deadline = deadline
        self.upper = np.ones(n) if upper is None else upper
        self.basis = np.empty(1 + K, dtype=np.int64)
        self.state = np.zeros(n, dtype=np.uint8)
        self.values = np.zeros((1 + K, 2))
        self.prices = np.zeros((1 + K, 2))
        self.ray = np.zeros(1 + K)
        self._rest = np.zeros((1 + K, 4))
        self._stalled = np.zeros(1, dtype=np.int64)
        self.iterations = 0
        self._warm = False
        self._second = np.empty(n)
        kernel.perturbation(n, self._second)

    def run(self, k: float, floors: np.ndarray, doubt: np.ndarray) -> int:
        """Solve for 0 < k < Σ u and floors in parts, shape (K, any); returns the kernel's code."""
        warm = 1 if self._warm else 0
        left = _LIMIT
        size = len(self.scores) * (self.scores.shape[1] + 10 * len(self.scores) ** 2)
        steps = left if self.deadline == math.inf else min(max(int(_FIRST_SLICE / size), 1), left)
        self._warm = False  # for whoever goes on after running out of time
        start = time.perf_counter()
        while True:
            code, iterations, _ = kernel.dual_simplex(
                self.scores,
                self.upper,
                self._second,
                k,
                floors,
                doubt,
                self.basis,
                self.state,
                warm,
                steps,
                self.values,
                self.prices,
                self.ray,
                self._rest,
                self._stalled,
            )
            self.iterations += iterations
            left -= iterations
            if code != kernel.UNFINISHED:
                break
            if left == 0:
                code = kernel.NUMERICAL
                break
            end = time.perf_counter()
            if end >= self.deadline:
                raise OutOfTimeError
            # Half of the time there is, as it has gone so far: none ends far beyond.
            span = min(0.5 * (self.deadline - end), _SLICE)
            steps = min(max(int(steps * span / max(end - start, 1e-6)), 1), left)
            warm, start = 2, end
        self._warm = code != kernel.NUMERICAL
        return int(code)

    def dual_ray(self, k: float, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ray (1, λ, μ) of the optimum, or (0, y, θ) where there is none, and where x = u.

        `floors`, shape (K, any), in parts. Any ray will do for a guess, also that of a
        search that failed.
        """
        ray = np.empty(len(self.scores) + 1)
        if self.run(k, floors, np.zeros(len(floors))) == kernel.INFEASIBLE:
            # θ as of the best mask of y's control: a search that goes on from another's end finds
            # the same edge for any k.
            nearest = _infeasible(self, k)
            ray[0], ray[1:-1], ray[-1] = 0.0, nearest.certificate, nearest.threshold[0]
            return ray, nearest.kept
        ray[0], ray[1:-1], ray[-1] = 1.0, np.maximum(0.0, -self.prices[1:, 0]), self.prices[0, 0]
        return ray, self.state == 1


def solve_several(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    deadline: float = math.inf,
) -> Vertex:
    """Solve max c·x over 1·x = k, A x ≥ b, 0 ≤ x ≤ u with the dual simplex.

    Parameters and result are those of :func:`.exact.solve_exact`, for K ≥ 1 and 0 < k < Σ u.
    """
    search = Search(scores, upper, deadline)
    doubt = np.where(floors[:, 1] != 0.0, np.abs(floors[:, 0]) * 2.0**-104, 0.0)
    code = search.run(k, floors, doubt)
    best = _vertex(search, k, floors, code)
    if magnitudes is None:
        return best
    if not (best.feasible and _passes(scores, best)):
        given = _met_alone(search, k, floors, magnitudes)
        if given is None:
            return _infeasible(search, k)
        floors = given
        check_time(deadline)
        code = search.run(k, floors, doubt)
        best = _vertex(search, k, floors, code)
    # Floors that contradict each other by rounding, or fix almost the same sum twice, have
    # no answer that float64 can state; floors lower by less than the tolerance have.
    lowered = floors
    for attempt in range(_LOWERINGS):
        if best.feasible and _passes(scores, best):
            break
        if code == kernel.INFEASIBLE:
            other = _met_together(search, k, lowered, magnitudes, attempt)
            if other is None:
                return _infeasible(search, k)
            lowered = other
        else:
            # What does not end needs more than the last digits of its floors to give way.
            steps = attempt if code == kernel.OPTIMAL else attempt + _LOWERINGS // 2
            lower = min(2.0 ** (6 * steps - 80), JOINT_TOLERANCE)
            parts = -lower * np.maximum(magnitudes + _held(search), np.abs(floors[:, 0]))
            parts *= _UNEVEN ** np.arange(len(floors))  # of two that say the same, one gives way
            lowered = np.concatenate((floors, parts[:, None]), axis=1)
        check_time(deadline)
        code = search.run(k, lowered, doubt)
        vertex = _vertex(search, k, floors, code)
        if code == kernel.OPTIMAL and not (best.feasible and _error(vertex) >= _error(best)):
            best = vertex
    # What contradicts itself by less than the tolerance is neither solved nor infeasible.
    return best if best.feasible else _failed(search, k)


def _vertex(search: Search, k: int, floors: np.ndarray, code: int) -> Vertex:
    if code == kernel.INFEASIBLE:
        return _infeasible(search, k)
    if code == kernel.NUMERICAL:
        return _failed(search, k)
    return _rounded(search, k, floors)


def _point(search: Search) -> np.ndarray:
    """The point that a search ended in, rounded; shape (n,)."""
    x = np.where(search.state == 1, search.upper, 0.0)
    basic = search.basis[search.basis < len(x)]
    values = np.nan_to_num(search.values[search.basis < len(x), 0])
    x[basic] = np.clip(values, 0.0, search.upper[basic])
    return x


def _held(search: Search) -> np.ndarray:
    """Summed absolute controls of the point that a search ended in; shape (K,).

    Floors of 0 are met by sums that cancel: what those add up is the scale of their rounding.
    """
    return np.asarray(np.abs(search.scores[1:]) @ _point(search))


def _error(vertex: Vertex) -> float:
    return max(vertex.complementarity, vertex.floors_gap, abs(vertex.residual))


def _passes(scores: np.ndarray, vertex: Vertex) -> bool:
    c = np.abs(scores[0])
    scale = float(c @ vertex.amounts() + c[vertex.fractional].sum())
    return _error(vertex) <= _GOOD * scale


def _met_alone(
    search: Search, k: int, floors: np.ndarray, magnitudes: np.ndarray
) -> np.ndarray | None:
    """Floors, those above their control's best by rounding only lowered to it.

    None where one is above by more; the search's ray then becomes its own.
    """
    parts = np.zeros((len(floors), 4))
    parts[:, :2] = floors
    for j, row in enumerate(search.scores[1:]):
        top, x = top_amounts(row, k, search.upper)
        best = exact_sum(row[top], x)
        excess = math.fsum([*floors[j], *(-part for part in best)])
        if excess > slack_alone(magnitudes[j] + float(np.abs(row[top]) @ x)):
            search.ray[:] = 0.0
            search.ray[0], search.ray[1 + j] = row[top].min(), 1.0
            return None
        if excess > 0.0:
            parts[j, : len(best)] = best
            parts[j, len(best) :] = 0.0
    return parts


def _met_together(
    search: Search, k: int, floors: np.ndarray, magnitudes: np.ndarray, attempt: int
) -> np.ndarray | None:
    """Floors lowered so that the search's y no longer proves anything.

    None where that is not rounding. By no more than y proves, if that is enough: multipliers can be
    large.
    """
    y, A = search.ray[1:], search.scores[1:]
    combined = y @ A
    # Of masks that are as good by rounding the one of the largest terms: their scale is whose
    # mask the judge may take.
    top, _ = top_amounts(combined, k, search.upper)
    least = combined[top].min()
    terms = y @ np.abs(A)
    tied = np.abs(combined - least) <= _TIED * terms
    place = np.where(tied, 1, np.where(combined > least, 0, 2))
    top, x = first_amounts(np.lexsort((-terms, place)), k, search.upper)
    sizes = magnitudes + np.abs(A[:, top]) @ x
    lacks = np.array(
        [
            math.fsum([*parts, *(-part for part in exact_sum(row[top], x))])
            for parts, row in zip(floors, A, strict=True)
        ]
    )
    sizes = np.maximum(sizes, np.abs(floors[:, 0]))
    excess, scale = float(y @ lacks), float(y @ sizes)
    if not excess <= slack_together(scale) or scale == 0.0:
        return None
    lower = magnitudes + np.abs(floors[:, 0])
    reach = float(y @ lower)
    share = max(1.01 * excess / reach if reach > 0.0 else 0.0, 2.0 ** (6 * attempt - 80))
    return np.concatenate((floors, -min(share, JOINT_TOLERANCE) * lower[:, None]), axis=1)


def _infeasible(search: Search, k: float) -> Vertex:
    """The top k of the control that proves it, as the search's ray has it."""
    y = search.ray[1:] / max(float(search.ray[1:].max()), 1e-300)
    return nearest_to(y, search.scores, k, search.upper)


def _failed(search: Search, k: int) -> Vertex:
    """The target's own top k, with a gap that no check passes."""
    K = len(search.scores) - 1
    c = search.scores[0]
    top, x = top_amounts(c, k, search.upper)
    whole = np.zeros(len(c))
    whole[top] = x
    return Vertex(
        True,
        np.zeros(K),
        np.zeros(K),
        (float(c[top].min()), 0.0),
        whole >= search.upper,
        np.empty(0, np.int64),
        np.empty(0),
        residual=0.0,
        complementarity=math.inf,
        whole=whole,
    )


def _rounded(search: Search, k: int, floors: np.ndarray) -> Vertex:
    """The search's vertex in float64, with what rounding left of a gap.

    Of a column of n equal weights some are whole, at most one is fractional.
    """
    scores, upper = search.scores, search.upper
    n = scores.shape[1]
    lam = np.maximum(0.0, -search.prices[1:, 0])
    rest = np.where(lam > 0.0, -search.prices[1:, 1], 0.0)
    whole = np.where(search.state == 1, upper, 0.0)
    share = np.zeros(n)
    exact = {}
    weights = search.basis < n
    for i, (high, low) in zip(search.basis[weights], search.values[weights].tolist(), strict=True):
        value = min(max(Fraction(high) + Fraction(low), Fraction(0)), Fraction(float(upper[i])))
        whole[i] = math.floor(value)
        exact[int(i)] = value - math.floor(value)
        share[i] = float(exact[int(i)])
        if share[i] == 1.0:
            whole[i], share[i] = whole[i] + 1.0, 0.0
    inside = np.flatnonzero(share)
    scale = float(np.abs(scores[0]) @ (whole + share))

    given = lam, rest
    lam, rest, mu, complementarity = _settled(scores, upper, *given, whole + share, _GAP * scale)
    # A weight that is fractional by rounding only, and off the threshold, is not fractional.
    r = scores[0, inside] + lam @ scores[1:, inside] - mu[0]
    terms = np.abs(scores[0, inside]) + lam @ np.abs(scores[1:, inside]) + abs(mu[0])
    near = np.minimum(share[inside], 1.0 - share[inside]) < 3e-15
    off = (np.abs(r) > 1e-13 * terms) & near
    if off.any():
        whole[inside[off]] += np.round(share[inside[off]])
        share[inside[off]] = 0.0
        inside = inside[~off]
        lam, rest, mu, complementarity = _settled(
            scores, upper, *given, whole + share, _GAP * scale
        )
    kept = np.flatnonzero(whole)
    wanted = [
        Fraction(int(k) - int(whole.sum())),
        *(
            sum(map(Fraction, parts.tolist()), Fraction(0))
            - sum(map(Fraction, exact_sum(row[kept], whole[kept])), Fraction(0))
            for parts, row in zip(floors, scores[1:], strict=True)
        ),
    ]
    prices = np.array([abs(mu[0]), *lam])
    values, lacks = _shares(
        scores[1:, inside], [exact[int(i)] for i in inside], wanted, prices, _GAP * scale
    )
    sizes = np.abs(scores[1:]) @ (whole + share)
    if np.any(lacks[1:] > slack_met(sizes)) or abs(lacks[0]) > _COUNT:
        complementarity = math.inf
    return Vertex(
        True,
        lam,
        rest,
        mu,
        whole >= upper,
        inside,
        values,
        residual=mu[0] * float(lacks[0]) - float(lam @ lacks[1:]),
        complementarity=complementarity,
        floors_gap=float(lam @ np.abs(lacks[1:])),
        whole=whole,
    )


def _settled(
    scores: np.ndarray,
    upper: np.ndarray,
    lam: np.ndarray,
    rest: np.ndarray,
    x: np.ndarray,
    enough: float,
) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float]:
    """λ in one part, or else in two, and μ, with the least Σ u max(0, r) − x r, and this.

    Rounded, λ leaves basic weights off the threshold; where λ|A| is far above |c| and several
    multipliers cancel, the nearest floats need not be the best, nor any floats good.
    """
    none = np.zeros(len(lam))
    mu, gap = _best_threshold(scores, upper, lam, x)
    if gap <= enough:
        return lam, none, mu, gap
    both = np.concatenate((scores, scores[1:]))
    mu_both, gap_both = _best_threshold(both, upper, np.concatenate((lam, rest)), x)
    if gap_both <= enough:
        return lam, rest, mu_both, gap_both
    # Only what is near the threshold can change: look there, then at all once more.
    r = np.abs(scores[0] + lam @ scores[1:] - mu[0])
    terms = np.abs(scores[0]) + lam @ np.abs(scores[1:]) + abs(mu[0])
    near = (r <= _NEAR * terms) | ((x > 0.0) & (x < upper))
    part, upper_part, x_part = np.ascontiguousarray(scores[:, near]), upper[near], x[near]
    best = _best_threshold(part, upper_part, lam, x_part)[1]
    trial = lam.copy()
    for _ in range(20):
        before = best
        for j in np.flatnonzero(lam):
            for steps in (1, -1, 2, -2, 4, -4):
                moved = trial.copy()
                moved[j] = max(0.0, moved[j] + steps * np.spacing(moved[j]))
                found = _best_threshold(part, upper_part, moved, x_part)[1]
                if found < best:
                    best, trial = found, moved
        if best == before or best <= enough:
            break
    mu_trial, gap_trial = _best_threshold(scores, upper, trial, x)
    if gap_both < min(gap, gap_trial):
        return lam, rest, mu_both, gap_both
    if gap_trial < gap:
        return trial, none, mu_trial, gap_trial
    return lam, none, mu, gap


def _best_threshold(
    scores: np.ndarray, upper: np.ndarray, lam: np.ndarray, x: np.ndarray
) -> tuple[tuple[float, float], float]:
    """Threshold, a fractional column's or else the least kept combined score, and its gap."""
    inside = np.flatnonzero((x > 0.0) & (x < upper))
    if len(inside):
        candidates = [kernel.combined_score(scores, i, lam) for i in inside]
    else:
        candidates = [kernel.least_combined(scores, upper, lam, x)]
    gaps = [kernel.combined_gap(scores, upper, lam, hi, lo, x) for hi, lo in candidates]
    best = int(np.argmin(gaps))
    return candidates[best], float(gaps[best])


def _shares(
    A: np.ndarray, exact: list[Fraction], wanted: list[Fraction], prices: np.ndarray, enough: float
) -> tuple[np.ndarray, np.ndarray]:
    """Round fractional values so that count and floors, priced, suffer least.

    Parameters
    ----------
    A : ndarray of float64, shape (K, f)
    exact : list of Fraction, f of them
    wanted : list of Fraction, 1 + K of them
        What the fractional weights are to hold of the count and of each control.
    prices : ndarray of float64, shape (1 + K,)
    enough : float
        Priced lack that needs no improvement.

    Returns
    -------
    values : ndarray of float64, shape (f,)
    lacks : ndarray of float64, shape (1 + K,)
        `wanted` less what the values hold.
    """
    values = np.array([float(v) for v in exact])
    columns = np.vstack((np.ones(len(exact)), A))
    rows = [[Fraction(v) for v in row] for row in columns.tolist()]

    def lacking(points: list[Fraction]) -> np.ndarray:
        held = (sum(map(operator.mul, row, points), Fraction(0)) for row in rows)
        return np.array([float(w - h) for w, h in zip(wanted, held, strict=True)])

    lacks = lacking([Fraction(float(v)) for v in values])
    cost = float(prices[1:] @ np.abs(lacks[1:]))
    if cost <= enough:
        return values, lacks
    # Values far below 1 have finer floats: round the largest first, and let the others make
    # up for it.
    order = np.argsort(-values, kind="stable")
    trial = values.copy()
    for done in range(1, len(order)):
        points = [Fraction(float(v)) for v in trial]
        rest = order[done:]
        weights = np.concatenate(([1.0], prices[1:]))[:, None]
        move = np.linalg.lstsq(
            weights * columns[:, rest], weights[:, 0] * lacking(points), rcond=None
        )[0]
        trial[rest] = np.clip(trial[rest] + move, 0.0, 1.0)
        found = lacking([Fraction(float(v)) for v in trial])
        found_cost = float(prices[1:] @ np.abs(found[1:]))
        if found_cost < cost and abs(found[0]) <= 1e-15 * max(1, len(order)):
            values, lacks, cost = trial.copy(), found, found_cost
    return values, lacks
