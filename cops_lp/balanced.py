"""What ``balance`` answers, and how it prints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .solution import Solution, Status, _duration, _number

__all__ = ["Balance"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Balance(Solution):
    """A :class:`Solution` of :func:`balance`, with the proof of the balance.

    Its problem has one of the scores as target, of those with the most weight, and the others
    as controls, in the order given, with floors of ``share · best``, up to rounding. Next to
    what a Solution has:

    Attributes
    ----------
    score_names : tuple of str, length K + 1
        All scores', in the order given, as in what follows.
    target_index : int
        Which of them is the target of `problem`.
    best : ndarray of float64, shape (K + 1,)
        The most that k weights can keep of each.
    share : float
        t, the largest share of its best that the relaxed solution keeps of every score; NaN
        where a time limit came first.
    share_bound : float
        T_k(Σ w_j s_j / best_j) for w = `weights`: no mask of k weights keeps more than this
        share of every score. Equal to `share` up to rounding.
    weights : ndarray of float64, shape (K + 1,), ≥ 0, sum 1
        w: the mask prunes by the one score Σ w_j s_j / best_j. 0 where a score is kept
        beyond `share` by itself.
    solves : int
        How many linear programs were solved.
    """

    score_names: tuple[str, ...]
    target_index: int
    best: np.ndarray
    share: float
    share_bound: float
    weights: np.ndarray
    solves: int

    @property
    def shares(self) -> np.ndarray:
        """What the mask keeps of each score, as a share of its best; shape (K + 1,)."""
        kept = np.insert(self.kept, self.target_index, self.mask_objective)
        with np.errstate(over="ignore"):  # a file may state anything
            return np.asarray(kept / self.best)

    @property
    def mask_share(self) -> float:
        """Smallest of `shares`; below `share` by what rounding to a mask loses."""
        return float(self.shares.min())

    def rows(self) -> list[tuple[str, ...]]:
        """Return the printed table's cells, header first: a row for each score."""
        kept = np.insert(self.kept, self.target_index, self.mask_objective)
        columns = zip(self.score_names, kept, self.shares, self.best, self.weights, strict=True)
        return [
            ("score", "mask keeps", "of best", "attainable", "weight"),
            *(
                (name, _number(kept), _share(share), _number(best), _number(weight))
                for name, kept, share, best, weight in columns
            ),
        ]

    def summary(self) -> list[str]:
        """Return the lines that stand around the printed table."""
        d = self.problem.size
        solved = self.status is Status.OPTIMAL
        lines = [
            f"{'keeps' if solved else 'asked to keep'} {self.keep:,} of {d:,} weights "
            f"({self.keep / d:.4g})"
        ]
        bound = f"no mask keeps more than {self.share_bound:.4%}"
        if solved:
            kept = f"every score keeps at least {self.mask_share:.4%} of its best"
            lines.append(f"{kept}; {bound}")
        elif not np.isnan(self.share_bound):
            lines.append(f"{bound} of every score's best")
        return [
            self.status.value,
            *lines,
            f"{self.method}, {self.solves} solve{'s' * (self.solves != 1)}, "
            f"{_duration(self.seconds)}",
        ]

    def __repr__(self) -> str:
        return (
            f"<Balance {self.status.name}: keep={self.keep}, share={self.share:.12g}, "
            f"share_bound={self.share_bound:.12g}>"
        )


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2%}"
