"""Rows of scores by their addresses.

A kernel that takes K + 1 arrays would be compiled again for each K, and one that takes them as a
matrix needs a copy of the scores. Addresses in an integer array need neither. Whoever passes
them keeps the arrays alive.
"""

from __future__ import annotations

import numpy as np
from numba import carray, config, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import compiled

__all__ = ["row_at"]

if config.DISABLE_JIT:  # type: ignore[attr-defined]

    def row_at(addresses, j, start, end, like):
        """Entries start … end of row j, an array of `like`'s dtype."""
        size = like.dtype.itemsize
        kind = np.ctypeslib.as_ctypes_type(like.dtype)
        memory = (kind * (end - start)).from_address(int(addresses[j]) + start * size)
        return np.ctypeslib.as_array(memory)

else:

    @intrinsic
    def _pointer(_, address):
        """An integer as a C pointer."""

        def generate(__, builder, ___, arguments):
            return builder.inttoptr(arguments[0], cgutils.voidptr_t)

        return types.voidptr(address), generate

    @compiled
    def row_at(addresses, j, start, end, like):
        """Entries start … end of row j, an array of `like`'s dtype."""
        return carray(_pointer(addresses[j] + start * like.itemsize), (end - start,), like.dtype)
