"""How every kernel is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on first use, without the interpreter's lock, cached on disk where that can be.

    Where neither the package's folder nor the user's cache can be written, Numba refuses to
    cache: then the kernel is compiled anew in each process.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # "cannot cache function …: no locator available"
        return njit(nogil=True, error_model="numpy")(function)
