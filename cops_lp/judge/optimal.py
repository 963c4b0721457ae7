"""Optimal: the relaxed point is feasible and the dual point proves that none is better."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cops_lp.solution import Solution
from cops_lp.tolerances import FLOOR_TOLERANCE, slack_alone

from .arithmetic import (
    BEYOND,
    ExactSum,
    combined,
    ldexp,
    scaled_floors,
    two_product,
    two_sum,
)
from .question import Question
from .reading import Scores
from .verdict import TOLERANCE, Certificate, Check, largest, ratio, ratios

__all__ = [
    "Sums",
    "above_best",
    "check_attainable",
    "check_retained",
    "check_stated",
    "judge_optimal",
]

ROUNDING_SHARE = 1e-3

MoreChecks = Callable[[Question, Scores, Solution, "Sums"], tuple[Check, ...]]


class Sums:
    """What one walk over the scores, the relaxed point x and the mask m adds up.

    All in scaled units. `x_totals` and `mask_totals` hold the exact sums of each score, target
    first; `x_scale` and `mask_scale`, float64 of shape (1 + K,), the sums of the absolute terms.
    """

    def __init__(self, K: int, thresholds: list[tuple[float, float]]) -> None:
        self.x_sum = ExactSum()
        self.thresholds = thresholds
        self._gaps = [ExactSum() for _ in thresholds]
        self.x_totals = [ExactSum() for _ in range(K + 1)]
        self.mask_totals = [ExactSum() for _ in range(K + 1)]
        self.x_scale, self.mask_scale = np.zeros(K + 1), np.zeros(K + 1)
        self.outside = 0.0  # largest violation of 0 ≤ x ≤ 1
        self.count = self.fractional = 0
        self.off_threshold = self.largest_term = 0.0

    def add(self, scores: np.ndarray, x: np.ndarray, mask: np.ndarray) -> None:
        """Add a block's primal side."""
        self.x_sum.add(x)
        self.outside = max(self.outside, float(np.max(np.maximum(-x, x - 1.0))))
        self.count += int(mask.sum())
        self.fractional += int(np.sum((x > 0.0) & (x < 1.0)))
        for j, row in enumerate(scores):
            product, error = two_product(row, x)
            self.x_totals[j].add(product)
            self.x_totals[j].add(error)
            self.x_scale[j] += float(np.abs(product).sum())
            kept = row[mask]
            self.mask_totals[j].add(kept)
            self.mask_scale[j] += float(np.abs(kept).sum())

    def add_dual(
        self,
        scores: np.ndarray,
        x: np.ndarray,
        dual: np.ndarray,
        stated: float,
    ) -> None:
        """Add a block's complementarity, and see which side of the stated threshold it is on."""
        high, low = combined(scores, dual)
        least, most = min(self.thresholds), max(self.thresholds)
        # On its bound's side of all thresholds a weight adds 0 to any of the gaps.
        above, below = _less(high, low, most) > 0.0, _less(high, low, least) < 0.0
        near = ~np.where(x >= 1.0, above, below & (x <= 0.0))
        high_near, low_near, x_near = high[near], low[near], x[near]
        for gap, mu in zip(self._gaps, self.thresholds, strict=True):
            r = _less(high_near, low_near, mu)
            gap.add(np.where(r > 0.0, (1.0 - x_near) * r, -x_near * r))
        terms = np.abs(scores[0]) + dual[:, 0] @ np.abs(scores[1:])
        self.largest_term = max(self.largest_term, float(terms[x > 0.0].max(initial=0.0)))
        wrong = np.where(x >= 1.0, stated - high, np.where(x <= 0.0, high - stated, 0.0))
        inside = (x > 0.0) & (x < 1.0)
        wrong[inside] = np.abs(high[inside] - stated)
        self.off_threshold = max(self.off_threshold, float(wrong.max()))

    def weights_gap(self) -> tuple[float, tuple[float, float]]:
        """Return the least Σ max(0, s − μ) − x (s − μ), and its threshold μ."""
        gaps = [gap.value() for gap in self._gaps]
        least = int(np.argmin(gaps))
        return gaps[least], self.thresholds[least]


def _less(high: np.ndarray, low: np.ndarray, mu: tuple[float, float]) -> np.ndarray:
    """Double-doubles less one, rounded."""
    r_high, r_low = two_sum(high, -mu[0])
    return np.asarray(r_high + (r_low + (low - mu[1])))


def judge_optimal(
    question: Question, scores: Scores, solution: Solution, more: MoreChecks
) -> Certificate:
    """Check the conditions of Theorem 2 of docs/formulation.md, and what the solution states.

    Parameters
    ----------
    question : Question
    scores : Scores
    solution : Solution
        Well formed.
    more : callable
        Further checks, from the same sums.

    Returns
    -------
    Certificate
    """
    K, k = len(question.floors), question.keep
    e = scores.exponents
    b = scaled_floors(question.floors, e[1:])
    lam = np.stack((solution.multipliers, solution.multipliers_rest), axis=1)
    lam = np.clip(ldexp(lam, (e[1:] - e[0])[:, None]), -BEYOND, BEYOND)
    dual = np.where(lam[:, :1] > 0.0, lam, 0.0)
    stated_mu = float(ldexp(solution.threshold, -e[0]))
    sums = Sums(K, _thresholds(scores, solution, dual, k))
    for block, x, mask in scores.points(solution.mask, *solution.changed):
        sums.add(block, x, mask)
        sums.add_dual(block, x, dual, stated_mu)

    target_scale = float(sums.x_scale[0] + ROUNDING_SHARE * (dual[:, 0] @ sums.x_scale[1:]))
    floor_scale = np.maximum(sums.x_scale[1:], np.abs(b))
    excess = np.array(
        [_excess(scores, sums.x_totals[1 + j], j, b[j], k) for j in range(K)]
    )  # A x − b
    floors_gap = float(dual[:, 0] @ np.abs(excess))
    weights_gap, mu = sums.weights_gap()
    off_count = sums.x_sum.value(-float(k))
    objective = sums.x_totals[0].value()
    gap = math.fsum([weights_gap, float(dual[:, 0] @ excess), -(mu[0] + mu[1]) * off_count])

    relative = "over Σ x|c| + Σ λ x|A| / 1000"
    primal = (
        Check("mask count", float(abs(sums.count - k)), 0.0, "mask entries beyond or short of k"),
        Check("0 ≤ x ≤ 1", max(sums.outside, 0.0), 0.0, "largest violation"),
        Check("1ᵀx = k", abs(off_count) / max(1.0, k), TOLERANCE, "|1ᵀx − k| over max(1, k)"),
        Check(
            "A x ≥ b",
            largest(ratios(np.maximum(-excess, 0.0), floor_scale)),
            FLOOR_TOLERANCE,
            "largest lack over the summed |control| kept",
        ),
    )
    optimality = (
        Check(
            "multipliers ≥ 0",
            largest(np.maximum(-lam[:, 0], 0.0)),
            0.0,
            "largest negative multiplier",
        ),
        Check(
            "floors' complementarity",
            ratio(floors_gap, target_scale),
            TOLERANCE,
            f"Σ λ_j |A_j x − b_j| {relative}",
        ),
        Check(
            "weights' complementarity",
            ratio(weights_gap, target_scale),
            TOLERANCE,
            f"Σ max(0, s − μ) − x (s − μ) {relative}",
        ),
        Check("gap", ratio(abs(gap), target_scale), TOLERANCE, f"|bound − objective| {relative}"),
        Check(
            "threshold",
            math.inf
            if math.isnan(stated_mu)
            else ratio(sums.off_threshold, max(abs(mu[0]), sums.largest_term)),
            TOLERANCE,
            "how far it is on a weight's wrong side, over the largest |c| + λ|A| kept",
        ),
    )
    claimed = ldexp([solution.objective, solution.bound, solution.gap], -e[0])
    truth = np.array([objective, objective + gap, gap])
    figures = Check(
        "stated objective, bound, gap",
        ratio(float(np.max(np.abs(claimed - truth))), target_scale),
        TOLERANCE,
        f"largest difference from the judge's {relative}",
    )
    return Certificate(
        solution.status,
        (
            *primal,
            *optimality,
            figures,
            _check_integer_bound(
                solution, e[0], objective + gap, sums, dual[:, 0] @ floor_scale, target_scale
            ),
            *_check_mask(scores, sums, solution, b, floor_scale, k),
            *check_retained(question, scores),
            *check_attainable(question, scores),
            check_stated(question, solution),
            *more(question, scores, solution, sums),
        ),
        objective=float(ldexp(objective, e[0])),
        bound=float(ldexp(objective + gap, e[0])),
        gap=float(ldexp(gap, e[0])),
        relative_gap=ratio(abs(gap), target_scale),
        scale=float(ldexp(target_scale, e[0])),
        fractional=sums.fractional,
    )


def above_best(scores: Scores, j: int, b: float, k: int) -> float:
    """By how much a floor that counts as its control's best exceeds it; 0 where it does not.

    See :mod:`cops_lp.tolerances`.
    """
    best = scores.top(1 + j, k)
    above = -best.total.value(-b)
    return above if 0.0 < above <= slack_alone(best.magnitude) else 0.0


def _excess(scores: Scores, total: ExactSum, j: int, b: float, k: int) -> float:
    """A sum of control j less its floor; a floor that counts as the best is the best."""
    excess = total.value(-b)
    if excess < 0.0 < above_best(scores, j, b, k):
        return total.less(scores.top(1 + j, k).total)
    return excess


def _check_integer_bound(
    solution: Solution,
    exponent: int,
    bound: float,
    sums: Sums,
    priced: float,
    target_scale: float,
) -> Check:
    """What is claimed of 0/1 masks is between the mask's own target and the bound.

    That no mask is in between is not judged. A mask that lacks what counts as rounding of its
    floors may be above by what that is worth, and the best one then is its own bound: `priced`
    is Σ λ · the floors' scale.
    """
    claimed = float(ldexp(solution.integer_bound, -exponent))
    beyond = claimed - bound
    if not np.any(solution.shortfall > 0.0):
        own = sums.mask_totals[0].value()
        beyond = claimed - max(bound, min(own, bound + FLOOR_TOLERANCE * priced))
        below = sums.mask_totals[0].value(-claimed) if claimed > -math.inf else math.inf
        beyond = max(beyond, below - FLOOR_TOLERANCE * priced)
    return Check(
        "stated integer bound",
        ratio(max(beyond, 0.0), target_scale) if not math.isnan(beyond) else math.inf,
        TOLERANCE,
        "how far it is below the mask's target or above the bound over Σ x|c| + Σ λ x|A| / 1000",
    )


def _check_mask(
    scores: Scores,
    sums: Sums,
    solution: Solution,
    b: np.ndarray,
    floor_scale: np.ndarray,
    k: int,
) -> tuple[Check, ...]:
    """What the solution says that its mask keeps, and lacks."""
    kept = np.array([total.value() for total in sums.mask_totals])
    # A sum may leave float64's range on the way into scaled units only if it was not this.
    claimed = ldexp(np.concatenate(([solution.mask_objective], solution.kept)), -scores.exponents)
    shortfall = ldexp(solution.shortfall, -scores.exponents[1:])
    off = np.zeros(len(b))
    for j, (total, claimed_lack) in enumerate(zip(sums.mask_totals[1:], shortfall, strict=True)):
        # One that lacks nothing may say so of a floor that counts as the best.
        said = -total.value(-b[j]) if claimed_lack > 0.0 else -_excess(scores, total, j, b[j], k)
        off[j] = abs(claimed_lack - max(said, 0.0))
    return (
        Check(
            "stated sums of the mask",
            largest(ratios(np.abs(claimed - kept), sums.mask_scale)),
            TOLERANCE,
            "largest difference from the judge's over the summed |score| kept",
        ),
        Check(
            "stated shortfall",
            largest(ratios(off, floor_scale)),
            FLOOR_TOLERANCE,
            "largest difference from the judge's over the summed |control| kept",
        ),
    )


def _thresholds(
    scores: Scores, solution: Solution, dual: np.ndarray, k: int
) -> list[tuple[float, float]]:
    """What may be the best threshold for the given point, as double-doubles.

    The combined scores of the fractional weights, which a rounded λ leaves apart; else the
    least one kept, else (k = 0) the largest of all. Any value gives a valid bound; one of
    these gives the tight one at an optimum.
    """
    inside = solution.fractional.indices
    if len(inside) > len(dual) + 1:  # no vertex, so no weight has it: what the solver found
        stated = float(ldexp(solution.threshold, -scores.exponents[0]))
        return [(min(max(stated, -BEYOND), BEYOND) if math.isfinite(stated) else 0.0, 0.0)]
    if len(inside):
        points = [combined(scores.at(int(i)), dual) for i in inside]
        return [(float(high[0]), float(low[0])) for high, low in points]
    least: tuple[float, float] | None = None
    most: tuple[float, float] = (-math.inf, 0.0)
    for block, x, _ in scores.points(solution.mask, *solution.changed):
        high, low = combined(block, dual)
        if k == 0:
            i = int(np.lexsort((low, high))[-1])
            most = max(most, (float(high[i]), float(low[i])))
        kept = np.flatnonzero(x > 0.0)
        if len(kept):
            lowest = high[kept].min()
            tied = kept[high[kept] == lowest]
            candidate = (float(lowest), float(low[tied].min()))
            least = candidate if least is None else min(least, candidate)
    return [least if least is not None else most]


def check_retained(question: Question, scores: Scores) -> tuple[Check, ...]:
    """Floors from `retain` against top-k sums of the judge's own; none where not asked."""
    if question.retain is None:
        return ()
    worst = 0.0
    for j, (share, floor) in enumerate(zip(question.retain, question.floors, strict=True)):
        best = scores.top(1 + j, question.keep)
        stated = float(ldexp(floor, -scores.exponents[1 + j]))
        worst = max(worst, ratio(abs(stated - share * best.total.value()), best.magnitude))
    return (
        Check(
            "floors from retain",
            worst,
            FLOOR_TOLERANCE,
            "|floor − retain · best| over the best mask's summed |control|",
        ),
    )


def check_attainable(question: Question, scores: Scores) -> tuple[Check, ...]:
    """The bests that a saved solution states against the judge's; none where it has no say."""
    if question.best is None:
        return ()
    worst = 0.0
    for j, stated in enumerate(question.best):
        best = scores.top(j, question.keep)
        total = best.total.value()
        if math.isnan(stated) and not math.isfinite(float(ldexp(total, scores.exponents[j]))):
            continue  # beyond float64, and said to be unknown
        difference = abs(float(ldexp(stated, -scores.exponents[j])) - total)
        worst = (
            math.nan if math.isnan(difference) else max(worst, ratio(difference, best.magnitude))
        )
    return (
        Check(
            "stated attainable",
            worst,
            FLOOR_TOLERANCE,
            "largest difference from the judge's T_k over the best mask's summed |score|",
        ),
    )


def check_stated(question: Question, solution: Solution) -> Check:
    """Whether the solution answers this question."""
    same = np.array_equal(question.floors, solution.floors) and solution.keep == question.keep
    return Check("stated keep and floors", 0.0 if same else 1.0, 0.0, "1 if not the problem's")
