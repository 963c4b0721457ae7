"""Small instances on the way of large ones."""

from __future__ import annotations

import pytest

from cops_lp.engine import driver, guess

__all__ = ["guess_early"]


def guess_early(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Guess from 40 weights on: from a "sample" of a hundred, or from the "whole"."""
    monkeypatch.setattr(driver, "_DIRECT", (40, 40, 40))
    monkeypatch.setattr(driver, "_SMALL", 0)
    monkeypatch.setattr(guess, "_FIRST", 32)
    monkeypatch.setattr(guess, "_KEPT", 8)
    if how == "sample":
        monkeypatch.setattr(driver, "_SAMPLE", (64, 128))
        monkeypatch.setattr(driver, "_WHOLE", 0)
        monkeypatch.setattr(driver, "_WHOLE_NEAR", 500)
