"""Several controls: the dual simplex against rational arithmetic, enumeration, HiGHS, the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine.several import Search
from cops_lp.kernels import dual_simplex as kernel
from cops_lp.reference import solve_highs

from .checks import GAP, OBJECTIVE, assert_certified, doubt_of, target_scale
from .instances import controlled_instance
from .oracle import attainable, certificate_excess, exact_residuals, relaxed_optimum_several

CHUNK = 100


def solved(instance) -> cops_lp.Solution:
    return cops_lp.solve(
        instance.target,
        list(instance.controls),
        keep=instance.keep,
        floors=instance.floors,
        raise_on_infeasible=False,
    )


@pytest.mark.parametrize("first", range(0, 2000, CHUNK))
def test_judge_rational_arithmetic_and_highs_agree(first):
    highs_lost = failed = 0
    for seed in range(first, first + CHUNK):
        instance = controlled_instance(seed)
        try:
            solution = solved(instance)
        except cops_lp.SolverError:
            failed += 1
            continue
        verdict = assert_certified(solution)
        if solution.status is Status.INFEASIBLE:
            y = solution.certificate
            assert (y >= 0.0).all(), instance.name
            excess = certificate_excess(instance.controls, instance.keep, instance.floors, y)
            assert excess > 0, instance.name
            continue
        reference = solve_highs(solution.problem, raise_on_infeasible=False)
        scale = target_scale(solution)
        gap, lack, count = exact_residuals(
            instance.target,
            instance.controls,
            instance.keep,
            instance.floors,
            solution.relaxed().reshape(-1),
            np.stack((solution.multipliers, solution.multipliers_rest), axis=1),
        )
        for floor, control, price in zip(
            instance.floors, instance.controls, solution.multipliers, strict=True
        ):  # a float sum may round to above what is attainable
            over = Fraction(float(floor)) - attainable(control, instance.keep)
            gap += Fraction(float(price)) * max(over, Fraction(0))
        assert abs(gap) <= GAP * verdict.scale, instance.name
        assert lack <= 1e-12, instance.name
        assert count <= 1e-12, instance.name
        if reference.status is not Status.OPTIMAL:
            highs_lost += 1
            continue
        # HiGHS drops coefficients and works to 1e-10: it may end with a gap of its own or
        # short of a floor, and then proves no more than that.
        doubt = doubt_of(solution, reference)
        highs_lost += doubt > OBJECTIVE * scale
        difference = abs(reference.objective - solution.objective)
        assert difference <= OBJECTIVE * scale + doubt, instance.name
    assert highs_lost <= CHUNK // 10
    # Two controls that differ from multiples of each other by rounding alone, both at floors
    # that contradict each other by as much: float64 cannot state an answer, and solve says so.
    assert failed <= 1


def test_small_instances_equal_enumeration():
    checked = infeasible = 0
    for seed in range(20_000, 20_400):
        instance = controlled_instance(seed, largest=8, most=3)
        if len(instance.target) > 7 and len(instance.controls) > 2:
            continue
        solution = solved(instance)
        value = relaxed_optimum_several(
            instance.target, instance.controls, instance.keep, instance.floors
        )
        if solution.status is Status.INFEASIBLE:
            assert value is None, instance.name
            assert_certified(solution)
            infeasible += 1
        elif value is not None and solution.status is Status.OPTIMAL:
            assert_certified(solution)
            error = abs(Fraction(solution.objective) - value)
            assert error <= 1e-14 * target_scale(solution), instance.name
            checked += 1
        else:  # infeasible by rounding only, which counts as feasible
            sizes = np.abs(instance.controls).sum(axis=1)
            lower = instance.floors - 2e-12 * np.maximum(sizes, np.abs(instance.floors))
            value = relaxed_optimum_several(
                instance.target, instance.controls, instance.keep, lower
            )
            assert value is not None, instance.name
    assert checked > 150
    assert infeasible > 60


def search(scores, k, floors, second=None, start=None):
    """Run the kernel alone; returns its code, stalls, x and the search."""
    found = Search(np.ascontiguousarray(scores, dtype=float)) if start is None else start
    if second is not None:
        found._second[:] = second
    floors = np.asarray(floors, dtype=float)[:, None]
    code, _, stalls = kernel.dual_simplex(
        found.scores,
        found.upper,
        found._second,
        k,
        floors,
        np.zeros(len(floors)),
        found.basis,
        found.state,
        int(start is not None),
        20_000,
        found.values,
        found.prices,
        found.ray,
        found._rest,
        found._stalled,
    )
    x = (found.state == 1).astype(float)
    inside = found.basis < found.scores.shape[1]
    x[found.basis[inside]] = found.values[inside, 0]
    return code, stalls, x, found


def tied_inputs(d):
    rng = np.random.default_rng(3)
    small = rng.integers(-1, 2, (5, d)).astype(float)
    zeros = np.where(rng.random((5, d)) < 0.5, 0.0, rng.random((5, d)))
    plain = rng.random((5, d))
    return {
        "small integers": small / 2,
        "all equal": np.ones((5, d)) / 2,
        "constant target": np.vstack((np.ones(d) / 2, plain[1:])),
        "zero target": np.vstack((np.zeros(d), small[1:])),
        "half zero": zeros,
        "identical controls": plain[[0, 1, 1, 1, 2]],
        "controls are the target": plain[[0, 0, 0, 0, 0]],
        "target is minus a control": np.vstack((plain[0], -plain[0], plain[1:4])),
        "dependent controls": np.vstack(
            (plain[:3], 0.5 * plain[1] + 0.5 * plain[2], 0.5 * plain[1] - 0.5 * plain[2])
        ),
        "identical weights": np.repeat(plain[:, : d // 20], 20, axis=1),
    }


@pytest.mark.parametrize("name", tied_inputs(40))
@pytest.mark.parametrize("bland", [False, True])
def test_masses_of_ties_end_in_the_optimum(name, bland):
    scores = tied_inputs(40 if bland else 400)[name]  # Bland's rule ends, but not soon
    d = scores.shape[1]
    rng = np.random.default_rng(4)
    stalled = 0
    for k in (1, d // 10, d // 2, d - 1):
        for share in (0.0, 0.5, 0.9):
            mix = share * rng.random(4) @ scores[1:] + (1 - share) * scores[0]
            floors = scores[1:, np.argsort(-mix, kind="stable")[:k]].sum(axis=1)
            second = np.zeros(d) if bland else None
            code, stalls, x, found = search(scores, k, floors, second)
            stalled += stalls
            if code == kernel.INFEASIBLE:  # the floors' own sums were rounded up
                solution = cops_lp.solve(scores[0], list(scores[1:]), keep=k, floors=floors)
                assert_certified(solution)
                continue
            assert code == kernel.OPTIMAL
            assert x.sum() == pytest.approx(k, rel=1e-14)
            assert (scores[1:] @ x - floors >= -1e-12 * (np.abs(scores[1:]) @ x)).all()
            # Optimal: its value is that of its own prices.
            multipliers = np.maximum(0.0, -found.prices[1:, 0])
            combined = scores[0] + multipliers @ scores[1:]
            bound = np.sort(combined)[::-1][:k].sum() - multipliers @ floors
            assert scores[0] @ x == pytest.approx(bound, rel=1e-12, abs=1e-12 * k)
    if not bland:
        assert stalled == 0


def test_bland_takes_over_and_ends():
    """Without a second target every step of a constant target is a tie."""
    scores = tied_inputs(40)["zero target"]
    floors = scores[1:, np.argsort(-scores[1:].sum(axis=0))[:20]].sum(axis=1) - 1.0
    code, stalls, x, _ = search(scores, 20, floors, np.zeros(40))
    assert code == kernel.OPTIMAL
    assert stalls > 0
    assert (scores[1:] @ x >= floors - 1e-12).all()


def test_equal_weights_go_by_index():
    scores = np.repeat(np.random.default_rng(6).random((3, 30)), 10, axis=1)
    problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=95, retain=0.7)
    solution = problem.solve()
    assert_certified(solution)
    x = solution.relaxed().reshape(30, 10)
    assert (np.diff(x, axis=1) <= 0).all()
    assert (np.diff(solution.mask.reshape(30, 10).astype(int), axis=1) <= 0).all()


def test_a_search_goes_on_from_its_last_basis():
    rng = np.random.default_rng(7)
    scores = rng.random((5, 3_000))
    floors = scores[1:, np.argsort(-scores.sum(axis=0))[:300]].sum(axis=1) * 0.97
    code, _, _, first = search(scores, 300, floors)
    assert code == kernel.OPTIMAL
    for k, factor in ((300, 1.0), (310, 1.01), (290, 0.95), (300, 9.0), (300, 1.0)):
        warm, _, x, _ = search(scores, k, factor * floors, start=first)
        cold, _, y, _ = search(scores, k, factor * floors)
        assert warm == cold == (kernel.INFEASIBLE if factor == 9.0 else kernel.OPTIMAL)
        if warm == kernel.OPTIMAL:
            assert scores[0] @ x == pytest.approx(scores[0] @ y, rel=1e-14)


def test_a_limit_ends_in_a_numerical_error(monkeypatch):
    from cops_lp.engine import several

    monkeypatch.setattr(several, "_LIMIT", 1)
    scores = np.random.default_rng(8).random((4, 500))
    with pytest.raises(cops_lp.SolverError, match="numerical error"):
        cops_lp.solve(scores[0], list(scores[1:]), keep=50, retain=0.8)


@pytest.mark.parametrize("noise", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_nearly_opposite_controls_are_solved_or_refused(noise):
    """Both floors tight: multipliers grow as 1/noise, until float64 cannot state them."""
    rng = np.random.default_rng(9)
    target, control, other = rng.random((3, 200))
    controls = [control, -control + noise * other]
    floors = [score[:100].sum() for score in controls]
    try:
        solution = cops_lp.solve(target, controls, keep=100, floors=floors)
    except cops_lp.SolverError:
        assert noise < 1e-3
    else:
        assert_certified(solution)


@pytest.mark.parametrize("K", [2, 5, 8])
def test_floors_that_only_together_ask_too_much(K):
    rng = np.random.default_rng(10)
    scores = rng.random((1 + K, 400))
    k = 40
    y = rng.random(K)
    top = np.argsort(-(y @ scores[1:]))[:k]
    floors = scores[1:, top].sum(axis=1)
    problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=k, floors=floors)
    assert (floors < problem.best()[1:]).all()
    assert_certified(problem.solve())  # that one mask, or nearly
    asked = floors * (1 + 1e-9)
    with pytest.raises(cops_lp.InfeasibleError, match="attainable") as caught:
        problem.solve(floors=asked)
    certificate = caught.value.certificate
    assert (certificate >= 0).all()
    assert certificate.sum() == pytest.approx(1.0)
    assert certificate_excess(scores[1:], k, asked, certificate) > 0
    assert_certified(problem.solve(floors=asked, raise_on_infeasible=False))


def test_masks_meet_floors_or_say_what_they_lack():
    met = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scores = rng.random((5, 500))
        problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=60, retain=0.75)
        solution = problem.solve()
        assert_certified(solution)
        kept = scores[1:, solution.mask].sum(axis=1)
        lack = np.maximum(0.0, problem.floors - kept)
        assert solution.shortfall == pytest.approx(lack, abs=1e-11)
        assert len(solution.fractional.indices) <= 5
        met += not solution.shortfall.any()
    assert met >= 55


def test_one_float_range_per_score():
    """Positive factors, 1e-30 to 1e30, change neither the mask nor the certificate."""
    rng = np.random.default_rng(12)
    scores = rng.random((4, 300))
    plain = cops_lp.solve(scores[0], list(scores[1:]), keep=50, retain=0.8)
    factors = 2.0 ** np.array([-100, 100, 3, -60])
    scaled = scores * factors[:, None]
    solution = cops_lp.solve(scaled[0], list(scaled[1:]), keep=50, retain=0.8)
    assert_certified(solution)
    assert np.array_equal(solution.mask, plain.mask)
    assert solution.multipliers == pytest.approx(plain.multipliers * factors[0] / factors[1:])


def test_the_kernel_runs_without_a_compiler():
    """NUMBA_DISABLE_JIT gives the same answer (debugging, coverage)."""
    code = (
        "import numpy as np, cops_lp\n"
        "s = np.random.default_rng(5).random((4, 300))\n"
        "x = cops_lp.solve(s[0], list(s[1:]), keep=270, retain=0.9)\n"
        "print(x.objective, x.multipliers.tolist())"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for disabled in ("0", "1")
    ]
    assert printed[0] == printed[1]


def test_floors_that_contradict_each_other_are_told_apart():
    rng = np.random.default_rng(4)
    controls = rng.random((4, 1000))
    with pytest.raises(cops_lp.InfeasibleError, match="alone, but not all of them together"):
        cops_lp.solve(rng.random(1000), list(controls), keep=100, retain=0.95)
