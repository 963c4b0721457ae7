"""Ctrl-C, threads that cannot be had, and time limits: what ends a solve early ends it cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

import cops_lp
from cops_lp import ProblemError, Status
from cops_lp.engine import driver, exact, several, stores, threads
from cops_lp.engine.failures import OutOfTimeError

from .checks import assert_certified
from .running import ROOT

PROMPT = 2.0  # seconds
ROUNDS = 4

# 400,000,000 weights in 8 MB of memory: rows that repeat are read as any strided array.
LONG = f"""
import os, signal, threading, time
import numpy as np
import cops_lp

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits none
rows = np.random.default_rng(0).random((2, 1_000_000), dtype=np.float32)
large = [np.broadcast_to(row, (400, row.size)) for row in rows]

def small():
    return cops_lp.solve(rows[0], rows[1], keep=0.1, retain=0.9, threads=2).objective

expected = small()
start = time.time()
cops_lp.solve(*large, keep=0.1, floors=1.0, threads=2)
print(time.time() - start, flush=True)
for _ in range({ROUNDS}):
    print("solving", flush=True)
    try:
        cops_lp.solve(*large, keep=0.1, floors=1.0, threads=2)
        print("finished", flush=True)
    except KeyboardInterrupt:
        now = time.time()
        print(now, threading.active_count(), small() == expected, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to one process")
def test_ctrl_c_in_a_long_solve():
    """Guard: `map_parts` begins no further part after an error, an interrupt of the calling
    thread among them, and joins its threads before it raises."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LONG], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            whole = float(process.stdout.readline())
            for turn in range(ROUNDS):
                assert process.stdout.readline().split() == ["solving"]
                time.sleep(0.02 + 0.12 * turn * whole)  # the mask's pages, the sample, the pass
                sent = time.time()
                process.send_signal(signal.SIGINT)
                said = process.stdout.readline().split()
                assert said[1:] == ["1", "True"], said
                assert float(said[0]) - sent < PROMPT
        finally:
            process.kill()


def interrupt_after(seconds):
    """Raise KeyboardInterrupt in the main thread, as Ctrl-C would, some time from now."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that interrupts")
@pytest.mark.parametrize("parts", [True, False])
def test_an_interrupt_while_waiting_for_threads_leaves_none(parts):
    """Guard: `_Helper.join` goes on waiting after an interrupt, for an event: Thread.join would
    take the thread for ended."""
    ended = []

    def slow(_=None):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.4)
            ended.append(1)
        else:
            time.sleep(0.05)  # so that the helper has its part

    before = interrupt_after(0.15)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.map_parts(slow, range(2), 2) if parts else threads.Beside(slow).join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert ended == [1]
    assert threading_left() == []


def threading_left():
    return [thread for thread in threading.enumerate() if thread.name == "cops_lp"]


def test_an_interrupt_before_the_first_pass_leaves_no_thread(monkeypatch):
    """Guard: the mask is made inside `solve_problem`'s try, whose end joins what fills it."""
    monkeypatch.setattr(stores, "_FILL", 1)
    real = stores.Beside

    class Slow(real):
        def __init__(self, run):
            super().__init__(lambda: (time.sleep(0.2), run()))

    monkeypatch.setattr(stores, "Beside", Slow)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stores.ArrayStore, "gather", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cops_lp.solve(np.arange(100_000.0), keep=5, threads=2)
    assert threading_left() == []


def test_a_mask_that_is_still_being_made_when_it_is_written(monkeypatch):
    """Guard: `solve_all`, which may write the mask before any screening, calls `close`."""
    monkeypatch.setattr(stores, "_FILL", 1)
    real = stores.Beside

    class Slow(real):
        def __init__(self, run):
            super().__init__(lambda: (time.sleep(0.2), run()))

    monkeypatch.setattr(stores, "Beside", Slow)
    scores = np.random.default_rng(0).random((3, 500))
    for K in range(3):
        how = {"retain": 0.7} if K else {}
        found = cops_lp.solve(scores[0], list(scores[1 : 1 + K]), keep=50, threads=2, **how)
        assert found.mask.sum() == 50
        assert_certified(found)


def test_where_no_more_threads_can_be_started(monkeypatch):
    """Guard: `_Helper.start` takes "can't start new thread" for fewer threads, same answer."""
    scores = np.random.default_rng(0).random((2, 300_000))
    how = {"keep": 0.1, "retain": 0.9}
    expected = cops_lp.solve(scores[0], scores[1], threads=1, **how)
    monkeypatch.setattr(stores, "_FILL", 1)
    real = threading.Thread.start
    started = []

    def start(thread):
        if len(started) >= 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        found = cops_lp.solve(scores[0], scores[1], threads=4, **how)
        assert np.array_equal(found.mask, expected.mask)
        assert found.objective == expected.objective
    assert len(started) == 2


class Clock:
    """Time that stands still but for reads of all scores, a second each; says when they began."""

    def __init__(self, monkeypatch, size):
        self.now = 0.0
        self.begun = []
        gather, screen = stores.ArrayStore.gather, stores.ArrayStore.screen

        def begin(store):
            if store.size == size:
                self.begun.append(self.now)
                self.now += 1.0

        def gathered(store, index):
            if index is None:
                begin(store)
            return gather(store, index)

        def screened(store, *args):
            begin(store)
            return screen(store, *args)

        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(stores.ArrayStore, "gather", gathered)
        monkeypatch.setattr(stores.ArrayStore, "screen", screened)


def swapped(d):
    """Scores whose rounding misses a floor, which takes a look at the weights near by."""
    scores = np.random.default_rng(2).exponential(size=(5, d))
    return scores[0], list(scores[1:])


def questions(d):
    """Name -> a solve of d weights that takes a time limit."""
    rng = np.random.default_rng(d)
    scores = rng.exponential(size=(4, d)).astype(np.float32)
    target, controls = scores[0], list(scores[1:])

    def ask(count, **how):
        return lambda limit: cops_lp.solve(
            target, controls[:count], keep=0.1, time_limit=limit, raise_on_infeasible=False, **how
        )

    return {
        "top-k": ask(0),
        "retain, one control": ask(1, retain=0.9),
        "retain, three controls": ask(3, retain=0.5),
        "floors, two controls": ask(2, floors=[0.13 * d, 0.13 * d]),
        "swaps": lambda limit: cops_lp.solve(
            *swapped(d), keep=0.1, retain=0.4, time_limit=limit, threads=1
        ),
        "infeasible": ask(1, floors=float(d)),
        "jointly infeasible": ask(3, retain=0.9),
        "integral": ask(1, retain=0.9, integral=True),
        "balance": lambda limit: cops_lp.balance(list(scores), keep=0.1, time_limit=limit),
    }


@pytest.mark.parametrize("d", [700, 70_000])
@pytest.mark.parametrize("name", questions(10))
def test_no_pass_is_begun_after_the_time_limit(name, d, monkeypatch):
    """Guard: `check_time` before each pass, also of those that `Problem.prepare`, the proof of
    infeasibility, `nearest_weights`, `prove_mask` and `balance` make."""
    ask = questions(d)[name]
    monkeypatch.setattr(driver, "NEAREST", 0)  # so that swaps take a second read
    ask(None)  # compiled
    with monkeypatch.context() as patch:
        clock = Clock(patch, d)
        whole = ask(None)
        passes = len(clock.begun)
    assert whole.status is (Status.INFEASIBLE if "infeasible" in name else Status.OPTIMAL)
    assert passes >= 1
    seen = set()
    for limit in range(passes + 2):  # in the last pass but one: what follows may take long
        with monkeypatch.context() as patch:
            clock = Clock(patch, d)
            found = ask(max(limit - 0.5, 0.0))
        assert clock.begun == [float(second) for second in range(min(limit, passes))]
        seen.add(found.status)
        if found.status is Status.TIME_LIMIT:
            assert not found.mask.any()
            assert np.isnan(found.objective)
            assert not cops_lp.certify(found.problem, found)
        elif found.status is Status.OPTIMAL:
            assert_certified(found)
    assert seen == {whole.status, Status.TIME_LIMIT}


def slices(monkeypatch, seconds):
    """Clock that the dual simplex alone moves; and the iterations of each of its calls."""
    now, calls = [0.0], []
    search = several.kernel.dual_simplex

    def slow(*args):
        found = search(*args)
        calls.append(found[1])
        now[0] += seconds * found[1]
        return found

    monkeypatch.setattr(several.kernel, "dual_simplex", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now, calls


def hard():
    """Eight controls of one target: a search of some hundred iterations."""
    rng = np.random.default_rng(5)
    controls = rng.exponential(size=(8, 1_000)).astype(np.float32)
    floors = [0.4 * float(np.sort(a)[-100:].sum(dtype=float)) for a in controls]
    return cops_lp.Problem(np.ones(1_000, np.float32), list(controls), keep=100, floors=floors)


@pytest.mark.parametrize("limit", [0.1, 3.0, 20.0])
def test_a_limit_ends_the_dual_simplex_within_a_slice(limit, monkeypatch):
    """Guard: the deadline of `several.Search`."""
    problem = hard()
    monkeypatch.setattr(several, "_FIRST_SLICE", 0.0)
    now, calls = slices(monkeypatch, 1.0)
    found = problem.solve(time_limit=limit)
    assert found.status is Status.TIME_LIMIT
    assert calls
    assert now[0] <= limit + 1.0


def test_a_search_in_slices_ends_in_the_same_bits(monkeypatch):
    """Guard: `rest` and `stalled`, with which the kernel goes on."""
    problem = hard()
    whole = problem.solve()
    monkeypatch.setattr(several, "_FIRST_SLICE", 0.0)
    monkeypatch.setattr(several, "_SLICE", 0.005)
    _, calls = slices(monkeypatch, 1e-3)
    found = problem.solve(time_limit=1e6)
    assert len(calls) > 2
    assert found.threshold == whole.threshold
    assert found.mask.tobytes() == whole.mask.tobytes()
    assert found.multipliers.tobytes() == whole.multipliers.tobytes()
    assert found.changed.values.tobytes() == whole.changed.values.tobytes()


def test_a_limit_ends_the_two_score_algorithm(monkeypatch):
    """Guard: `threads.stop_at`, asked for from `exact._LONG` weights on."""
    rng = np.random.default_rng(0)
    scores = rng.random((2, 2_000))
    floors = np.array([[150.0, 0.0]])
    monkeypatch.setattr(exact, "_LONG", 1_000)
    before = threading.active_count()
    assert exact.solve_exact(scores, 200, floors, deadline=time.perf_counter() + 60.0).feasible
    with pytest.raises(OutOfTimeError):
        exact.solve_exact(scores, 200, floors, deadline=time.perf_counter() - 1.0)
    assert threading.active_count() == before


def test_a_limit_that_has_passed_before_anything_is_known(tmp_path):
    """Guard: `known_floors` states NaN where a floor would cost a pass; printing, saving and
    the judge take it."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(3, 100_000))
    stopped = (
        cops_lp.solve(scores[0], list(scores[1:]), keep=0.1, retain=0.5, time_limit=1e-9),
        cops_lp.balance(list(scores), keep=0.1, time_limit=1e-9),
    )
    for found in stopped:
        assert found.status is Status.TIME_LIMIT
        assert np.isnan(found.floors).all()
        assert not found.mask.any()
        found.save(tmp_path / "s.npz", overwrite=True)
        loaded = cops_lp.Solution.load(tmp_path / "s.npz")
        assert type(loaded) is type(found)
        assert loaded.status is Status.TIME_LIMIT
        for one in (found, loaded):
            assert "time limit reached" in str(one)
            assert "asked to keep 10,000" in str(one)
            assert not cops_lp.certify((scores[0], list(scores[1:])), one)
    assert np.isnan(stopped[1].share)
    # What is known by another solve is stated.
    problem = cops_lp.Problem(scores[0], scores[1], keep=0.1, retain=0.5)
    floors = problem.floors.copy()
    assert np.array_equal(problem.solve(time_limit=1e-9).floors, floors)


def test_a_balance_that_is_stopped_states_the_bound_it_has(monkeypatch):
    scores = np.random.default_rng(3).exponential(size=(3, 50_000))
    whole = cops_lp.balance(list(scores), keep=0.1)
    bounds = []
    for limit in range(3, 9):
        with monkeypatch.context() as patch:
            Clock(patch, 50_000)
            found = cops_lp.balance(list(scores), keep=0.1, time_limit=limit)
        if found.status is Status.OPTIMAL:
            assert found.share == whole.share
            break
        assert np.array_equal(found.best, whole.best)
        if not np.isnan(found.share_bound):
            bounds.append(found.share_bound)
            assert found.weights.sum() == pytest.approx(1.0)
            assert "no mask keeps more than" in str(found)
    assert bounds
    assert all(bound >= whole.share_bound for bound in bounds)


GOOD_LIMITS = [
    60, 60.0, np.int64(60), np.uint8(60), np.float16(60), np.float64(60), Fraction(121, 2), 10**400,
    np.inf, None,
]  # fmt: skip


@pytest.mark.parametrize("limit", GOOD_LIMITS, ids=str)
@pytest.mark.parametrize("ask", [cops_lp.solve, cops_lp.balance])
def test_any_real_number_is_a_time_limit(ask, limit):
    """Guard: `seconds_of` takes numbers.Real, which NumPy's scalars are."""
    scores = [1.0, 3.0, 2.0]
    found = ask(scores if ask is cops_lp.solve else [scores], keep=2, time_limit=limit)
    assert found.mask.tolist() == [False, True, True]


BAD_LIMITS = [
    True, False, np.True_, np.nan, np.float32("nan"), -1, np.int64(-1), -1e-300, "5", 1j,
    np.array(5.0), [1.0],
]  # fmt: skip


@pytest.mark.parametrize("limit", BAD_LIMITS, ids=repr)
@pytest.mark.parametrize("ask", [cops_lp.solve, cops_lp.balance])
def test_what_is_no_time_limit(ask, limit):
    """Guard: `seconds_of` refuses bool, NaN, negative numbers and what is no real number."""
    scores = [1.0, 3.0, 2.0]
    with pytest.raises(ProblemError, match=r"time_limit is .*; wanted seconds, 0 or more, or None"):
        ask(scores if ask is cops_lp.solve else [scores], keep=2, time_limit=limit)
