"""Scores of Linear weights from what flows into them: Wanda and RIA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cops_lp.errors import ProblemError

from ._batches import calibration, call_model, placed
from ._evaluation import collected, computing_dtype, guarded, is_number, run_on
from ._weights import Weight, Where, check_runs, checked_masks, select

__all__ = ["ria", "wanda"]


def wanda(
    model: nn.Module,
    inputs: Any,
    *,
    where: Where | None = None,
    dtype: torch.dtype | None = None,
    masks: Mapping[str, Tensor] | None = None,
    copy: bool = True,
) -> dict[str, Tensor]:
    """Score weights of Linear layers by Wanda, |W_ij| · ‖X_j‖₂.

    X_j is feature j of the layer's inputs over all calibration tokens: ‖X_j‖² sums over
    batches, positions (padded ones too) and, for a shared layer, calls.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, mapping, or iterable of these
        Calibration inputs, without labels: one batch or many. A mapping holds keyword
        arguments; within an iterable a tuple or list holds positional ones. Moved to the device
        of the first scored parameter.
    where : callable or collection of str, optional
        As in :func:`gss`, of Linear weights only. Default: all of them.
    dtype : torch.dtype, optional
        float32 or float64, in which the model runs, on copies. Default: its own, half precision
        included, since this runs forward alone.
    masks : mapping of str to Tensor, optional
        bool, shaped like the weights they name: the activations are those of the model with
        m ⊙ W in W's place. Removed weights are scored too, by their own |W|.
    copy : bool
        Run on a copy of the parameters. False runs on the parameters themselves and halves the
        memory, for models that do not write to them when they run (an Embedding with
        ``max_norm`` does). No choice with `dtype`.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, shape (out, in), as in :func:`gss`; float32 or wider.

    Raises
    ------
    ProblemError
        An argument is not as described; a selected parameter is no Linear's weight; a layer
        never ran (``torch.nn.MultiheadAttention`` does not call its ``out_proj``: leave it out
        with `where`); a score holds NaN or an infinity.

    Notes
    -----
    Sign: higher = keep. Cost: one forward pass a batch, none backward. Squares are formed and
    summed in float64. The model runs in evaluation mode (dropout does nothing, BatchNorm uses
    its running statistics) and is left as it was: see :func:`gss`. A weight pruned by
    ``torch.nn.utils.prune`` scores 0 where masked.

    The paper compares weights within one output row and scores layer after layer on the pruned
    network's activations; here all layers see the dense model's. Its code divides ‖X_j‖² by
    the number of calibration sequences, the same number for all layers, which changes no mask.

    References
    ----------
    .. [1] Sun, Liu, Bair, Kolter: A simple and effective pruning approach for large language
       models (2024), arXiv:2306.11695; code locuslab/wanda.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import wanda
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> wanda(model, torch.tensor([[3.0, 0.0], [4.0, 2.0]]))
    {'weight': tensor([[15.,  2.]])}
    """

    def score(weight: Tensor, norms: Tensor) -> Tensor:
        return weight.abs() * norms.to(weight.dtype)

    return _scored(model, inputs, where, dtype, masks, copy, score)


def ria(
    model: nn.Module,
    inputs: Any,
    *,
    power: float = 0.5,
    where: Where | None = None,
    dtype: torch.dtype | None = None,
    masks: Mapping[str, Tensor] | None = None,
    copy: bool = True,
) -> dict[str, Tensor]:
    """Score weights of Linear layers by relative importance and activations (RIA).

    (|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · ‖X_j‖₂^a: a weight's share of its column and
    of its row, times its input's norm to the power a. A weight of 0 scores 0.

    Parameters
    ----------
    model, inputs, where, dtype, masks, copy
        As in :func:`wanda`; importance is that of W, not of m ⊙ W.
    power : float
        a ≥ 0; 0 is relative importance alone, 0.5 what we know as the paper's choice.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, shape (out, in), as in :func:`wanda`.

    Raises
    ------
    ProblemError
        As in :func:`wanda`; or `power` is negative or not finite.

    Notes
    -----
    Sign: higher = keep. Cost and what it leaves as it was: as :func:`wanda`. The authors' code
    takes the root mean square over sequences for ‖X_j‖₂, which scales all scores alike.

    References
    ----------
    .. [1] Zhang, Bai, Lin, Zhao, Hou, Cannistraci: Plug-and-play: an efficient post-training
       pruning method for large language models (ICLR 2024); we had its abstract and the code
       biomedical-cybernetics/Relative-importance-and-activation-pruning.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import ria
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0], [1.0, 0.0]]))
    >>> ria(model, torch.tensor([[4.0, 1.0]]))
    {'weight': tensor([[3.0000, 1.2500],
            [2.5000, 0.0000]])}
    """
    if not is_number(power) or not 0.0 <= power < float("inf"):
        raise ProblemError(f"power is {power!r}; wanted a finite number, zero or above")

    def score(weight: Tensor, norms: Tensor) -> Tensor:
        size = weight.abs()
        columns, rows = (size.sum(dim, keepdim=True, dtype=torch.float64) for dim in (0, 1))
        share = sum(  # where a sum is 0 so is the weight: any other divisor gives 0
            size / total.masked_fill(total == 0.0, 1.0).to(size.dtype) for total in (columns, rows)
        )
        return share * norms.pow(float(power)).to(weight.dtype)

    return _scored(model, inputs, where, dtype, masks, copy, score)


def _scored(
    model: nn.Module,
    inputs: Any,
    where: Where | None,
    dtype: torch.dtype | None,
    masks: Mapping[str, Tensor] | None,
    copy: bool,
    score: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    if not copy and dtype is not None:
        raise ProblemError(f"copy is False, but dtype={dtype} needs copies; give one of the two")
    weights = select(model, where, (nn.Linear,))
    for weight in weights:
        if not _layers(weight):
            name, module, _ = weight.holders[0]
            raise ProblemError(
                f"where selects {name!r} of a {type(module).__name__}; wanted weights of Linear "
                "layers"
            )
    check_runs(model)
    wide = computing_dtype(model, dtype)
    kept = checked_masks(masks, weights)
    norms = _input_norms(model, weights, kept, inputs, dtype, copy)
    return collected(
        weights,
        (score(weight.value(wide), norm) for weight, norm in zip(weights, norms, strict=True)),
    )


def _layers(weight: Weight) -> list[nn.Linear]:
    found = {
        id(module): module
        for _, module, attribute in weight.holders
        if isinstance(module, nn.Linear) and attribute == "weight"
    }
    return list(found.values())


def _input_norms(
    model: nn.Module,
    weights: list[Weight],
    kept: list[Tensor | None],
    inputs: Any,
    dtype: torch.dtype | None,
    copy: bool,
) -> list[Tensor]:
    """Return ‖X_j‖₂ for each weight in the masked model, float64, shape (in,)."""
    squares: list[Tensor | None] = [None] * len(weights)

    def watch(index: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x: Tensor = (args[0] if args else kwargs["input"]).detach()
            if not x.numel():
                return
            # Squares of float32 would leave its range.
            x = x.reshape(-1, x.shape[-1]).to(torch.float64)
            found = x.square().sum(0).to(weights[index].parameter.device)
            before = squares[index]
            squares[index] = found if before is None else before + found

        return hook

    def copied(tensor: Tensor) -> Tensor:
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        return tensor.detach().to(kind, copy=True)

    own = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    cast = dtype or (own.pop() if len(own) == 1 else None)
    fused = torch.backends.mha.get_fastpath_enabled()
    with guarded(model, training=False), torch.no_grad():
        for index, weight in enumerate(weights):
            for layer in _layers(weight):  # the guard takes the hooks away again
                layer.register_forward_pre_hook(watch(index), with_kwargs=True)
        parameters = (
            {key: copied(tensor) for key, tensor in model.named_parameters()} if copy else {}
        )
        for weight, mask in zip(weights, kept, strict=True):
            if mask is not None:
                own_copy = parameters.setdefault(weight.key, copied(weight.parameter))
                own_copy.masked_fill_(~mask.to(own_copy.device), 0.0)
        # The fused encoder layer of torch.nn.Transformer calls none of its Linear layers.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for batch in calibration(inputs):
                here = placed(batch, weights[0].parameter.device, cast)

                def run(model: nn.Module, here: Any = here) -> Any:
                    return call_model(model, here)

                buffers = {key: copied(buffer) for key, buffer in model.named_buffers()}
                run_on(model, run, {**parameters, **buffers})
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
    for weight, total in zip(weights, squares, strict=True):
        if total is None:
            raise ProblemError(
                f"the layer of {weight.name!r} never ran on any row of the inputs, so it has no "
                "activations; "
                "leave it out with where="
            )
    return [total.sqrt() for total in squares if total is not None]
