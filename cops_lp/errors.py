"""The errors this package raises, all of them a :class:`CopsError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "CopsError",
    "InfeasibleError",
    "IntegerInfeasibleError",
    "MissingDependencyError",
    "ProblemError",
    "SolverError",
]


class CopsError(Exception):
    """Base of every error that cops_lp raises on purpose."""


class ProblemError(CopsError, ValueError):
    """An argument is not what the problem needs; the message names it."""


class SolverError(CopsError, RuntimeError):
    """A solver ended without an answer that passes its own checks."""


class MissingDependencyError(CopsError, ImportError):
    """An optional package is not installed.

    Parameters
    ----------
    package : str
        What could not be imported.
    extra : str
        The extra of cops-lp that brings it.
    purpose : str
        What it is needed for, as the end of "needed ...".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        self.purpose = purpose
        super().__init__(
            f"{package} is not installed; it is needed {purpose}. "
            f"Install it with: pip install 'cops-lp[{extra}]'"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra, self.purpose)


class InfeasibleError(CopsError):
    """No mask of exactly k weights, not even a fractional one, meets the floors.

    Attributes
    ----------
    names : tuple of str
        The controls.
    wanted : ndarray of float64, shape (K,)
        The floors asked for, in each control's unit.
    attainable : ndarray of float64, shape (K,)
        The most that each control can keep *alone* in k weights.
    certificate : ndarray of float64, shape (K,)
        Weights y ≥ 0 with yᵀb > T_k(Aᵀy): what the floors ask of the combined control
        exceeds the sum of its k largest entries, so no mask can meet them all.
    """

    def __init__(
        self,
        names: Sequence[str],
        wanted: np.ndarray,
        attainable: np.ndarray,
        certificate: np.ndarray,
        keep: int,
    ) -> None:
        self.names = tuple(names)
        self.wanted = wanted
        self.attainable = attainable
        self.certificate = certificate
        self.keep = keep
        super().__init__(self._message())

    def _message(self) -> str:
        lines = [
            f"{name!r}: wanted {w:.12g}, attainable {a:.12g}"
            for name, w, a in zip(self.names, self.wanted, self.attainable, strict=True)
        ]
        together = ""
        if all(w <= a for w, a in zip(self.wanted, self.attainable, strict=True)):
            together = "each can be met alone, but not all of them together: "
        return (
            f"no mask of {self.keep} weights meets the floors ({'; '.join(lines)}); "
            f"{together}lower a floor or keep more weights"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # so that it crosses from a worker process
        state = (self.names, self.wanted, self.attainable, self.certificate, self.keep)
        return type(self), state


class IntegerInfeasibleError(InfeasibleError):
    """The relaxation meets the floors, but no mask of k whole weights does; proven by search.

    Attributes are those of :class:`InfeasibleError`; no certificate exists, so it is zeros.
    """

    def _message(self) -> str:
        floors = "; ".join(
            f"{name!r}: wanted {w:.12g}" for name, w in zip(self.names, self.wanted, strict=True)
        )
        return (
            f"no mask of {self.keep} whole weights meets the floors ({floors}), though a "
            "fractional one does; lower a floor or keep more weights"
        )
