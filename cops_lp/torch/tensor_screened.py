"""What a pass over scores on a device found; the open weights stay there while they are many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cops_lp.engine.candidates import CandidateArrays, Candidates
from cops_lp.engine.columns import Columns
from cops_lp.engine.screened import ScreenedArrays

from .tensor_mask import TensorMask

__all__ = ["FEW", "TensorCandidates", "TensorScreened"]

FEW = 1 << 18
"""Scores of open weights that come to the CPU: some thousands are solved there in no time."""


@dataclass(frozen=True, slots=True)
class TensorScreened:
    """:class:`cops_lp.engine.screened.Screened` of tensors.

    Attributes
    ----------
    kept, parts_of_sums, magnitudes, masses, parts, starts
        As of :class:`cops_lp.engine.screened.ScreenedArrays`.
    index : Tensor of int64, shape (n,), ascending
    scores : list of 1 + K tensors of float32 or float64, shape (n,)
        The open weights, but for masses.
    """

    kept: int
    parts_of_sums: np.ndarray
    magnitudes: np.ndarray
    index: torch.Tensor
    scores: list[torch.Tensor]
    masses: Columns
    parts: np.ndarray
    starts: np.ndarray

    @property
    def sums(self) -> np.ndarray:
        """See :attr:`Screened.sums`."""
        return self.parts_of_sums[:, :2]

    @property
    def count(self) -> int:
        """See :attr:`Screened.count`."""
        return len(self.index)

    @property
    def open_count(self) -> int:
        """See :attr:`Screened.open_count`."""
        return len(self.index) + int(self.masses.counts.sum())

    @property
    def few(self) -> bool:
        """Whether the open weights may come to the CPU."""
        return len(self.scores) * len(self.index) <= FEW

    def arrays(self) -> ScreenedArrays:
        """The same in arrays."""
        return ScreenedArrays(
            kept=self.kept,
            parts_of_sums=self.parts_of_sums,
            magnitudes=self.magnitudes,
            index=self.index.cpu().numpy(),
            scores=torch.stack(self.scores).cpu().numpy(),
            masses=self.masses,
            parts=self.parts,
            starts=self.starts,
        )

    def largest(self) -> np.ndarray:
        """See :meth:`Screened.largest`."""
        if not self.count:
            return np.zeros(len(self.scores))
        found: np.ndarray = torch.stack([row.abs().amax() for row in self.scores]).cpu().numpy()
        return found

    def ends(self, weights: np.ndarray, kept: TensorMask | np.ndarray) -> tuple[float, float]:
        """See :meth:`Screened.ends`."""
        s, flags = _combined(weights, self.scores), self._flags(kept)
        above, below = s[flags], s[~flags]
        least = float(above.amin()) if len(above) else np.inf
        return least, float(below.amax()) if len(below) else -np.inf

    def write(self, mask: TensorMask, kept: TensorMask | np.ndarray) -> None:
        """See :meth:`Screened.write`."""
        mask.tensor[self.index] = self._flags(kept)

    def places(self, positions: np.ndarray) -> np.ndarray:
        """See :meth:`Screened.places`."""
        there = torch.from_numpy(np.array(positions)).to(self.index.device)
        found: np.ndarray = self.index[there].cpu().numpy()
        return found

    def candidates(self, index: np.ndarray, scores: np.ndarray, width: float) -> Candidates:
        """See :meth:`Screened.candidates`."""
        if self.few:
            return self.arrays().candidates(index, scores, width)
        if not len(index):
            return TensorCandidates(self.index, self.scores, width)
        device = self.index.device
        whole = torch.cat((self.index, torch.from_numpy(np.array(index)).to(device)))
        order = whole.argsort()
        rows = [
            torch.cat((own, torch.from_numpy(np.array(row)).to(own)))[order]
            for own, row in zip(self.scores, scores, strict=True)
        ]
        return TensorCandidates(whole[order], rows, width)

    def _flags(self, kept: TensorMask | np.ndarray) -> torch.Tensor:
        """What a mask of the open weights' store says of the weights themselves."""
        if isinstance(kept, TensorMask):
            return kept.tensor[: self.count]
        return torch.from_numpy(kept[: self.count]).to(self.index.device)


class TensorCandidates:
    """:class:`cops_lp.engine.candidates.Candidates` on a device.

    Parameters
    ----------
    index : Tensor of int64, shape (n,), ascending
    scores : list of 1 + K tensors, shape (n,)
    width : float
    """

    def __init__(self, index: torch.Tensor, scores: list[torch.Tensor], width: float) -> None:
        self._index, self._scores, self.width = index, scores, width

    def nearest(
        self,
        multipliers: np.ndarray,
        threshold: float,
        mask: TensorMask,
        fractional: np.ndarray,
        count: int,
    ) -> CandidateArrays:
        """See :meth:`Candidates.nearest`."""
        distance = _combined(np.append(1.0, multipliers), self._scores).sub_(threshold).abs_()
        inside = torch.isin(self._index, torch.from_numpy(fractional).to(self._index))
        kept = mask.tensor[self._index] & ~inside
        chosen = inside
        for side in (kept, ~kept):
            part = distance[side]
            limit = np.inf
            if len(part) > count:  # kthvalue is no choice: torch counts it as not deterministic
                limit = float(part.topk(count, largest=False).values.amax())
            chosen = chosen | (side & (distance <= limit))
        return self._gathered(chosen.nonzero().squeeze(1))

    def gathered(self) -> CandidateArrays:
        """See :meth:`Candidates.gathered`."""
        return CandidateArrays(
            self._index.cpu().numpy(), torch.stack(self._scores).cpu().numpy(), self.width
        )

    def check_agree(
        self,
        wider: Candidates,
        multipliers: np.ndarray,
        threshold: float,
        mask: TensorMask,
        changed: np.ndarray,
    ) -> None:
        """See :meth:`Candidates.check_agree`."""
        self.gathered().check_agree(wider, multipliers, threshold, mask, changed)

    def _gathered(self, chosen: torch.Tensor) -> CandidateArrays:
        index = self._index[chosen].cpu().numpy()
        scores = torch.stack([row[chosen] for row in self._scores]).cpu().numpy()
        return CandidateArrays(index, scores, self.width)


def _combined(weights: np.ndarray, rows: list[torch.Tensor]) -> torch.Tensor:
    """Σ_j weights_j rows_j in float64, the same bits as engine.screened's."""
    total = torch.zeros(len(rows[0]), dtype=torch.float64, device=rows[0].device)
    for weight, row in zip(weights.tolist(), rows, strict=True):
        total += row.double() * weight
    return total
