"""Weights that :mod:`torch.nn.utils.prune` computes anew before their module runs."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune

__all__ = ["pruning_hooks", "recompute"]


def pruning_hooks(module: nn.Module) -> list[prune.BasePruningMethod]:
    """Return what prunes parameters of a module, those of its submodules apart."""
    return [
        hook
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, prune.BasePruningMethod)
    ]


def recompute(module: nn.Module) -> None:
    """Compute a module's own pruned weights anew, as its next forward pass would."""
    for hook in pruning_hooks(module):
        hook(module, ())
