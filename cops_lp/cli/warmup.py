"""``cops-lp warmup``: compile the kernels ahead, so that no first solve has to."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from .output import print_lines, working

__all__ = ["run_warmup"]

_SMALL, _LARGE = 64, 40_000  # solved at once; sampled and screened
_COUNTS = (0, 1, 3)  # controls: selection, the two-score algorithm, the dual simplex


def run_warmup() -> None:
    """Solve small problems of every kind that has kernels of its own.

    No control, one and several; scores in single and double precision; small and large enough
    to be screened, in place and from copies. Numba compiles on one core at a time, so the exact
    solvers of one and of several controls are compiled in processes of their own meanwhile and
    then loaded from the cache. What that did not bring, where there is no cache for one, is
    compiled here.
    """
    from cops_lp.kernels._jit import say_that_it_takes_long

    start = time.perf_counter()
    say_that_it_takes_long("")  # whoever calls this knows
    with working("compiling the kernels"):
        children = [_start_child(controls) for controls in _COUNTS[1:]]
        try:
            for dtype in (np.float32, np.float64):
                _solve(dtype, _LARGE, 0)
            for child in children:
                child.wait()
        finally:
            for child in children:
                child.kill()
                child.wait()
        for dtype in (np.float32, np.float64):
            for size in (_SMALL, _LARGE):
                for controls in _COUNTS:
                    _solve(dtype, size, controls)
        _solve(np.float64, _SMALL, 1, integral=True)
    seconds = time.perf_counter() - start
    print_lines([f"kernels ready in {seconds:.1f} s; later processes load them from the cache"])


def _start_child(controls: int) -> subprocess.Popen[bytes]:
    """Run this module on one small problem.

    Never on one that is screened, whose kernels have a variant for each precision: two
    processes that cache variants of one kernel at the same moment may take the same file.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(controls)],  # -P: no package of this folder
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _solve(dtype: type, size: int, controls: int, *, integral: bool = False) -> None:
    from cops_lp.solver import solve

    rng = np.random.default_rng(0)
    scores: np.ndarray = rng.exponential(size=(1 + controls, size)).astype(dtype)
    retain = 0.7 if controls else None
    solve(scores[0], list(scores[1:]), keep=0.3, retain=retain, integral=integral)


if __name__ == "__main__":
    _solve(np.float64, _SMALL, int(sys.argv[1]))
