"""The solver's insides: a driver over a store of scores, and exact solvers for small problems.

The driver (:mod:`.driver`) samples, screens and verifies; it reaches scores only through a
store (:mod:`.stores`) and solves what is left open exactly (:mod:`.exact`).
"""
