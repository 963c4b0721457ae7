"""``balance``: the mask whose worst-kept score is kept best."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from .assembly import unsolved_solution
from .balanced import Balance
from .engine.driver import best_sum
from .engine.failures import OutOfTimeError
from .engine.stores import make_store
from .engine.threads import thread_count
from .errors import ProblemError, SolverError
from .pieces import Score
from .problem import ARRAY_CHANGED, Keep, Problem, _as_scores, _check_finite
from .solution import Solution, Status
from .solver import method_of, seconds_of

__all__ = ["Balance", "balance"]

_STEP = 1e-15  # cuts closer than this, in units of the scale of rounding, are the same
_GAP = 1e-12  # the same unit: an answer further from its bound is none
_LIMIT = 200  # solves; a dozen have been enough for any input so far


def balance(
    scores: Mapping[str, Any] | Sequence[Any],
    *,
    keep: Keep,
    threads: int | None = None,
    time_limit: float | None = None,
) -> Balance:
    """Keep k weights so that the worst-kept score is kept best.

    ``maximize min_j s_jᵀm / best_j  subject to  1ᵀm = k,  m ∈ {0, 1}^d``, where best_j is the
    sum of the k largest entries of s_j, the most that k weights can keep of it. The relaxation
    to ``0 ≤ m ≤ 1`` is solved exactly; the mask is its vertex, rounded.

    Parameters
    ----------
    scores : mapping of str to array_like, or sequence of array_like
        One score or more, all of one shape, with dtypes as in :class:`cops_lp.Problem`. A
        sequence's are named "score 1", "score 2", …. Higher means "keep". Apart from ties,
        their order does not matter.
    keep : int or float
        A count, or a share of d, as in :class:`cops_lp.Problem`.
    threads : int, optional
        As in :func:`cops_lp.solve`.
    time_limit : float, optional
        As in :func:`cops_lp.solve`.

    Returns
    -------
    Balance
        A Solution with `share`, the optimum t of the relaxation, and `weights` and
        `share_bound`, which prove it: ``t ≤ T_k(Σ w_j s_j / best_j)`` holds for any weights
        w ≥ 0 of sum 1, with equality at these. t is at least 1 / (number of scores) where no
        entry is negative; where scores of mixed sign oppose each other it can be negative.
        With status TIME_LIMIT, and nothing kept, where the limit came first: `share` is NaN,
        `share_bound` and `weights` are a bound all the same, NaN where there is none yet.

    Raises
    ------
    ProblemError
        An argument is wrong, a score holds NaN or an infinity, or its best is not positive,
        so that shares of it mean nothing (any score's for ``keep=0``).
    SolverError
        No share within 1e-12 of its bound was found: scores that contradict each other up to
        a billionth, say.

    Notes
    -----
    Newton's method on t: each step solves the linear program with the floors t · best_j and
    takes the next t from its multipliers, with one selection of the k largest. 1 to 9 solves on
    1,100 random instances of 2 to 6 scores, mostly 2 or 3; each is O(dK) and copies no score.
    docs/formulation.md proves that it ends, at the optimum. Formulation: ours.

    Examples
    --------
    >>> import cops_lp
    >>> scores = {"size": [4.0, 3.0, 2.0, 1.0, 0.0], "use": [0.0, 1.0, 1.0, 3.0, 3.0]}
    >>> solution = cops_lp.balance(scores, keep=2)
    >>> solution.mask.tolist(), round(solution.share, 6), solution.weights.round(6).tolist()
    ([False, True, False, True, False], 0.615385, [0.538462, 0.461538])
    """
    start = time.perf_counter()
    deadline = start + seconds_of(time_limit)
    count = thread_count(threads)
    names, arrays = _named_scores(scores)
    best = np.full(len(arrays), np.nan)
    newton = _Newton(names, arrays, keep, best, count, deadline)
    try:
        _fill_best(best, names, arrays, keep, count, deadline)
        found = newton.run()
    except OutOfTimeError:
        newton.share = math.nan
        found = newton.unsolved()
    parts = {item.name: getattr(found, item.name) for item in fields(found)}
    parts["seconds"] = time.perf_counter() - start
    return Balance(
        **parts,
        score_names=names,
        target_index=newton.target,
        best=best,
        share=newton.share,
        share_bound=newton.bound if math.isfinite(newton.bound) else math.nan,
        weights=newton.weights,
        solves=newton.solves,
    )


class _Newton:
    """Lowers t from an upper bound until it is attained; see docs/formulation.md, "Balance"."""

    def __init__(
        self,
        names: tuple[str, ...],
        arrays: list[Score],
        keep: Keep,
        best: np.ndarray,
        threads: int,
        deadline: float,
    ) -> None:
        self._names, self._arrays, self._best, self._threads = names, arrays, best, threads
        self._deadline = deadline
        self._keep = Problem(arrays[0], keep=keep).keep
        self._store = make_store((arrays[0], *arrays), threads)
        self.weights = np.full(len(arrays), np.nan)
        self.bound = math.inf
        self._scale = 1.0  # of rounding; 1 where no score is negative
        self.target = self.solves = 0
        self.share = -math.inf

    def run(self) -> Solution:
        """Return the first solution whose share is the bound, up to rounding."""
        self._cut(np.full(len(self._best), 1.0 / len(self._best)))
        t, back = self.bound, _STEP
        for self.solves in range(1, _LIMIT + 1):
            # Of all scores the one of the largest weight: its multipliers are the smallest.
            self.target = int(self.weights.argmax())
            found, prices = self._solve(t)
            if found is not None and self.bound - self.share <= _STEP * self._scale:
                break
            if prices is not None:
                self._cut(prices)
            if self.bound < t:
                t = self.bound
                continue
            # The optimum to all digits, but with its own rounding t is not attained, or only
            # where multipliers are huge: give way by as little as helps.
            if found is not None and self.bound - self.share <= _GAP * self._scale:
                break
            t, back = self.bound - back * self._scale, 4.0 * back
            if back > _GAP:
                raise SolverError(
                    f"{Status.NUMERICAL_ERROR.value} (share bound {self.bound:.15g}, "
                    f"keep={self._keep}, {len(self._best)} scores)"
                )
        else:
            raise SolverError(f"no balance after {_LIMIT} solves (share bound {self.bound:.15g})")
        self.share = min(self.share, self.bound)
        return found

    def unsolved(self) -> Solution:
        """What there is to return when time has run out."""
        others = [j for j in range(len(self._arrays)) if j != self.target]
        problem = Problem(
            self._arrays[self.target],
            {self._names[j]: self._arrays[j] for j in others},
            keep=self._keep,
            retain=0.0 if others else None,
        )
        return unsolved_solution(problem, Status.TIME_LIMIT, method=method_of(problem))

    def _solve(self, t: float) -> tuple[Solution | None, np.ndarray | None]:
        """Solve with floors t · best: the solution if feasible, and what its multipliers say."""
        others = np.delete(np.arange(len(self._best)), self.target)
        problem = Problem(
            self._arrays[self.target],
            {self._names[j]: self._arrays[j] for j in others},
            keep=self._keep,
            floors=t * self._best[others] if len(others) else None,
        )
        try:
            found = problem.solve(
                threads=self._threads,
                time_limit=max(self._deadline - time.perf_counter(), 0.0),
                raise_on_infeasible=False,
            )
        except SolverError:
            return None, None
        if found.status is Status.TIME_LIMIT:
            raise OutOfTimeError
        prices = np.zeros(len(self._best))
        if found.certificate is None:
            self.share = min(t, found.objective / float(self._best[self.target]))
            prices[self.target] = 1.0
            prices[others] = found.multipliers
        else:
            prices[others] = found.certificate
        prices = prices * self._best + 0.0  # no negative zeros
        return (found if found.certificate is None else None), prices / prices.sum()

    def _cut(self, weights: np.ndarray) -> None:
        """Take T_k(Σ w_j s_j / best_j) as the bound where it is less."""
        store = self._store.combined_store(weights / self._best)
        found = best_sum(store, self._keep, self._deadline)
        if found is None:
            raise SolverError(ARRAY_CHANGED)  # the scores were finite: they have a best
        bound, size, _ = found
        if bound < self.bound:
            self.bound, self.weights, self._scale = bound, weights, max(1.0, size)


def _named_scores(scores: Any) -> tuple[tuple[str, ...], list[Score]]:
    if isinstance(scores, Mapping):
        names, values = tuple(scores), list(scores.values())
        for name in names:
            if not isinstance(name, str):
                raise ProblemError(f"scores: a name is {name!r}; wanted a str")
            if name == "target":
                raise ProblemError("scores: the name 'target' is taken; wanted another")
    elif hasattr(scores, "__array__") or isinstance(scores, (list, tuple)):
        values = list(scores) if np.ndim(scores[0] if len(scores) else ()) else []
        names = tuple(f"score {j + 1}" for j in range(len(values)))
    else:
        values, names = [], ()
    if not values:
        raise ProblemError(
            "scores: wanted a mapping of names to arrays, or a sequence of arrays, one or more"
        )
    arrays = [_as_scores(f"score {n!r}", v) for n, v in zip(names, values, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ProblemError(
                f"score {name!r} has shape {array.shape}; wanted the first's, {arrays[0].shape}"
            )
    return names, arrays


def _fill_best(
    best: np.ndarray,
    names: tuple[str, ...],
    arrays: list[Score],
    keep: Keep,
    threads: int,
    deadline: float,
) -> None:
    """Best of each score, or an error that names the one at fault."""
    for j, (name, array) in enumerate(zip(names, arrays, strict=True)):
        problem = Problem(array, keep=keep)
        try:
            best[j] = problem.best_of(0, threads, deadline)
        except ProblemError as error:
            _check_finite(f"score {name!r}", array)
            raise ProblemError(f"score {name!r}: {error}") from None
        if not best[j] > 0.0:
            raise ProblemError(
                f"score {name!r} has no share to balance: its {problem.keep} largest entries "
                f"sum to {best[j]:g}; wanted a positive sum"
            )
