"""How every kernel is compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numba import config, njit

__all__ = ["compiled", "say_that_it_takes_long"]

_ONCE = (
    "cops_lp: compiling the solver's kernels, some 15 to 40 s, once; `cops-lp warmup` does it ahead"
)
_ALWAYS = (
    "cops_lp: compiling the solver's kernels, some 15 to 40 s, in every process, for no folder to "
    "keep them in can be written; `cops-lp warmup` does it ahead once NUMBA_CACHE_DIR names one"
)
_said = False


def compiled(function: Callable[..., Any] | None = None, *, fastmath: tuple[str, ...] = ()) -> Any:
    """Compile on first use, without the interpreter's lock, cached on disk where that can be.

    Where neither the package's folder nor the user's cache can be written, Numba refuses to
    cache: then the kernel is compiled anew in each process. So it is where a file of the cache
    is damaged or the disk is full. The first of a process that is not found in the cache says
    so, and that it takes long; see :func:`say_that_it_takes_long`.

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
            return _forgiving(njit(cache=True, **options)(function), _ONCE)
        except RuntimeError:  # "cannot cache function …: no locator available"
            return _forgiving(njit(**options)(function), _ALWAYS)

    return compile_ if function is None else compile_(function)


def say_that_it_takes_long(message: str) -> None:
    """Say it once in a process, by the logger "cops_lp": on stderr, unless that is set up.

    An empty message counts as said.
    """
    global _said
    if not _said and message:
        logging.getLogger("cops_lp").warning(message)
    _said = True


def _forgiving(kernel: Any, message: str) -> Any:
    """Let a cache that cannot be read or written cost time only: Numba raises its errors.

    `message` is said where the kernel has to be compiled.
    """
    files = kernel._cache
    load, save = files.load_overload, files.save_overload

    def load_overload(*args: Any) -> Any:
        found = None
        try:
            found = load(*args)
        except Exception:  # whatever damaged pickles raise, or OSError
            with suppress(Exception):
                files.flush()  # an empty index, to be filled anew
        if found is None:
            say_that_it_takes_long(message)
        return found

    def save_overload(*args: Any) -> None:
        with suppress(Exception):
            save(*args)

    files.load_overload, files.save_overload = load_overload, save_overload
    return kernel
