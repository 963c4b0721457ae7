"""A problem whose scores are in shards: all ranks solve it together, or none."""

from __future__ import annotations

import operator
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from cops_lp.errors import ProblemError
from cops_lp.problem import Problem
from cops_lp.solution import Solution, Status
from cops_lp.solver import solve_problem

from .collectives import Collectives
from .sharded_mask import ShardedMask
from .sharded_score import ShardedScore

__all__ = ["ShardedProblem", "agreed"]


class ShardedProblem(Problem):
    """:class:`cops_lp.Problem` of scores in shards; every rank calls what it offers.

    Parameters are as of :class:`cops_lp.Problem`, the scores :class:`ShardedScore`.
    """

    @property
    def _ranks(self) -> Collectives:
        assert isinstance(self.target, ShardedScore)
        return self.target.ranks

    def together(self) -> AbstractContextManager[None]:
        """See :meth:`cops_lp.Problem.together`."""
        return self._ranks.together()

    def _solved(self, **how: Any) -> Solution:
        limit = how.pop("time_limit")
        if limit is not None:
            raise ProblemError(
                f"time_limit is {limit!r}; wanted None for scores in shards: the ranks' "
                "clocks differ"
            )
        agreed(
            self._ranks,
            keep=self.keep,
            retain=self.retain,
            floors=self._floors,
            integral=how["integral"],
        )
        return self.solve_together(**how)

    def best(self, *, threads: int | None = None) -> np.ndarray:
        """See :meth:`cops_lp.Problem.best`."""
        if self.knows_best():  # as where one rank prints a solution
            return super().best(threads=threads)
        with self.together():
            return super().best(threads=threads)

    def solve_together(
        self,
        *,
        integral: bool = False,
        threads: int | None = None,
        raise_on_infeasible: bool = True,
    ) -> Solution:
        """Solve, for ranks that are in step; the solution's mask is a :class:`ShardedMask`."""
        ranks = self._ranks
        solution = solve_problem(
            self, integral=integral, threads=threads, raise_on_infeasible=raise_on_infeasible
        )
        found = solution
        figures = [found.multipliers, found.multipliers_rest, found.threshold, found.bound]
        ranks.each("answer", lambda: None, *figures, found.objective, *found.changed)
        super().best(threads=threads)  # now, with all ranks: one of them may print the solution
        if solution.status is not Status.OPTIMAL:
            assert isinstance(self.target, ShardedScore)
            layout = self.target.layout
            mask: Any = ShardedMask(np.zeros(layout.own_size, np.bool_), layout, ranks)
            solution = replace(solution, mask=mask)
        return solution


def agreed(ranks: Collectives, **arguments: Any) -> None:
    """Check that all ranks got the same arguments; ProblemError names one that differs."""
    own = [repr(_plain(value)).encode() for value in arguments.values()]
    lengths = np.array([[len(text) for text in own], [zlib.crc32(text) for text in own]])
    said = ranks.gather("arguments", lambda: lengths)
    if (said == said[0]).all():
        return

    def work() -> np.ndarray:
        room = np.zeros((len(own), int(said[:, 0].max())), np.uint8)
        for row, text in zip(room, own, strict=True):
            row[: len(text)] = np.frombuffer(text, np.uint8)
        return room

    texts = ranks.gather("which arguments", work)
    for j, name in enumerate(arguments):
        others = np.flatnonzero((texts[:, j] != texts[0, j]).any(axis=1))
        if len(others):
            first, other = (
                texts[rank, j].tobytes().rstrip(b"\0").decode() for rank in (0, others[0])
            )
            raise ProblemError(
                f"{name} is {first} on rank 0 and {other} on rank {others[0]}; "
                "wanted the same on every rank"
            )


def _plain(value: Any) -> Any:
    """An argument by what it says, whatever kind of number, sequence or mapping it is."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple) or (hasattr(value, "tolist") and np.ndim(value)):
        return [_plain(each) for each in value]
    if isinstance(value, str | bool | None):
        return value
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
