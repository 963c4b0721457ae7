"""What a fresh process costs: imports, the first solve, compilation from nothing.

Nothing heavy is imported at the top: the functions that run in fresh processes time imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from .isolate import Outcome, call_isolated, python_path

__all__ = [
    "compile_here",
    "first_solve_here",
    "measure_compile",
    "measure_first_solve",
    "measure_import",
]

_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


class ChildFailedError(Exception):
    """A fresh process ended badly; the message says how."""


def measure_import(rounds: int) -> dict[str, Any]:
    """Time ``import cops_lp`` and ``import numpy`` in fresh processes, by turns.

    Returns
    -------
    dict
        `times` of both: the import statement alone, without the interpreter's start.
    """
    from .measure import summary

    seconds: dict[str, list[float]] = {"cops_lp": [], "numpy": []}
    environment = {**os.environ, "PYTHONPATH": python_path()}
    for number in range(rounds + 1):
        for name, times in seconds.items():
            done = subprocess.run(
                [sys.executable, "-P", "-c", _IMPORT.format(name)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            if number:  # the first reads the files from disk
                times.append(float(done.stdout))
    return {"times": {name: summary(times) for name, times in seconds.items()}}


def measure_first_solve(d: int, rounds: int) -> dict[str, Any]:
    """Time the first solve of a fresh process whose kernels are in Numba's cache.

    Returns
    -------
    dict
        `times`: of "solve" (the call, with all it imports) and of "import and solve"; `judge`.
    """
    from .measure import summary

    solve, both = [], []
    judge: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds + 1):
            value = _child("first_solve_here", {"d": d}, cache)
            if number:  # the first fills the cache
                solve.append(value["solve"])
                both.append(value["import"] + value["solve"])
                certified = value["judge"]["certified"] and judge.get("certified", True)
                judge = value["judge"] | {"certified": certified}
    return {"times": {"solve": summary(solve), "import and solve": summary(both)}, "judge": judge}


def measure_compile(d: int) -> dict[str, Any]:
    """Time compilation with an empty cache, by solves of every kind and by ``cops-lp warmup``.

    Returns
    -------
    dict
        `seconds` of the first solves of every kind; `warmup` None where there is no such
        command, else its `seconds` and those of the `first_solve` of a process after it.
    """
    with tempfile.TemporaryDirectory() as cache:
        seconds = _child("compile_here", {"d": d}, cache)["seconds"]
    warmup = None
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cops_lp.cli", "warmup"],
            env={**os.environ, "PYTHONPATH": python_path(), "NUMBA_CACHE_DIR": cache},
            capture_output=True,
            check=False,
        )
        took = time.perf_counter() - start
        if done.returncode == 0:
            first = _child("first_solve_here", {"d": d}, cache)
            warmup = {"seconds": took, "first_solve": first["solve"], "judge": first["judge"]}
    return {"seconds": seconds, "warmup": warmup}


def first_solve_here(d: int) -> dict[str, Any]:
    """Import, solve once and judge, in the process that calls this."""
    import numpy as np

    rng = np.random.default_rng(0)
    target, control = rng.standard_exponential((2, d), dtype=np.float32)
    start = time.perf_counter()
    import cops_lp

    imported = time.perf_counter()
    solution = cops_lp.solve(target, control, keep=0.1, retain=0.6)
    solved = time.perf_counter()
    from .judged import verdict

    return {
        "import": imported - start,
        "solve": solved - imported,
        "judge": verdict(solution),
    }


def compile_here(d: int) -> dict[str, Any]:
    """First solves of every kind: dtypes, sizes below and above sampling, numbers of controls."""
    import numpy as np

    import cops_lp

    rng = np.random.default_rng(0)
    scores = rng.standard_exponential((9, d))
    start = time.perf_counter()
    for size in (1000, d):
        for K in (0, 1, 2, 8):
            for dtype in (np.float16, np.float32, np.float64, np.int8, np.int32):
                parts = [row[:size].astype(dtype) for row in scores[: K + 1]]
                best = [np.sort(row.astype(np.float64))[-(size // 10) :].sum() for row in parts]
                try:
                    cops_lp.solve(
                        parts[0],
                        parts[1:],
                        keep=0.1,
                        floors=[0.4 * value for value in best[1:]] if K else None,
                        raise_on_infeasible=False,
                    )
                except cops_lp.ProblemError as error:
                    if "at most one" not in str(error):
                        raise
    return {"seconds": time.perf_counter() - start}


def _child(function: str, arguments: dict[str, Any], cache: str) -> dict[str, Any]:
    outcome: Outcome = call_isolated(
        f"bench.startup:{function}", arguments, environment={"NUMBA_CACHE_DIR": cache}
    )
    if outcome.ended != "returned":
        raise ChildFailedError(f"{outcome.ended}: {outcome.error} {outcome.message}")
    value: dict[str, Any] = outcome.value
    return value
