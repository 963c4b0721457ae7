"""From a :class:`torch.nn.Module` to scores and masks: ``pip install 'cops-lp[torch]'``.

Importing this subpackage imports torch; ``import cops_lp`` does not.

=============================  ===============================================================
`scores`                       pruning scores of a model: magnitude, SNIP, GraSP, SynFlow, ...
`masks`, `balance`             masks from scores, as :func:`cops_lp.solve` and
                               :func:`cops_lp.balance` compute them
`masks_sharded`,               of DTensors and of plain shards, in a process group
`solve_sharded`
`prune_iteratively`            in rounds, the scores recomputed on the masked model
`apply_masks`, `remove_masks`  through :mod:`torch.nn.utils.prune`
`save_masks`, `load_masks`     as ``.safetensors`` files
`flat_score`                   a mapping of tensors, as the package's other functions take it
=============================  ===============================================================

Raises
------
MissingDependencyError
    On import, where torch is not installed.

Examples
--------
>>> import torch, cops_lp.torch
>>> magnitude = {"a": torch.tensor([[5.0, 1.0]]), "b": torch.tensor([4.0, 2.0, 3.0])}
>>> found = cops_lp.torch.masks(magnitude, keep=3)
>>> {name: mask.tolist() for name, mask in found.masks.items()}
{'a': [[True, False]], 'b': [True, False, True]}
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cops_lp.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError("torch", "torch", "by cops_lp.torch") from error

# Public name -> module that defines it.
_PUBLIC = {
    "IteratedPruning": "iterating",
    "Layer": "report",
    "LayerCollapseWarning": "report",
    "Pruning": "masking",
    "Report": "report",
    "Round": "iterating",
    "ShardedPruning": "sharding",
    "apply_masks": "applying",
    "balance": "masking",
    "flat_score": "mapping",
    "load_masks": "files",
    "masks": "masking",
    "masks_sharded": "sharded_masks",
    "prune_iteratively": "iterating",
    "remove_masks": "applying",
    "save_masks": "files",
    "solve_sharded": "sharding",
}

__all__ = [
    "IteratedPruning",
    "Layer",
    "LayerCollapseWarning",
    "Pruning",
    "Report",
    "Round",
    "ShardedPruning",
    "apply_masks",
    "balance",
    "flat_score",
    "load_masks",
    "masks",
    "masks_sharded",
    "prune_iteratively",
    "remove_masks",
    "save_masks",
    "scores",
    "solve_sharded",
]

if TYPE_CHECKING:
    from . import scores
    from .applying import apply_masks, remove_masks
    from .files import load_masks, save_masks
    from .iterating import IteratedPruning, Round, prune_iteratively
    from .mapping import flat_score
    from .masking import Pruning, balance, masks
    from .report import Layer, LayerCollapseWarning, Report
    from .sharded_masks import masks_sharded
    from .sharding import ShardedPruning, solve_sharded


def __getattr__(name: str) -> Any:
    if name == "scores":
        return import_module(f".{name}", __name__)
    if name in _PUBLIC:
        value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
