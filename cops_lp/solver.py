"""``solve``: the package's entry point."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from .assembly import unsolved_solution
from .engine.driver import NotFiniteError, Relaxation, solve_relaxation
from .engine.nearest import nearest_weights
from .engine.stores import ArrayStore
from .engine.threads import thread_count
from .errors import InfeasibleError, SolverError
from .problem import ARRAY_CHANGED, FLOOR_TOLERANCE, Controls, Keep, PerControl, Problem
from .rounding import assign_fractional, repair_by_swaps
from .solution import Fractional, Solution, Status

__all__ = ["solve", "solve_problem"]

_GAP_TOLERANCE = 1e-12
_MET = FLOOR_TOLERANCE / 2
"""A floor lacks nothing up to this share of the summed absolute control: stricter than the
judge's, so that a borderline case is not told two ways."""


def solve(
    target: Any,
    controls: Controls = (),
    *,
    keep: Keep,
    retain: PerControl | None = None,
    floors: PerControl | None = None,
    threads: int | None = None,
    raise_on_infeasible: bool = True,
) -> Solution:
    """Keep the k weights with the most of the target, while each control keeps its floor.

    ``maximize cᵀm  subject to  1ᵀm = k,  A m ≥ b,  m ∈ {0, 1}^d``. The relaxation to
    ``0 ≤ m ≤ 1`` is solved exactly; the mask is its vertex, rounded.

    Parameters
    ----------
    target, controls, keep, retain, floors
        As in :class:`cops_lp.Problem`. Without controls the mask is the exact top k.
    threads : int, optional
        Threads that read the scores; all of the process's CPUs by default. The result is the
        same bits for any number.
    raise_on_infeasible : bool
        False returns a Solution with status INFEASIBLE instead of raising.

    Returns
    -------
    Solution
        ``solution.mask`` has exactly k True. Ties at the threshold go to the lowest index
        among weights that are equal in every score.

    Raises
    ------
    ProblemError
        An argument is wrong, or a score holds NaN or an infinity.
    InfeasibleError
        No mask, not even a fractional one, meets the floors.
    SolverError
        The answer failed the solver's own check: λ is beyond float64 in the scores' units,
        say. Nothing doubtful is returned.

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
    return solve_problem(problem, threads=threads, raise_on_infeasible=raise_on_infeasible)


def solve_problem(
    problem: Problem, *, threads: int | None = None, raise_on_infeasible: bool = True
) -> Solution:
    """Solve a validated problem; see :func:`solve`."""
    start = time.perf_counter()
    count = thread_count(threads)
    store = ArrayStore(problem.scores, count)
    problem.prepare(count)
    floors = problem.floors
    mask = store.new_mask()
    try:
        wanted = np.stack((floors, np.zeros(len(floors))), axis=1)
        found = solve_relaxation(store, problem.keep, wanted, mask)
    except NotFiniteError:
        problem.check_finite()
        raise SolverError(ARRAY_CHANGED) from None
    finally:
        store.close()
    method = ("top-k", "two-score", "dual simplex")[min(len(problem.controls), 2)]
    if not found.feasible:
        assert found.certificate is not None
        certificate = found.certificate / found.certificate.sum()
        if raise_on_infeasible:
            raise InfeasibleError(
                problem.names, floors, problem.best()[1:], certificate, problem.keep
            )
        return unsolved_solution(
            problem,
            Status.INFEASIBLE,
            method=method,
            certificate=certificate,
            passes=found.passes,
            seconds=time.perf_counter() - start,
        )
    return _finish(problem, store, found, mask, method, start)


def _finish(
    problem: Problem,
    store: ArrayStore,
    found: Relaxation,
    mask: np.ndarray,
    method: str,
    start: float,
) -> Solution:
    """Round the vertex and add up what mask and vertex hold."""
    floors = problem.floors
    f_scores = found.fractional_scores
    kept_sums = found.kept_sums.sum(axis=1)
    slack = _MET * np.maximum(found.magnitudes[1:], np.abs(floors))
    # 1ᵀx = k and the fractional values are below 1 each, so their sum is the count to keep.
    chosen = assign_fractional(
        found.values,
        f_scores[0],
        f_scores[1:],
        round(float(found.values.sum())),
        floors - kept_sums[1:],
        slack,
    )
    mask[found.fractional] = chosen
    totals = _exact_totals(found.kept_sums, f_scores[:, chosen])
    changed, values = found.fractional, found.values
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
        )
        passes += more
        # Of equal weights the lowest index is the last to leave and the first to enter.
        order = np.argsort(np.where(mask[near], -near, near))
        near, near_scores = near[order], near_scores[:, order]
        before = mask[near]
        after = repair_by_swaps(before, near_scores[0], near_scores[1:], floors - totals[1:], slack)
        mask[near] = after
        moves = near_scores * (after.astype(np.float64) - before)
        totals = _exact_totals(found.kept_sums, f_scores[:, chosen], moves)
        swapped = np.setdiff1d(near[before != after], changed, assume_unique=True)
        order = np.argsort(np.concatenate((changed, swapped)))
        # Where a swap changed a whole weight, the vertex has the opposite of the mask.
        values = np.concatenate((values, ~mask[swapped]))[order]
        changed = np.concatenate((changed, swapped))[order]
    with np.errstate(over="ignore"):  # a sum beyond float64 fails the check below
        objective = float(kept_sums[0] + f_scores[0] @ found.values)
        sizes = found.magnitudes + np.abs(f_scores) @ found.values
        scale = sizes[0] + 1e-3 * float(found.multipliers @ sizes[1:])  # as the judge's
    sound = np.isfinite([*found.multipliers, found.threshold, objective, scale]).all()
    if not (sound and max(abs(found.gap), found.floors_gap) <= _GAP_TOLERANCE * scale):
        raise SolverError(f"{Status.NUMERICAL_ERROR.value} (gap {found.gap:.3g}, {problem!r})")
    lack = floors - totals[1:]
    return Solution(
        problem=problem,
        status=Status.OPTIMAL,
        mask=mask.reshape(problem.shape),
        keep=problem.keep,
        multipliers=found.multipliers,
        multipliers_rest=found.multipliers_rest,
        threshold=found.threshold,
        objective=objective,
        bound=objective + found.gap,
        gap=found.gap,
        mask_objective=float(totals[0]),
        kept=totals[1:],
        floors=floors,
        shortfall=np.where(lack > slack, lack, 0.0),
        method=method,
        passes=passes,
        open_count=found.open_count,
        seconds=time.perf_counter() - start,
        changed=Fractional(changed, values),
    )


def _exact_totals(sums: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """Double-doubles of shape (n, 2) and arrays of shape (n, any), added row by row."""
    return np.array([math.fsum(row) for row in np.hstack((sums, *more)).tolist()])
