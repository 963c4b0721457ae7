"""What is known of all weights corrects what a sample says of them.

Where the most of each control is known, so are count and sum of the weights above its own
threshold. A sample gets them wrong by so much; the optimum's mask overlaps with those weights, so
that what it gets wrong about that mask can be told in part: by regression, weight by weight. Only
the rest scatters. The nearer a floor is to its control's best, the less that is.

Nothing here needs to be right: the driver proves the region or takes another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .columns import top_amounts

__all__ = ["Known", "Sampled"]


@dataclass(frozen=True, slots=True)
class Known:
    """Of each control the sum of its k largest entries, and the k-th; both of shape (K,)."""

    best: np.ndarray
    threshold: np.ndarray

    def scaled(self, exponents: np.ndarray) -> Known:
        """In units of 2^exponents, shape (K,)."""
        with np.errstate(over="ignore"):
            return Known(np.ldexp(self.best, -exponents), np.ldexp(self.threshold, -exponents))


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sample, what it stands for, and what is known beside.

    Attributes
    ----------
    scores : ndarray of float64, shape (1 + K, r)
        Of about 1 at most. Contiguous rows.
    upper : ndarray of float64, shape (r,) or (0,)
        Of a sample drawn by size, how many of its mean weights each stands for; else 1 each.
    share : float
        Σ upper over how many weights they stand for, all d of them.
    size : int
        d.
    known : Known or None
    """

    scores: np.ndarray
    upper: np.ndarray
    share: float
    size: int
    known: Known | None = None

    def bounds(self) -> np.ndarray:
        """`upper`, also where it is 1 each."""
        return self.upper if len(self.upper) else np.ones(self.scores.shape[1])

    def like_own_best(self, k: float, floors: np.ndarray) -> np.ndarray:
        """Floors at the same share of the sample's own best as they are of the whole's.

        k and floors, shape (K,), scaled to the sample.
        """
        if self.known is None:
            return floors
        scaled = floors.copy()
        bounds = self.bounds()
        count = min(max(round(k), 1), int(bounds.sum()))
        for j, row in enumerate(self.scores[1:]):
            top, x = top_amounts(row, count, bounds)
            best = self.known.best[j] * self.share
            if best > 0.0:
                scaled[j] *= float(row[top] @ x) / best
        return scaled

    def scatter(self, kept: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Covariance of what a mask holds of (A, 1); shape (K + 1, K + 1).

        `kept`, shape (r,), is the mask, `held` its sums.
        """
        n = self.scores.shape[1]
        values = np.vstack((self.scores[1:, kept], np.ones(int(kept.sum()))))
        if len(self.upper):  # each one drawn, or not, by itself
            values *= np.sqrt(self._variances()[kept])
            return np.asarray(values @ values.T)
        return np.asarray(values @ values.T - np.outer(held, held) / n)

    def corrected(
        self, wanted: np.ndarray, kept: np.ndarray, k: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the sample has to hold where all hold `wanted`, and the covariance of the rest.

        Parameters
        ----------
        wanted : ndarray of float64, shape (K + 1,)
            (b, k), scaled to the sample.
        kept : ndarray of bool, shape (r,)
            About the optimum's mask.
        k : float
            The budget that the bests are known for, scaled to the sample.
        """
        assert self.known is not None
        A, n = self.scores[1:], self.scores.shape[1]
        bounds = self.bounds()
        features, errors = [np.ones(n)], [float(bounds.sum()) - self.share * self.size]
        for row, best, threshold in zip(A, self.known.best, self.known.threshold, strict=True):
            above, tied = row > threshold, row == threshold
            part = above.astype(np.float64)
            ties = float(bounds @ tied)
            if ties > 0.0:  # as many of them as make up the budget
                part += tied * min(max((k - float(bounds @ above)) / ties, 0.0), 1.0)
            features += [part, part * row]
            errors += [float(bounds @ part) - k, float(bounds @ (part * row)) - best * self.share]
        f = np.array(features)
        unit = np.abs(f).max(axis=1)
        unit[unit == 0.0] = 1.0
        f /= unit[:, None]
        e = np.array(errors) / unit
        v = np.vstack((A, np.ones(n))) * kept
        variances = self._variances()
        weighted = f * variances
        regression = (v @ weighted.T) @ np.linalg.pinv(f @ weighted.T, rcond=1e-12)
        rest = v - regression @ f
        return wanted + regression @ e, (rest * variances) @ rest.T

    def _variances(self) -> np.ndarray:
        """Of each weight's contribution, per square of what one of its mean weights has."""
        if len(self.upper):
            return np.asarray(self.upper * np.maximum(self.upper - self.share, 0.0))
        return np.full(self.scores.shape[1], 1.0 - self.share)
