"""Faults put in on purpose are seen by the tests; ``tests/mutants.py`` lists them."""

from __future__ import annotations

import pytest

from .mutants import MUTANTS, ROOT, survives


def test_each_fault_is_one_line_that_is_there():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
    for mutant in MUTANTS:
        text = (ROOT / "cops_lp" / mutant.file).read_text()
        assert text.count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
        for part in mutant.tests.split():
            assert not part.startswith("tests/") or (ROOT / part).exists(), mutant.name


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_faults_are_caught(mutant):
    assert survives(mutant) is None
