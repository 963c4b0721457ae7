"""What a Solution knows and how it prints."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import cops_lp
from cops_lp import Status


@pytest.fixture(scope="module")
def solution():
    return cops_lp.solve([5, 4, 3, 2, 1], {"<size>": [1, 2, 3, 4, 5]}, keep=2, retain=0.5)


def test_the_printed_table(solution):
    text = str(solution)
    lines = text.splitlines()
    assert lines[0] == Status.OPTIMAL.value
    assert lines[2].split() == [
        "score",
        "mask",
        "keeps",
        "of",
        "best",
        "floor",
        "attainable",
        "multiplier",
    ]
    assert lines[4].split() == ["target", "7", "–", "maximize", "–"]
    assert lines[5].split() == ["<size>", "5", "55.56%", "4.5", "9", "1"]
    assert "keeps 2 of 5 weights (0.4)" in text
    assert "fractional weights: 2" in text
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("how", [{"floors": 4.5}, {"retain": 0.5}])
def test_printing_reads_no_score(how):
    control = np.array([1.0, 2, 3, 4, 5])
    solution = cops_lp.solve([5, 4, 3, 2, 1], {"size": control}, keep=2, **how)
    control[:] = np.nan  # whoever reads it would complain
    known = ["55.56%", "4.5", "9"] if "retain" in how else ["–", "4.5", "–"]
    assert str(solution).splitlines()[5].split() == ["size", "5", *known, "1"]
    assert "<td>–</td>" in solution._repr_html_()


def test_what_is_attainable_is_printed_once_it_is_known():
    solution = cops_lp.solve([5, 4, 3, 2, 1], {"size": [1, 2, 3, 4, 5]}, keep=2, floors=4.5)
    solution.problem.best()
    lines = str(solution).splitlines()
    assert lines[4].split() == ["target", "7", "77.78%", "maximize", "9"]
    assert lines[5].split() == ["size", "5", "55.56%", "4.5", "9", "1"]


def test_the_notebook_table_escapes_names(solution):
    page = solution._repr_html_()
    assert "<td>&lt;size&gt;</td>" in page
    assert "<th>attainable</th>" in page
    assert page.count("<tr>") == 3


def test_relaxed_and_combined_score(solution):
    x = solution.relaxed()
    assert x.tolist() == [0.5, 0.5, 0.5, 0.5, 0.0] or x.sum() == 2.0
    assert x @ solution.problem.target == 7.5
    assert solution.combined_score().tolist() == [6.0] * 5
    indices, values = solution.fractional
    assert np.array_equal(x[indices], values)


def test_frozen(solution):
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.gap = 0.0


def test_where_whole_weights_were_turned_changed_holds_0_and_1():
    rng = np.random.default_rng(2)
    solution = cops_lp.solve(rng.random(30), list(rng.random((3, 30))), keep=9, retain=0.7)
    indices, values = solution.changed
    whole = (values == 0.0) | (values == 1.0)
    assert 0 < whole.sum() < len(values)
    assert np.array_equal(solution.fractional.indices, indices[~whole])
    assert np.array_equal(solution.relaxed() != solution.mask, np.isin(np.arange(30), indices))
    assert "in [0, 1] for `Solution.changed`" in type(solution.changed).__doc__


def test_an_infeasible_solution_prints_what_was_wanted():
    solution = cops_lp.solve([1, 2], {"size": [3, 4]}, keep=1, floors=5, raise_on_infeasible=False)
    text = str(solution)
    assert text.startswith("infeasible")
    assert "asked to keep 1 of 2 weights" in text
    assert repr(solution) == "<Solution INFEASIBLE: keep=1, objective=nan, gap=nan>"
    size = text.splitlines()[5].split()
    assert size == ["size", "–", "–", "5", "–", "–"]
    solution.problem.best()
    assert str(solution).splitlines()[5].split() == ["size", "–", "–", "5", "4", "–"]


def test_a_shortfall_is_printed(solution):
    short = dataclasses.replace(solution, shortfall=np.array([0.25]))
    assert "4.5 (short by 0.25)" in str(short)


def test_relative_gap(solution):
    assert solution.relative_gap == 0.0
    assert dataclasses.replace(solution, gap=0.75).relative_gap == pytest.approx(0.1)
