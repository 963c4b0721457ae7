"""What of a block of scores is surely kept and surely dropped on a region, by torch operations.

A device is as slow as the bytes that an operation moves. So a test of two numbers for the whole
block, which takes a combined score and nothing else, comes first; what it cannot tell is set
apart, and only that meets the region's own test.
"""

from __future__ import annotations

import math

import torch

from cops_lp.engine.stores import Prepared

__all__ = ["Sieve"]

_WIDER = 4.0
"""Margins of the compiled kernels times this: what is sure here is decided the same way there,
whatever both round."""

Rows = list[torch.Tensor]


class Sieve:
    """The test of `cops_lp.kernels.screening.screen` with wider margins.

    Parameters
    ----------
    prepared : Prepared
        The region: an ellipsoid, or a cone where its factor is empty.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._rays: list[list[float]] = prepared.rays.tolist()
        reach = prepared.reach.astype(float)
        reach[-1] -= float(prepared.beside)
        reach *= _WIDER
        reach[-1] += float(prepared.beside) * (1.0 + _WIDER * prepared.margin)
        self._reach: list[float] = reach.tolist()
        wide = prepared.factor.astype(float) * (1.0 + _WIDER * prepared.margin)
        self._factor: list[list[float]] = wide.tolist()
        self._tiny, self._huge = _WIDER * float(prepared.tiny), float(prepared.huge)

    def __call__(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, Rows]:
        """Weights that are surely kept, and those that are not sure.

        Parameters
        ----------
        rows : list of 1 + K tensors, shape (n,)
            float32 or float64 as the region is, not necessarily finite.

        Returns
        -------
        kept : Tensor of bool, shape (n,)
        index : Tensor of int64, ascending
            Positions of the others that are not surely dropped. What holds NaN, an infinity or
            what overflows is among them.
        values : list of 1 + K tensors
            Their scores.
        """
        if not self._factor:
            kept, doubtful = self._by_rays(rows)
            index = doubtful.nonzero().squeeze(1)
            return kept, index, [row[index] for row in rows]
        kept, doubtful = self._by_bounds(rows)
        index = doubtful.nonzero().squeeze(1)
        values = [row[index] for row in rows]
        sure, doubtful = self._by_ellipsoid(values)
        kept[index] = sure
        left = doubtful.nonzero().squeeze(1)
        return kept, index[left], [row[left] for row in values]

    def _by_bounds(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare the center's form with the most that the others can differ anywhere in the block.

        Everything is doubtful where that is not finite.
        """
        form = _form(rows, self._rays[0])
        extremes = [torch.stack(torch.aminmax(row)) for row in (form, *rows[1:])]
        (low, high), *bounds = torch.stack(extremes).tolist()
        sizes = [max(abs(least), abs(most)) for least, most in bounds]
        room = self._reach[-1] + _dot(self._reach[1:-1], sizes)
        moves = [abs(line[-1]) + _dot(line[:-1], sizes) for line in self._factor]
        square = self._tiny + sum(move * move for move in moves)  # ** would raise where it is ∞
        # The target's own share of the margin: α|c| ≤ |form| + λ·|A| + |μ|.
        alpha, *lam, mu = self._rays[0]
        share = self._reach[0] / alpha
        room += share * (_dot(lam, sizes) + abs(mu))
        bound = (room + math.sqrt(square)) * (1.0 + 2.0 * share) * (1.0 + 1e-5)
        if not (math.isfinite(bound) and math.isfinite(high - low) and bound < self._huge):
            nothing = torch.zeros_like(form, dtype=torch.bool)
            return nothing, ~nothing
        kept = form > bound
        return kept, ~(kept | (form < -bound))

    def _by_ellipsoid(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        form, room = _form(rows, self._rays[0]), self._room(rows)
        last = self._factor[-1][-1]
        square = torch.full_like(form, last * last + self._tiny)
        for t, line in enumerate(self._factor[:-1]):
            g = rows[1 + t] * line[t]
            for row, entry in zip(rows[2 + t :], line[t + 1 : -1], strict=True):
                g.add_(row, alpha=entry)
            g.add_(line[-1])
            square.addcmul_(g, g)
        beyond = form.abs().sub_(room)
        sure = (beyond > 0.0) & (beyond * beyond > square) & (beyond < math.inf)
        return sure & (form > 0.0), ~sure

    def _by_rays(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        room = self._room(rows)
        low = high = _form(rows, self._rays[0])
        for ray in self._rays[1:]:
            form = _form(rows, ray)
            low, high = torch.minimum(low, form), torch.maximum(high, form)
        sound = room < self._huge
        kept = sound & (low > room)
        return kept, ~(kept | (sound & (high < -room)))

    def _room(self, rows: Rows) -> torch.Tensor:
        """What rounding may change at any point of the region."""
        room = rows[0].abs().mul_(self._reach[0])
        for row, size in zip(rows[1:], self._reach[1:-1], strict=True):
            room.add_(row.abs(), alpha=size)
        return room.add_(self._reach[-1])


def _form(rows: Rows, ray: list[float]) -> torch.Tensor:
    """α c + λ·A − μ."""
    form = rows[0] * ray[0]
    for row, weight in zip(rows[1:], ray[1:-1], strict=True):
        form.add_(row, alpha=weight)
    return form.sub_(ray[-1])


def _dot(weights: list[float], sizes: list[float]) -> float:
    """Σ |w_j| x_j; 0 for a weight of 0, whatever x is but NaN."""
    return sum(abs(weight) * size for weight, size in zip(weights, sizes, strict=True))
