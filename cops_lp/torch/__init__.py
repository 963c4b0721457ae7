"""From a :class:`torch.nn.Module` to pruning scores: ``pip install 'cops-lp[torch]'``.

Importing this subpackage imports torch; ``import cops_lp`` does not.

========  ==================================================================
`scores`  pruning scores of a model: magnitude, SNIP, GraSP, SynFlow, ...
========  ==================================================================

Raises
------
MissingDependencyError
    On import, where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cops_lp.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError("torch", "torch", "by cops_lp.torch") from error

if TYPE_CHECKING:
    from . import scores

__all__ = ["scores"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
