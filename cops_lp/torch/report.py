"""What masks leave of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Layer", "LayerCollapseWarning", "Report"]


class LayerCollapseWarning(UserWarning):
    """A mask keeps nothing of a layer, so that no signal passes through it."""


class Layer(NamedTuple):
    """One tensor and what its mask keeps: `size` weights, `kept` of them."""

    name: str
    size: int
    kept: int

    @property
    def density(self) -> float:
        """Share of the weights kept, in [0, 1]; NaN for a tensor without weights."""
        return self.kept / self.size if self.size else float("nan")


@dataclass(frozen=True, slots=True)
class Report:
    """The layers in the order of the scores, and how many weights of each are kept.

    Printed, it is a table.

    Attributes
    ----------
    layers : tuple of Layer
    """

    layers: tuple[Layer, ...]

    @property
    def emptied(self) -> tuple[str, ...]:
        """Names of the layers that had weights and keep none."""
        return tuple(layer.name for layer in self.layers if layer.size and not layer.kept)

    @property
    def total(self) -> Layer:
        """All layers together."""
        return Layer(
            "total",
            sum(layer.size for layer in self.layers),
            sum(layer.kept for layer in self.layers),
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Return the printed table's cells, header first and the total last."""
        return [
            ("layer", "weights", "kept", "density"),
            *(
                (
                    layer.name,
                    f"{layer.size:,}",
                    f"{layer.kept:,}",
                    f"{layer.density:.2%}" if layer.size else "–",
                )
                for layer in (*self.layers, self.total)
            ),
        ]

    def __str__(self) -> str:
        header, *body, total = self.rows()
        widths = [max(map(len, column)) for column in zip(header, *body, total, strict=True)]

        def line(row: tuple[str, ...]) -> str:
            first, *rest = (
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return "  ".join((first, *rest))

        rule = "-" * len(line(header))
        lines = [line(header), rule, *map(line, body), rule, line(total)]
        return "\n".join(lines)
