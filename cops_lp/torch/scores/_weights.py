"""Which parameters of a model are scored, each once, and under which name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from cops_lp.errors import ProblemError
from cops_lp.torch.pruned import bare_name, check_no_fsdp

__all__ = ["LAYERS", "Weight", "Where", "check_runs", "checked_masks", "select"]

Where = Callable[[str, nn.Parameter, nn.Module], bool] | Collection[str]
"""`where=`: a predicate of (name, parameter, module that holds it), or names."""

LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
"""Their parameter ``weight`` is scored by default."""


@dataclass
class Weight:
    """One scored parameter, however many modules share it."""

    name: str  # as reported: "fc.weight", also while torch.nn.utils.prune masks it
    key: str  # as named_parameters() has it: "fc.weight" or "fc.weight_orig"
    parameter: nn.Parameter
    mask: Tensor | None  # of torch.nn.utils.prune, 0 or 1
    holders: list[tuple[str, nn.Module, str]] = field(default_factory=list)
    """(name, module, attribute) wherever it is held; the first gives `name`."""

    def value(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return what the model computes with, detached: the parameter, masked if it is."""
        value = self.parameter.detach()
        value = value if dtype is None else value.to(dtype)
        return value if self.mask is None else value * self.mask.detach().to(value.dtype)


def select(
    model: nn.Module, where: Where | None, layers: tuple[type[nn.Module], ...] = LAYERS
) -> list[Weight]:
    """Return the parameters to score in the model's own order.

    Without `where`, the parameter ``weight`` of every module that is one of `layers`.

    Raises
    ------
    ProblemError
        `model` is no plain module; a name in `where` is unknown; nothing is selected; a layer
        computes its weight from other parameters; a parameter has no real values to score.
    """
    if not isinstance(model, nn.Module):
        raise ProblemError(f"model is a {type(model).__name__}; wanted a torch.nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ProblemError("model holds a torch.jit.ScriptModule; wanted one that is not compiled")
    if isinstance(where, str):
        raise ProblemError(f"where is the text {where!r}; wanted a collection of names")
    every = _candidates(model)
    if where is None:
        _check_layers(model, every, layers)
        chosen = [
            weight
            for weight in every
            if any(
                isinstance(module, layers) and attribute == "weight"
                for _, module, attribute in weight.holders
            )
        ]
    elif callable(where):
        chosen = [
            weight
            for weight in every
            if any(where(name, weight.parameter, module) for name, module, _ in weight.holders)
        ]
    elif isinstance(where, Collection):
        chosen = _named(every, where)
    else:
        raise ProblemError(
            f"where is a {type(where).__name__}; wanted a predicate of (name, parameter, module) "
            "or a collection of parameter names"
        )
    if not chosen:
        kinds = ", ".join(layer.__name__ for layer in layers)
        raise ProblemError(
            f"where selects none of the model's {len(every)} parameters"
            if where is not None
            else f"model has no weight to score ({kinds}); choose parameters with where="
        )
    for weight in chosen:
        _check_values(weight)
    return chosen


def checked_masks(masks: Mapping[str, Tensor] | None, weights: list[Weight]) -> list[Tensor | None]:
    """Return the mask of each weight, None where `masks` has none.

    Raises
    ------
    ProblemError
        A name is none of the scored ones, or a mask is not bool or not of the weight's shape.
    """
    if masks is None:
        return [None] * len(weights)
    if not isinstance(masks, Mapping):
        raise ProblemError(f"masks is a {type(masks).__name__}; wanted a mapping name -> tensor")
    _check_known("masks", masks, [weight.name for weight in weights], "scored parameters")
    for weight in weights:
        mask = masks.get(weight.name)
        if mask is not None and (
            not isinstance(mask, Tensor)
            or mask.dtype != torch.bool
            or mask.shape != weight.parameter.shape
        ):
            got = (
                f"{mask.dtype} of shape {tuple(mask.shape)}"
                if isinstance(mask, Tensor)
                else f"a {type(mask).__name__}"
            )
            raise ProblemError(
                f"masks[{weight.name!r}] is {got}; wanted a torch.bool tensor of shape "
                f"{tuple(weight.parameter.shape)}"
            )
    return [masks.get(weight.name) for weight in weights]


def check_runs(model: nn.Module) -> None:
    """Raise ProblemError where a model can't run as it is."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise ProblemError(f"parameter {name!r} has no shape yet; run the model once first")
    check_no_fsdp(
        model,
        "score it before that, or form scores from the gradients of its own backward pass "
        "(docs/torch.md)",
    )


def _candidates(model: nn.Module) -> list[Weight]:
    found: dict[int, Weight] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        buffers = dict(module.named_buffers(recurse=False))
        for local, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            attribute = bare_name(module, local)
            mask = buffers.get(f"{attribute}_mask") if attribute != local else None
            key, name = (".".join(filter(None, (prefix, end))) for end in (local, attribute))
            weight = found.setdefault(id(parameter), Weight(name, key, parameter, mask))
            weight.holders.append((name, module, attribute))
    return list(found.values())


def _check_layers(
    model: nn.Module, every: list[Weight], layers: tuple[type[nn.Module], ...]
) -> None:
    held = {
        id(module)
        for weight in every
        for _, module, attribute in weight.holders
        if attribute == "weight"
    }
    for name, module in model.named_modules():
        if isinstance(module, layers) and id(module) not in held:
            own = ", ".join(repr(local) for local, _ in module.named_parameters()) or "none"
            raise ProblemError(
                f"the layer {name!r} computes its weight by a "
                f"parametrization (its parameters: {own}); remove that, or choose parameters "
                "with where="
            )


def _named(every: list[Weight], names: Collection[str]) -> list[Weight]:
    aliases = {name: weight for weight in every for name, _, _ in weight.holders}
    _check_known("where", names, list(aliases), "parameters of the model")
    wanted = {id(aliases[name]) for name in names}
    return [weight for weight in every if id(weight) in wanted]


def _check_known(argument: str, names: Collection[str], known: list[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, n=3) or known[:3]
            raise ProblemError(
                f"{argument} names {name!r}, none of the {len(known)} {what} "
                f"(such as {', '.join(map(repr, near))})"
            )


def _check_values(weight: Weight) -> None:
    parameter = weight.parameter
    if isinstance(parameter, UninitializedParameter):
        raise ProblemError(f"parameter {weight.name!r} has no shape yet; run the model once first")
    if parameter.is_meta:
        raise ProblemError(f"parameter {weight.name!r} is on the meta device and has no values")
    if not parameter.is_floating_point():
        raise ProblemError(
            f"parameter {weight.name!r} is {parameter.dtype}; wanted a floating-point one"
        )
