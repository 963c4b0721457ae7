"""What a solver answers: status, mask, multipliers, bound and gap, and how they print."""

from __future__ import annotations

import enum
import html
import math
import os
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .problem import Problem

__all__ = ["Fractional", "Solution", "Status"]


class Status(enum.Enum):
    """How a solve ended; the value is the message for people."""

    OPTIMAL = "optimal: the relaxation is solved and the gap proves it"
    INFEASIBLE = (
        "infeasible: no choice of k weights keeps what the floors ask; "
        "lower retain or floors, or raise keep"
    )
    TIME_LIMIT = "time limit reached before the optimum was proven; raise time_limit"
    NUMERICAL_ERROR = (
        "numerical error: the solver's answer fails its own checks; "
        "bring the scores to similar magnitudes, or use another solver"
    )


class Fractional(NamedTuple):
    """Some entries of the relaxed solution.

    `indices` are flat (C order), int64, ascending; `values` float64: in (0, 1) for
    `Solution.fractional`, in [0, 1] for `Solution.changed`.
    """

    indices: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """An answer to a :class:`Problem`, with what proves it.

    Attributes
    ----------
    problem : Problem
        What was solved; its arrays are the user's own.
    status : Status
    mask : ndarray of bool, the target's shape
        The weights to keep, exactly `keep` of them. All False when there is no answer. Of
        tensors on another device it lies there and is read by ``numpy.asarray``.
    keep : int
        k.
    multipliers : ndarray of float64, shape (K,), ≥ 0
        λ: what one more unit of floor j costs, in units of the target per unit of
        control j. NaN when there is no answer. These are rounded; the dual point that the
        bound belongs to is `multipliers` + `multipliers_rest`.
    threshold : float
        μ, in units of the target: the relaxed solution keeps what has a combined score
        c + Aᵀλ above it. NaN when there is no answer.
    objective : float
        cᵀx of the relaxed solution x, not of the mask; NaN when there is no answer.
    bound : float
        The dual value T_k(c + Aᵀλ) − λᵀb: no mask that meets the floors has more of the
        target.
    gap : float
        bound − objective, computed from the complementarity terms, so free of cancellation;
        ≥ 0 up to rounding, 0 at an exact optimum.
    mask_objective : float
        cᵀm of the mask: what it keeps of the target.
    kept : ndarray of float64, shape (K,)
        A m of the mask.
    floors : ndarray of float64, shape (K,)
        b, as asked for.
    shortfall : ndarray of float64, shape (K,), ≥ 0
        What the mask lacks to each floor; 0 where it is met (within 5e-13 of the larger of
        the floor and the summed absolute control that x keeps, or no more than x lacks).
    certificate : ndarray of float64, shape (K,), or None
        When infeasible: y ≥ 0 with yᵀb > T_k(Aᵀy).
    method : str
        What solved it.
    passes : int
        How often all the scores were read to decide on the weights.
    open_count : int
        How many weights the last pass left open for the exact solver.
    build_seconds, seconds : float
        Wall-clock time to build the model (other solvers have one) and to solve.
    changed : Fractional
        Entries where the relaxed solution differs from the mask, with its values there: the
        fractional ones, and 0 or 1 where rounding turned a whole weight.
    multipliers_rest : ndarray of float64, shape (K,)
        Low-order parts of the multipliers: with scores over 30 decades, one unit in the last
        place of λ can be worth more than the whole target.
    integer_bound : float
        No 0/1 mask that meets the floors has more of the target: `bound`, unless the search of
        ``integral=True`` lowered it. That search is not judged again by :func:`cops_lp.certify`.
    """

    problem: Problem
    status: Status
    mask: np.ndarray
    keep: int
    multipliers: np.ndarray
    threshold: float
    objective: float
    bound: float
    gap: float
    mask_objective: float
    kept: np.ndarray
    floors: np.ndarray
    shortfall: np.ndarray
    method: str
    certificate: np.ndarray | None = None
    passes: int = 0
    open_count: int = 0
    build_seconds: float = 0.0
    seconds: float = 0.0
    changed: Fractional = field(
        default_factory=lambda: Fractional(np.empty(0, np.int64), np.empty(0))
    )
    multipliers_rest: np.ndarray = field(default_factory=lambda: np.zeros(0))
    integer_bound: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.integer_bound):
            object.__setattr__(self, "integer_bound", self.bound)
        if self.multipliers_rest.shape != self.multipliers.shape:
            object.__setattr__(self, "multipliers_rest", np.zeros_like(self.multipliers))

    @property
    def integer_gap(self) -> float:
        """integer_bound less mask_objective: no mask that meets the floors is better by more.

        0 where ``integral=True`` proved the mask to be the best one. ∞ where the mask falls
        short of a floor: then it is none of those, however much it keeps. −∞ where there is none.
        """
        if self.integer_bound > -math.inf and np.any(self.shortfall > 0.0):
            return math.inf
        return self.integer_bound - self.mask_objective

    @property
    def relative_gap(self) -> float:
        """`gap` over the larger absolute value of objective and bound; 0 when the gap is 0."""
        scale = max(abs(self.objective), abs(self.bound))
        if self.gap == 0.0:
            return 0.0
        return self.gap / scale if scale != 0.0 else math.copysign(math.inf, self.gap)

    @property
    def fractional(self) -> Fractional:
        """Indices and values of the relaxed solution's fractional entries; at most K + 1."""
        inside = (self.changed.values > 0.0) & (self.changed.values < 1.0)
        return Fractional(self.changed.indices[inside], self.changed.values[inside])

    def relaxed(self) -> np.ndarray:
        """Build x, the optimal vertex of the relaxation.

        Returns
        -------
        ndarray of float64, the target's shape, values in [0, 1]
            NaN everywhere when there is no answer. Costs 8 bytes per weight.
        """
        if self.status is not Status.OPTIMAL:
            return np.full(self.problem.shape, np.nan)
        x = np.array(self.mask, dtype=np.float64)
        x.reshape(-1)[self.changed.indices] = self.changed.values
        return x

    def combined_score(self) -> np.ndarray:
        """Build s = c + Aᵀλ, the one score that prunes like all of them together.

        Returns
        -------
        ndarray of float64, the target's shape
            In units of the target. Costs 8 bytes per weight and O(dK).
        """
        s = np.array(self.problem.target, dtype=np.float64)
        for weight, control in zip(self.multipliers, self.problem.controls, strict=True):
            if weight != 0.0:
                s += weight * np.asarray(control, dtype=np.float64)
        return s

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write what is needed to check this answer with the scores alone, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            Where to, a ``.npz`` file: one array a field, without compression, the mask as
            `mask_bits`, one bit a weight (``numpy.unpackbits``). The scores are not in it.
        overwrite : bool, default False
            Replace a file that exists.

        Raises
        ------
        ProblemError
            `path` ends otherwise, something is already there, its folder is missing or not
            writable, or a control's name cannot be kept as text.
        OSError
            Writing failed, for instance on a full disk; what was at `path` before is unharmed.

        Notes
        -----
        d / 8 bytes and some kilobytes. The attainable bests are saved too: where they are not
        known yet, one pass for each score.

        Examples
        --------
        >>> import cops_lp, tempfile
        >>> target, size = [5, 4, 3, 2, 1], [1, 2, 3, 4, 5]
        >>> solution = cops_lp.solve(target, {"size": size}, keep=2, retain=0.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     solution.save(f"{folder}/solution.npz")
        ...     loaded = cops_lp.Solution.load(f"{folder}/solution.npz")
        >>> loaded.mask.tolist(), bool(cops_lp.certify((target, {"size": size}), loaded))
        ([False, True, True, False, False], True)
        """
        from .files.solutions import write_solution

        write_solution(path, self, overwrite=overwrite)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Solution:
        """Read a solution that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            A ``.npz`` file, from anyone: nothing in it is believed or unpickled. What it
            states is proven by :func:`cops_lp.certify` with the scores, and only then.

        Returns
        -------
        Solution
            A :class:`cops_lp.Balance` where one was saved. Its `problem` states shape, budget,
            names, floors and bests, and holds no scores: ``combined_score()`` and whatever
            else needs them raises ProblemError. It prints as it did.

        Raises
        ------
        ProblemError
            There is no such file, or it is not a whole solution: cut short, damaged,
            compressed, of other dtypes or shapes, or stating what no solution can. The message
            names the file and the field.

        Notes
        -----
        The mask takes 1 byte per weight in memory, 8 times the file; nothing else grows with d.
        """
        from .files.solutions import read_solution

        return read_solution(path)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the printed table's cells, header first: a row for each score.

        No score is read. What k weights can keep of one is shown where it is known: of the
        controls with `retain`, of all after ``solution.problem.best()``.
        """
        best = self.problem.known_best()
        kept = np.concatenate(([self.mask_objective], self.kept))
        header = ("score", "mask keeps", "of best", "floor", "attainable", "multiplier")
        rows: list[tuple[str, ...]] = [header]
        for j, name in enumerate(self.problem.score_names):
            share = (
                f"{float(kept[j]) / float(best[j]):.2%}"
                if best[j] > 0 and not np.isnan(kept[j])
                else "–"
            )
            floor = "maximize" if j == 0 else _number(self.floors[j - 1])
            if j and self.shortfall[j - 1] > 0:
                floor += f" (short by {self.shortfall[j - 1]:.2g})"
            multiplier = "" if j == 0 else _number(self.multipliers[j - 1])
            rows.append((name, _number(kept[j]), share, floor, _number(best[j]), multiplier))
        return rows

    def summary(self) -> list[str]:
        """Return the lines that stand around the printed table."""
        d = self.problem.size
        share = self.keep / d
        lines = [
            f"{self.status.value}",
            f"keeps {self.keep:,} of {d:,} weights ({share:.4g})"
            if self.status is Status.OPTIMAL
            else f"asked to keep {self.keep:,} of {d:,} weights ({share:.4g})",
        ]
        if self.status is Status.OPTIMAL:
            # An objective near 0 is no measure of its gap.
            told = abs(self.relative_gap) < 1e-3
            relative = f" (relative {self.relative_gap:.1g})" if told else ""
            lines.append(
                f"gap of the relaxation {self.gap:.2g}{relative}; "
                f"{self._distance()}; fractional weights: {len(self.fractional.indices)}"
            )
        lines.append(f"{self.method}, {_duration(self.seconds)}")
        return lines

    def _distance(self) -> str:
        """How far the mask is from the bound, in words."""
        bound = _number(self.bound)
        if np.any(self.shortfall > 0.0):
            none = ", as all of whole weights do" if self.integer_bound == -math.inf else ""
            return f"the mask misses a floor{none}; the bound is {bound}"
        return f"the mask is within {max(self.integer_gap, 0.0):.3g} of the bound {bound}"

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(len(line) for line in table)
        first, *rest = self.summary()
        return "\n".join([first, rule, table[0], rule, *table[1:], rule, *rest])

    def __repr__(self) -> str:
        return (
            f"<Solution {self.status.name}: keep={self.keep}, objective={self.objective:.12g}, "
            f"gap={self.gap:.2g}>"
        )

    def _repr_html_(self) -> str:
        header, *body = self.rows()
        first, *rest = self.summary()
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        lines = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in body
        )
        notes = "<br>".join(html.escape(line) for line in rest)
        return (
            f"<div><strong>{html.escape(first)}</strong>"
            f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"
            f"<small>{notes}</small></div>"
        )


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.6g}"


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1.0:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"
