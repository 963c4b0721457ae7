"""``balance``: the mask whose worst-kept score is kept best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .engine.driver import best_sum
from .engine.stores import ArrayStore
from .errors import ProblemError, SolverError
from .problem import Keep, Problem, _as_scores, _check_finite
from .solution import Solution, Status, _duration, _number
from .solver import _threads

__all__ = ["Balance", "balance"]

_STEP = 1e-15  # cuts closer than this, in units of the scale of rounding, are the same
_GAP = 1e-12  # the same unit: an answer further from its bound is none
_LIMIT = 200  # solves; a dozen have been enough for any input so far


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Balance(Solution):
    """A :class:`Solution` of :func:`balance`: the first score is its target.

    The other scores are the controls, their floors ``share · best``. Next to what a Solution
    has:

    Attributes
    ----------
    score_names : tuple of str, length K + 1
    share : float
        t, the largest share of its best that the relaxed solution keeps of every score.
    share_bound : float
        T_k(Σ w_j s_j / best_j) for w = `weights`: no mask of k weights keeps more than this
        share of every score. Equal to `share` up to rounding.
    weights : ndarray of float64, shape (K + 1,), ≥ 0, sum 1
        w: the mask prunes by the one score Σ w_j s_j / best_j. 0 where a score is kept
        beyond `share` by itself.
    solves : int
        How many linear programs were solved.
    """

    score_names: tuple[str, ...] = ()
    share: float
    share_bound: float
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    solves: int

    @property
    def shares(self) -> np.ndarray:
        """What the mask keeps of each score, as a share of its best; shape (K + 1,)."""
        return np.concatenate(([self.mask_objective], self.kept)) / self.problem.best()

    @property
    def mask_share(self) -> float:
        """Smallest of `shares`; below `share` by what rounding to a mask loses."""
        return float(self.shares.min())

    def rows(self) -> list[tuple[str, ...]]:
        """Return the printed table's cells, header first: a row for each score."""
        kept = (self.mask_objective, *self.kept)
        columns = zip(
            self.score_names, kept, self.shares, self.problem.best(), self.weights, strict=True
        )
        return [
            ("score", "mask keeps", "of best", "attainable", "weight"),
            *(
                (name, _number(kept), f"{share:.2%}", _number(best), _number(weight))
                for name, kept, share, best, weight in columns
            ),
        ]

    def summary(self) -> list[str]:
        """Return the lines that stand around the printed table."""
        d = self.problem.size
        return [
            self.status.value,
            f"keeps {self.keep:,} of {d:,} weights ({self.keep / d:.4g})",
            f"every score keeps at least {self.mask_share:.4%} of its best; "
            f"no mask keeps more than {self.share_bound:.4%}",
            f"{self.method}, {self.solves} solve{'s' * (self.solves != 1)}, "
            f"{_duration(self.seconds)}",
        ]

    def __repr__(self) -> str:
        return (
            f"<Balance {self.status.name}: keep={self.keep}, share={self.share:.12g}, "
            f"share_bound={self.share_bound:.12g}>"
        )


def balance(
    scores: Mapping[str, Any] | Sequence[Any], *, keep: Keep, threads: int | None = None
) -> Balance:
    """Keep k weights so that the worst-kept score is kept best.

    ``maximize min_j s_jᵀm / best_j  subject to  1ᵀm = k,  m ∈ {0, 1}^d``, where best_j is the
    sum of the k largest entries of s_j, the most that k weights can keep of it. The relaxation
    to ``0 ≤ m ≤ 1`` is solved exactly; the mask is its vertex, rounded.

    Parameters
    ----------
    scores : mapping of str to array_like, or sequence of array_like
        One score or more, all of one shape, with dtypes as in :class:`cops_lp.Problem`. A
        sequence's are named "score 1", "score 2", …. Higher means "keep". The first is the
        returned solution's target; apart from ties their order does not matter.
    keep : int or float
        A count, or a share of d, as in :class:`cops_lp.Problem`.
    threads : int, optional
        As in :func:`cops_lp.solve`.

    Returns
    -------
    Balance
        A Solution with `share`, the optimum t of the relaxation, and `weights` and
        `share_bound`, which prove it: ``t ≤ T_k(Σ w_j s_j / best_j)`` holds for any weights
        w ≥ 0 of sum 1, with equality at these. t is at least 1 / (number of scores) where no
        entry is negative; where scores of mixed sign oppose each other it can be negative.

    Raises
    ------
    ProblemError
        An argument is wrong, a score holds NaN or an infinity, or its best is not positive,
        so that shares of it mean nothing (any score's for ``keep=0``).
    SolverError
        Share and bound differ by more than 1e-12: the scores are beyond float64 together.

    Notes
    -----
    Newton's method on t: each step solves the linear program with the floors t · best_j and
    takes the next t from its multipliers, with one selection of the k largest. 2 to 12 solves
    on random scores, each O(dK). docs/formulation.md proves that it ends, at the optimum.
    Formulation: ours.

    Examples
    --------
    >>> import cops_lp
    >>> scores = {"size": [4.0, 3.0, 2.0, 1.0, 0.0], "use": [0.0, 1.0, 1.0, 3.0, 3.0]}
    >>> solution = cops_lp.balance(scores, keep=2)
    >>> solution.mask.tolist(), round(solution.share, 6), solution.weights.round(6).tolist()
    ([True, False, False, True, False], 0.633333, [0.466667, 0.533333])
    """
    start = time.perf_counter()
    count = _threads(threads)
    names, problem = _problem(scores, keep)
    best = _positive_best(names, problem)
    found, share, bound, weights, solves = _newton(problem, best, count)
    parts = {item.name: getattr(found, item.name) for item in fields(found)}
    parts["seconds"] = time.perf_counter() - start
    return Balance(
        **parts,
        score_names=names,
        share=share,
        share_bound=bound,
        weights=weights,
        solves=solves,
    )


def _newton(
    problem: Problem, best: np.ndarray, threads: int
) -> tuple[Solution, float, float, np.ndarray, int]:
    """Lower t from an upper bound until it is attained; see docs/formulation.md, "Balance"."""
    K = len(problem.controls)
    store = ArrayStore((problem.target, *problem.scores), threads)

    def cut(weights: np.ndarray) -> tuple[float, float]:
        """T_k(Σ w_j s_j / best_j), and the sum of the k terms' absolute values."""
        found = best_sum(store.combined_store(weights / best), problem.keep)
        assert found is not None  # the scores are finite: they have a best
        return found

    weights = np.full(K + 1, 1.0 / (K + 1))
    bound, scale = cut(weights)
    scale = max(1.0, scale)  # of rounding; 1 where no score is negative
    t, back = bound, _STEP * scale
    answer: tuple[float, Solution] | None = None
    for solves in range(1, _LIMIT + 1):
        found = problem.solve(floors=t * best[1:], threads=threads, raise_on_infeasible=False)
        if found.status is Status.OPTIMAL:
            share = min(t, found.objective / float(best[0]))
            if answer is None or share > answer[0]:
                answer = share, found
            if bound - answer[0] <= _STEP * scale:
                break
            prices = np.concatenate(([1.0], found.multipliers)) * best
        else:
            assert found.certificate is not None
            prices = np.concatenate(([0.0], found.certificate)) * best
        prices /= prices.sum()
        lower, _ = cut(prices)
        falls = lower < bound - _STEP * scale
        if lower < bound:
            bound, weights = lower, prices
        if falls:
            t = bound
            continue
        # The optimum to all digits, but not attained to all of them: t − t* times a large
        # multiplier is what the first score lacks. Give way where it costs less than the gap.
        if back > _GAP * scale:
            break
        t, back = bound - back, 4.0 * back
    if answer is None or not bound - answer[0] <= _GAP * scale:
        reached = "none" if answer is None else f"{answer[0]:.15g}"
        raise SolverError(
            f"{Status.NUMERICAL_ERROR.value} (share {reached}, bound {bound:.15g}, {problem!r})"
        )
    return answer[1], answer[0], bound, weights, solves


def _problem(scores: Any, keep: Keep) -> tuple[tuple[str, ...], Problem]:
    """Check the scores and state the problem; its floors are only to be replaced."""
    if isinstance(scores, Mapping):
        names, values = tuple(scores), list(scores.values())
        for j, name in enumerate(names):
            if not isinstance(name, str):
                raise ProblemError(f"scores: a name is {name!r}; wanted a str")
            if name == "target" and j > 0:
                raise ProblemError("scores: only the first may have the name 'target'")
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
    controls = dict(zip(names[1:], arrays[1:], strict=True))
    return names, Problem(
        arrays[0], controls, keep=keep, floors=[0.0] * len(controls) if controls else None
    )


def _positive_best(names: tuple[str, ...], problem: Problem) -> np.ndarray:
    """Best of each score, or an error that names the one at fault."""
    try:
        best = problem.best()
    except ProblemError:
        for name, score in zip(names, problem.scores, strict=True):
            _check_finite(f"score {name!r}", score)
        raise
    for name, value in zip(names, best, strict=True):
        if not value > 0.0:
            raise ProblemError(
                f"score {name!r} has no share to balance: its {problem.keep} largest entries "
                f"sum to {value:g}; wanted a positive sum"
            )
    return best
