"""``cops-lp warmup``: compile the kernels ahead, so that no first solve has to."""

from __future__ import annotations

import time

import numpy as np

from .output import print_lines, working

__all__ = ["run_warmup"]

_SIZES = (64, 40_000)  # solved at once; sampled and screened


def run_warmup() -> None:
    """Solve small problems of every kind that has kernels of its own.

    No control, one and several; scores in single and double precision; small and large enough
    to be screened, in place and from copies.
    """
    from cops_lp.solver import solve

    start = time.perf_counter()
    rng = np.random.default_rng(0)
    with working("compiling the kernels"):
        for dtype in (np.float32, np.float64):
            for size in _SIZES:
                scores = rng.exponential(size=(4, size)).astype(dtype)
                for controls in (0, 1, 3):
                    retain = 0.7 if controls else None
                    solve(scores[0], list(scores[1 : 1 + controls]), keep=0.3, retain=retain)
    seconds = time.perf_counter() - start
    print_lines([f"kernels ready in {seconds:.1f} s; later processes load them from the cache"])
