"""The judge: checks an answer from the scores alone, with NumPy, sharing no engine code.

Every sum is exact up to 2^-90 of its largest term and combined scores are double-double, so
a residual that it reports is the answer's, not the judge's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ProblemError
from .problem import FLOOR_TOLERANCE, JOINT_TOLERANCE, Problem
from .solution import Solution, Status

__all__ = ["Certificate", "Check", "certify"]

TOLERANCE = 1e-12
ROUNDING_SHARE = 1e-3

_CHUNK = 1 << 17
_BEYOND = 2.0**900  # in scaled units, where every score is at most 1


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of optimality.

    Attributes
    ----------
    name : str
    residual : float
        By how much it is violated, relative as `formula` says; ≥ 0, NaN counts as violated.
    tolerance : float
    formula : str
        What was measured, in words.
    """

    name: str
    residual: float
    tolerance: float
    formula: str

    @property
    def passed(self) -> bool:
        """Whether the residual is within the tolerance."""
        return self.residual <= self.tolerance


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the judge found.

    Attributes
    ----------
    status : Status
        The status that the answer claims, and that the checks are about.
    checks : tuple of Check
    objective, bound, gap : float
        As the judge computes them; NaN for an infeasible problem.
    relative_gap : float
        gap over `scale`.
    scale : float
        Σ x_i |c_i| + 10⁻³ Σ_j λ_j Σ x_i |A_ji|, what residuals of optimality are measured by:
        10⁻¹² of it is 10⁻¹² of the objective's terms, and what the rounding of the floors' own
        sums (10⁻¹⁵ of them) is worth.
    fractional : int
        Number of fractional entries of the relaxed solution.
    """

    status: Status
    checks: tuple[Check, ...]
    objective: float = math.nan
    bound: float = math.nan
    gap: float = math.nan
    relative_gap: float = math.nan
    scale: float = math.nan
    fractional: int = 0

    @property
    def ok(self) -> bool:
        """Whether every check passed and the status is one that can be proven."""
        proven = self.status in (Status.OPTIMAL, Status.INFEASIBLE)
        return proven and all(check.passed for check in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        name_width = max((len(check.name) for check in self.checks), default=0)
        lines = [
            f"{'ok  ' if check.passed else 'FAIL'}  {check.name.ljust(name_width)}  "
            f"{check.residual:9.2e} ≤ {check.tolerance:.0e}  {check.formula}"
            for check in self.checks
        ]
        verdict = "confirmed" if self.ok else "NOT confirmed"
        return "\n".join([f"{verdict}: claimed {self.status.name}", *lines])


def certify(problem: Problem | tuple[Any, Any], solution: Solution) -> Certificate:
    """Check a solution against the scores.

    Parameters
    ----------
    problem : Problem, or tuple (target, controls)
        The scores. With a Problem, keep and floors are the problem's; with arrays, those
        that the solution states.
    solution : Solution
        From any solver.

    Returns
    -------
    Certificate
        Truthy when every condition holds. For OPTIMAL: the mask has k weights and is what
        the solution says; the relaxed point is feasible, the multipliers are ≥ 0,
        complementarity holds for floors and weights, so that bound − objective is at most
        1e-12 of `Certificate.scale`. For INFEASIBLE: the certificate y ≥ 0 has
        yᵀb > T_k(Aᵀy), by more than what counts as rounding. A solution that is not
        well formed fails that check.

    Raises
    ------
    ProblemError
        The arguments are of the wrong kind, or a score is not finite.

    Notes
    -----
    O(dK), a few passes in chunks of 10^5 weights; only what selects (floors from `retain`,
    the infeasibility certificate) takes 8 bytes per weight more. The conditions are those of
    the theorem in docs/formulation.md (ours).
    """
    if not isinstance(solution, Solution):
        raise ProblemError(f"solution is {type(solution).__name__}; wanted a Solution")
    if not isinstance(problem, Problem):
        if not (isinstance(problem, tuple) and len(problem) == 2):
            raise ProblemError("problem is neither a Problem nor a tuple (target, controls)")
        target, controls = problem
        floors = solution.floors if len(solution.floors) else None
        problem = Problem(target, controls, keep=solution.keep, floors=floors)
    problem.check_finite()
    fault = _fault(problem, solution)
    if fault:
        return Certificate(solution.status, (Check("well formed", math.inf, 0.0, fault),))
    if solution.status is Status.INFEASIBLE:
        return _judge_infeasible(problem, solution)
    if solution.status is not Status.OPTIMAL:
        return Certificate(solution.status, ())
    return _judge_optimal(problem, solution)


def _fault(problem: Problem, solution: Solution) -> str:
    """Say what about a solution's parts cannot be judged; empty when all is well."""
    K = len(problem.controls)
    mask = solution.mask
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != problem.shape:
        return f"the mask is not a bool array of shape {problem.shape}"
    for name in ("multipliers", "multipliers_rest", "floors", "kept", "shortfall"):
        value = getattr(solution, name)
        if not isinstance(value, np.ndarray) or value.shape != (K,) or value.dtype.kind != "f":
            return f"{name} is not a float array of shape ({K},)"
    indices, values = solution.changed
    if indices.shape != values.shape or indices.ndim != 1 or indices.dtype.kind != "i":
        return "changed is not a pair of arrays, indices and values, of one length"
    if len(indices) and not (
        indices[0] >= 0 and indices[-1] < problem.size and (np.diff(indices) > 0).all()
    ):
        return "the indices of changed are not ascending positions of weights"
    if solution.status is Status.INFEASIBLE:
        y = solution.certificate
        if not isinstance(y, np.ndarray) or y.shape != (K,) or not np.isfinite(y).all():
            return f"the certificate y is not a finite array of shape ({K},)"
        if mask.any():
            return "the mask of an infeasible problem keeps weights"
    elif solution.status is Status.OPTIMAL and not (
        np.isfinite(solution.multipliers).all() and np.isfinite(solution.multipliers_rest).all()
    ):
        return "a multiplier is not finite"
    return ""


# --- exact sums and double-double arithmetic, vectorized -----------------------------------


class _ExactSum:
    """Adds float64 arrays with an error below 2^-90 of the largest term.

    Each array is split into parts on common grids whose sums are exact (Rump, Ogita, Oishi,
    "Accurate floating-point summation", 2008); the parts' sums meet in ``math.fsum``.
    """

    def __init__(self) -> None:
        self._parts: list[float] = []

    def add(self, values: np.ndarray) -> None:
        values = np.asarray(values, dtype=np.float64)
        for _ in range(4):
            largest = float(np.abs(values).max(initial=0.0))
            if largest == 0.0:
                return
            _, exponent = math.frexp(largest)
            grid = math.ldexp(1.0, exponent + max(len(values), 2).bit_length())
            high = (values + grid) - grid
            self._parts.append(float(high.sum()))
            values = values - high
        self._parts.append(float(values.sum()))

    def value(self, *more: float) -> float:
        return math.fsum([*self._parts, *more])

    def less(self, other: _ExactSum) -> float:
        return math.fsum([*self._parts, *(-part for part in other._parts)])


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    p = a * b
    t = 134217729.0 * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = 134217729.0 * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _combined(scores: np.ndarray, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s = c + Aᵀλ as normalized double-doubles.

    `scores` has shape (1 + K, n), `multipliers` (K, 2): double-doubles.
    """
    high, low = scores[0], np.zeros(scores.shape[1])
    for (weight, rest), row in zip(multipliers, scores[1:], strict=True):
        p, e = _two_product(weight, row)
        high, f = _two_sum(high, p)
        high, low = _two_sum(high, low + (f + e + rest * row))
    return high, low


# --- reading ---------------------------------------------------------------------------------


class _Reader:
    """Chunks of the scaled scores, the relaxed point and the mask.

    Scores are scaled by powers of two to at most 1, exactly, so that nothing overflows.
    """

    def __init__(self, problem: Problem, solution: Solution) -> None:
        self.scores = problem.scores
        self.mask = solution.mask
        self.changed = solution.changed
        self.size = problem.size
        self.exponents = np.array([_exponent(score) for score in self.scores])

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        indices, values = self.changed
        for start in range(0, self.size, _CHUNK):
            stop = min(start + _CHUNK, self.size)
            scores = np.stack([score.flat[start:stop].astype(np.float64) for score in self.scores])
            scores = np.ldexp(scores, -self.exponents[:, None])
            mask = np.asarray(self.mask.flat[start:stop])
            x = mask.astype(np.float64)
            first, last = np.searchsorted(indices, (start, stop))
            x[indices[first:last] - start] = values[first:last]
            yield scores, x, mask


def _exponent(score: np.ndarray) -> int:
    largest = 0.0
    for start in range(0, score.size, _CHUNK):
        block = score.flat[start : start + _CHUNK].astype(np.float64)
        largest = max(largest, float(np.abs(block).max()))
    return min(max(math.frexp(largest)[1], -1000), 1000)


# --- verdicts --------------------------------------------------------------------------------


def _judge_optimal(problem: Problem, solution: Solution) -> Certificate:
    reader = _Reader(problem, solution)
    K, k = len(problem.controls), problem.keep
    e = reader.exponents
    with np.errstate(over="ignore"):  # what is clipped is beyond any sum and any multiplier
        b = np.clip(np.ldexp(problem.floors, -e[1:]), -_BEYOND, _BEYOND)
        lam = np.stack((solution.multipliers, solution.multipliers_rest), axis=1)
        lam = np.clip(np.ldexp(lam, (e[1:] - e[0])[:, None]), -_BEYOND, _BEYOND)
    dual = np.where(lam[:, :1] > 0.0, lam, 0.0)
    if len(solution.fractional.indices) <= K + 1:
        mu = _threshold(reader, dual, k)
    else:  # no vertex, so no weight has the threshold: take what the solver found
        mu = (float(_ldexp(solution.threshold, -e[0])), 0.0)

    x_sum, weights_gap = _ExactSum(), _ExactSum()
    x_totals = [_ExactSum() for _ in range(K + 1)]
    mask_totals = [_ExactSum() for _ in range(K + 1)]
    x_scale, mask_scale = np.zeros(K + 1), np.zeros(K + 1)
    outside = 0.0
    count = fractional = 0
    for scores, x, mask in reader:
        high, low = _combined(scores, dual)
        r_high, r_low = _two_sum(high, -mu[0])
        r = r_high + (r_low + (low - mu[1]))
        weights_gap.add(np.where(r > 0.0, (1.0 - x) * r, -x * r))
        x_sum.add(x)
        outside = max(outside, float(np.max(np.maximum(-x, x - 1.0))))
        count += int(mask.sum())
        fractional += int(np.sum((x > 0.0) & (x < 1.0)))
        for j, row in enumerate(scores):
            product, error = _two_product(row, x)
            x_totals[j].add(product)
            x_totals[j].add(error)
            mask_totals[j].add(row[mask])
            x_scale[j] += float(np.abs(product).sum())
            mask_scale[j] += float(np.abs(row[mask]).sum())

    target_scale = float(x_scale[0] + ROUNDING_SHARE * (dual[:, 0] @ x_scale[1:]))
    excess = np.array([x_totals[j + 1].value(-b[j]) for j in range(K)])  # A x − b
    floor_scale = np.maximum(x_scale[1:], np.abs(b))
    for j in range(K):
        # A floor above the attainable best by rounding only counts as that best.
        if -FLOOR_TOLERANCE * floor_scale[j] <= excess[j] < 0.0:
            row = np.ldexp(problem.controls[j].reshape(-1).astype(np.float64), -e[1 + j])
            best, scale = _top_sum(row, k)
            if 0.0 < -best.value(-b[j]) <= FLOOR_TOLERANCE * scale:
                excess[j] = x_totals[j + 1].less(best)
    floors_gap = float(dual[:, 0] @ np.abs(excess))
    off_count = x_sum.value(-float(k))
    objective = x_totals[0].value()
    gap = math.fsum([weights_gap.value(), float(dual[:, 0] @ excess), -(mu[0] + mu[1]) * off_count])
    mask_kept = np.array([total.value() for total in mask_totals])
    shortfall = np.maximum(b - mask_kept[1:], 0.0)
    # A sum may leave float64's range on the way into scaled units only if it was not this.
    claimed_kept = _ldexp(np.concatenate(([solution.mask_objective], solution.kept)), -e)
    claimed_shortfall = _ldexp(solution.shortfall, -e[1:])
    claimed = _ldexp([solution.objective, solution.bound, solution.gap], -e[0])
    truth = np.array([objective, objective + gap, gap])

    relative = "over Σ x|c| + Σ λ x|A| / 1000"
    checks = [
        Check("mask count", float(abs(count - k)), 0.0, "mask entries beyond or short of k"),
        Check("0 ≤ x ≤ 1", max(outside, 0.0), 0.0, "largest violation"),
        Check("1ᵀx = k", abs(off_count) / max(1.0, k), TOLERANCE, "|1ᵀx − k| over max(1, k)"),
        Check(
            "A x ≥ b",
            _largest(_ratio(np.maximum(-excess, 0.0), floor_scale)),
            FLOOR_TOLERANCE,
            "largest lack over the summed |control| kept",
        ),
        Check(
            "multipliers ≥ 0",
            _largest(np.maximum(-lam[:, 0], 0.0)),
            0.0,
            "largest negative multiplier",
        ),
        Check(
            "floors' complementarity",
            _ratio1(floors_gap, target_scale),
            TOLERANCE,
            f"Σ λ_j |A_j x − b_j| {relative}",
        ),
        Check(
            "weights' complementarity",
            _ratio1(weights_gap.value(), target_scale),
            TOLERANCE,
            f"Σ max(0, s − μ) − x (s − μ) {relative}",
        ),
        Check("gap", _ratio1(abs(gap), target_scale), TOLERANCE, f"|bound − objective| {relative}"),
        Check(
            "threshold",
            _threshold_residual(reader, dual, solution.threshold, mu),
            TOLERANCE,
            "how far it is on a weight's wrong side, over the largest |c| + λ|A| kept",
        ),
        Check(
            "stated objective, bound, gap",
            _ratio1(float(np.max(np.abs(claimed - truth))), target_scale),
            TOLERANCE,
            f"largest difference from the judge's {relative}",
        ),
        Check(
            "stated sums of the mask",
            _largest(_ratio(np.abs(claimed_kept - mask_kept), mask_scale)),
            TOLERANCE,
            "largest difference from the judge's over the summed |score| kept",
        ),
        Check(
            "stated shortfall",
            _largest(_ratio(np.abs(claimed_shortfall - shortfall), floor_scale)),
            FLOOR_TOLERANCE,
            "largest difference from the judge's over the summed |control| kept",
        ),
    ]
    if problem.retain is not None:
        checks.append(_check_retained(problem))
    checks.append(_check_stated_floors(problem, solution))
    return Certificate(
        solution.status,
        tuple(checks),
        objective=float(_ldexp(objective, e[0])),
        bound=float(_ldexp(objective + gap, e[0])),
        gap=float(_ldexp(gap, e[0])),
        relative_gap=_ratio1(abs(gap), target_scale),
        scale=float(_ldexp(target_scale, e[0])),
        fractional=fractional,
    )


def _threshold(reader: _Reader, multipliers: np.ndarray, k: int) -> tuple[float, float]:
    """The best threshold for the given point as a double-double.

    The combined score of a fractional weight, else the least one kept, else (k = 0) the
    largest of all. Any value gives a valid bound; these give the tight one at an optimum.
    """
    least: tuple[float, float] | None = None
    largest: tuple[float, float] = (-math.inf, 0.0)
    for scores, x, _ in reader:
        high, low = _combined(scores, multipliers)
        inside = np.flatnonzero((x > 0.0) & (x < 1.0))
        if len(inside):
            return float(high[inside[0]]), float(low[inside[0]])
        if k == 0:
            i = int(np.lexsort((low, high))[-1])
            largest = max(largest, (float(high[i]), float(low[i])))
        kept = np.flatnonzero(x > 0.0)
        if len(kept):
            lowest = high[kept].min()
            tied = kept[high[kept] == lowest]
            candidate = (float(lowest), float(low[tied].min()))
            least = candidate if least is None else min(least, candidate)
    return least if least is not None else largest


def _threshold_residual(
    reader: _Reader, multipliers: np.ndarray, stated: float, mu: tuple[float, float]
) -> float:
    """How far the stated threshold is outside [largest dropped, least kept] combined score."""
    stated = float(_ldexp(stated, -reader.exponents[0]))
    if math.isnan(stated):
        return math.inf
    worst = 0.0
    scale = abs(mu[0])
    for scores, x, _ in reader:
        high, _ = _combined(scores, multipliers)
        terms = np.abs(scores[0]) + multipliers[:, 0] @ np.abs(scores[1:])
        scale = max(scale, float(terms[x > 0.0].max(initial=0.0)))
        wrong = np.where(x >= 1.0, stated - high, np.where(x <= 0.0, high - stated, 0.0))
        inside = (x > 0.0) & (x < 1.0)
        wrong[inside] = np.abs(high[inside] - stated)
        worst = max(worst, float(wrong.max()))
    return _ratio1(worst, scale)


def _check_retained(problem: Problem) -> Check:
    """Floors from `retain` against top-k sums of the judge's own."""
    assert problem.retain is not None
    worst = 0.0
    for share, floor, control in zip(problem.retain, problem.floors, problem.controls, strict=True):
        exponent = _exponent(control)
        row = np.ldexp(control.reshape(-1).astype(np.float64), -exponent)
        top, scale = _top_sum(row, problem.keep)
        stated = float(_ldexp(floor, -exponent))
        worst = max(worst, _ratio1(abs(stated - share * top.value()), scale))
    return Check(
        "floors from retain",
        worst,
        FLOOR_TOLERANCE,
        "|floor − retain · best| over the best mask's summed |control|",
    )


def _check_stated_floors(problem: Problem, solution: Solution) -> Check:
    same = np.array_equal(problem.floors, solution.floors) and solution.keep == problem.keep
    return Check("stated keep and floors", 0.0 if same else 1.0, 0.0, "1 if not the problem's")


def _judge_infeasible(problem: Problem, solution: Solution) -> Certificate:
    assert solution.certificate is not None
    y = solution.certificate
    exponents = np.array([_exponent(control) for control in problem.controls])
    y = y / max(float(np.abs(y).max(initial=0.0)), 1e-300)
    y = _ldexp(y, exponents - exponents.max(initial=0))
    y = y / max(float(np.abs(y).max(initial=0.0)), 1e-300)
    b = np.clip(_ldexp(problem.floors, -exponents), -_BEYOND, _BEYOND)
    combined = np.zeros(problem.size)
    magnitude = np.zeros(problem.size)
    for weight, exponent, control in zip(y, exponents, problem.controls, strict=True):
        row = np.ldexp(control.reshape(-1).astype(np.float64), -exponent)
        combined += weight * row
        magnitude += np.abs(weight * row)
    k = problem.keep
    best = np.argpartition(-combined, k - 1)[:k] if k else np.empty(0, dtype=np.int64)
    total = _ExactSum()
    total.add(combined[best])
    scale = float(magnitude[best].sum())
    excess = -total.value(*(-y * b).tolist())
    tolerance = FLOOR_TOLERANCE if np.count_nonzero(y) == 1 else JOINT_TOLERANCE
    return Certificate(
        solution.status,
        (
            Check("y ≥ 0", _largest(np.maximum(-y, 0.0)), 0.0, "largest negative entry"),
            Check(
                "yᵀb > T_k(Aᵀy)",
                0.0 if excess > tolerance * scale else 1.0,
                0.0,
                f"0 when it holds by more than {tolerance:g}; excess {_ratio1(excess, scale):.3g}",
            ),
        ),
    )


def _top_sum(values: np.ndarray, k: int) -> tuple[_ExactSum, float]:
    """Sum of the k largest values, exactly, and of their absolute values."""
    if k == 0:
        return _ExactSum(), 0.0
    top = np.partition(values, len(values) - k)[len(values) - k :]
    total = _ExactSum()
    for start in range(0, k, _CHUNK):
        total.add(top[start : start + _CHUNK])
    return total, float(np.abs(top).sum())


def _ldexp(values: Any, exponents: Any) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.ldexp(values, exponents))


def _ratio(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.array([_ratio1(v, s) for v, s in zip(values, scales, strict=True)])


def _ratio1(value: float, scale: float) -> float:
    if value == 0.0:
        return 0.0
    return float(value) / scale if scale > 0.0 else math.inf


def _largest(values: np.ndarray) -> float:
    return float(np.max(values, initial=0.0))
