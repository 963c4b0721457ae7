"""What of a block of scores is surely kept, dropped and open on a region, by torch operations.

A device is as slow as the bytes that an operation moves. So a test of two numbers for the whole
block, which takes one combined score and nothing else, comes first; what it cannot tell is set
apart, and only that meets the region's own test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from cops_lp.engine.stores import Prepared

from .sums import ExactSum

__all__ = ["WIDER", "Sieve", "Sift", "Sifted", "TorchSieve", "wider_reach"]

WIDER = 4.0
"""Margins of the compiled kernels times this: what is sure here is decided the same way there,
whatever both round."""

_SAFE = 1e25  # how far from 1 a quotient of a ray's entries may be: products with it are precise

Rows = list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Sifted:
    """What a sieve told of a block, beside what it kept.

    `kept`, how many, is a tensor of one int64. `index`, ascending, are the positions of the weights
    that are neither surely kept nor surely dropped, and `opened` (bool) says which of these are
    surely open. What holds NaN or an infinity, or overflows, is in doubt.
    """

    kept: torch.Tensor
    index: torch.Tensor
    opened: torch.Tensor


class Sift(Protocol):
    """A region's test of a block of weights, with wider margins than the compiled kernels'."""

    least: int
    most: int
    """Weights in one block, between which a sixteenth of all is taken."""

    def dtype(self, own: list[torch.dtype]) -> torch.dtype:
        """In which the rows are wanted, of scores of some dtypes."""
        ...

    def __call__(self, rows: Rows, kept: torch.Tensor, sums: list[ExactSum]) -> Sifted:
        """Tell what is surely kept, and add it up.

        Parameters
        ----------
        rows : list of 1 + K tensors, shape (n,), n > 0
            Not necessarily finite.
        kept : Tensor of bool, shape (n,), contiguous, filled
            Whether surely kept.
        sums : list of 1 + K
            What is surely kept is added to these.
        """
        ...


def wider_reach(prepared: Prepared) -> list[float]:
    """A region's `reach`, all but `beside` times :data:`WIDER`."""
    reach = prepared.reach.astype(float)
    reach[-1] -= float(prepared.beside)
    reach *= WIDER
    reach[-1] += float(prepared.beside) * (1.0 + WIDER * prepared.margin)
    wider: list[float] = reach.tolist()
    return wider


class Sieve:
    """The numbers of a sieve.

    Parameters
    ----------
    prepared : Prepared
        The region: an ellipsoid, or a cone where its factor is empty.

    Attributes
    ----------
    rays, reach, factor, huge
        As in :func:`cops_lp.kernels.screening.screen`, with wider margins.
    tiny : float
        The same, added where a weight is to be decided.
    shrink : float
        An ellipsoid's squares times this less `drop` are surely below the kernels'.
    drop : float
    beside : float
        Twice what `reach` has for weights that are to stay open.
    far : float
        A form as large as this is never surely open: its square may overflow.
    most : float
        What terms and squares must stay below where none may overflow on the way.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.rays: list[list[float]] = prepared.rays.tolist()
        self.reach = wider_reach(prepared)
        wide = prepared.factor.astype(float) * (1.0 + WIDER * prepared.margin)
        self.factor: list[list[float]] = wide.tolist()
        self.tiny, self.huge = WIDER * float(prepared.tiny), float(prepared.huge)
        self.shrink, self.drop = 1.0 - 4.0 * WIDER * prepared.margin, 2.0 * self.tiny
        self.beside = 2.0 * float(prepared.beside) * (1.0 - WIDER * prepared.margin)
        self.far = 1e18 if prepared.single else 1e150
        self.most = 1e36 if prepared.single else 1e300


class TorchSieve:
    """The test of `cops_lp.kernels.screening.screen` by torch operations.

    Parameters
    ----------
    prepared : Prepared
    """

    least, most = 1 << 20, 1 << 25  # 20 to 48 bytes of temporary tensors each

    def __init__(self, prepared: Prepared) -> None:
        self._of = Sieve(prepared)
        self._dtype = torch.float32 if prepared.single else torch.float64

    def dtype(self, own: list[torch.dtype]) -> torch.dtype:  # noqa: ARG002
        """See :meth:`Sift.dtype`; the region's."""
        return self._dtype

    def __call__(self, rows: Rows, kept: torch.Tensor, sums: list[ExactSum]) -> Sifted:
        """See :meth:`Sift.__call__`."""
        index, opened = self._sift(rows, kept)
        count = kept.count_nonzero()
        some = int(count)
        if some:
            few = kept.nonzero().squeeze(1) if 2 * some < len(kept) else None
            for total, row in zip(sums, rows, strict=True):
                total.add(torch.where(kept, row, 0.0) if few is None else row[few])
        return Sifted(count, index, opened)

    def _sift(self, rows: Rows, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill `kept`; positions of what is not sure, and which of these are surely open."""
        if not self._of.factor:
            sure, doubtful, opened = self._by_rays(rows)
            kept.copy_(sure)
            index = doubtful.nonzero().squeeze(1)
            return index, opened[index]
        index = self._by_bounds(rows, kept).nonzero().squeeze(1)
        sure, doubtful, opened = self._by_ellipsoid([row[index] for row in rows])
        kept[index] = sure
        left = doubtful.nonzero().squeeze(1)
        return index[left], opened[left]

    def _by_bounds(self, rows: Rows, kept: torch.Tensor) -> torch.Tensor:
        """Compare the center's form with the most that the others can differ anywhere in the block.

        Fills `kept`; returns what is doubtful: everything where that is not finite. The form is
        α times c + Σ (λ_j / α) A_j less μ: one operation for each control, none without.
        """
        of = self._of
        alpha, *lam, mu = of.rays[0]
        quotients = [abs(weight) / alpha for weight in lam if weight != 0.0]
        if all(1.0 / _SAFE < quotient < _SAFE for quotient in quotients):
            unit, less, form = alpha, mu / alpha, rows[0]
            for row, weight in zip(rows[1:], lam, strict=True):
                form = torch.add(form, row, alpha=weight / alpha)
        else:
            unit, less, form = 1.0, mu, _form(rows, [*of.rays[0][:-1], 0.0])
        extremes = [torch.stack(torch.aminmax(row)) for row in (form, *rows[1:])]
        (low, high), *bounds = torch.stack(extremes).tolist()
        sizes = [max(abs(least), abs(most)) for least, most in bounds]
        room = of.reach[-1] + _dot(of.reach[1:-1], sizes)
        moves = [abs(line[-1]) + _dot(line[:-1], sizes) for line in of.factor]
        square = of.tiny + sum(move * move for move in moves)  # ** would raise where it is ∞
        # The target's own share of the margin: α|c| ≤ |form| + λ·|A| + |μ|.
        share = of.reach[0] / alpha
        room += share * (_dot(lam, sizes) + abs(mu))
        room += unit * len(rows) * 2.0 * torch.finfo(form.dtype).tiny  # what may underflow
        bound = (room + math.sqrt(square)) * (1.0 + 2.0 * share) * (1.0 + 1e-5)
        # Nor may anything overflow where compiled kernels form it: they decide nothing then.
        terms = unit * max(abs(low), abs(high)) + 2.0 * _dot(lam, sizes) + abs(mu)
        if not (math.isfinite(high - low) and bound < of.huge and max(square, terms) < of.most):
            kept.zero_()
            return torch.ones_like(kept)
        torch.gt(form, less + bound / unit, out=kept)
        return (form >= less - bound / unit).logical_xor_(kept)

    def _by_ellipsoid(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What is surely kept, what is not sure, and what is surely open."""
        of = self._of
        form, room = _form(rows, of.rays[0]), self._room(rows)
        last = of.factor[-1][-1]
        square = torch.full_like(form, last * last + of.tiny)
        for t, line in enumerate(of.factor[:-1]):
            g = rows[1 + t] * line[t]
            for row, entry in zip(rows[2 + t :], line[t + 1 : -1], strict=True):
                g.add_(row, alpha=entry)
            g.add_(line[-1])
            square.addcmul_(g, g)
        size = form.abs()
        beyond = size - room
        sure = (beyond > 0.0) & (beyond * beyond > square) & (beyond < math.inf)
        near = size.add_(room).sub_(of.beside)
        opened = near * near < square.mul_(of.shrink).sub_(of.drop)
        opened |= near < 0.0
        opened &= near < of.far
        return sure & (form > 0.0), ~sure, opened

    def _by_rays(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        room = self._room(rows)
        low = high = _form(rows, self._of.rays[0])
        for ray in self._of.rays[1:]:
            form = _form(rows, ray)
            low, high = torch.minimum(low, form), torch.maximum(high, form)
        sound = room < self._of.huge
        kept = sound & (low > room)
        opened = sound & (low < -room) & (high > room)
        return kept, ~(kept | (sound & (high < -room))), opened

    def _room(self, rows: Rows) -> torch.Tensor:
        """What rounding may change at any point of the region."""
        reach = self._of.reach
        room = rows[0].abs().mul_(reach[0])
        for row, size in zip(rows[1:], reach[1:-1], strict=True):
            room.add_(row.abs(), alpha=size)
        return room.add_(reach[-1])


def _form(rows: Rows, ray: list[float]) -> torch.Tensor:
    """α c + λ·A − μ."""
    form = rows[0] * ray[0]
    for row, weight in zip(rows[1:], ray[1:-1], strict=True):
        form.add_(row, alpha=weight)
    return form.sub_(ray[-1])


def _dot(weights: list[float], sizes: list[float]) -> float:
    """Σ |w_j| x_j; 0 for a weight of 0, whatever x is but NaN."""
    return sum(abs(weight) * size for weight, size in zip(weights, sizes, strict=True))
