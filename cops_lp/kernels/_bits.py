"""The position of a word's lowest bit, in one instruction."""

from __future__ import annotations

from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

__all__ = ["lowest_bit"]

if config.DISABLE_JIT:  # type: ignore[attr-defined]

    def lowest_bit(word):
        """Which bit of a word ≠ 0 is its lowest."""
        word = int(word)
        return (word & -word).bit_length() - 1

else:

    @intrinsic
    def lowest_bit(_, word):  # noqa: ARG001
        """Which bit of a word ≠ 0, uint64, is its lowest; int64."""

        def generate(_, builder, __, arguments):
            never_zero = ir.Constant(ir.IntType(1), 1)
            return builder.cttz(arguments[0], never_zero)

        return types.int64(types.uint64), generate
