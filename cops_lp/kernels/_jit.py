"""How every kernel is compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numba import config, njit

__all__ = ["compiled"]


def compiled(function: Callable[..., Any] | None = None, *, fastmath: tuple[str, ...] = ()) -> Any:
    """Compile on first use, without the interpreter's lock, cached on disk where that can be.

    Where neither the package's folder nor the user's cache can be written, Numba refuses to
    cache: then the kernel is compiled anew in each process. So it is where a file of the cache
    is damaged or the disk is full.

    With NUMBA_DISABLE_JIT they are Python functions, in which integers wrap and floating point
    overflows as silently as compiled.

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
        if config.DISABLE_JIT:  # type: ignore[attr-defined]
            return np.errstate(all="ignore")(function)
        try:
            return _forgiving(njit(cache=True, **options)(function))
        except RuntimeError:  # "cannot cache function …: no locator available"
            return njit(**options)(function)

    return compile_ if function is None else compile_(function)


def _forgiving(kernel: Any) -> Any:
    """Let a cache that cannot be read or written cost time only: Numba raises its errors."""
    cache = kernel._cache
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*args: Any) -> Any:
        try:
            return load(*args)
        except Exception:  # whatever damaged pickles raise, or OSError
            with suppress(Exception):
                cache.flush()  # an empty index, to be filled anew
            return None

    def save_overload(*args: Any) -> None:
        with suppress(Exception):
            save(*args)

    cache.load_overload, cache.save_overload = load_overload, save_overload
    return kernel
