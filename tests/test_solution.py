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
    assert lines[4].split() == ["target", "7", "77.78%", "maximize", "9"]
    assert lines[5].split() == ["<size>", "5", "55.56%", "4.5", "9", "1"]
    assert "keeps 2 of 5 weights (0.4)" in text
    assert "fractional weights: 2" in text
    assert max(map(len, lines)) <= 100


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


def test_an_infeasible_solution_prints_what_was_wanted():
    solution = cops_lp.solve([1, 2], {"size": [3, 4]}, keep=1, floors=5, raise_on_infeasible=False)
    text = str(solution)
    assert text.startswith("infeasible")
    assert "asked to keep 1 of 2 weights" in text
    assert repr(solution) == "<Solution INFEASIBLE: keep=1, objective=nan, gap=nan>"
    size = text.splitlines()[5].split()
    assert size == ["size", "–", "–", "5", "4", "–"]


def test_a_shortfall_is_printed(solution):
    short = dataclasses.replace(solution, shortfall=np.array([0.25]))
    assert "4.5 (short by 0.25)" in str(short)


def test_relative_gap(solution):
    assert solution.relative_gap == 0.0
    assert dataclasses.replace(solution, gap=0.75).relative_gap == pytest.approx(0.1)
