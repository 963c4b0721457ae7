"""DTensors: which part of a parameter a rank has, and masks placed in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from cops_lp.errors import ProblemError

try:
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
except ImportError:  # torch 2.4
    from torch.distributed._tensor import (  # type: ignore[attr-defined]
        DTensor,
        Replicate,
        Shard,
        distribute_tensor,
    )

__all__ = ["Sharding", "distributed", "is_sharded", "local_part", "placed_as", "sharding_of"]

_WANTED = "wanted Shard(0) along one dimension of the mesh and Replicate along the others"


class Sharding(NamedTuple):
    """The one dimension of a mesh along which parameters are sharded.

    The first, where all are whole on every rank.
    """

    mesh: Any
    dim: int

    def group(self) -> dist.ProcessGroup:
        """The ranks that have a parameter's parts."""
        found: dist.ProcessGroup = self.mesh.get_group(self.dim)
        return found

    def replica_groups(self) -> list[dist.ProcessGroup]:
        """For each other dimension of the mesh, the ranks with the same parts."""
        others = (dim for dim in range(self.mesh.ndim) if dim != self.dim)
        return [self.mesh.get_group(dim) for dim in others if self.mesh.size(dim) > 1]


def sharding_of(tensors: Any) -> Sharding:
    """Along which mesh dimension the first sharded DTensor is, unchecked."""
    values = list(tensors.values()) if isinstance(tensors, Mapping) else []
    found = [value for value in values if isinstance(value, DTensor)]
    if not found:
        raise ProblemError(
            "target: holds no DTensor; wanted a mapping of names to DTensors "
            "(masks takes whole tensors, solve_sharded plain shards)"
        )
    placed = [
        Sharding(tensor.device_mesh, dim)
        for tensor in found
        for dim, placement in enumerate(tensor.placements)
        if not isinstance(placement, Replicate)
    ]
    sharding = placed[0] if placed else Sharding(found[0].device_mesh, 0)
    if sharding.mesh.get_coordinate() is None:
        raise ProblemError("target: this process is not in the mesh of its DTensors")
    return sharding


def is_sharded(label: str, tensor: Any, sharding: Sharding) -> bool:
    """Whether a tensor is sharded as the others are; False where it is whole on every rank.

    Raises
    ------
    ProblemError
        It is placed otherwise; the message begins with `label`.
    """
    if not isinstance(tensor, DTensor):
        return False
    placements = tensor.placements
    if all(isinstance(placement, Replicate) for placement in placements):
        return False
    said = f"{label} is placed {tuple(placements)}"
    for dim, placement in enumerate(placements):
        # _StridedShard is no Shard in recent versions, and one in earlier ones.
        plain = type(placement) is Shard and placement.dim == 0
        if not (isinstance(placement, Replicate) or (plain and dim == sharding.dim)):
            raise ProblemError(f"{said}; {_WANTED}")
    if tensor.device_mesh != sharding.mesh:
        raise ProblemError(
            f"{said} on {tensor.device_mesh}; wanted all on one mesh, {sharding.mesh}"
        )
    return True


def local_part(tensor: Any) -> Any:
    """A DTensor's part on this rank; what is none as it is."""
    if not isinstance(tensor, DTensor):
        return tensor
    part: Any = tensor.detach()
    return part.to_local()


def distributed(like: Any, whole: torch.Tensor) -> torch.Tensor:
    """A tensor that all ranks have as a DTensor like another one."""
    found: torch.Tensor = distribute_tensor(whole, like.device_mesh, like.placements)
    return found


def placed_as(tensor: Any, own: torch.Tensor) -> torch.Tensor:
    """A rank's part as a DTensor like another one; as it is where that is none."""
    if not isinstance(tensor, DTensor):
        return own
    if own.device.type != tensor.device_mesh.device_type:
        # FSDP2 keeps parameters on the CPU where it is told to offload them; from_local moves.
        meta: Any = tensor._spec.tensor_meta
        spec = replace(tensor._spec, tensor_meta=meta._replace(dtype=own.dtype))
        make: Any = DTensor
        offloaded: torch.Tensor = make(own, spec, requires_grad=False)
        return offloaded
    found: torch.Tensor = DTensor.from_local(
        own,
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
    return found
