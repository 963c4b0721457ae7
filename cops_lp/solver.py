"""``solve``: the package's entry point."""

from __future__ import annotations

import math
import numbers
import time
from typing import Any

import numpy as np

from .assembly import unsolved_solution
from .engine.calibration import Known
from .engine.driver import solve_relaxation
from .engine.failures import ChangedError, NotFiniteError, OutOfTimeError
from .engine.nearest import nearest_weights
from .engine.stores import Mask, Store, make_store
from .engine.threads import thread_count
from .engine.ties import lowest_first
from .engine.whole import Relaxation
from .errors import InfeasibleError, IntegerInfeasibleError, ProblemError, SolverError
from .integral import prove_mask
from .problem import ARRAY_CHANGED, Controls, Keep, PerControl, Problem
from .rounding import Rounded, assign_fractional, repair_by_swaps
from .solution import Fractional, Solution, Status
from .sparing import spare_ties
from .tolerances import slack_met

__all__ = ["method_of", "seconds_of", "solve", "solve_problem"]

_GAP_TOLERANCE = 1e-12
_SMALLEST = 2.0**-1074 / _GAP_TOLERANCE
"""Of a score's mean entry: float64's least step is as small beside it as a gap may be."""

_MET = 0.5
"""Of `slack_met`, what a mask may lack and be said to lack nothing: stricter than the judge is,
so that a borderline case is not told two ways."""

_ROUNDING = 2e-15
"""The least that counts as none, in the same unit, where x itself lacks more than `_MET`."""

_NONE, _NOTHING = np.empty(0, np.int64), np.empty(0)


def solve(
    target: Any,
    controls: Controls = (),
    *,
    keep: Keep,
    retain: PerControl | None = None,
    floors: PerControl | None = None,
    integral: bool = False,
    threads: int | None = None,
    time_limit: float | None = None,
    raise_on_infeasible: bool = True,
) -> Solution:
    """Keep the k weights with the most of the target, while each control keeps its floor.

    ``maximize cᵀm  subject to  1ᵀm = k,  A m ≥ b,  m ∈ {0, 1}^d``. The relaxation to
    ``0 ≤ m ≤ 1`` is solved exactly; the mask is its vertex, rounded.

    Parameters
    ----------
    target, controls, keep, retain, floors
        As in :class:`cops_lp.Problem`. Without controls the mask is the exact top k.
    integral : bool
        Go on to the best 0/1 mask, and prove that it is: see `Solution.integer_gap`.
    threads : int, optional
        Threads that read the scores; all of the process's CPUs by default. The result is the
        same bits for any number.
    time_limit : float, optional
        Seconds after which no further pass over the scores is begun, passes for `retain`
        included, and guesses, exact solvers and the search for the best 0/1 mask end; None for
        no limit.
    raise_on_infeasible : bool
        False returns a Solution with status INFEASIBLE instead of raising.

    Returns
    -------
    Solution
        ``solution.mask`` has exactly k True. Ties at the threshold go to the lowest index
        among weights that are equal in every score. With status TIME_LIMIT, and nothing kept,
        where the limit came before the relaxation's optimum; `floors` are NaN where it came
        before they were known.

    Raises
    ------
    ProblemError
        An argument is wrong, a score holds NaN or an infinity, or sums of k of its entries are
        beyond float64 or too small for its digits.
    InfeasibleError
        No mask, not even a fractional one, meets the floors. With `integral` the subclass
        IntegerInfeasibleError: a fractional one does, but none of whole weights.
    SolverError
        The answer failed the solver's own check: λ is beyond float64 in the scores' units,
        say. Or an array was changed during the solve, as far as that shows. Nothing doubtful
        is returned.

    Notes
    -----
    Any number of controls. Expected O(dK²), normally one pass over the scores (one more for
    each control with `retain`), and about 1.5 bytes per weight, of which the mask is 1, and
    2 (K + 2) MB a thread. Where weights that differ tie at the threshold in masses (a target
    opposite to the control), about 100 bytes for each more; weights equal in every score do
    no harm. Formulation: ours, after the abstract of arXiv:2107.12673.

    Examples
    --------
    >>> import cops_lp
    >>> solution = cops_lp.solve([5, 4, 3, 2, 1], {"size": [1, 2, 3, 4, 5]}, keep=2, retain=0.5)
    >>> solution.mask.tolist(), solution.objective, solution.multipliers.tolist()
    ([False, True, True, False, False], 7.5, [1.0])
    """
    problem = Problem(target, controls, keep=keep, retain=retain, floors=floors)
    return solve_problem(
        problem,
        integral=integral,
        threads=threads,
        time_limit=time_limit,
        raise_on_infeasible=raise_on_infeasible,
    )


def solve_problem(
    problem: Problem,
    *,
    integral: bool = False,
    threads: int | None = None,
    time_limit: float | None = None,
    raise_on_infeasible: bool = True,
) -> Solution:
    """Solve a validated problem; see :func:`solve`."""
    start = time.perf_counter()
    deadline = start + seconds_of(time_limit)
    count = thread_count(threads)
    store = make_store(problem.scores, count)
    try:
        problem.prepare(count, deadline)
        floors = problem.floors
        mask = store.new_mask()
        wanted = np.zeros((len(floors), 2))
        wanted[:, 0] = floors
        attainable = problem.known_attainable()
        known = None if attainable is None else Known(*attainable)
        found = solve_relaxation(store, problem.keep, wanted, mask, deadline=deadline, known=known)
        if found.feasible:
            proof = (count, raise_on_infeasible) if integral else None
            return _finish(problem, store, found, mask, start, deadline, proof)
    except (ChangedError, NotFiniteError):
        problem.check_finite()
        raise SolverError(ARRAY_CHANGED) from None
    except OverflowError as error:
        problem.check_finite()
        problem.check_sums()
        raise SolverError(f"{Status.NUMERICAL_ERROR.value} ({problem!r})") from error
    except OutOfTimeError:
        return unsolved_solution(
            problem,
            Status.TIME_LIMIT,
            method=method_of(problem),
            seconds=time.perf_counter() - start,
        )
    finally:
        store.close()
    assert found.certificate is not None
    certificate = found.certificate / found.certificate.sum()
    if raise_on_infeasible:
        raise InfeasibleError(problem.names, floors, problem.best()[1:], certificate, problem.keep)
    return unsolved_solution(
        problem,
        Status.INFEASIBLE,
        method=method_of(problem),
        certificate=certificate,
        passes=found.passes,
        seconds=time.perf_counter() - start,
    )


@np.errstate(over="ignore")  # a floor of −1.7e308 is met by far; sums are checked below
def _finish(
    problem: Problem,
    store: Store,
    found: Relaxation,
    mask: Mask,
    start: float,
    deadline: float,
    proof: tuple[int, bool] | None,
) -> Solution:
    """Round the vertex and add up what mask and vertex hold.

    `proof`, where the best mask is wanted: the search's threads, and whether to raise where
    there is none.
    """
    if not np.isfinite([*found.multipliers, found.threshold, found.gap]).all():
        raise SolverError(_failed(problem, found))
    f_scores = found.fractional_scores
    kept_sums = found.kept_sums.sum(axis=1)
    held = kept_sums + f_scores @ found.values
    sizes = found.magnitudes + np.abs(f_scores) @ found.values
    scale = sizes[0] + float(1e-3 * found.multipliers @ sizes[1:])  # as the judge's
    if not np.isfinite([*held, *sizes, scale]).all():
        raise OverflowError
    if not max(abs(found.gap), found.floors_gap) <= _GAP_TOLERANCE * scale:
        raise SolverError(_failed(problem, found))
    _check_statable(problem, found.multipliers, sizes)
    # Where x itself lacks what counts as rounding, what it keeps is all that can be asked.
    floors = np.minimum(problem.floors, held[1:])
    slack = np.maximum(sizes[1:], np.abs(problem.floors))
    slack = np.maximum(_MET * slack_met(slack) - (problem.floors - floors), _ROUNDING * slack)
    # 1ᵀx = k and the fractional values are below 1 each, so their sum is the count to keep.
    chosen = assign_fractional(
        found.values,
        f_scores[0],
        f_scores[1:],
        round(float(found.values.sum())),
        floors - kept_sums[1:],
        slack,
    )
    rounded = Rounded(mask, found.kept_sums, found.fractional, found.values, f_scores, chosen)
    totals = rounded.totals
    passes = found.passes
    if len(floors) > 1 and np.any(floors - totals[1:] > slack):
        near, near_scores, more = nearest_weights(
            store,
            found.candidates,
            found.multipliers,
            found.threshold,
            mask,
            found.fractional,
            problem.keep - int(chosen.sum()),
            deadline,
        )
        passes += more
        # Of equal weights the lowest index is the last to leave and the first to enter.
        order = np.argsort(np.where(mask[near], -near, near))
        near, near_scores = near[order], near_scores[:, order]
        before = mask[near]
        after = repair_by_swaps(before, near_scores[0], near_scores[1:], floors - totals[1:], slack)
        # What entered in one swap may have left in another, before a weight equal to it.
        by_index = np.argsort(near)
        ordered = after[by_index]
        lowest_first(near_scores[:, by_index], np.arange(len(near)), ordered, _NONE, _NOTHING)
        after[by_index] = ordered
        rounded.turn(near[before != after], near_scores[:, before != after])
        totals = rounded.totals
        if np.any(floors - totals[1:] > slack):
            ties = found.candidates.gathered()
            spare_ties(ties, found.multipliers, found.threshold, rounded, floors, slack, deadline)
            totals = rounded.totals
    objective = float(held[0])
    bound = integer_bound = objective + found.gap
    if proof and len(floors):
        threads, raise_on_infeasible = proof
        integer_bound, more = prove_mask(
            store, found, rounded, floors, slack, max(objective, bound), deadline, threads
        )
        passes += more
        totals = rounded.totals
        if integer_bound == -math.inf and raise_on_infeasible:
            raise IntegerInfeasibleError(
                problem.names,
                problem.floors,
                problem.best()[1:],
                np.zeros(len(floors)),
                problem.keep,
            )
    lack, missing = _sums(rounded.lacks(floors)), _sums(rounded.lacks(problem.floors))
    return Solution(
        problem=problem,
        status=Status.OPTIMAL,
        mask=mask.reshape(problem.shape),
        keep=problem.keep,
        multipliers=found.multipliers,
        multipliers_rest=found.multipliers_rest,
        threshold=found.threshold,
        objective=objective,
        bound=bound,
        integer_bound=integer_bound,
        gap=found.gap,
        mask_objective=float(totals[0]),
        kept=totals[1:],
        floors=problem.floors,
        shortfall=np.where(lack > slack, missing, 0.0),
        method=method_of(problem),
        passes=passes,
        open_count=found.open_count,
        seconds=time.perf_counter() - start,
        changed=Fractional(rounded.changed, rounded.values),
    )


def _sums(parts: np.ndarray) -> np.ndarray:
    """Sum of each row, rounded once; beyond float64 an infinity."""
    try:
        return np.array([math.fsum(row) for row in parts.tolist()])
    except OverflowError:  # a floor of −1.7e308
        return np.asarray(parts.sum(axis=1))


def _failed(problem: Problem, found: Relaxation) -> str:
    return f"{Status.NUMERICAL_ERROR.value} (gap {found.gap:.3g}, {problem!r})"


def _check_statable(problem: Problem, multipliers: np.ndarray, sizes: np.ndarray) -> None:
    """Raise where scores are so small that float64 rounds their prices and floors too coarsely.

    `sizes`, shape (1 + K,): the summed absolute scores kept.
    """
    known = problem.known_sizes()
    least = problem.keep * _SMALLEST
    if sizes.min() >= least and known.min(initial=math.inf) >= least:
        return
    used = np.append(multipliers.any(), multipliers > 0.0)
    sizes = np.where(used, sizes, 0.0)
    sizes[1:] = np.where(used[1:], np.minimum(sizes[1:], known), sizes[1:])
    for name, size in zip(problem.score_names, sizes, strict=True):
        if 0.0 < size < least:
            raise ProblemError(
                f"{problem.keep} entries of {name!r} sum to {size:.3g}, where float64 has few "
                "digits left; scale it up (that changes no mask)"
            )


def method_of(problem: Problem) -> str:
    """Name of the algorithm that solves a problem."""
    return ("top-k", "two-score", "dual simplex")[min(len(problem.controls), 2)]


def seconds_of(time_limit: Any) -> float:
    """Return the limit as a float, ∞ for None; ProblemError where it is none."""
    if time_limit is None:
        return math.inf
    real = isinstance(time_limit, numbers.Real) and not isinstance(time_limit, bool)
    if not (real and time_limit >= 0.0):
        raise ProblemError(
            f"time_limit is {time_limit!r}; wanted seconds, 0 or more, or None for no limit"
        )
    try:
        return float(time_limit)
    except OverflowError:  # an int or a fraction beyond float64
        return math.inf
