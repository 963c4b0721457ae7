"""One valid problem, broken one way a test: each bad input gets one clear error."""

from __future__ import annotations

import numpy as np
import pytest

import cops_lp
from cops_lp import Problem, ProblemError

TARGET = np.array([4.0, 3.0, 2.0, 1.0])
CONTROL = np.array([1.0, 2.0, 3.0, 4.0])


def assert_refused(match, *args, **kwargs):
    settings = {"keep": 2, **kwargs}
    with pytest.raises(ProblemError, match=match):
        cops_lp.solve(*args, **settings)


@pytest.mark.parametrize("keep", [-1, 5, 1.5, -0.1, float("nan"), "2", "50%", None, True, 1j, [2]])
def test_keep_out_of_range_or_no_number(keep):
    assert_refused(r"keep is .*; wanted a count", TARGET, keep=keep)


@pytest.mark.parametrize(
    ("keep", "count"),
    [(2, 2), (0.5, 2), (0.4, 2), (1.0, 4), (1, 1), (0, 0), (0.0, 0), (np.int64(3), 3), (0.625, 2)],
)
def test_keep_is_a_count_or_a_share(keep, count):
    assert Problem(TARGET, keep=keep).keep == count
    assert cops_lp.solve(TARGET, keep=keep).mask.sum() == count


@pytest.mark.parametrize("retain", [1.1, -0.1, float("nan"), float("inf")])
def test_retain_out_of_range(retain):
    assert_refused("retain of 'control' is", TARGET, CONTROL, retain=retain)


@pytest.mark.parametrize("name", ["retain", "floors"])
@pytest.mark.parametrize("value", ["0.5", [0.5, 0.5], [[0.5]], object(), None, 1j, True])
def test_retain_and_floors_of_the_wrong_kind(name, value):
    assert_refused(
        "exactly one of|wanted a number|wanted one number", TARGET, CONTROL, **{name: value}
    )


def test_both_or_neither_of_retain_and_floors():
    assert_refused(
        "exactly one of retain and floors.*both", TARGET, CONTROL, retain=0.5, floors=1.0
    )
    assert_refused("exactly one of retain and floors.*neither", TARGET, CONTROL)


def test_floors_without_controls():
    assert_refused("retain was given but there are no controls", TARGET, retain=0.5)
    assert_refused("floors was given but there are no controls", TARGET, floors=1.0)
    assert cops_lp.solve(TARGET, [], keep=1, retain=[]).mask.tolist() == [True, False, False, False]


def test_floor_not_finite():
    assert_refused("floor of 'control' is inf", TARGET, CONTROL, floors=np.inf)


def test_unknown_and_missing_control_names():
    assert_refused(
        "unknown 'sise'; missing 'size'", TARGET, {"size": CONTROL}, retain={"sise": 0.5}
    )
    assert_refused("wanted a str", TARGET, {1: CONTROL}, retain=0.5)
    assert_refused("'target' is taken", TARGET, {"target": CONTROL}, retain=0.5)


def test_shapes_that_differ():
    assert_refused(r"shape \(3,\); wanted the target's, \(4,\)", TARGET, [CONTROL[:3]], retain=0.5)
    assert_refused(r"shape \(2, 2\)", TARGET, [CONTROL.reshape(2, 2)], retain=0.5)


@pytest.mark.parametrize("dtype", [complex, object, "U3", "datetime64[s]", np.longdouble])
def test_dtypes_that_are_no_real_numbers(dtype):
    assert_refused("target has dtype", TARGET.astype(int).astype(dtype))
    assert_refused("'control' has dtype", TARGET, [CONTROL.astype(int).astype(dtype)], retain=0.5)


def test_ragged_lists_and_foreign_objects():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("on another planet")

    assert_refused("target cannot be read as an array", [[1.0], [1.0, 2.0]])
    assert_refused("target cannot be read as an array: on another planet", Broken())
    assert_refused("target is dict; wanted an array", {"not": "an array"})


def test_empty_arrays():
    assert_refused("target is empty", np.empty((0, 3)))
    assert_refused("'control' is empty", TARGET, [np.empty(0)], retain=0.5)


@pytest.mark.parametrize("size", [6, 100_000])
def test_nan_and_infinity_are_named_counted_and_placed(size):
    rng = np.random.default_rng(1)
    target, control = rng.random((2, 2, size // 2))
    bad = control.copy()
    bad[1, 1] = np.nan
    bad[1, 2] = np.nan
    bad[0, 2] = -np.inf
    match = r"control 'size' holds 2 NaN and 1 infinity, the first at index \(0, 2\)"
    assert_refused(match, target, {"size": bad}, retain=0.5)
    assert_refused(match, target, {"size": bad}, floors=0.5)
    bad = target.reshape(-1).astype(np.float32)
    bad[-1] = np.inf
    assert_refused(f"target holds 1 infinity, the first at index {size - 1};", bad)


def test_nan_everywhere_in_a_large_array():
    assert_refused("target holds 50000 NaN", np.full(50_000, np.nan))


def test_retain_needs_a_positive_best():
    assert_refused("needs a positive attainable best.*floors=", TARGET, -CONTROL, retain=0.5)
    assert cops_lp.solve(TARGET, -CONTROL, keep=2, floors=-5.0).kept.tolist() == [-3.0]


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads(threads):
    assert_refused("threads is", TARGET, threads=threads)


def test_controls_as_array_sequence_mapping_and_stack():
    expected = cops_lp.solve(TARGET, CONTROL, keep=2, floors=5.0).mask
    for controls in (
        [CONTROL],
        CONTROL.tolist(),
        (CONTROL.tolist(),),
        {"size": CONTROL},
        CONTROL[None],
    ):
        assert (
            cops_lp.solve(TARGET, controls, keep=2, floors=5.0).mask.tolist() == expected.tolist()
        )
    assert Problem(TARGET, [CONTROL, CONTROL], keep=2, floors=0).names == ("control 1", "control 2")


def test_floors_by_name_and_for_all():
    problem = Problem(TARGET, {"a": CONTROL, "b": TARGET}, keep=2, floors={"b": 1.0, "a": 2.0})
    assert problem.floors.tolist() == [2.0, 1.0]
    assert problem.replace(floors=3).floors.tolist() == [3.0, 3.0]
    assert problem.replace(retain=[0.5, 1.0]).floors.tolist() == [3.5, 7.0]


def test_best_and_reuse(monkeypatch):
    problem = Problem(TARGET, {"size": CONTROL}, keep=2, retain=0.5)
    assert problem.best().tolist() == [7.0, 7.0]
    from cops_lp.engine import driver

    monkeypatch.setattr(driver, "best_sum", None)  # a second computation would fail
    assert problem.replace(retain=1.0).floors.tolist() == [7.0]
    assert problem.solve(retain=1.0).kept.tolist() == [7.0]
    assert problem.replace(floors=4.0).keep == 2
    assert "size" in repr(problem)


@pytest.mark.parametrize("how", [{"retain": 0.5}, {"floors": 3.0}])
@pytest.mark.parametrize("name", ["target", "controls", "names", "keep", "retain", "floors"])
def test_what_is_asked_cannot_be_changed(name, how):
    solution = cops_lp.solve(TARGET, {"size": CONTROL}, keep=2, **how)
    problem = solution.problem
    before = getattr(problem, name)
    with pytest.raises(AttributeError, match=name):
        setattr(problem, name, before)
    assert getattr(problem, name) is before
    with pytest.raises(ValueError, match="read-only"):
        problem.floors[0] = 0.0
    assert cops_lp.certify(problem, solution)


def test_the_answer_of_a_reused_problem_is_the_answer_of_a_new_one():
    rng = np.random.default_rng(0)
    target, control = rng.random((2, 500))
    problem = Problem(target, control, keep=0.1, retain=0.9)
    for keep in (10, 50, 0.5):
        for retain in (0.2, 0.95, 1.0):
            again = problem.solve(keep=keep, retain=retain)
            new = cops_lp.solve(target, control, keep=keep, retain=retain)
            assert np.array_equal(again.mask, new.mask)
            assert again.multipliers == new.multipliers
