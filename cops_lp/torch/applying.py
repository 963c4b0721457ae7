"""Masks on a model, through :mod:`torch.nn.utils.prune`."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune

from cops_lp.errors import ProblemError

from .pruned import bare_name, check_no_fsdp, pruning_hook, pruning_hooks, recompute

__all__ = ["apply_masks", "check_mask", "remove_masks"]

Place = tuple[nn.Module, str]


class _FromMask(prune.CustomFromMask):
    """torch's own pruning by a given mask, on a module that can be copied.

    The pruned weight is computed from the parameter, so no leaf, and torch refuses to copy such
    tensors. Here the copy gets a detached one, until its next forward pass computes its own.
    """

    _modules: weakref.WeakSet[nn.Module] | None = None
    """Those it has run on: shallow copies of a module share its hooks, which it holds."""

    def apply_mask(self, module: nn.Module) -> torch.Tensor:
        if self._modules is None:
            self._modules = weakref.WeakSet()
        self._modules.add(module)
        pruned: torch.Tensor = super().apply_mask(module)  # type: ignore[no-untyped-call]
        return pruned

    def __deepcopy__(self, memo: dict[int, Any]) -> _FromMask:
        # A module's hooks are copied before the pruned weight, which is set on it later.
        for module in list(self._modules or ()):
            pruned = vars(module).get(self._tensor_name)
            if isinstance(pruned, torch.Tensor):
                memo[id(pruned)] = pruned.detach().clone()
                # The memo's way to keep an object, and so its id, until all is copied.
                memo.setdefault(id(memo), []).append(pruned)
        found = type(self).__new__(type(self))
        memo[id(self)] = found
        for name, value in self.__getstate__().items():
            setattr(found, name, copy.deepcopy(value, memo))
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_modules"}


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
        `model` is no module or sharded by FSDP (mask it before that), a name is no parameter of
        it, a mask is no dense bool tensor with values or not in
        the parameter's shape, two names of one parameter have different masks, or a parameter
        has no shape yet, is compiled by :mod:`torch.jit`, is a DTensor where its mask is none, or
        lies in a module that has an attribute ``name_orig`` or ``name_mask`` of its own. Nothing
        is changed then.

    Notes
    -----
    One more copy of each masked parameter (the product) and two of its mask, in the parameter's
    dtype and in bool. Each forward pass computes the product once, twice below a module other than
    `Sequential`. A pruned weight must be finite: torch forms its product with 0. No random state
    is used.

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
    _check_model(model)
    places = _places(model)
    chosen: dict[int, torch.Tensor] = {}
    for name, mask in masks.items():
        if name not in places:
            raise ProblemError(
                f"masks: {name!r} is no parameter of {type(model).__name__}; wanted one of "
                "named_parameters() before any pruning"
            )
        parameter = _parameter(places[name])
        check_mask(name, mask)
        _check_shape(name, mask, parameter)
        other = chosen.setdefault(id(parameter), mask)
        if other is not mask and not torch.equal(other.cpu(), mask.cpu()):
            raise ProblemError(
                f"masks: {name!r} is the same parameter as another one with another mask"
            )
    masked = {
        place: (name, chosen[id(_parameter(place))])
        for name, place in places.items()
        if id(_parameter(place)) in chosen
    }
    for place, (name, _) in masked.items():
        _check_place(name, place)
    for place, (_, mask) in masked.items():
        _mask(place, mask)
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
        `model` is no module or sharded by FSDP, or a name is no pruned parameter of it. Nothing
        is changed then.

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
    _check_model(model)
    places = _places(model)
    pruned = {name: place for name, place in places.items() if pruning_hook(*place) is not None}
    wanted = list(pruned) if names is None else list(names)
    for name in wanted:
        if name not in pruned:
            raise ProblemError(f"names: {name!r} is no pruned parameter of {type(model).__name__}")
    parameters = {id(_parameter(pruned[name])) for name in wanted}
    for place in dict.fromkeys(pruned.values()):
        if id(_parameter(place)) in parameters:
            with _mode_of(_parameter(place)):
                prune.remove(*place)  # type: ignore[no-untyped-call]
    _watch(model)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise ProblemError(f"model is a {type(model).__name__}; wanted a torch.nn.Module")
    check_no_fsdp(
        model,
        "apply masks before it is sharded, or multiply its parameters by them after each step of "
        "the optimizer",
    )


def _places(model: nn.Module) -> dict[str, Place]:
    """Every name of every parameter, without what pruning adds to it."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            own = bare_name(module, name)
            if parameter is not None:
                found[f"{path}.{own}" if path else own] = (module, own)
    return found


def _parameter(place: Place) -> torch.Tensor:
    module, name = place
    found: torch.Tensor = getattr(
        module, name if pruning_hook(module, name) is None else f"{name}_orig"
    )
    return found


@contextmanager
def _mode_of(parameter: torch.Tensor) -> Iterator[None]:
    """Inference mode for parameters made in it, for no others: these could not be trained."""
    grad = torch.is_grad_enabled()
    with torch.inference_mode(parameter.is_inference()), torch.set_grad_enabled(grad):
        yield


def check_mask(name: str, mask: Any) -> None:
    """Raise ProblemError for what is no dense tensor of bool with values."""
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        what = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise ProblemError(f"masks: {name!r} is {what}; wanted a tensor of bool")
    if mask.layout != torch.strided or mask.is_meta:
        kind = "on device meta" if mask.is_meta else f"of layout {mask.layout}"
        raise ProblemError(f"masks: {name!r} is {kind}; wanted a dense tensor with values")


def _check_shape(name: str, mask: torch.Tensor, parameter: torch.Tensor) -> None:
    if is_lazy(parameter):
        raise ProblemError(f"masks: {name!r} has no shape yet; run the model once first")
    if mask.shape != parameter.shape:
        raise ProblemError(
            f"masks: {name!r} has shape {tuple(mask.shape)}; wanted the parameter's, "
            f"{tuple(parameter.shape)}"
        )
    kinds = [
        "a DTensor" if hasattr(each, "device_mesh") else "no DTensor" for each in (mask, parameter)
    ]
    if kinds[0] != kinds[1]:
        raise ProblemError(
            f"masks: {name!r} is {kinds[0]}; wanted one like its parameter, which is {kinds[1]}"
        )


def _check_place(name: str, place: Place) -> None:
    """Raise ProblemError where torch's pruning would fail, half done."""
    module, own = place
    if isinstance(module, torch.jit.ScriptModule):
        raise ProblemError(
            f"masks: {name!r} is in a {type(module).__name__}; wanted a module that is not compiled"
        )
    if pruning_hook(module, own) is None:
        for taken in (f"{own}_orig", f"{own}_mask"):
            if hasattr(module, taken):
                raise ProblemError(
                    f"masks: {name!r} is in a {type(module).__name__} that has its own {taken!r}; "
                    "wanted this name free for pruning"
                )


def _mask(place: Place, mask: torch.Tensor) -> None:
    module, name = place
    parameter, old = _parameter(place), pruning_hook(module, name)
    with _mode_of(parameter):
        # A copy, as the hook keeps it: a view would keep, and be saved with, all layers' masks.
        own = mask.to(parameter.device, copy=True)
    if old is not None:
        # Applied on top, the new mask could only take away from the old one.
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is old:
                del module._forward_pre_hooks[key]
        original = module._parameters.pop(f"{name}_orig")
        del module._buffers[f"{name}_mask"]
        delattr(module, name)
        module.register_parameter(name, original)
    with _mode_of(parameter):
        hook = _FromMask.apply(module, name, mask=own)  # type: ignore[no-untyped-call]
    # First, since older hooks may compute with the weight: those of weight and spectral norm.
    module._forward_pre_hooks.popitem()
    module.register_forward_pre_hook(hook, prepend=True)


def _watch(model: nn.Module) -> None:
    """Have modules recompute the pruned weights of those inside, which they may not call."""
    for module in model.modules():
        hooks = module._forward_pre_hooks
        keys = [key for key, hook in hooks.items() if hook is _recompute_inside]
        calls_all = _forward(module) is nn.Sequential.forward
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
        if _forward(child) is nn.Module.forward:
            yield from _inside(child)


def _forward(module: nn.Module) -> Any:
    return getattr(type(module), "forward", None)  # those that torch.jit compiles have none
