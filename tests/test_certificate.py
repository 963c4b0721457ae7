"""The judge accepts what is optimal and catches every change to it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

import cops_lp
from cops_lp import Problem, Status, certify
from cops_lp.judge.arithmetic import ExactSum
from cops_lp.solution import Fractional


@pytest.fixture(scope="module")
def solution():
    rng = np.random.default_rng(11)
    target, control = rng.random((2, 20, 50))
    return Problem(target, {"size": control}, keep=100, retain=0.95).solve()


def failed(solution, problem=None):
    verdict = certify(problem or solution.problem, solution)
    assert not verdict
    assert "NOT confirmed" in str(verdict)
    return {check.name for check in verdict.checks if not check.passed}


def test_confirms_the_optimum_and_reports_its_own_figures(solution):
    verdict = certify(solution.problem, solution)
    assert verdict
    assert verdict.objective == pytest.approx(solution.objective, rel=1e-15)
    assert abs(verdict.gap) <= 1e-15 * verdict.objective
    assert verdict.fractional == len(solution.fractional.indices) == 2
    assert str(verdict).startswith("confirmed: claimed OPTIMAL")


def test_takes_arrays(solution):
    problem = solution.problem
    assert certify((problem.target, problem.controls), solution)
    top = cops_lp.solve(problem.target, keep=7)
    assert certify((problem.target, ()), top)


def test_a_weight_too_many(solution):
    mask = solution.mask.copy()
    mask.reshape(-1)[np.flatnonzero(~solution.mask)[0]] = True
    assert "mask count" in failed(replace(solution, mask=mask))


def test_a_swapped_weight(solution):
    mask = solution.mask.copy()
    flat = mask.reshape(-1)
    changed = solution.changed.indices
    flat[np.setdiff1d(np.flatnonzero(flat), changed)[0]] = False
    flat[np.setdiff1d(np.flatnonzero(~flat), changed)[0]] = True
    names = failed(replace(solution, mask=mask))
    assert "weights' complementarity" in names
    assert "stated sums of the mask" in names


@pytest.mark.parametrize("factor", [1 + 1e-9, 1 - 1e-9, 0.0, -1.0, np.nan, np.inf])
def test_a_changed_multiplier(solution, factor):
    names = failed(replace(solution, multipliers=solution.multipliers * factor))
    assert names & {"weights' complementarity", "gap", "multipliers ≥ 0", "well formed"}


def test_a_negative_multiplier(solution):
    assert "multipliers ≥ 0" in failed(replace(solution, multipliers=-solution.multipliers))


@pytest.mark.parametrize("shift", [1e-6, -1e-6, np.nan])
def test_a_changed_threshold(solution, shift):
    assert failed(replace(solution, threshold=solution.threshold + shift)) == {"threshold"}


@pytest.mark.parametrize("name", ["objective", "bound", "gap"])
def test_a_changed_figure(solution, name):
    wrong = replace(solution, **{name: getattr(solution, name) + 1e-9})
    assert failed(wrong) == {"stated objective, bound, gap"}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("mask_objective", "stated sums of the mask"),
        ("kept", "stated sums of the mask"),
        ("shortfall", "stated shortfall"),
        ("floors", "stated keep and floors"),
        ("keep", "stated keep and floors"),
    ],
)
def test_a_changed_statement(solution, name, check):
    assert check in failed(replace(solution, **{name: getattr(solution, name) + 1}))


def test_changed_fractional_values(solution):
    indices, values = solution.changed
    assert "1ᵀx = k" in failed(replace(solution, changed=Fractional(indices, values * 0.9)))
    other = Fractional(indices, values[::-1].copy())
    assert failed(replace(solution, changed=other)) & {"A x ≥ b", "floors' complementarity"}
    outside = Fractional(indices, np.array([1.5, -0.5]))
    assert "0 ≤ x ≤ 1" in failed(replace(solution, changed=outside))


def test_a_changed_score(solution):
    problem = solution.problem
    target = problem.target.copy()
    target.reshape(-1)[np.flatnonzero(solution.mask)[3]] += 1e-6
    changed = Problem(target, problem.controls, keep=100, floors=problem.floors)
    assert "stated objective, bound, gap" in failed(solution, changed)


def test_another_floor(solution):
    problem = solution.problem
    higher = Problem(problem.target, problem.controls, keep=100, floors=problem.floors * (1 + 1e-9))
    assert "A x ≥ b" in failed(solution, higher)
    lower = Problem(problem.target, problem.controls, keep=100, floors=problem.floors * (1 - 1e-9))
    assert "floors' complementarity" in failed(solution, lower)


def test_floors_from_retain_are_checked_with_sums_of_its_own(solution):
    wrong = Problem(solution.problem.target, solution.problem.controls, keep=100, retain=0.95)
    wrong._from_retain = solution.floors * (1 - 1e-9)  # as if it had computed them
    assert "floors from retain" in failed(replace(solution, floors=wrong.floors), wrong)


def test_a_suboptimal_answer_with_an_honest_gap(solution):
    worse = replace(solution, multipliers=np.zeros(1))
    assert "gap" in failed(worse)


def test_infeasible():
    problem = Problem([1.0, 2.0, 3.0], {"size": [2.0, 3.0, 4.0]}, keep=2, floors=8.0)
    solution = problem.solve(raise_on_infeasible=False)
    verdict = certify(problem, solution)
    assert verdict
    assert np.isnan(verdict.gap)
    feasible = problem.replace(floors=7.0)
    assert failed(solution, feasible) == {"yᵀb > T_k(Aᵀy)", "stated keep and floors"}
    assert "y ≥ 0" in failed(replace(solution, certificate=np.array([-1.0])))
    assert failed(replace(solution, certificate=np.zeros(1))) == {"yᵀb > T_k(Aᵀy)"}
    assert failed(replace(solution, certificate=None)) == {"well formed"}


def test_nothing_is_confirmed_without_a_claim(solution):
    for status in (Status.TIME_LIMIT, Status.NUMERICAL_ERROR):
        assert not certify(solution.problem, replace(solution, status=status))


def test_wrong_shape_and_not_finite(solution):
    turned = (solution.problem.target.T, solution.problem.controls[0].T)
    assert failed(solution, turned) == {"well formed"}
    target = solution.problem.target.copy()
    target[0, 0] = np.nan
    with pytest.raises(cops_lp.ProblemError, match="1 NaN"):
        certify((target, solution.problem.controls), solution)


# Balance


@pytest.fixture(scope="module")
def balance():
    rng = np.random.default_rng(4)
    scores = dict(zip(("snip", "grasp", "flow"), rng.exponential(size=(3, 400)), strict=True))
    return cops_lp.balance(scores, keep=40)


def test_confirms_a_balance(balance):
    verdict = certify(balance.problem, balance)
    assert verdict, str(verdict)
    names = {check.name for check in verdict.checks}
    assert {"stated best", "balance weights", "share is kept", "balance gap"} <= names


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        ("share", 1e-9, {"share is kept", "balance gap"}),
        ("share", -1e-9, {"balance gap"}),
        ("share", np.nan, {"share is kept", "balance gap"}),
        ("share_bound", 1e-9, {"stated share bound", "balance gap"}),
        ("share_bound", -1e-9, {"stated share bound", "balance gap"}),
        ("weights", np.array([1e-9, 0.0, 0.0]), {"balance weights", "stated share bound"}),
        ("weights", np.array([0.1, -0.1, 0.0]), {"stated share bound"}),
        ("weights", np.array([-2.0, 1.0, 1.0]), {"balance weights", "stated share bound"}),
        ("weights", np.array([np.inf, 0.0, 0.0]), {"well formed"}),
        ("best", np.array([1e-6, 0.0, 0.0]), {"stated best"}),
        ("best", np.array([-1e6, 0.0, 0.0]), {"well formed"}),
        ("target_index", 1, {"well formed"}),
        ("target_index", 3, {"well formed"}),
    ],
)
def test_a_changed_balance(balance, name, change, check):
    assert check <= failed(replace(balance, **{name: getattr(balance, name) + change}))


@pytest.mark.parametrize("size", [-250, -200, -100])
def test_infeasible_beside_a_control_of_another_size(size):
    """Of a control that the certificate leaves out the size plays no part."""
    controls = [-np.ones(6) * 10.0**size, np.arange(1, 7) * 10.0 ** (50 - size)]
    found = cops_lp.solve(
        np.ones(6), controls, keep=3, floors=[0.0, 0.0], raise_on_infeasible=False
    )
    assert found.status is Status.INFEASIBLE
    assert certify(found.problem, found)


def test_a_balance_is_never_infeasible(balance):
    """A certificate that some floors cannot be met proves nothing of shares."""
    K = len(balance.multipliers)
    forged = replace(
        balance,
        status=Status.INFEASIBLE,
        mask=np.zeros_like(balance.mask),
        floors=np.full(K, 1e9),
        certificate=np.ones(K),
        share=0.001,
        share_bound=0.001,
        changed=Fractional(np.empty(0, np.int64), np.empty(0)),
    )
    assert failed(forged) == {"well formed"}


def test_a_balance_with_other_names(balance):
    assert failed(replace(balance, score_names=("a", "b", "c"))) == {"well formed"}
    assert failed(replace(balance, score_names=("snip", "grasp"))) == {"well formed"}


def test_a_balance_whose_proof_is_right_and_whose_point_is_worse(balance):
    problem = balance.problem.replace(floors=balance.problem.floors * 0.99)
    worse = problem.solve()
    parts = {field.name: getattr(worse, field.name) for field in fields(worse)}
    wrong = replace(balance, **parts)
    assert failed(wrong) == {"share is kept"}


@pytest.mark.parametrize("seed", range(40))
def test_confirms_balances_of_mixed_scores(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 200))
    rows = rng.normal(size=(int(rng.integers(1, 5)), d)) * 10.0 ** rng.uniform(-9, 9)
    try:
        found = cops_lp.balance(list(rows), keep=int(rng.integers(1, d)))
    except cops_lp.CopsError:  # a best that is not positive
        return
    verdict = certify(found.problem, found)
    assert verdict, str(verdict)


def test_exact_sum():
    from fractions import Fraction

    rng = np.random.default_rng(2)
    values = rng.normal(size=5000) * 10.0 ** rng.uniform(-20, 20, 5000)
    values = np.concatenate((values, -values[::-1][:4999], [1e-12]))
    total = ExactSum()
    for part in np.split(values, [100, 101, 5000]):
        total.add(part)
    exact = sum(map(Fraction, values.tolist()), Fraction(0))
    assert total.value() == pytest.approx(float(exact), rel=1e-15)
    assert abs(float(values.sum()) - float(exact)) > abs(total.value() - float(exact))


def test_a_dropped_weight_above_the_threshold_is_seen_by_its_own_condition():
    solution = cops_lp.solve(np.arange(10.0), keep=3)
    mask = np.zeros(10, dtype=bool)
    mask[[5, 7, 8]] = True
    found = cops_lp.certify(solution.problem, replace(solution, mask=mask))
    assert "weights' complementarity" in [each.name for each in found.checks if not each.passed]


def test_a_share_that_is_not_kept_is_seen_by_its_own_condition():
    solution = cops_lp.balance([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]], keep=1)
    found = cops_lp.certify(solution.problem, replace(solution, share=1.01 * solution.share))
    assert "share is kept" in [each.name for each in found.checks if not each.passed]
