"""Memory: inputs are read only, what changes meanwhile is told, and nothing grows."""

from __future__ import annotations

import collections
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

import cops_lp
from cops_lp import InfeasibleError, ProblemError, SolverError, Status
from cops_lp.engine import driver, nearest, stores

from .checks import assert_certified
from .running import printed


def ask_everything(scores, d):
    """Solve in every way, and do with the answers whatever reads the scores."""
    target, controls = scores[0], list(scores[1:])
    k = d // 10
    for count in range(len(controls) + 1):
        problem = cops_lp.Problem(target, controls[:count], keep=k, **RETAIN[count])
        for found in (
            problem.solve(threads=2),
            problem.solve(threads=1, integral=count < 2, time_limit=5.0),
        ):
            assert_certified(found)
            found.combined_score()
            found.relaxed()
            assert str(found)
        if count:
            with pytest.raises(InfeasibleError):
                problem.solve(floors=1e300)
    assert_certified(cops_lp.balance(list(scores), keep=k))


RETAIN = ({}, {"retain": 0.8}, {"retain": 0.6})
DTYPES = ("float64", "float32", "float16", "int8", "uint8", "bool", ">f8", "bfloat16")
LAYOUTS = ("plain", "read-only", "memory map", "strided", "transposed", "broadcast")


def laid_out(values, layout, folder):
    """Arrays of these values that own nothing, or must not be written; and what to compare."""
    if layout == "read-only":
        for row in values:
            row.flags.writeable = False
    elif layout == "memory map":
        for j, row in enumerate(values):
            np.save(folder / f"{j}.npy", row)
        values = [np.load(folder / f"{j}.npy", mmap_mode="r") for j in range(len(values))]
    elif layout == "strided":
        values = [np.repeat(row, 3)[1::3] for row in values]
    elif layout == "transposed":
        values = [np.ascontiguousarray(row.reshape(50, -1)).T for row in values]
    elif layout == "broadcast":
        values = [np.broadcast_to(row[: len(row) // 5], (5, len(row) // 5)) for row in values]
    return values


@pytest.mark.parametrize(
    ("dtype", "layout", "d"),
    [(dtype, "plain", 600) for dtype in DTYPES]
    + [(dtype, "plain", 30_000) for dtype in ("float64", "float32", "float16", "int8")]
    + [(dtype, layout, 30_000) for dtype in ("float64", "float32") for layout in LAYOUTS[1:]]
    + [("int8", layout, 600) for layout in LAYOUTS[1:]],
)
def test_inputs_are_never_modified(dtype, layout, d, tmp_path):
    """Guard: `gather` copies before anything is scaled in place (`np.ldexp(…, out=sample)`),
    and kernels that get addresses only read; a memory map opened "r" would crash otherwise."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    rng = np.random.default_rng(d)
    high = 2 if dtype == "bool" else 100
    values = [(rng.random(d) * high).astype(dtype) for _ in range(3)]
    scores = laid_out(values, layout, tmp_path)
    bases = [
        score if score.base is None or layout == "memory map" else score.base for score in scores
    ]
    before = [
        bytes(memoryview(np.ascontiguousarray(base)).cast("B"))
        if base.dtype.kind != "V"
        else base.tobytes()
        for base in bases
    ]
    ask_everything(scores, scores[0].size)
    for base, bytes_before in zip(bases, before, strict=True):
        assert base.tobytes() == bytes_before


class Changing:
    """Scores that another thread switches between two states while they are read."""

    def __init__(self, first, second):
        self.states = first, second
        self.scores = first.copy()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._change)

    def _change(self):
        rng = np.random.default_rng(0)
        size = self.scores.shape[1]
        while not self._stop.is_set():
            state = self.states[int(rng.integers(2))]
            start = int(rng.integers(size)) if rng.random() < 0.5 else 0
            stop = start + size // 8 if start else size
            self.scores[:, start:stop] = state[:, start:stop]
            time.sleep(float(rng.random()) * 2e-3)

    def __enter__(self):
        self._thread.start()
        return self.scores

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def assert_of_some_state(solution, low, high):
    """The answer is right for scores of which each weight has its values of one state.

    That is what can be told from outside: every whole weight can be on its side of the
    threshold, and what the mask is said to keep lies between what it can keep.
    """
    assert solution.mask.sum() == solution.keep
    whole = np.ones(solution.mask.size, dtype=bool)
    whole[solution.changed.indices] = False
    weights = np.append(1.0, solution.multipliers)
    rounding = 1e-12 * (weights @ high + abs(solution.threshold))
    assert (weights @ high + rounding >= solution.threshold)[solution.mask & whole].all()
    assert (weights @ low - rounding <= solution.threshold)[~solution.mask & whole].all()
    kept = np.append(solution.mask_objective, solution.kept)
    most, least = high[:, solution.mask].sum(axis=1), low[:, solution.mask].sum(axis=1)
    assert (kept <= most * (1.0 + 1e-9)).all()
    assert (kept >= least * (1.0 - 1e-9)).all()


CHANGES = ("anything", "a few weights", "zeros", "units", "NaN", "infinity")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("K", "d"), [(0, 300_000), (1, 300_000), (2, 60_000), (4, 60_000)])
def test_scores_that_change_meanwhile(K, d, change):
    """Guards: each pass takes its decisions and sums from one read; `_check_agree` compares a
    second read with the first (without it, IndexError), NaN among what is near or kept is
    NotFiniteError. No crash, no hang, no answer of no state."""
    rng = np.random.default_rng(K)
    first, second = rng.exponential(size=(2, 1 + K, d)).astype(np.float32)
    if change == "a few weights":
        second = first.copy()
        second[:, rng.integers(0, d, 50)] *= 3.0
    elif change == "zeros":
        second[:] = 0.0
    elif change == "units":
        second *= 1e30
    elif change in ("NaN", "infinity"):
        second[:, ::7] = np.nan if change == "NaN" else np.inf
    finite = change not in ("NaN", "infinity")
    with np.errstate(invalid="ignore"):
        low, high = np.minimum(first, second).astype(float), np.maximum(first, second).astype(float)
    outcomes = collections.Counter()
    patience = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with Changing(first, second) as scores:
            end = time.monotonic() + 0.3
            while time.monotonic() < end or not outcomes:
                try:
                    found = cops_lp.solve(
                        scores[0], list(scores[1:]), keep=0.1, threads=2,
                        **({"retain": 0.6} if K else {}),
                    )  # fmt: skip
                except (SolverError, ProblemError, InfeasibleError) as error:
                    outcomes[type(error).__name__] += 1
                else:
                    outcomes["solved"] += 1
                    if finite:
                        assert_of_some_state(found, low, high)
                    assert np.isfinite(found.objective)
    finally:
        sys.setswitchinterval(patience)
    assert sum(outcomes.values()) > 0


@pytest.mark.parametrize("what", ["gone", "other scores", "other side", "NaN", "NaN far"])
@pytest.mark.parametrize("integral", [False, True])
def test_a_second_read_that_contradicts_the_first(what, integral, monkeypatch):
    """Guard: `_check_agree`, and `_read`'s look for NaN. The scores change between the two."""
    rng = np.random.default_rng(2)
    K = 1 if integral else 4
    scores = rng.exponential(size=(1 + K, 60_000))
    how = {"keep": 0.1, "retain": 0.8 if integral else 0.4, "integral": integral}
    args = (scores[0], list(scores[1:]))
    with monkeypatch.context() as patch:
        patch.setattr(driver, "NEAREST", 0)
        plain = cops_lp.solve(*args, **how)
    assert plain.passes == 2
    combined = plain.combined_score() - plain.threshold
    near = np.argsort(np.abs(combined))
    real = nearest._read
    reads = []

    def changing(*args):
        reads.append(1)
        if what == "gone":
            scores[0, near[:3]] -= 10.0
        elif what == "other scores":
            scores[0, near[:3]] += 1e-9
        elif what == "NaN":
            scores[0, near[:3]] = np.nan
        elif what == "NaN far":
            scores[0, near[-3:]] = np.nan
        else:  # a weight that was decided comes near on the other side
            far = near[-1]
            scores[0, far] -= combined[far] + np.sign(combined[far]) * 1e-9
        return real(*args)

    monkeypatch.setattr(driver, "NEAREST", 0)  # nothing is left open for its nearness
    monkeypatch.setattr(nearest, "_read", changing)
    error = ProblemError if "NaN" in what else SolverError
    message = "holds 3 NaN" if "NaN" in what else "contradict each other: was an array changed"
    with pytest.raises(error, match=message):
        cops_lp.solve(*args, **how)
    assert reads == [1]


@pytest.mark.parametrize(("K", "integral"), [(1, True), (3, False), (3, True)])
def test_where_all_weights_are_open_they_are_read_once(K, integral, monkeypatch):
    """Guard: swaps and the proof take the scores that the relaxation had; with a second read of
    their own the mask was said to keep what it did not."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(1 + K, 500))
    floors = (0.7 if K == 1 else 0.6) * np.sort(scores[1:])[:, -50:].sum(axis=1)
    args = (scores[0], list(scores[1:]))
    how = {"keep": 50, "floors": floors.tolist(), "integral": integral}
    plain = cops_lp.solve(*args, **how)
    assert plain.passes == 1
    assert plain.integer_gap == 0.0 or not integral
    swapped = plain.changed.indices.size > np.count_nonzero(plain.changed.values % 1.0)
    assert swapped, "no swap, no second look: another seed"
    real = stores.ArrayStore.gather

    def changing(self, index):
        found = real(self, index)
        scores[:] = 0.0
        return found

    monkeypatch.setattr(stores.ArrayStore, "gather", changing)
    changed = cops_lp.solve(*args, **how)
    assert scores.sum() == 0.0
    assert np.array_equal(changed.mask, plain.mask)
    assert np.array_equal(changed.kept, plain.kept)
    assert changed.mask_objective == plain.mask_objective


GROWTH = """
import gc, os, tracemalloc
import numpy as np
import cops_lp

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

rng = np.random.default_rng(0)
problems = []
for K in range(3):
    own = rng.exponential(size=(1 + K, 20_000)).astype(np.float32)
    problems.append((own[0], list(own[1:]), {"retain": 0.8 - 0.2 * K} if K else {}))

def solve(j):
    target, controls, how = problems[2 if j % 10 == 2 else j % 2]
    found = cops_lp.solve(target, controls, keep=0.1, threads=2, **how)
    if j % 10 == 0:
        try:
            cops_lp.solve(target, controls or [target], keep=0.1, floors=1e9)
        except cops_lp.InfeasibleError:
            pass
    return found.mask.sum()

for j in range(200):
    solve(j)
gc.collect()
before = resident()
for j in range(1000):
    solve(j)
gc.collect()
print(resident() - before)
tracemalloc.start()
for j in range(300):
    solve(20 * j + 1)
gc.collect()
first = tracemalloc.get_traced_memory()[0]
for j in range(150):
    solve(20 * j + 1)
gc.collect()
print(tracemalloc.get_traced_memory()[0] - first)
"""

# A mask of one of these solves is 20 kB: 1,000 solves that each kept theirs would grow by 20 MB,
# 1,000 threads that stayed by more, each kept array of work by hundreds. What is left is how the
# allocator breaks up its memory, below 1 MB.
MOST_GROWTH = 8 << 20
# 150 solves that each kept one object, 56 bytes at least, would pass this. NumPy's and Python's
# lists of small blocks to use again grow by some kB until they are full.
MOST_OBJECTS = 150 * 56


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_memory_does_not_grow_over_a_thousand_solves():
    """Guard: nothing outlives a call but its Solution: no thread, no work memory, no cache."""
    resident, objects = map(int, printed(GROWTH).split())
    assert resident < MOST_GROWTH
    assert objects < MOST_OBJECTS


def test_a_solve_needs_little_more_than_its_mask():
    """Guard: no store copies its scores; the docstring's 1.5 bytes a weight and 2 (K + 2) MB a
    thread."""
    d = 4_000_000
    scores = np.random.default_rng(0).random((2, d), dtype=np.float32)
    problem = cops_lp.Problem(scores[0], scores[1], keep=0.1, retain=0.9)
    problem.solve(threads=1)
    tracemalloc.start()
    try:
        found = problem.solve(threads=1)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.status is Status.OPTIMAL
    assert most < 1.5 * d + 2 * 3 * 1e6 + 4e6


def test_positions_beyond_an_int32():
    """Guard: `screen` adds where a chunk starts in int64. Pages of zeros that are never written
    take no memory, and no mask is made; with one in the slow suite."""
    d = (1 << 31) + 1_000_000
    try:
        scores = np.zeros(d, dtype=np.int8)
    except MemoryError:
        pytest.skip("the system grants no 2 GB of address space")
    scores[-10:] = np.arange(1, 11)
    assert cops_lp.Problem(scores, keep=4).best(threads=2).tolist() == [34.0]
