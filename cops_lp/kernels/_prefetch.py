"""Telling the processor which memory will be read soon."""

from __future__ import annotations

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["prefetch"]

if config.DISABLE_JIT:  # type: ignore[attr-defined]

    def prefetch(array, i):
        """Nothing: the interpreter waits for itself."""

else:

    @intrinsic
    def prefetch(_, array, i):  # noqa: ARG001
        """Begin to bring entry i, ≥ 0, along the first axis of an array near the processor."""

        def generate(context, builder, signature, arguments):
            given = make_array(signature.args[0])(context, builder, arguments[0])
            stride = builder.extract_value(given.strides, 0)
            start = builder.bitcast(given.data, cgutils.voidptr_t)
            address = builder.gep(start, [builder.mul(arguments[1], stride)])
            number = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
            instruction = builder.module.declare_intrinsic(
                "llvm.prefetch", (cgutils.voidptr_t,), kind
            )
            read, keep, data = number(0), number(3), number(1)
            builder.call(instruction, [address, read, keep, data])
            return context.get_dummy_value()

        return types.void(array, types.int64), generate
