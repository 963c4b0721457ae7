"""Tensors on a device as one flat score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cops_lp.errors import ProblemError
from cops_lp.pieces import Pieces, Score, common_dtype, flat_range

if TYPE_CHECKING:
    from .store import TorchStore

__all__ = ["TensorPieces"]

_NUMPY: dict[torch.dtype, np.dtype[Any]] = {
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(np.float32),  # which holds it exactly
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
_TORCH = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}


class TensorPieces(Pieces):
    """Pieces that are tensors on one device, of any shapes, strides and float dtypes.

    Read as `dtype`, where given: one that holds all entries exactly.
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor],
        labels: Sequence[str] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        super().__init__([tuple(tensor.shape) for tensor in tensors], labels)
        self.device = tensors[0].device
        self._tensors = [
            tensor.reshape(-1) if tensor.is_contiguous() else tensor for tensor in tensors
        ]
        own = common_dtype([_NUMPY[tensor.dtype] for tensor in tensors])
        self._dtype = own if dtype is None else dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """See :attr:`cops_lp.pieces.Pieces.dtype`."""
        return self._dtype

    @property
    def own_dtype(self) -> torch.dtype:
        """The tensors' own where there is one; else float32 or float64, which holds them all."""
        first = self._tensors[0].dtype
        if all(tensor.dtype == first for tensor in self._tensors):
            return first
        return _TORCH.get(self._dtype, torch.float64)

    def own_store(self, scores: Sequence[Score], threads: int) -> TorchStore:
        """Return the store that reads all scores on the device."""
        from .store import TorchStore

        found = [score for score in scores if isinstance(score, TensorPieces)]
        for score in found:
            if score.device != self.device:
                raise ProblemError(
                    f"scores are on device {self.device} and on {score.device}; wanted one device"
                )
        if len(found) < len(scores):
            raise ProblemError(
                f"scores are on device {self.device} and in arrays; wanted one device"
            )
        return TorchStore(found, threads)

    def block(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """Entries start … stop on the device; a view where they lie in one piece of that dtype."""
        parts = [self._range(*part).to(dtype) for part in self.parts(start, stop)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def take(self, index: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """Entries at ascending flat indices, on the device."""
        own = torch.from_numpy(np.array(index)).to(self.device)  # a copy: it may be read-only
        parts = []
        for i, first, last in self.groups(index):
            inside, tensor = own[first:last] - self.starts[i], self._tensors[i]
            flat = inside if tensor.ndim == 1 else torch.unravel_index(inside, tensor.shape)
            parts.append(tensor[flat].to(dtype))
        return torch.cat(parts) if parts else torch.empty(0, dtype=dtype, device=self.device)

    def read(self, start: int, stop: int) -> np.ndarray:
        """See :meth:`cops_lp.pieces.Pieces.read`; never a view."""
        dtype = _TORCH.get(self._dtype, torch.float64)
        if start == stop:
            return np.empty(0, self._dtype)
        block = self.block(start, stop, dtype)
        found: np.ndarray = block.cpu().numpy()
        return found

    def gather(self, index: np.ndarray) -> np.ndarray:
        """See :meth:`cops_lp.pieces.Pieces.gather`."""
        order = np.argsort(index, kind="stable")
        out = np.empty(len(index), self._dtype)
        out[order] = self.take(index[order], _TORCH.get(self._dtype, torch.float64)).cpu().numpy()
        return out

    def _range(self, i: int, start: int, stop: int) -> torch.Tensor:
        found: torch.Tensor = flat_range(
            self._tensors[i], start, stop, torch.Tensor.is_contiguous, torch.cat
        )
        return found
