"""A mask of which each rank of a process group has a part."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .collectives import Collectives
from .layout import Layout
from .tensor_mask import TensorMask

__all__ = ["ShardedMask"]


class ShardedMask:
    """A mask of which each rank has a part, indexed as an array of all of it would be.

    What is asked for comes to all ranks, which ask together. Writing is each rank's own.

    Attributes
    ----------
    own : ndarray of bool, or TensorMask
        This rank's part.
    ranks : Collectives
    """

    dtype = np.dtype(np.bool_)
    ndim = 1

    def __init__(self, own: np.ndarray | TensorMask, layout: Layout, ranks: Collectives) -> None:
        self.own, self.layout, self.ranks = own, layout, ranks
        self.size = layout.size
        self.shape = (self.size,)

    @property
    def states(self) -> torch.Tensor:
        """The own part as uint8, the same memory."""
        own = self.own
        return own.states if isinstance(own, TensorMask) else torch.from_numpy(own.view(np.uint8))

    def reshape(self, *shape: Any) -> ShardedMask:
        """Return the mask itself: flat is its only shape."""
        if shape in (self.shape, (self.shape,), (-1,)):
            return self
        raise ValueError(f"a sharded mask is flat; wanted shape {self.shape}, not {shape}")

    def any(self) -> bool:
        """Whether it keeps any weight."""

        def work() -> np.ndarray:
            return np.array([self.states.any().item()], np.uint8)

        return bool(self.ranks.gather("any", work).any())

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(self.size)
            if step != 1:
                raise IndexError(f"a range with step {step}; wanted 1")
            return self._range(start, max(start, stop))
        key = np.asarray(key)
        order = np.argsort(key, kind="stable")

        def work() -> np.ndarray:
            out = np.zeros(len(key), np.uint8)
            places, own = self.layout.among_own(key[order])
            out[order[places]] = self.own[own]
            return out

        return self.ranks.fill("mask at", work, key).view(np.bool_)

    def __setitem__(self, key: slice | np.ndarray, value: np.ndarray | np.bool_) -> None:
        if isinstance(key, slice):
            start, stop, _ = key.indices(self.size)
            whole = np.broadcast_to(value, stop - start)
            for there, here in self.layout.ranges(start, stop):
                self.own[here] = whole[there]
            return
        key = np.asarray(key)
        order = np.argsort(key, kind="stable")
        places, own = self.layout.among_own(key[order])
        self.own[own] = np.broadcast_to(value, len(key))[order[places]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the mask is on several ranks: an array of it is a copy")
        return np.array(self[:], dtype=dtype)

    def _range(self, start: int, stop: int) -> np.ndarray:
        def work() -> np.ndarray:
            out = np.zeros(stop - start, np.uint8)
            for there, here in self.layout.ranges(start, stop):
                out[there] = self.own[here]
            return out

        return self.ranks.fill("mask", work, start, stop).view(np.bool_)
