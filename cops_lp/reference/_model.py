"""What the general solvers share: the scaled LP they are given, and what is made of their answer.

Formulation and signs, for all of them:

    minimize  −cᵀx   subject to   1ᵀx = k,   A x ≥ b,   0 ≤ x ≤ 1

with every score scaled to a mean absolute entry between 1 and 2. The multipliers λ ≥ 0 belong
to A x ≥ b and say what one more unit of a floor costs.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cops_lp.assembly import solution_from_relaxed, unsolved_solution
from cops_lp.errors import CopsError, InfeasibleError, ProblemError, SolverError
from cops_lp.problem import Problem
from cops_lp.solution import Solution, Status
from cops_lp.tolerances import FLOOR_TOLERANCE, slack_alone

__all__ = [
    "ACCEPTED",
    "RAW_SIGN",
    "LinearProgram",
    "Outcome",
    "Verdict",
    "check_choice",
    "check_positive",
    "multipliers_from_raw",
    "solve_with",
]

ACCEPTED = 1e-4
"""An answer whose relative gap or residual is larger is a numerical error, not an optimum."""

SNAP = 1e-9
"""Values this close to 0 or 1 are the solver's noise and become 0 or 1."""

_NEGATIVE = 1e-6  # a multiplier below minus this share of the largest one is no noise

RAW_SIGN = {"highs": 1.0, "scipy": -1.0, "cvxpy": 1.0}
"""λ = sign · what the solver calls the dual of the floors in the minimization above.

- HiGHS: `row_dual` is ∂(objective)/∂b, ≥ 0 for ``A x ≥ b`` in a minimization. (Its sign flips
  with the sense, and PDLP of HiGHS 1.15 gets it wrong in a maximization: always minimize.)
- SciPy: `marginals` is ∂(objective)/∂b_ub of ``−A x ≤ −b``, so ≤ 0.
- CVXPY: `dual_value` of an inequality is ≥ 0 whatever its direction and the sense.
"""


class Verdict(enum.Enum):
    """What a solver says about the LP, before anything of it is believed."""

    SOLVED = "solved"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time limit"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A solver's answer to a :class:`LinearProgram`, in its own signs.

    Attributes
    ----------
    verdict : Verdict
    x : ndarray of float64, shape (n,), or None
        None unless `verdict` is SOLVED.
    duals : ndarray of float64, shape (K,), or None
        Raw duals of the floors; :data:`RAW_SIGN` turns them into multipliers.
    build_seconds, seconds : float
        To hand the model over, and to solve it.
    vertex : bool
        The solver ends in a basis, so that x is a vertex up to noise.
    note : str
        The solver's own word for how it ended.
    """

    verdict: Verdict = Verdict.FAILED
    x: np.ndarray | None = None
    duals: np.ndarray | None = None
    build_seconds: float = 0.0
    seconds: float = 0.0
    vertex: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class LinearProgram:
    """minimize costᵀz subject to countᵀz = keep, rows z ≥ floors, 0 ≤ z ≤ upper.

    Attributes
    ----------
    cost, count, upper : ndarray of float64, shape (n,)
    rows : ndarray of float64, shape (K, n)
    floors : ndarray of float64, shape (K,)
    keep : float
    """

    cost: np.ndarray
    count: np.ndarray
    rows: np.ndarray
    upper: np.ndarray
    floors: np.ndarray
    keep: float


Run: TypeAlias = Callable[[LinearProgram, float | None], Outcome]
"""Solve an LP within so many seconds (None: no limit)."""


@dataclass(frozen=True, slots=True)
class _Scaled:
    """The scores over powers of two, so that scaling rounds nothing.

    c, A, floors and handed are in scaled units: score = scaled · 2^exponent. `handed` are the
    floors that solvers are given: where a floor is at its attainable best, less by the rounding
    that counts as none, since HiGHS calls a floor at the best infeasible from 1e5 weights on.
    """

    c: np.ndarray
    A: np.ndarray
    floors: np.ndarray
    handed: np.ndarray
    exponents: np.ndarray  # int, shape (1 + K,)

    def to_multipliers(self, scaled: np.ndarray) -> np.ndarray:
        """λ_j = λ_j(scaled) · scale of c / scale of A_j."""
        return np.asarray(np.ldexp(scaled, self.exponents[0] - self.exponents[1:]))

    def to_certificate(self, scaled: np.ndarray) -> np.ndarray:
        """y_j = y_j(scaled) / scale of A_j, times what makes the largest about 1."""
        used = scaled > 0.0
        y = np.zeros(len(scaled))
        if used.any():
            powers = self.exponents[1:][used]
            y[used] = np.ldexp(scaled[used], powers.min() - powers)
            y /= y.max()
        return y


def solve_with(
    run: Run,
    problem: Problem,
    *,
    kind: str,
    method: str,
    time_limit: float | None,
    raise_on_infeasible: bool,
) -> Solution:
    """Scale, solve, and turn the outcome into a Solution or the package's own errors.

    Parameters
    ----------
    run : callable
        Solves a :class:`LinearProgram`.
    problem : Problem
    kind : str
        Key of :data:`RAW_SIGN`.
    method : str
        Name of the method in the Solution and in errors.
    time_limit : float or None
        Seconds for the solver, as far as it heeds them.
    raise_on_infeasible : bool

    Returns
    -------
    Solution

    Raises
    ------
    InfeasibleError
        No point meets the floors, with the proof; unless `raise_on_infeasible` is False.
    ProblemError
        `problem` is no Problem, or a score holds NaN or an infinity.
    SolverError
        The solver raised something; that is the cause.
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"problem is a {type(problem).__name__}; wanted a cops_lp.Problem")
    start = time.perf_counter()
    problem.check_finite()
    scaled, lone = _scale(problem)
    K = len(scaled.floors)
    build_seconds = time.perf_counter() - start
    if lone is not None:
        y = np.zeros(K)
        y[lone] = 1.0
        return _infeasible(problem, scaled, y, method, build_seconds, 0.0, raise_on_infeasible)

    lp = _relaxation(scaled, problem.keep)
    build_seconds = time.perf_counter() - start
    outcome = _guarded(run, lp, time_limit, method)
    build_seconds += outcome.build_seconds
    seconds = outcome.seconds

    def unsolved(status: Status, why: str) -> Solution:
        return unsolved_solution(
            problem,
            status,
            method=f"{method} ({why})" if why else method,
            build_seconds=build_seconds,
            seconds=seconds,
        )

    if outcome.verdict is Verdict.TIME_LIMIT:
        return unsolved(Status.TIME_LIMIT, "")
    if outcome.verdict is not Verdict.SOLVED:  # infeasible, or too thin for the solver: prove it
        left = None if time_limit is None else max(time_limit - seconds, 1e-3)
        proof = _guarded(run, _elastic(scaled, problem.keep), left, method) if K else Outcome()
        build_seconds += proof.build_seconds
        seconds += proof.seconds
        proven = None if proof.duals is None else multipliers_from_raw(kind, proof.duals)
        if proven is not None and _proves_infeasible(scaled, problem.keep, proven):
            return _infeasible(
                problem, scaled, proven, method, build_seconds, seconds, raise_on_infeasible
            )
        if outcome.verdict is Verdict.FAILED:
            return unsolved(Status.NUMERICAL_ERROR, outcome.note or "failed")
        if proof.verdict is Verdict.TIME_LIMIT:
            return unsolved(Status.TIME_LIMIT, "called infeasible, no time for the proof")
        return unsolved(Status.NUMERICAL_ERROR, "called infeasible without a proof that holds")
    if outcome.x is None or outcome.duals is None:
        return unsolved(Status.NUMERICAL_ERROR, f"no answer although {outcome.note or 'solved'}")

    multipliers = multipliers_from_raw(kind, outcome.duals)
    if multipliers is None:
        return unsolved(Status.NUMERICAL_ERROR, "a multiplier is negative or not finite")
    x = outcome.x
    if x.shape != scaled.c.shape or not np.isfinite(x).all():
        return unsolved(Status.NUMERICAL_ERROR, "the point is not finite")
    x = _snap(x)
    if outcome.vertex:
        x = _recompute_vertex(x, multipliers, scaled, problem.keep)
    fault = _fault(x, multipliers, scaled, problem.keep)
    if fault:
        return unsolved(Status.NUMERICAL_ERROR, fault)
    return solution_from_relaxed(
        problem,
        x,
        scaled.to_multipliers(multipliers),
        method=method,
        build_seconds=build_seconds,
        seconds=seconds,
    )


def multipliers_from_raw(kind: str, duals: np.ndarray) -> np.ndarray | None:
    """Convert a solver's duals of the floors to λ ≥ 0: the one place where signs change.

    Parameters
    ----------
    kind : str
        Key of :data:`RAW_SIGN`.
    duals : ndarray of float64, shape (K,)

    Returns
    -------
    ndarray of float64, shape (K,), or None
        None when one is not finite or clearly negative: below −1e-6 · max(1, max |λ|).
        Rounding noise below zero becomes 0.
    """
    multipliers = RAW_SIGN[kind] * np.asarray(duals, dtype=np.float64)
    if not np.isfinite(multipliers).all():
        return None
    if (multipliers < -_NEGATIVE * max(1.0, np.abs(multipliers).max(initial=0.0))).any():
        return None
    return np.maximum(multipliers, 0.0)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ProblemError unless `value` is one of `choices`."""
    if value not in choices:
        raise ProblemError(f"{name} is {value!r}; wanted one of {', '.join(map(repr, choices))}")


def check_positive(name: str, value: float | None) -> None:
    """Raise ProblemError unless `value` is None or a number above zero."""
    if value is not None and not value > 0.0:
        raise ProblemError(f"{name} is {value!r}; wanted a number above zero, or None")


def _guarded(run: Run, lp: LinearProgram, time_limit: float | None, method: str) -> Outcome:
    try:
        return run(lp, time_limit)
    except CopsError:
        raise
    except Exception as error:
        raise SolverError(f"{method} raised {type(error).__name__}: {error}") from error


def _scale(problem: Problem) -> tuple[_Scaled, int | None]:
    """Scale the scores; also find the first control whose floor it cannot reach alone."""
    k = problem.keep
    exponents = np.zeros(len(problem.scores), dtype=np.int64)
    scores = np.empty((len(problem.scores), problem.size))
    for j, score in enumerate(problem.scores):
        flat = np.asarray(score).reshape(-1).astype(np.float64)
        exponents[j] = _exponent(flat)
        scores[j] = np.ldexp(flat, -exponents[j])
    floors = np.ldexp(problem.floors, -exponents[1:])
    handed = floors.copy()
    lone = None
    for j, row in enumerate(scores[1:]):
        best, magnitude = _best(row, k)
        slack = slack_alone(magnitude)
        if floors[j] > best + slack and lone is None:
            lone = j
        handed[j] = min(floors[j], best - slack)
    return _Scaled(scores[0], scores[1:], floors, handed, exponents), lone


def _exponent(score: np.ndarray) -> int:
    """E such that the mean absolute entry over 2^e lies in [1, 2), for any finite score."""
    _, top = np.frexp(np.abs(score).max(initial=0.0))
    mean = np.abs(np.ldexp(score, -int(top))).mean()  # free of overflow
    if mean == 0.0:
        return 0
    return int(top) + int(np.frexp(mean)[1]) - 1


def _best(score: np.ndarray, k: int) -> tuple[float, float]:
    """Sum of the k largest entries, and of their absolute values."""
    if k == 0:
        return 0.0, 0.0
    if k < len(score):
        score = np.partition(score, len(score) - k)[len(score) - k :]
    return float(score.sum()), float(np.abs(score).sum())


def _relaxation(scaled: _Scaled, keep: int) -> LinearProgram:
    d = len(scaled.c)
    return LinearProgram(
        cost=-scaled.c,
        count=np.ones(d),
        rows=scaled.A,
        upper=np.ones(d),
        floors=scaled.handed,
        keep=float(keep),
    )


def _elastic(scaled: _Scaled, keep: int) -> LinearProgram:
    """Minimize t subject to A x + t ≥ b: its floors' multipliers y prove infeasibility.

    By duality t = yᵀb − T_k(Aᵀy), with y ≥ 0 and Σ y = 1 where t > 0.
    """
    K, d = scaled.A.shape
    return LinearProgram(
        cost=np.append(np.zeros(d), 1.0),
        count=np.append(np.ones(d), 0.0),
        rows=np.hstack((scaled.A, np.ones((K, 1)))),
        upper=np.append(np.ones(d), np.inf),
        floors=scaled.handed,
        keep=float(keep),
    )


def _proves_infeasible(scaled: _Scaled, keep: int, y: np.ndarray) -> bool:
    """Whether yᵀb > T_k(Aᵀy) by more than float64 sums can be wrong."""
    best, magnitude = _best(y @ scaled.A, keep)
    wanted = float(y @ scaled.floors)
    noise = FLOOR_TOLERANCE * max(magnitude, float(y @ np.abs(scaled.floors)))
    return wanted - best > noise


def _infeasible(
    problem: Problem,
    scaled: _Scaled,
    y: np.ndarray,
    method: str,
    build_seconds: float,
    seconds: float,
    raise_on_infeasible: bool,
) -> Solution:
    certificate = scaled.to_certificate(y)
    if raise_on_infeasible:
        attainable = [_best(row, problem.keep)[0] for row in scaled.A]
        raise InfeasibleError(
            problem.names,
            wanted=problem.floors,
            attainable=np.ldexp(attainable, scaled.exponents[1:]),
            certificate=certificate,
            keep=problem.keep,
        )
    return unsolved_solution(
        problem,
        Status.INFEASIBLE,
        method=method,
        certificate=certificate,
        build_seconds=build_seconds,
        seconds=seconds,
    )


def _snap(x: np.ndarray) -> np.ndarray:
    x = np.where(x <= SNAP, 0.0, x)
    return np.where(x >= 1.0 - SNAP, 1.0, x)


def _recompute_vertex(
    x: np.ndarray, multipliers: np.ndarray, scaled: _Scaled, keep: int
) -> np.ndarray:
    """Solve for the fractional entries again: 1ᵀx = k and the tight floors, in float64.

    What the solver dropped (tiny coefficients) or tolerated is mended so. The point is returned
    as it came when it has more fractional entries than a vertex can, or when the new values
    leave [0, 1] or mend nothing.
    """
    inside = np.flatnonzero((x > 0.0) & (x < 1.0))
    if not 0 < len(inside) <= len(multipliers) + 1:
        return x
    tight = multipliers > 0.0
    A = scaled.A[tight]
    matrix = np.vstack((np.ones(len(inside)), A[:, inside]))
    lack = np.concatenate(([keep - x.sum()], scaled.floors[tight] - A @ x))
    step = np.linalg.lstsq(matrix, lack, rcond=None)[0]
    moved = x[inside] + step
    left = lack - matrix @ step
    outside = max(float(-moved.min()), float(moved.max()) - 1.0)
    if outside > SNAP or np.abs(left).max() >= np.abs(lack).max():
        return x
    x = x.copy()
    x[inside] = _snap(moved)
    return x


def _fault(x: np.ndarray, multipliers: np.ndarray, scaled: _Scaled, keep: int) -> str:
    """Say what is wrong with an answer, or nothing; all in scaled units.

    - count: |1ᵀx − k| / max(1, k)
    - floors: max_j (b − A x)_j / max(1, |b_j|, |A_j| x)
    - gap: |T_k(c + Aᵀλ) − λᵀb − cᵀx| / max(1, |c|ᵀx + |λᵀb|)
    """
    count = abs(float(x.sum()) - keep) / max(1, keep)
    short = 0.0
    for row, floor in zip(scaled.A, scaled.floors, strict=True):
        size = max(1.0, abs(floor), float(np.abs(row) @ x))
        short = max(short, (floor - float(row @ x)) / size)
    paid = float(multipliers @ scaled.floors)
    bound = _best(scaled.c + multipliers @ scaled.A, keep)[0] - paid
    size = max(1.0, float(np.abs(scaled.c) @ x) + abs(paid))
    gap = abs(bound - float(scaled.c @ x)) / size
    faults = [
        f"{what} {value:.1e}"
        for what, value in (
            ("residual of the count", count),
            ("residual of the floors", short),
            ("relative gap", gap),
        )
        if not value <= ACCEPTED
    ]
    return ", ".join(faults)
