"""Weights that are replaced as a module runs: by :mod:`torch.nn.utils.prune`, and by FSDP."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune

from cops_lp.errors import ProblemError

__all__ = ["bare_name", "check_no_fsdp", "pruning_hook", "pruning_hooks", "recompute"]

_FSDP = {"FSDPModule", "FullyShardedDataParallel"}


def pruning_hooks(module: nn.Module) -> list[prune.BasePruningMethod]:
    """Return what prunes parameters of a module, those of its submodules apart."""
    return [
        hook
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, prune.BasePruningMethod)
    ]


def pruning_hook(module: nn.Module, name: str) -> prune.BasePruningMethod | None:
    """Return what prunes a module's own parameter, if anything does."""
    return next((hook for hook in pruning_hooks(module) if hook._tensor_name == name), None)


def bare_name(module: nn.Module, name: str) -> str:
    """Return a module's own parameter's name before pruning, which makes ``x`` to ``x_orig``.

    Only what a hook prunes: a model may call a parameter of its own ``x_orig``.
    """
    bare = name.removesuffix("_orig")
    return name if pruning_hook(module, bare) is None else bare


def check_no_fsdp(model: nn.Module, wanted: str) -> None:
    """Raise ProblemError where FSDP replaces a model's parameters as they are needed."""
    for name, module in model.named_modules():
        if any(kind.__name__ in _FSDP for kind in type(module).__mro__):
            where = f" ({name!r})" if name else ""
            raise ProblemError(
                f"model is sharded by FSDP{where}, which replaces parameters as it runs; {wanted}"
            )


def recompute(module: nn.Module) -> None:
    """Compute a module's own pruned weights anew, as its next forward pass would."""
    for hook in pruning_hooks(module):
        hook(module, ())
