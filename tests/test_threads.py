"""Parts of a job on several threads: results in order, errors raised, nothing left behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import cops_lp
from cops_lp.engine import stores
from cops_lp.engine.threads import map_parts


def test_results_come_in_the_order_of_the_parts():
    used = set()

    def square(x):
        used.add(threading.get_ident())
        time.sleep(0.002)
        return x * x

    assert map_parts(square, range(40), 4) == [x * x for x in range(40)]
    assert threading.get_ident() in used
    assert len(used) == 4


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_all_parts_and_is_raised(threads, error):
    begun = []

    def fail(x):
        begun.append(x)
        if x == 5:
            raise error("part 5")
        time.sleep(0.002)

    before = threading.active_count()
    with pytest.raises(error, match="part 5"):
        map_parts(fail, range(1000), threads)
    assert len(begun) < 20
    assert threading.active_count() == before


def test_an_interrupt_of_the_caller_waits_for_the_parts_begun_and_no_more():
    main = threading.get_ident()
    ended = []

    def run(x):
        if threading.get_ident() == main:
            raise KeyboardInterrupt
        time.sleep(0.02)
        ended.append(x)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        map_parts(run, range(1000), 3)
    assert len(ended) <= 2
    assert threading.active_count() == before


def test_an_interrupt_of_a_solve_leaves_no_threads(monkeypatch):
    real = stores.screen
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(stores, "screen", interrupted)
    target, control = np.random.default_rng(0).random((2, 3_000_000), dtype=np.float32)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        cops_lp.solve(target, control, keep=0.1, retain=0.9, threads=3)
    assert threading.active_count() == before
