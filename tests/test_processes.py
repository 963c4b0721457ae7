"""Threads, forks and fresh processes: whoever solves, wherever, gets the same answer."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import cops_lp

from .checks import assert_certified
from .running import printed

# What the processes below run. `digest` differs where an answer differs by one bit.
PRELUDE = """
import hashlib, os, signal, threading
import numpy as np
import cops_lp

def scores(K, d=200_000):
    return np.random.default_rng(K).exponential(size=(1 + K, d)).astype(np.float32)

def digest(K=1, threads=2):
    own = scores(K)
    found = cops_lp.solve(own[0], list(own[1:]), keep=0.1, threads=threads, **RETAIN[K])
    parts = (found.mask, found.multipliers, np.array([found.threshold, found.objective]))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

RETAIN = ({}, {"retain": 0.9}, {"retain": 0.7})

def answers():
    return [digest(K) for K in range(3)]
"""

# A child that solves and says what it found; one that hangs is ended by its alarm.
FORK = """
def in_child(run):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os.write(writing, " ".join(run()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read().split()
    os.waitpid(child, 0)
    return said
"""


def mixed_problems():
    """Problems of every kind, small and large, each with its own scores."""
    rng = np.random.default_rng(0)
    problems = []
    for seed in range(24):
        K, d = seed % 4, (500, 30_000, 90_000)[seed % 3]
        own = rng.exponential(size=(1 + K, d))
        if seed % 5 == 0:
            own = np.round(own * 4.0)  # masses of ties
        if seed % 2:
            own = own.astype(np.float32)
        how = {"keep": 0.05 + 0.02 * seed} | ({"retain": 0.6} if K else {})
        problems.append(cops_lp.Problem(own[0], list(own[1:]), **how))
    return problems


def bits(solution):
    """All that a solution says of the answer, as bytes."""
    numbers = [solution.threshold, solution.objective, solution.gap, solution.mask_objective]
    parts = (solution.mask, solution.multipliers, solution.kept, np.array(numbers))
    return b"".join(part.tobytes() for part in parts)


def test_eight_threads_that_solve_at_once_find_what_one_finds():
    """Guard: all that a solve writes to belongs to that call (`_Room`, the kernels' arrays)."""
    problems = mixed_problems()
    expected = [bits(problem.solve(threads=1)) for problem in problems]
    barrier = threading.Barrier(8)
    found: dict[tuple[int, int], bytes] = {}
    errors = []

    def work(own):
        try:
            barrier.wait(timeout=60)
            for turn in range(len(problems)):
                j = (turn + 3 * own) % len(problems)
                twin = problems[j].replace(keep=problems[j].keep)
                found[own, j] = bits(twin.solve(threads=1 + own % 3))
        except BaseException as error:
            errors.append(error)
            raise

    workers = [threading.Thread(target=work, args=(own,)) for own in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert len(found) == 8 * len(problems)
    for (_, j), answer in found.items():
        assert answer == expected[j]


def test_eight_threads_may_ask_one_problem_at_once():
    """Guard: what a Problem keeps (its bests) is written as a whole, whoever comes first."""
    problem = mixed_problems()[3]
    expected = bits(problem.solve())
    for _ in range(5):
        shared = cops_lp.Problem(
            problem.target, list(problem.controls), keep=problem.keep, retain=0.6
        )
        barrier = threading.Barrier(8)
        found = []

        def work(shared=shared, barrier=barrier, found=found):
            barrier.wait(timeout=60)
            found.append(bits(shared.solve(threads=2)))

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert found == [expected] * 8


def test_eight_threads_may_be_the_first_to_use_the_package():
    """Guard: public names and kernels are imported lazily, but under Python's import locks."""
    code = """
barrier = threading.Barrier(8)
found = []

def work():
    barrier.wait(timeout=60)
    found.append(digest())

workers = [threading.Thread(target=work) for _ in range(8)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert found == [digest(threads=1)] * 8, found
print(threading.active_count())
"""
    assert printed(PRELUDE + code).split() == ["1"]


def test_a_forked_child_solves_after_its_parent_did():
    """Guard: threads live within a call (`map_parts`); a pool kept for the next call, ours or
    Numba's, has no threads in the child, which then waits for ever."""
    code = """
import multiprocessing
expected = answers()
assert threading.active_count() == 1
assert in_child(answers) == expected
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(digest, [0, 1, 2]).get(timeout=60) == expected
assert answers() == expected
print("equal")
"""
    assert printed(PRELUDE + FORK + code).split() == ["equal"]


def test_a_child_forked_in_the_middle_of_a_solve_solves():
    """Guard: no lock of ours is held while kernels run: it would stay locked in the child."""
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
expected = answers()
stop = threading.Event()
solved = []

def keep_solving():
    while not stop.is_set():
        solved.append(digest())

worker = threading.Thread(target=keep_solving, daemon=True)
worker.start()
for _ in range(8):
    assert in_child(answers) == expected
stop.set()
worker.join()
assert set(solved) == {expected[1]}
print("equal")
"""
    assert printed(PRELUDE + FORK + code).split() == ["equal"]


def test_a_spawned_process_solves_and_sends_its_solution_back():
    """Guard: problems, solutions and errors can be pickled (`InfeasibleError.__reduce__`)."""
    code = """
if __name__ == "__main__":
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial

    expected = digest()
    own = scores(1)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        solve = partial(cops_lp.solve, own[0], own[1], keep=0.1, threads=2)
        found = pool.submit(solve, retain=0.9).result(timeout=120)
        here = cops_lp.solve(own[0], own[1], keep=0.1, retain=0.9)
        assert np.array_equal(found.mask, here.mask)
        assert found.objective == here.objective
        assert cops_lp.certify((own[0], own[1]), found)
        try:
            pool.submit(solve, floors=1e9).result(timeout=120)
        except cops_lp.InfeasibleError as error:
            print(error.wanted[0])
"""
    assert printed(PRELUDE + code).split() == ["1000000000.0"]


@pytest.mark.parametrize("first", ["torch", "cops_lp"])
def test_beside_torch_and_in_the_workers_of_its_data_loader(first):
    """Guard: as for forks; and no OpenMP or TBB pool of ours to clash with torch's."""
    pytest.importorskip("torch")
    code = """
class Masks:
    def __len__(self):
        return 6

    def __getitem__(self, j):
        return digest(j % 3)

loader = torch.utils.data.DataLoader(
    Masks(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
)
assert list(loader) == expected * 2
torch.ones(512, 512) @ torch.ones(512, 512)  # its own threads
assert answers() == expected
print(*expected)
"""
    solving, torch = "expected = answers()\n", "import torch, torch.utils.data\n"
    begin = torch + PRELUDE + solving if first == "torch" else PRELUDE + solving + torch
    begin = begin.replace("import torch", "import warnings\nimport torch")
    quiet = 'warnings.simplefilter("ignore", DeprecationWarning)  # forks beside torch\'s threads\n'
    there = printed(begin + quiet + code).split()
    assert there == printed(PRELUDE + "print(*answers())").split()


def test_problems_of_the_threads_test_are_solved_rightly():
    for problem in mixed_problems():
        assert_certified(problem.solve(threads=3))
