"""The reference solvers: signs, units, agreement, proofs, failures, and a process of their own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import cops_lp
from cops_lp import (
    InfeasibleError,
    MissingDependencyError,
    Problem,
    ProblemError,
    SolverError,
    Status,
    certify,
)
from cops_lp.reference import _model, _process, run_isolated, solve_cvxpy, solve_highs, solve_scipy

from .checks import target_scale

ROOT = Path(cops_lp.__file__).parents[1]

# name: function, its arguments, relative accuracy of gap, residuals and multipliers
EXACT = 1e-12
SOLVERS = {
    "highs simplex": (solve_highs, {"algorithm": "simplex"}, EXACT),
    "highs ipm": (solve_highs, {"algorithm": "ipm"}, EXACT),
    "highs pdlp": (solve_highs, {"algorithm": "pdlp"}, 1e-6),
    "scipy": (solve_scipy, {}, EXACT),
    "scipy ds": (solve_scipy, {"algorithm": "highs-ds"}, EXACT),
    "scipy ipm": (solve_scipy, {"algorithm": "highs-ipm"}, EXACT),
    "cvxpy clarabel": (solve_cvxpy, {"solver": "CLARABEL"}, 1e-6),
    "cvxpy highs": (solve_cvxpy, {"solver": "HIGHS"}, EXACT),
}
each_solver = pytest.mark.parametrize("name", SOLVERS)


def solve(name, problem, **more):
    function, arguments, _ = SOLVERS[name]
    return function(problem, **arguments, time_limit=60.0, **more)


def accuracy(name):
    return SOLVERS[name][2]


def attainable(problem):
    k, d = problem.keep, problem.size
    return np.array([np.sort(a.reshape(-1))[d - k :].sum() for a in problem.controls])


def random_problem(seed, *, d=400, share=0.2, controls=2, kind="normal", unit=1.0):
    """Floors between what the target's best mask keeps and what a compromise keeps."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=d) + 0.7 * rng.normal(size=(1 + controls, d))
    if kind == "positive":
        scores = np.abs(scores)
    elif kind == "integers":
        scores = np.round(np.abs(scores) * 20)
    elif kind == "half zero":
        scores = np.abs(scores) * (rng.random(scores.shape) < 0.5)
    k = round(share * d)
    sizes = np.abs(scores).mean(axis=1, keepdims=True)
    compromise = np.argsort(-(scores / sizes).sum(axis=0), kind="stable")[:k]
    own = np.argsort(-scores[0], kind="stable")[:k]
    floors = 0.2 * scores[1:, own].sum(axis=1) + 0.8 * scores[1:, compromise].sum(axis=1)
    if not controls:
        return Problem(scores[0] * unit, keep=k)
    return Problem(scores[0] * unit, list(scores[1:] * unit), keep=k, floors=floors * unit)


def assert_optimal(solution, rel):
    """Feasibility, signs, complementarity and gap, one by one, relative to sums of |score|."""
    problem = solution.problem
    assert solution.status is Status.OPTIMAL
    c = problem.target.reshape(-1).astype(float)
    A = np.array([a.reshape(-1).astype(float) for a in problem.controls]).reshape(-1, len(c))
    x, lam, b, k = (
        solution.relaxed().reshape(-1),
        solution.multipliers,
        problem.floors,
        problem.keep,
    )
    assert ((x >= 0.0) & (x <= 1.0)).all()
    assert abs(x.sum() - k) <= rel * max(1, k)
    sizes = np.maximum(np.abs(A) @ x, np.abs(b))
    assert (A @ x - b >= -rel * sizes).all()
    assert (lam >= 0.0).all()
    scale = target_scale(solution)
    assert (lam * np.abs(A @ x - b) <= rel * scale).all()
    s = c + lam @ A
    top = np.sort(s)[len(s) - k :].sum() if k else 0.0
    assert solution.bound == pytest.approx(top - lam @ b, rel=0.0, abs=1e-12 * scale)
    assert solution.objective == pytest.approx(c @ x, rel=0.0, abs=1e-12 * scale)
    assert abs(solution.gap) <= rel * scale
    assert int(solution.mask.sum()) == k
    assert solution.build_seconds > 0.0
    assert solution.seconds > 0.0


# --- by hand ---------------------------------------------------------------------------------


@each_solver
def test_two_scores_by_hand(name):
    # g(λ) = T₂(3, 2 + λ, 1 + 2λ, 3λ) − 3.5 λ falls until λ = 1 and rises after it.
    problem = Problem([3.0, 2.0, 1.0, 0.0], [[0.0, 1.0, 2.0, 3.0]], keep=2, floors=3.5)
    solution = solve(name, problem)
    rel = accuracy(name)
    assert_optimal(solution, rel)
    assert solution.objective == pytest.approx(2.5, rel=rel)
    assert solution.bound == pytest.approx(2.5, rel=rel)
    assert solution.multipliers == pytest.approx([1.0], rel=rel)
    assert solution.threshold == pytest.approx(3.0, rel=rel)


@each_solver
def test_negative_scores_by_hand(name):
    # Half of each of the first two meets the floor at −1.5; the third costs more.
    problem = Problem([-1.0, -2.0, -4.0], [[-3.0, -1.0, 1.0]], keep=1, floors=-2.0)
    solution = solve(name, problem)
    rel = accuracy(name)
    assert_optimal(solution, rel)
    assert solution.objective == pytest.approx(-1.5, rel=rel)
    assert solution.multipliers == pytest.approx([0.5], rel=rel)
    assert solution.threshold == pytest.approx(-2.5, rel=rel)
    assert solution.relaxed() == pytest.approx([0.5, 0.5, 0.0], rel=rel, abs=rel)


@each_solver
def test_three_controls_in_three_units_by_hand(name):
    # Each control is one weight's alone; x = (1, 0.3, 0.25, 0.2, 0.25) and all ties are at 3.
    units = (2e3, 5.0, 1e-6)
    controls = [unit * np.eye(5)[2 + j] for j, unit in enumerate(units)]
    problem = Problem([6.0, 3.0, 0.0, 0.0, 0.0], controls, keep=2, floors=[500.0, 1.0, 2.5e-7])
    solution = solve(name, problem)
    rel = accuracy(name)
    assert_optimal(solution, rel)
    assert solution.objective == pytest.approx(6.9, rel=rel)
    assert solution.multipliers * units == pytest.approx([3.0, 3.0, 3.0], rel=rel)
    assert solution.relaxed() == pytest.approx([1.0, 0.3, 0.25, 0.2, 0.25], rel=rel)


@each_solver
def test_without_controls_it_is_top_k(name):
    problem = Problem([[1.0, -3.0, 2.0], [5.0, -1.0, 0.0]], keep=4)
    solution = solve(name, problem)
    assert_optimal(solution, accuracy(name))
    assert solution.mask.tolist() == [[True, False, True], [True, False, True]]
    assert solution.objective == pytest.approx(8.0, rel=accuracy(name))
    assert solution.multipliers.shape == solution.floors.shape == (0,)


@each_solver
@pytest.mark.parametrize("k", [0, 1, 29, 30])
def test_budgets_at_the_edge(name, k):
    rng = np.random.default_rng(k)
    target, *controls = rng.normal(size=(3, 30))
    floors = [np.sort(a)[30 - k :].sum() - 0.5 for a in controls]
    floors[1] -= 10.0
    problem = Problem(target, controls, keep=k, floors=floors)
    solution = solve(name, problem)
    assert_optimal(solution, max(accuracy(name), 1e-12))
    assert solution.mask.sum() == k
    if k in (0, 30):
        assert len(solution.fractional.indices) == 0


# --- agreement -------------------------------------------------------------------------------


@pytest.mark.parametrize("controls", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["normal", "positive", "integers", "half zero"])
def test_all_agree(controls, kind):
    for seed, share in ((0, 0.05), (1, 0.5), (2, 0.9)):
        problem = random_problem(seed, controls=controls, kind=kind, share=share)
        solutions = {name: solve(name, problem) for name in SOLVERS}
        first = solutions["highs simplex"]
        scale = target_scale(first)
        for name, solution in solutions.items():
            rel = accuracy(name)
            assert_optimal(solution, rel)
            assert abs(solution.objective - first.objective) <= rel * scale, name
            assert abs(solution.bound - first.bound) <= rel * scale, name
            if rel == EXACT:
                verdict = certify(problem, solution)
                assert verdict.ok, f"{name}: {verdict}"
                assert verdict.fractional <= controls + 1


@each_solver
def test_answers_do_not_depend_on_the_units(name):
    plain = solve(name, random_problem(3, kind="positive"))
    rel = max(accuracy(name), 1e-10)
    assert plain.multipliers.min() > 0.1
    for unit in (1e-310, 1e-12, 1e300):
        other = solve(name, random_problem(3, kind="positive", unit=unit))
        if rel == 1e-10:
            assert other.mask.tolist() == plain.mask.tolist()
        assert other.multipliers == pytest.approx(plain.multipliers, rel=100 * rel)
        assert other.objective == pytest.approx(plain.objective * unit, rel=rel)


def test_multipliers_are_in_target_per_control():
    problem = random_problem(3, kind="positive", controls=1)
    scaled = Problem(problem.target * 3e5, problem.controls[0] * 7e-12, keep=problem.keep,
                     floors=problem.floors * 7e-12)  # fmt: skip
    one, other = solve_highs(problem), solve_highs(scaled)
    assert other.multipliers == pytest.approx(one.multipliers * 3e5 / 7e-12, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in SOLVERS if accuracy(name) == EXACT])
def test_coefficients_a_billionth_of_the_mean_count(name):
    # HiGHS drops what is below 1e-9 unless told otherwise, and then asks for the outlier only.
    target, control = np.random.default_rng(8).random((2, 500))
    control[3] = 1e12
    solution = solve(name, Problem(target, control, keep=100, floors=1e12 + 70.0))
    assert solution.multipliers[0] > 0.1
    x = solution.relaxed()
    assert x[3] == 1.0
    control[3] = 0.0
    assert control @ x == pytest.approx(70.0, abs=1e-3)  # 1e12 is known to 1e-4


def test_dtypes_shapes_and_views_are_taken_as_they_are():
    rng = np.random.default_rng(4)
    wide = rng.integers(-50, 50, size=(3, 8, 20))
    plain = Problem(wide[0], list(wide[1:]), keep=40, floors=[100.0, -300.0])
    for dtype in (np.float16, np.float32, ml_dtypes.bfloat16, np.int8):
        views = np.repeat(wide.astype(dtype), 2, axis=2)[:, :, ::2]
        views.flags.writeable = False
        problem = plain.__class__(views[0], list(views[1:]), keep=40, floors=[100.0, -300.0])
        solution = solve_highs(problem)
        assert solution.mask.shape == (8, 20)
        assert solution.objective == solve_highs(plain).objective


# --- infeasible ------------------------------------------------------------------------------


def infeasible_problems():
    rng = np.random.default_rng(11)
    target, first, second = np.abs(rng.normal(size=(3, 300))) * [[1.0], [1e-12], [1e5]]
    problem = Problem(target, {"a": first, "b": second}, keep=30, floors=[0.0, 0.0])
    yield "jointly", problem.replace(floors=0.95 * attainable(problem))
    yield "alone", problem.replace(floors=attainable(problem) * [0.5, 1.0 + 1e-9])
    sum_of = {"up": first, "down": -first}
    middle = 15 * first.mean()
    yield "opposed", Problem(target, sum_of, keep=30, floors=[middle, -middle * (1 - 1e-6)])
    yield "nothing kept", problem.replace(keep=0, floors=[0.0, 1e-3])


@each_solver
@pytest.mark.parametrize("kind", ["jointly", "alone", "opposed", "nothing kept"])
def test_infeasible_comes_with_a_proof(name, kind):
    problem = dict(infeasible_problems())[kind]
    solution = solve(name, problem, raise_on_infeasible=False)
    assert solution.status is Status.INFEASIBLE
    assert np.isnan(solution.objective)
    assert not solution.mask.any()
    y, k = solution.certificate, problem.keep
    combined = np.sort(y @ np.array(problem.controls))[problem.size - k :].sum() if k else 0.0
    assert (y >= 0.0).all()
    assert y.max() == 1.0
    assert y @ problem.floors > combined
    assert certify(problem, solution).ok

    with pytest.raises(InfeasibleError, match="attainable") as caught:
        solve(name, problem)
    assert caught.value.names == problem.names
    assert caught.value.keep == k
    assert caught.value.wanted.tolist() == problem.floors.tolist()
    assert caught.value.attainable == pytest.approx(attainable(problem), rel=1e-12)
    assert caught.value.certificate == pytest.approx(y, rel=1e-4)


@each_solver
def test_a_floor_above_the_best_by_rounding_counts_as_the_best(name):
    problem = random_problem(5, controls=1, kind="positive", d=100)
    best = attainable(problem)
    for excess in (0.0, 1e-13):
        solution = solve(name, problem.replace(floors=best * (1 + excess)))
        assert solution.status is Status.OPTIMAL
        assert (
            solution.mask.tolist()
            == (problem.controls[0] >= np.sort(problem.controls[0])[-problem.keep]).tolist()
        )
        assert solution.shortfall.tolist() == [0.0]


# --- what is not believed --------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "sign"), [("highs", 1.0), ("scipy", -1.0), ("cvxpy", 1.0)])
def test_signs_change_in_one_place(kind, sign):
    convert = _model.multipliers_from_raw
    assert convert(kind, sign * np.array([2.0, 0.0])).tolist() == [2.0, 0.0]
    assert convert(kind, sign * np.array([3.0, -1e-9])).tolist() == [3.0, 0.0]
    assert convert(kind, sign * np.array([3.0, -1e-3])) is None
    assert convert(kind, sign * np.array([np.nan, 1.0])) is None
    assert convert(kind, np.empty(0)).shape == (0,)


def answer(problem, **changes):
    """What is made of a solver that answers the hand-solved problem, but for `changes`."""
    given = {"verdict": _model.Verdict.SOLVED, "x": np.array([0.5, 0.0, 1.0, 0.5]),
             "duals": np.array([1.0]), "vertex": True} | changes  # fmt: skip
    return _model.solve_with(
        lambda lp, seconds: _model.Outcome(**given),
        problem,
        kind="highs",
        method="fake",
        time_limit=None,
        raise_on_infeasible=True,
    )


@pytest.fixture
def by_hand():
    return Problem([3.0, 2.0, 1.0, 0.0], [[0.0, 1.0, 2.0, 3.0]], keep=2, floors=3.5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"duals": np.array([-1.0])}, "negative"),
        ({"duals": np.array([np.nan])}, "not finite"),
        ({"x": np.array([0.5, 0.0, np.nan, 0.5])}, "not finite"),
        ({"x": np.array([0.5, 0.0, 1.0])}, "point"),
        ({"x": np.array([0.0, 1.0, 0.0, 1.0])}, "gap"),
        ({"x": np.array([1.0, 1.0, 0.0, 0.0])}, "floors"),
        ({"x": np.array([1.0, 0.0, 1.0, 1.0])}, "count"),
        ({"duals": np.array([0.5])}, "gap"),
        ({"x": None}, "no answer"),
        ({"duals": None}, "no answer"),
        ({"verdict": _model.Verdict.FAILED, "note": "gave up"}, "gave up"),
        ({"verdict": _model.Verdict.INFEASIBLE}, "without a proof"),
        ({"verdict": _model.Verdict.INFEASIBLE, "duals": None}, "without a proof"),
    ],
)
def test_a_wrong_answer_is_a_numerical_error(by_hand, changes, says):
    solution = answer(by_hand, **changes)
    assert solution.status is Status.NUMERICAL_ERROR
    assert says in solution.method
    assert np.isnan(solution.objective)
    assert np.isnan(solution.relaxed()).all()
    assert not solution.mask.any()


def test_a_right_answer_is_taken_and_its_noise_removed(by_hand):
    assert answer(by_hand).objective == 2.5
    noisy = answer(by_hand, x=np.array([0.5 + 1e-8, 1e-10, 1.0 + 1e-10, 0.5 - 1e-8]))
    assert noisy.relaxed() == pytest.approx([0.5, 0.0, 1.0, 0.5], rel=1e-15, abs=0.0)
    assert abs(noisy.gap) <= 1e-15
    honest = answer(by_hand, x=np.array([0.5 + 1e-8, 0.0, 1.0, 0.5 - 1e-8]), vertex=False)
    assert honest.relaxed()[0] == 0.5 + 1e-8


def test_a_time_limit_reached_says_so(by_hand):
    solution = answer(by_hand, verdict=_model.Verdict.TIME_LIMIT)
    assert solution.status is Status.TIME_LIMIT
    assert solution.method == "fake"


# --- arguments, packages, exceptions ---------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        (solve_highs, {"algorithm": "fast"}, "algorithm is 'fast'"),
        (solve_scipy, {"algorithm": "simplex"}, "algorithm is 'simplex'"),
        (solve_cvxpy, {"solver": "NOPE"}, "solver is 'NOPE'"),
        (solve_cvxpy, {"solver": 3}, "solver is 3"),
        (solve_highs, {"time_limit": 0.0}, "time_limit"),
        (solve_scipy, {"time_limit": -1.0}, "time_limit"),
        (solve_cvxpy, {"time_limit": np.nan}, "time_limit"),
        (solve_highs, {"tolerance": 0.0}, "tolerance"),
        (solve_scipy, {"tolerance": -1.0}, "tolerance"),
        (solve_cvxpy, {"solver": "OSQP", "time_limit": 1.0}, "time_limit cannot"),
        (solve_cvxpy, {"solver": "OSQP", "tolerance": 1e-3}, "tolerance cannot"),
    ],
)
def test_wrong_arguments_are_named(by_hand, function, arguments, match):
    with pytest.raises(ProblemError, match=match):
        function(by_hand, **arguments)


@each_solver
def test_only_a_problem_with_finite_scores_is_taken(name):
    with pytest.raises(ProblemError, match=r"wanted a cops_lp\.Problem"):
        solve(name, [1.0, 2.0])
    with pytest.raises(ProblemError, match=r"control.* holds 1 NaN"):
        solve(name, Problem([1.0, 2.0], [[np.nan, 1.0]], keep=1, floors=0.0))


@pytest.mark.parametrize(
    ("function", "module", "package"),
    [
        (solve_highs, "highspy", "highspy"),
        (solve_scipy, "scipy.optimize", "scipy"),
        (solve_cvxpy, "cvxpy", "cvxpy"),
    ],
)
def test_a_missing_package_is_named(by_hand, monkeypatch, function, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"cops-lp\[reference\]") as caught:
        function(by_hand)
    assert caught.value.package == package


def test_a_missing_solver_of_cvxpy_is_named(by_hand, monkeypatch):
    import cvxpy

    monkeypatch.setattr(cvxpy, "installed_solvers", lambda: ["SCS"])
    with pytest.raises(MissingDependencyError, match="clarabel is not installed"):
        solve_cvxpy(by_hand, solver="CLARABEL")


def raise_overflow(*arguments, **more):
    raise OverflowError("too much")


@pytest.mark.parametrize(
    ("function", "place"),
    [
        (solve_highs, "highspy.Highs"),
        (solve_scipy, "scipy.optimize.linprog"),
        (solve_cvxpy, "cvxpy.Variable"),
    ],
)
def test_their_exceptions_become_ours(by_hand, monkeypatch, function, place):
    monkeypatch.setattr(place, raise_overflow)
    with pytest.raises(SolverError, match="OverflowError: too much") as caught:
        function(by_hand)
    assert isinstance(caught.value.__cause__, OverflowError)


def test_a_limit_of_iterations_is_no_limit_of_time(by_hand, monkeypatch):
    empty = SimpleNamespace(status=1, message="Iteration limit reached.")
    monkeypatch.setattr("scipy.optimize.linprog", lambda *arguments, **more: empty)
    solution = solve_scipy(by_hand, time_limit=100.0)
    assert solution.status is Status.NUMERICAL_ERROR
    assert "Iteration limit" in solution.method


def test_a_status_that_is_no_answer_is_told(by_hand, monkeypatch):
    import highspy

    limit = highspy.HighsModelStatus.kIterationLimit
    monkeypatch.setattr("highspy.Highs.getModelStatus", lambda self: limit)
    solution = solve_highs(by_hand)
    assert solution.status is Status.NUMERICAL_ERROR
    assert "Iteration limit" in solution.method


def test_importing_imports_no_solver():
    heavy = "{'highspy', 'scipy', 'cvxpy', 'numba'}"
    code = f"import sys, cops_lp.reference; assert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


# --- processes -------------------------------------------------------------------------------

TOGETHER = """
import sys
import numpy as np
from cops_lp import Problem
from cops_lp.reference import solve_cvxpy, solve_highs, solve_scipy

rng = np.random.default_rng(0)
target, control = rng.random((2, 500))
problem = Problem(target, control, keep=50, floors=40.0)
solvers = {
    "highs": lambda: solve_highs(problem),
    "scipy": lambda: solve_scipy(problem),
    "cvxpy": lambda: solve_cvxpy(problem, solver="HIGHS"),
}
found = [solvers[name]().objective for name in 2 * sys.argv[1].split(",")]
assert np.ptp(found) <= 1e-12 * found[0], found
"""


@pytest.mark.parametrize("order", list(itertools.permutations(("highs", "scipy", "cvxpy"))))
def test_all_run_in_one_process_in_any_order(order):
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER, ",".join(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "function", "arguments"),
    [
        ("highs", solve_highs, {"algorithm": "ipm"}),
        ("scipy", solve_scipy, {}),
        ("cvxpy", solve_cvxpy, {"solver": "CLARABEL", "tolerance": 1e-8}),
    ],
)
def test_an_isolated_solve_is_the_same_solve(name, function, arguments):
    problem = random_problem(6)
    here = function(problem, **arguments)
    there = run_isolated(name, problem, time_limit=60.0, **arguments)
    assert there.problem is problem
    assert there.status is Status.OPTIMAL
    assert there.method == here.method
    assert there.mask.tolist() == here.mask.tolist()
    assert there.objective == here.objective
    assert there.multipliers.tolist() == here.multipliers.tolist()
    assert there.relaxed().tolist() == here.relaxed().tolist()
    assert there.seconds > 0.0


def test_an_isolated_solve_without_controls_in_bfloat16():
    target = np.arange(12.0).reshape(3, 4).astype(ml_dtypes.bfloat16)
    solution = run_isolated("highs", Problem(target, keep=3), time_limit=60.0)
    assert solution.mask.reshape(-1).tolist() == [False] * 9 + [True] * 3
    assert solution.objective == 30.0


def test_the_time_limit_holds_where_the_solver_ignores_it():
    problem = random_problem(7, d=100_000, kind="positive")
    start = time.perf_counter()
    solution = run_isolated("highs", problem, algorithm="simplex", time_limit=1.0)
    assert time.perf_counter() - start < 6.0
    assert solution.status is Status.TIME_LIMIT
    assert solution.problem is problem
    assert 1.0 <= solution.seconds < 5.0
    assert np.isnan(solution.objective)


def test_an_isolated_solve_tells_infeasible():
    problem = dict(infeasible_problems())["jointly"]
    solution = run_isolated("highs", problem, raise_on_infeasible=False)
    assert certify(problem, solution).ok
    with pytest.raises(InfeasibleError, match="'a'") as caught:
        run_isolated("highs", problem)
    assert caught.value.attainable == pytest.approx(attainable(problem), rel=1e-12)
    assert caught.value.certificate.tolist() == solution.certificate.tolist()


@pytest.mark.parametrize(
    ("name", "arguments", "error", "match"),
    [
        ("glop", {}, ProblemError, "name is 'glop'"),
        ("highs", {"time_limit": 0.0}, ProblemError, "time_limit"),
        ("highs", {"algorithm": "fast"}, ProblemError, "algorithm is 'fast'"),
        ("highs", {"algorithm": object()}, ProblemError, "options can be"),
        ("highs", {"presolve": "off"}, SolverError, "unexpected keyword argument 'presolve'"),
        ("cvxpy", {"solver": "NOPE"}, ProblemError, "solver is 'NOPE'"),
    ],
)
def test_errors_of_the_child_are_raised_here(by_hand, name, arguments, error, match):
    with pytest.raises(error, match=match):
        run_isolated(name, by_hand, **arguments)


def test_a_package_missing_in_the_child_is_named(by_hand, monkeypatch, tmp_path):
    (tmp_path / "highspy.py").write_text("raise ImportError('none here')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match="highspy is not installed"):
        run_isolated("highs", by_hand)


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("raise SystemExit('out of luck')", "exit code 1; it said: out of luck"),
        ("pass", "exit code 0"),
    ],
)
def test_a_crash_stays_in_the_child(by_hand, monkeypatch, code, match):
    monkeypatch.setattr(_process, "_WORKER", ("-c", code))
    with pytest.raises(SolverError, match=match):
        run_isolated("highs", by_hand)


def test_isolation_needs_no_guarded_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from cops_lp import Problem\n"
        "from cops_lp.reference import run_isolated\n"
        "print(run_isolated('highs', Problem([1.0, 2.0, 4.0], keep=2)).objective)\n"
    )
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user')\n")
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("6.0\n", "")
