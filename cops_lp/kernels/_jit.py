"""How every kernel is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(function: Callable[..., Any] | None = None, *, fastmath: tuple[str, ...] = ()) -> Any:
    """Compile on first use, without the interpreter's lock, cached on disk where that can be.

    Where neither the package's folder nor the user's cache can be written, Numba refuses to
    cache: then the kernel is compiled anew in each process.

    Functions whose name begins with an underscore are for other kernels only: they have no
    entry from Python, which takes as long to compile as a small function. Called from Python
    they crash, except as `function.py_func`.

    Parameters
    ----------
    function : callable
    fastmath : tuple of str
        LLVM's flags. Never `nnan` or `ninf`, which hide NaN and infinities.
    """

    def compile_(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "fastmath": set(fastmath),
            "no_cfunc_wrapper": True,
            "no_cpython_wrapper": function.__name__.startswith("_"),
        }
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function …: no locator available"
            return njit(**options)(function)

    return compile_ if function is None else compile_(function)
