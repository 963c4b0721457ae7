"""What a solution states, held against rational arithmetic.

What may be asked of float64: a vertex and multipliers that are rounded once give an objective
and a bound that are off by units in the last place of Σ x|c| + Σ λ_j x|A_j|, their terms. Where
sums are exact (scores that are small integers) and the vertex has no fractional entry, nothing
may be off at all.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np

import cops_lp
from cops_lp import Balance, Solution, Status
from cops_lp.problem import FLOOR_TOLERANCE, JOINT_TOLERANCE

from .rational import ExactProblem, balanced_share, dot, exact, top_sum
from .small_instances import SmallInstance

__all__ = ["ROUNDING", "check_balance", "check_integral", "check_relaxation", "on_the_edge"]

ROUNDING = Fraction(8, 2**53)
"""Of the terms' absolute sum: 8 units in the last place, for K + 1 ≤ 4 fractional weights whose
values and products are rounded, and the sum of the rest."""

COUNT = Fraction(4, 10**15)
"""Of one weight: up to 4 values are rounded so that the floors, priced, suffer least."""

SINGLE, JOINT = Fraction(FLOOR_TOLERANCE), Fraction(JOINT_TOLERANCE)
MET = SINGLE / 2  # lacks up to this count as none where a mask is chosen
EDGE = Fraction(1, 1000)  # of a tolerance: so near to it the package may round either way


def check_relaxation(instance: SmallInstance, solution: Solution) -> Fraction | None:
    """Status, vertex, multipliers, figures and mask; returns the relaxation's exact value.

    None where nothing meets the floors, or only what counts as meeting them.
    """
    asked = ExactProblem.of(instance.scores, instance.keep, solution.floors)
    check_floors(instance, asked, solution)
    problem, above = counted_as_best(asked)
    value = None if above else problem.value()
    if solution.status is Status.INFEASIBLE:
        assert value is None
        check_infeasible(asked, solution)
        return None
    assert solution.status is Status.OPTIMAL
    assert not above
    x = exact(solution.relaxed())
    sizes = sizes_of(problem, x)
    check_vertex(problem, solution, x, sizes, jointly=value is None)
    multipliers = exact_multipliers(solution)
    terms = terms_of(problem, multipliers, sizes)
    bound = problem.bound(multipliers)
    assert all(v >= 0 for v in multipliers)
    assert abs(Fraction(solution.bound) - bound) <= ROUNDING * terms
    assert abs(Fraction(solution.objective) - dot(problem.target, x)) <= ROUNDING * sizes[0]
    if value is not None:
        assert bound >= value  # weak duality: of the oracle, too
        check_value(problem, solution, value, bound, sizes, terms)
        if instance.kind == "whole" and not len(solution.fractional.indices):
            assert Fraction(solution.objective) == value
    lowest_first(instance.scores, solution.relaxed())
    check_mask(instance, problem, solution, sizes)
    check_rounding(problem, solution, x)
    return value


def check_value(
    problem: ExactProblem,
    solution: Solution,
    value: Fraction,
    bound: Fraction,
    sizes: list[Fraction],
    terms: Fraction,
) -> None:
    """Objective and bound are the optimum up to rounding, of the figures or of the floors.

    Where a floor's last digit is worth more than the target, what is stated is the optimum for
    floors between those given and ones that are lower by rounding.
    """
    objective = Fraction(solution.objective)
    assert objective >= value - ROUNDING * terms
    most = value
    if max(objective, bound) > value + ROUNDING * terms:
        scales = map(max, sizes[1:], map(abs, problem.floors))
        lower = problem.lowered([ROUNDING * scale for scale in scales]).value()
        assert lower is not None
        most = lower
    assert objective <= most + ROUNDING * terms
    assert bound <= most + ROUNDING * terms


def terms_of(problem: ExactProblem, multipliers: list[Fraction], sizes: list[Fraction]) -> Fraction:
    """Σ x|c| + Σ λ_j x|A_j|, and 2⁻⁵⁰ of the same over all weights.

    So 2⁻¹⁰⁰ of these is granted: multipliers are double-doubles.
    """
    weights = [Fraction(1), *multipliers]
    total = dot(weights, [sum(map(abs, row), Fraction(0)) for row in problem.rows])
    return dot(weights, sizes) + total / 2**50


def check_floors(instance: SmallInstance, asked: ExactProblem, solution: Solution) -> None:
    """Floors as given, or shares of the exact best, rounded twice."""
    if instance.floors is not None:
        assert solution.floors.tolist() == instance.floors
        return
    assert instance.retain is not None
    for floor, share, best in zip(asked.floors, instance.retain, asked.attainable(), strict=True):
        wanted = Fraction(share) * best
        assert abs(floor - wanted) <= 3 * wanted / 2**53


def on_the_edge(asked: ExactProblem) -> bool:
    """Whether some floor exceeds its best by so nearly the tolerance that either is right."""
    for row, floor, best in zip(asked.controls, asked.floors, asked.attainable(), strict=True):
        limit = SINGLE * sum(map(abs, sorted(row, reverse=True)[: asked.keep]))
        if limit > 0 and abs(floor - best - limit) <= EDGE * limit:
            return True
    return False


def counted_as_best(asked: ExactProblem) -> tuple[ExactProblem, bool]:
    """The problem with floors that exceed their best by rounding only lowered to it.

    Also whether one exceeds its best by more.
    """
    floors, above = [], False
    for row, floor, best in zip(asked.controls, asked.floors, asked.attainable(), strict=True):
        order = sorted(row, reverse=True)[: asked.keep]
        excess, limit = floor - best, SINGLE * sum(map(abs, order))
        above |= excess > limit
        floors.append(min(floor, best))
    return ExactProblem(asked.rows, asked.keep, floors), above


def check_infeasible(asked: ExactProblem, solution: Solution) -> None:
    assert solution.certificate is not None
    y = exact(solution.certificate)
    assert all(v >= 0 for v in y)
    assert asked.excess(y) > 0
    assert not solution.mask.any()
    assert np.isnan([solution.objective, solution.bound, solution.mask_objective]).all()


def check_vertex(
    problem: ExactProblem,
    solution: Solution,
    x: list[Fraction],
    sizes: list[Fraction],
    *,
    jointly: bool,
) -> None:
    """0 ≤ x ≤ 1, k in all, floors met up to rounding, and no feasible direction both ways."""
    assert all(0 <= v <= 1 for v in x)
    assert abs(sum(x) - problem.keep) <= COUNT
    tight = []
    for row, floor, held, size, price in zip(
        problem.controls,
        problem.floors,
        problem.kept(x)[1:],
        sizes[1:],
        solution.multipliers.tolist(),
        strict=True,
    ):
        scale = max(size, abs(floor))
        # Floors that contradict each other by rounding are met up to the joint tolerance.
        allowed = JOINT * (1 + EDGE) if jointly else 0
        assert floor - held <= (ROUNDING + allowed) * scale
        # One of a price is tight, though what rounds x may exceed it by far more than it is.
        if price > 0 or held - floor <= (ROUNDING + allowed) * scale:
            tight.append(row)
    inside = solution.fractional.indices.tolist()
    columns = [[Fraction(1), *(row[i] for row in tight)] for i in inside]
    assert rank(columns) == len(inside)


def rank(rows: list[list[Fraction]]) -> int:
    rows, found = [row[:] for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((row for row in rows[found:] if row[column] != 0), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        rows.insert(found, pivot)
        found += 1
        rows[found:] = [
            [v - row[column] / pivot[column] * w for v, w in zip(row, pivot, strict=True)]
            for row in rows[found:]
        ]
    return found


def stated_sum(stated: float, truth: Fraction, size: Fraction) -> bool:
    """Whether it is the sum of terms of this absolute size: as a double-double, rounded once."""
    return abs(Fraction(stated) - truth) <= abs(truth) / 2**53 + size / 2**90


def sizes_of(problem: ExactProblem, x: list[Fraction]) -> list[Fraction]:
    """Summed absolute scores that a point keeps."""
    return [dot([abs(v) for v in row], x) for row in problem.rows]


def exact_multipliers(solution: Solution) -> list[Fraction]:
    pairs = zip(exact(solution.multipliers), exact(solution.multipliers_rest), strict=True)
    return [high + low for high, low in pairs]


def check_mask(
    instance: SmallInstance, problem: ExactProblem, solution: Solution, sizes: list[Fraction]
) -> None:
    """Exactly k, what it holds and lacks, and the lowest of equal weights first."""
    mask = solution.mask.reshape(-1)
    assert mask.dtype == np.bool_
    assert mask.sum() == instance.keep == solution.keep
    m = [Fraction(int(v)) for v in mask]
    held = problem.kept(m)
    stated = [solution.mask_objective, *solution.kept.tolist()]
    for claimed, truth, size in zip(stated, held, sizes_of(problem, m), strict=True):
        assert stated_sum(claimed, truth, size)
        assert instance.kind != "whole" or claimed == truth
    for floor, truth, claimed, size in zip(
        problem.floors, held[1:], solution.shortfall.tolist(), sizes[1:], strict=True
    ):
        lack, scale = floor - truth, max(size, abs(floor))
        if claimed == 0.0:
            assert lack <= SINGLE * scale
        else:
            assert lack > 0
            assert abs(Fraction(claimed) - lack) <= (ROUNDING + SINGLE) * scale
    lowest_first(instance.scores, mask)
    if len(instance.scores) == 1:
        order = np.lexsort((np.arange(len(mask)), -instance.scores[0]))
        assert sorted(order[: instance.keep].tolist()) == np.flatnonzero(mask).tolist()


def lowest_first(scores: np.ndarray, x: np.ndarray) -> None:
    """Of weights equal in every score those of lowest index are kept: no less of them."""
    groups: dict[tuple[float, ...], list[float]] = {}
    for column, share in zip(scores.T.tolist(), x.tolist(), strict=True):
        groups.setdefault(tuple(column), []).append(share)
    for kept in groups.values():
        assert kept == sorted(kept, reverse=True)


def check_rounding(problem: ExactProblem, solution: Solution, x: list[Fraction]) -> None:
    """Where some rounding of the vertex meets the floors, the mask does, at no less target."""
    inside = solution.fractional.indices.tolist()
    whole = [i for i, v in enumerate(x) if v == 1]
    best: Fraction | None = None
    for chosen in combinations(inside, problem.keep - len(whole)):
        held = [sum((row[i] for i in (*whole, *chosen)), Fraction(0)) for row in problem.rows]
        if all(h >= b for h, b in zip(held[1:], problem.floors, strict=True)):
            best = held[0] if best is None else max(best, held[0])
    if best is not None:
        assert not solution.shortfall.any()
        scale = sum(map(abs, problem.target))
        assert Fraction(solution.mask_objective) >= best - ROUNDING * scale


def check_integral(instance: SmallInstance, relaxed: Solution, solution: Solution) -> str:
    """The best mask against all masks; what it came to, in a word."""
    asked = ExactProblem.of(instance.scores, instance.keep, solution.floors)
    problem, _ = counted_as_best(asked)
    x = exact(solution.relaxed())
    assert solution.objective == relaxed.objective
    sizes = sizes_of(problem, x)
    multipliers = exact_multipliers(solution)
    terms = terms_of(problem, multipliers, sizes)
    best = problem.best_mask_value()
    slack = [
        MET * (1 + EDGE) * max(size, abs(b))
        for size, b in zip(sizes[1:], asked.floors, strict=True)
    ]
    if solution.integer_bound == -math.inf:
        assert best is None
        return "only fractional"
    check_mask(instance, problem, solution, sizes)
    if best is not None:
        assert Fraction(solution.integer_bound) >= best - ROUNDING * (terms + abs(best))
    if solution.shortfall.any() or abs(solution.integer_gap) > ROUNDING * terms:
        # Entries so large that what a floor asks is lost beside them: honest, not proven.
        assert instance.kind == "wide"
        assert solution.integer_gap > 0 or solution.shortfall.any()
        return "open"
    value = Fraction(solution.mask_objective)
    # A mask may lack what counts as rounding, and be better by that.
    most = problem.lowered(slack).best_mask_value()
    assert most is not None
    assert value <= most + ROUNDING * abs(most)
    if best is not None:
        assert value >= best - ROUNDING * (terms + abs(best))
        if instance.kind == "whole" and most == best:
            assert value == best
            assert solution.integer_gap == 0.0
    return "proven"


def check_balance(instance: SmallInstance) -> str:
    """``balance`` of all scores against the exact share; what it came to, in a word."""
    rows = [exact(row) for row in instance.scores]
    keep = instance.keep
    bests = [top_sum(row, keep) for row in rows]
    scores = list(instance.scores)
    if min(bests) <= 0:
        try:
            cops_lp.balance(scores, keep=keep, threads=1)
        except cops_lp.ProblemError as error:
            assert "no share to balance" in str(error)  # noqa: PT017
            return "no share"
        raise AssertionError("a best that is not positive was taken")
    share = balanced_share(rows, keep)
    try:
        solution = cops_lp.balance(scores, keep=keep, threads=1)
    except cops_lp.SolverError:
        # Decades that contradict each other, and shares that are 0 but for rounding.
        assert instance.kind == "wide" or abs(share) < ROUNDING
        return "no balance"
    assert isinstance(solution, Balance)
    assert cops_lp.certify(solution.problem, solution)
    weights = exact(solution.weights)
    assert all(v >= 0 for v in weights)
    assert abs(sum(weights) - 1) <= ROUNDING
    mixed = [
        sum((w * v / b for w, v, b in zip(weights, column, bests, strict=True)), Fraction(0))
        for column in zip(*rows, strict=True)
    ]
    top = sorted(mixed, reverse=True)[:keep]
    scale = max(Fraction(1), sum(map(abs, top)))
    bound = sum(top) / sum(weights)
    assert bound >= share  # weak duality: of the oracle, too
    assert abs(Fraction(solution.share_bound) - bound) <= ROUNDING * scale
    assert bound - share <= SINGLE * scale
    assert abs(Fraction(solution.share) - share) <= SINGLE * scale
    for stated, best, row in zip(solution.best.tolist(), bests, rows, strict=True):
        assert stated_sum(stated, best, top_sum([abs(v) for v in row], keep))
    mask = solution.mask.reshape(-1)
    assert mask.sum() == keep
    lowest_first(instance.scores, mask)
    m = [Fraction(int(v)) for v in mask]
    held = min(dot(row, m) / best for row, best in zip(rows, bests, strict=True))
    assert abs(Fraction(solution.mask_share) - held) <= ROUNDING * max(1, abs(held))
    return "balanced"
