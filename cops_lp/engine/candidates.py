"""Weights near the threshold, of which some may have to change sides after all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .failures import ChangedError

__all__ = ["AllWeights", "CandidateArrays", "Candidates", "distances"]

_ROUNDING = 1e-12  # of its terms: a reduced cost that may have either sign


class Candidates(Protocol):
    """All weights within `width` of the threshold, and others."""

    @property
    def width(self) -> float:
        """Infinite where they are all weights."""
        ...

    def nearest(
        self,
        multipliers: np.ndarray,
        threshold: float,
        mask: Any,
        fractional: np.ndarray,
        count: int,
    ) -> CandidateArrays:
        """Of the weights with x = 1 and of the others the `count` nearest at least, in memory.

        With all that tie with these, and the fractional ones. Other parameters as of
        :func:`.nearest.nearest_weights`.
        """
        ...

    def gathered(self) -> CandidateArrays:
        """All of them in memory."""
        ...

    def check_agree(
        self,
        wider: Candidates,
        multipliers: np.ndarray,
        threshold: float,
        mask: Any,
        changed: np.ndarray,
    ) -> None:
        """Raise ChangedError where a wider read contradicts this one, or the mask that came of it.

        What this one found near is found again, with the same scores; what is found beside
        that was decided or belongs to a mass: where it is beyond the first width, the mask has it
        on its side of the threshold. `changed` are weights of which the mask says nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class CandidateArrays:
    """Candidates in memory.

    `index`, shape (n,), ascending, or None where it is all weights; `scores`, shape (1 + K, n).
    """

    index: np.ndarray | None
    scores: np.ndarray
    width: float

    def nearest(
        self,
        multipliers: np.ndarray,  # noqa: ARG002
        threshold: float,  # noqa: ARG002
        mask: Any,  # noqa: ARG002
        fractional: np.ndarray,  # noqa: ARG002
        count: int,  # noqa: ARG002
    ) -> CandidateArrays:
        """See :meth:`Candidates.nearest`; all of them."""
        return self

    def gathered(self) -> CandidateArrays:
        """See :meth:`Candidates.gathered`."""
        return self

    def check_agree(
        self,
        wider: Candidates,
        multipliers: np.ndarray,
        threshold: float,
        mask: Any,
        changed: np.ndarray,
    ) -> None:
        """See :meth:`Candidates.check_agree`."""
        wider = wider.gathered()
        assert self.index is not None
        r = _reduced(wider.scores, multipliers, threshold)
        index = np.arange(len(r)) if wider.index is None else wider.index
        wanted = np.flatnonzero(distances(self.scores, multipliers, threshold) <= wider.width)
        place = np.searchsorted(index, self.index[wanted])
        there = np.append(index, -1)[place] == self.index[wanted]
        sizes = np.append(1.0, multipliers) @ np.abs(wider.scores) + abs(threshold)
        sure = np.abs(r) > np.maximum(self.width, _ROUNDING * sizes)
        sure &= ~np.isin(index, self.index) & ~np.isin(index, changed)
        if not (
            there.all()
            and np.array_equal(wider.scores[:, place], self.scores[:, wanted])
            and np.array_equal(mask[index[sure]], r[sure] > 0.0)
        ):
            raise ChangedError


class AllWeights:
    """Every weight, as the exact solver had them: no second read could tell them otherwise.

    `scores`, float64, shape (1 + K, d), each a power of two from what it was; `scaling`, shape
    (1 + K,), the powers' exponents. Taken over: they are scaled back in place when asked for.
    """

    width = math.inf

    def __init__(self, scores: np.ndarray, scaling: np.ndarray) -> None:
        self._scores, self._scaling = scores, scaling

    def nearest(
        self,
        multipliers: np.ndarray,  # noqa: ARG002
        threshold: float,  # noqa: ARG002
        mask: Any,  # noqa: ARG002
        fractional: np.ndarray,  # noqa: ARG002
        count: int,  # noqa: ARG002
    ) -> CandidateArrays:
        """See :meth:`Candidates.nearest`; all of them."""
        return self.gathered()

    def gathered(self) -> CandidateArrays:
        """See :meth:`Candidates.gathered`."""
        np.ldexp(self._scores, self._scaling[:, None], out=self._scores)
        self._scaling = np.zeros_like(self._scaling)
        return CandidateArrays(None, self._scores, self.width)

    def check_agree(self, *_: Any) -> None:
        """See :meth:`Candidates.check_agree`: there is nothing wider to read."""
        raise AssertionError


def distances(scores: np.ndarray, multipliers: np.ndarray, threshold: float) -> np.ndarray:
    """|c + λ·A − μ| of weights, in float64."""
    r = _reduced(scores, multipliers, threshold)
    np.abs(r, out=r)
    return r


def _reduced(scores: np.ndarray, multipliers: np.ndarray, threshold: float) -> np.ndarray:
    """Reduced costs c + λ·A − μ of weights, in float64."""
    r: np.ndarray = scores[0].astype(np.float64)
    for weight, row in zip(multipliers, scores[1:], strict=True):
        if weight != 0.0:
            r += np.multiply(row, weight, dtype=np.float64)
    r -= threshold
    return r
