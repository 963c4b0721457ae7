"""Compiled kernels: flat arrays in, scalars and filled arrays out; no Python objects.

Kernels that share a helper live in one file, since Numba's cache does not notice a change in
another file. Every kernel is compiled by :mod:`._jit` and never with ``fastmath=True``.
"""
