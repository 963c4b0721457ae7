"""Exact, certified pruning masks from several scores: the COPS linear program.

``import cops_lp`` loads nothing heavy: each public name is imported on first use.

Examples
--------
>>> import cops_lp
>>> solution = cops_lp.solve([3.0, 2.0, 1.0, 0.0], [[0.0, 1.0, 2.0, 3.0]], keep=2, floors=3.0)
>>> solution.mask.tolist()
[True, False, False, True]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

# Public name -> module that defines it.
_PUBLIC = {
    "Balance": "balanced",
    "Certificate": "judge",
    "CopsError": "errors",
    "InfeasibleError": "errors",
    "IntegerInfeasibleError": "errors",
    "MissingDependencyError": "errors",
    "Problem": "problem",
    "ProblemError": "errors",
    "Solution": "solution",
    "SolverError": "errors",
    "Status": "solution",
    "balance": "balancing",
    "certify": "judge",
    "sample_scores": "samples",
    "solve": "solver",
}

__all__ = [
    "Balance",
    "Certificate",
    "CopsError",
    "InfeasibleError",
    "IntegerInfeasibleError",
    "MissingDependencyError",
    "Problem",
    "ProblemError",
    "Solution",
    "SolverError",
    "Status",
    "__version__",
    "balance",
    "certify",
    "sample_scores",
    "solve",
]

if TYPE_CHECKING:
    from .balanced import Balance
    from .balancing import balance
    from .errors import (
        CopsError,
        InfeasibleError,
        IntegerInfeasibleError,
        MissingDependencyError,
        ProblemError,
        SolverError,
    )
    from .judge import Certificate, certify
    from .problem import Problem
    from .samples import sample_scores
    from .solution import Solution, Status
    from .solver import solve


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in ("reference", "torch"):  # subpackages that users reach as attributes
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
