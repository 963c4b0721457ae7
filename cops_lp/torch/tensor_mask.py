"""A mask on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["TensorMask"]


class TensorMask:
    """A mask on a device, indexed as an array would be: what is asked for comes to the CPU.

    Attributes
    ----------
    tensor : Tensor of bool, shape (d,)
    """

    dtype = np.dtype(np.bool_)
    ndim = 1

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.size = tensor.numel()
        self.shape = (self.size,)

    @property
    def states(self) -> torch.Tensor:
        """The same memory as uint8."""
        return self.tensor.view(torch.uint8)

    def reshape(self, *shape: Any) -> TensorMask:
        """Return the mask itself: flat is its only shape."""
        if shape in (self.shape, (self.shape,), (-1,)):
            return self
        raise ValueError(f"a mask on a device is flat; wanted shape {self.shape}, not {shape}")

    def any(self) -> bool:
        """Whether it keeps any weight."""
        return bool(self.tensor.any())

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        found: np.ndarray = self.tensor[self._key(key)].cpu().numpy()
        return found

    def __setitem__(self, key: slice | np.ndarray, value: np.ndarray | np.bool_) -> None:
        self.tensor[self._key(key)] = torch.from_numpy(np.array(value)).to(self.tensor.device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the mask is on a device: an array of it is a copy")
        return np.array(self[:], dtype=dtype)

    def _key(self, key: slice | np.ndarray) -> slice | torch.Tensor:
        if isinstance(key, slice):
            return key
        return torch.from_numpy(np.array(key)).to(self.tensor.device)
