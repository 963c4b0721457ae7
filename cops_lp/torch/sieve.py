"""What of a block of scores is surely kept and surely dropped on a region, by torch operations."""

from __future__ import annotations

import torch

from cops_lp.engine.stores import Prepared

__all__ = ["Sieve"]

_WIDER = 4.0
"""Margins of the compiled kernels times this: what is sure here is decided the same way there,
whatever both round."""


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
        self._tiny, self._huge = float(prepared.tiny), float(prepared.huge)

    def __call__(self, rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights that are surely kept, and those that are not sure.

        Parameters
        ----------
        rows : list of 1 + K tensors, shape (n,)
            float32 or float64 as the region is, not necessarily finite.

        Returns
        -------
        kept, doubtful : Tensor of bool, shape (n,)
            What holds NaN, an infinity or what overflows is doubtful.
        """
        room = rows[0].abs().mul_(self._reach[0])
        for row, size in zip(rows[1:], self._reach[1:-1], strict=True):
            room.add_(row.abs(), alpha=size)
        room.add_(self._reach[-1])
        return self._beyond(rows, room) if self._factor else self._beside(rows, room)

    def _beyond(
        self, rows: list[torch.Tensor], room: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        form = _form(rows, self._rays[0])
        last = self._factor[-1][-1]
        square = torch.full_like(form, last * last + _WIDER * self._tiny)
        for t, line in enumerate(self._factor[:-1]):
            g = rows[1 + t] * line[t]
            for row, entry in zip(rows[2 + t :], line[t + 1 : -1], strict=True):
                g.add_(row, alpha=entry)
            g.add_(line[-1])
            square.addcmul_(g, g)
        beyond = form.abs().sub_(room)
        sure = (beyond > 0.0) & (beyond * beyond > square)
        return sure & (form > 0.0), ~sure

    def _beside(
        self, rows: list[torch.Tensor], room: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        low = high = _form(rows, self._rays[0])
        for ray in self._rays[1:]:
            form = _form(rows, ray)
            low, high = torch.minimum(low, form), torch.maximum(high, form)
        sound = room < self._huge
        kept = sound & (low > room)
        return kept, ~(kept | (sound & (high < -room)))


def _form(rows: list[torch.Tensor], ray: list[float]) -> torch.Tensor:
    """α c + λ·A − μ."""
    form = rows[0] * ray[0]
    for row, weight in zip(rows[1:], ray[1:-1], strict=True):
        form.add_(row, alpha=weight)
    return form.sub_(ray[-1])
