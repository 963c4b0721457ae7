"""Exact sums on a device: what they are does not depend on the order of its additions."""

from __future__ import annotations

import math

import numpy as np
import torch

__all__ = ["TILE", "ExactSum"]

TILE = 1024
"""Single precision entries whose sum is tried in float64 as it is."""

_LARGE = 960  # exponents from which on a grid could leave float64's range
_DOWN = 128


class ExactSum:
    """Adds tensors of float32 or float64 up to floats whose sum is the entries' exactly.

    Single precision entries of a tile are multiples of the least one's last place; where their
    absolute values sum up to less than 2^53 of these, float64 adds them without rounding, in any
    order. All else is split on common grids whose sums are exact (Rump, Ogita, Oishi, "Accurate
    floating-point summation", 2008).
    """

    def __init__(self, device: torch.device) -> None:
        self._tiles: list[torch.Tensor] = []
        self._parts: list[tuple[torch.Tensor, int]] = []
        self._sizes = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, values: torch.Tensor) -> None:
        """Add the entries of a tensor of shape (n,), n > 0, all of them finite."""
        if values.dtype == torch.float64:
            self._sizes += values.abs().sum()
            self.split(values)
            return
        beyond = -len(values) % TILE
        tiles = torch.nn.functional.pad(values, (0, beyond)).view(-1, TILE)
        totals = tiles.sum(dim=1, dtype=torch.float64)
        magnitudes = tiles.abs()
        sizes = magnitudes.sum(dim=1, dtype=torch.float64)
        least = magnitudes.masked_fill_(magnitudes == 0.0, math.inf).amin(dim=1)
        rest = self.add_tiles(totals, sizes, least)
        if len(rest):
            self.split(tiles[rest].double().view(-1))

    def add_tiles(
        self, totals: torch.Tensor, sizes: torch.Tensor, least: torch.Tensor
    ) -> torch.Tensor:
        """Add single precision tiles by their float64 sums, as far as these are exact.

        Parameters
        ----------
        totals, sizes : Tensor of float64, shape (m,)
            Each tile's sum, and that of its absolute entries, in any order.
        least : Tensor, shape (m,)
            Its least absolute entry but 0; ∞ where all are 0.

        Returns
        -------
        Tensor of int64
            The tiles whose totals were not added: for :meth:`split`.
        """
        exact = sizes <= torch.clamp(least.double() * 2.0**28, min=2.0**-97)
        self._sizes += sizes.sum()
        self._tiles.append(torch.where(exact, totals, 0.0))
        return (~exact).nonzero().squeeze(1)

    def parts(self) -> tuple[list[float], float]:
        """Floats whose exact sum is that of all entries, and the sum of the absolute ones."""
        if self._tiles:
            self.split(torch.cat(self._tiles))
            self._tiles.clear()
        if not self._parts:
            return [], 0.0
        values = torch.stack([part for part, _ in self._parts]).cpu().numpy()
        with np.errstate(over="ignore"):  # an infinity fails the caller's checks
            scaled = np.ldexp(values, [exponent for _, exponent in self._parts])
        return scaled.tolist(), float(self._sizes)

    def split(self, values: torch.Tensor) -> None:
        """Add float64 entries, whatever their range, but not their sizes."""
        large = values.abs() >= 2.0**_LARGE
        if bool(large.any()):
            self._take_off(torch.where(large, values, 0.0) * 2.0**-_DOWN, _DOWN)
            values = torch.where(large, 0.0, values)
        self._take_off(values, 0)

    def _take_off(self, values: torch.Tensor, exponent: int) -> None:
        """Add 2^exponent times some entries: what a common grid holds, until nothing is left."""
        while True:
            largest = float(values.abs().amax())
            if largest == 0.0:
                return
            if not math.isfinite(largest):  # changed meanwhile, which the sizes tell
                self._parts.append((values.sum(), exponent))
                return
            top = math.frexp(largest)[1]
            grid = math.ldexp(1.0, top + max(len(values), 2).bit_length())
            high = (values + grid) - grid
            self._parts.append((high.sum(), exponent))
            values = values - high
