"""Masks on a model, through :mod:`torch.nn.utils.prune`."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from cops_lp.errors import ProblemError

from .pruned import pruning_hooks, recompute

__all__ = ["apply_masks", "remove_masks"]

Place = tuple[nn.Module, str]


class _FromMask(prune.CustomFromMask):
    """torch's own pruning by a given mask, on a module that can be copied.

    The pruned weight is computed from the parameter, so no leaf, and torch refuses to copy such
    tensors. Here the copy gets a detached one, until its next forward pass computes its own.
    """

    _module: weakref.ref[nn.Module] | None = None  # weak: the module holds this hook

    def apply_mask(self, module: nn.Module) -> torch.Tensor:
        self._module = weakref.ref(module)
        pruned: torch.Tensor = super().apply_mask(module)  # type: ignore[no-untyped-call]
        return pruned

    def __deepcopy__(self, memo: dict[int, Any]) -> _FromMask:
        # A module's hooks are copied before the pruned weight, which is set on it later.
        module = self._module and self._module()
        pruned = vars(module).get(self._tensor_name) if module is not None else None
        if isinstance(pruned, torch.Tensor):
            memo[id(pruned)] = pruned.detach().clone()
        found = type(self).__new__(type(self))
        memo[id(self)] = found
        for name, value in self.__getstate__().items():
            setattr(found, name, copy.deepcopy(value, memo))
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_module"}


def apply_masks(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Hold a model's parameters to masks: what is not kept is zero from now on.

    Each parameter ``name`` becomes ``name_orig``, which is what an optimizer trains, and
    ``name`` the product of it and the buffer ``name_mask``, computed anew before every forward
    pass (:func:`torch.nn.utils.prune.custom_from_mask`) of the module that holds it, or of the
    one around that, which may use the weight itself (as `MultiheadAttention` does that of its
    ``out_proj``). So the weights pruned get no gradient and stay zero, whatever an optimizer does
    to them; `state_dict` holds both, and the model can be copied by :func:`copy.deepcopy` and
    saved. Make the optimizer after this call, or before:
    the parameters remain the same objects.

    Parameters
    ----------
    model : Module
    masks : mapping of str to Tensor of bool
        By parameter name, as in ``model.named_parameters()`` of the model before any pruning,
        in the parameters' shapes, on any device. A parameter that the model uses in several
        places is masked in all of them. One already pruned gets the new mask instead of its
        old one: its weights, pruned or not, are as they were in ``name_orig``.

    Raises
    ------
    ProblemError
        A name is no parameter of the model, a mask is not bool or not in the parameter's shape,
        or two names of one parameter have different masks. Nothing is changed then.

    Notes
    -----
    One more copy of each masked parameter (the product) and one of its mask, in the parameter's
    dtype. Each forward pass computes the product once, twice below a module other than
    `Sequential`. No random state is used.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> apply_masks(model, {"weight": torch.tensor([[True, False]])})
    >>> model(torch.tensor([[0.0, 1.0]])).item() == model.bias.item()
    True
    """
    if not isinstance(masks, Mapping):
        raise ProblemError(f"masks: {type(masks).__name__}; wanted a mapping name -> tensor")
    places = _places(model)
    chosen: dict[int, torch.Tensor] = {}
    for name, mask in masks.items():
        if name not in places:
            raise ProblemError(
                f"masks: {name!r} is no parameter of {type(model).__name__}; wanted one of "
                "named_parameters() before any pruning"
            )
        _check_mask(name, mask, _parameter(places[name]))
        parameter = _parameter(places[name])
        other = chosen.setdefault(id(parameter), mask)
        if other is not mask and not torch.equal(other.cpu(), mask.cpu()):
            raise ProblemError(
                f"masks: {name!r} is the same parameter as another one with another mask"
            )
    for place in dict.fromkeys(places.values()):
        own = chosen.get(id(_parameter(place)))
        if own is not None:
            _mask(place, own)
    _watch(model)


def remove_masks(model: nn.Module, names: Iterable[str] | None = None) -> None:
    """Make the masks of a model permanent: the parameters are whole again, zeros where pruned.

    Parameters
    ----------
    model : Module
    names : iterable of str, optional
        Of the parameters, as for :func:`apply_masks`; all that are pruned by default.

    Raises
    ------
    ProblemError
        A name is no pruned parameter of the model. Nothing is changed then.

    Notes
    -----
    :func:`torch.nn.utils.prune.remove`. Training from here on moves the zeros too.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> apply_masks(model, {"weight": torch.tensor([[True, False]])})
    >>> remove_masks(model)
    >>> [name for name, _ in model.named_parameters()], model.weight[0, 1].item() == 0.0
    (['bias', 'weight'], True)
    """
    pruned = {name: place for name, place in _places(model).items() if _hook(place) is not None}
    wanted = list(pruned) if names is None else list(names)
    for name in wanted:
        if name not in pruned:
            raise ProblemError(f"names: {name!r} is no pruned parameter of {type(model).__name__}")
    parameters = {id(_parameter(pruned[name])) for name in wanted}
    for place in dict.fromkeys(pruned.values()):
        if id(_parameter(place)) in parameters:
            prune.remove(*place)  # type: ignore[no-untyped-call]
    _watch(model)


def _places(model: nn.Module) -> dict[str, Place]:
    """Every name of every parameter, without what pruning adds to it."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            bare = name.removesuffix("_orig")
            own = bare if name != bare and _hook((module, bare)) is not None else name
            if parameter is not None:
                found[f"{path}.{own}" if path else own] = (module, own)
    return found


def _hook(place: Place) -> prune.BasePruningMethod | None:
    """What prunes a parameter, if anything does."""
    module, name = place
    return next((hook for hook in pruning_hooks(module) if hook._tensor_name == name), None)


def _parameter(place: Place) -> torch.Tensor:
    module, name = place
    found: torch.Tensor = getattr(module, name if _hook(place) is None else f"{name}_orig")
    return found


def _check_mask(name: str, mask: Any, parameter: torch.Tensor) -> None:
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        what = f"of {mask.dtype}" if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise ProblemError(f"masks: {name!r} is {what}; wanted a tensor of bool")
    if mask.shape != parameter.shape:
        raise ProblemError(
            f"masks: {name!r} has shape {tuple(mask.shape)}; wanted the parameter's, "
            f"{tuple(parameter.shape)}"
        )


def _mask(place: Place, mask: torch.Tensor) -> None:
    module, name = place
    old = _hook(place)
    if old is not None:
        # Applied on top, the new mask could only take away from the old one.
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is old:
                del module._forward_pre_hooks[key]
        original = module._parameters.pop(f"{name}_orig")
        del module._buffers[f"{name}_mask"]
        delattr(module, name)
        module.register_parameter(name, original)
    on_device = mask.to(_parameter(place).device)
    _FromMask.apply(module, name, mask=on_device)  # type: ignore[no-untyped-call]


def _watch(model: nn.Module) -> None:
    """Have modules recompute the pruned weights of those inside, which they may not call."""
    for module in model.modules():
        hooks = module._forward_pre_hooks
        keys = [key for key, hook in hooks.items() if hook is _recompute_inside]
        calls_all = type(module).forward is nn.Sequential.forward
        if not calls_all and any(pruning_hooks(inner) for inner in _inside(module)):
            if not keys:
                module.register_forward_pre_hook(_recompute_inside)
        else:
            for key in keys:
                del hooks[key]


def _recompute_inside(module: nn.Module, _: Any) -> None:
    for inner in _inside(module):
        recompute(inner)


def _inside(module: nn.Module) -> Iterator[nn.Module]:
    """Modules right inside of one, containers that never run (lists, dicts) looked through."""
    for child in module.children():
        yield child
        if type(child).forward is nn.Module.forward:
            yield from _inside(child)
