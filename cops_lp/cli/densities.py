"""What masks by several scores leave of each layer, and of each score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from cops_lp.files import new_file
from cops_lp.problem import Problem
from cops_lp.torch import flat_score

__all__ = ["Densities", "densities", "write_markdown"]

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Densities:
    """Counts by mask and layer, and shares by mask and score.

    Attributes
    ----------
    layers : dict of str to int
        Weights of each layer.
    kept : dict of str to dict of str to int
        By mask, then by layer.
    shares : dict of str to dict of str to float
        By mask, then by score: its sum over the mask, over the most that so many weights could
        have; NaN where that is not positive.
    """

    SHARES: ClassVar[str] = (
        "What each mask keeps of the dense model's scores, of the most that so many weights could:"
    )

    layers: dict[str, int]
    kept: dict[str, dict[str, int]]
    shares: dict[str, dict[str, float]]

    @property
    def total(self) -> tuple[int, int]:
        """How many weights are kept, the same by every mask, and how many there are."""
        return sum(next(iter(self.kept.values())).values()), sum(self.layers.values())

    def density(self, mask: str, layer: str) -> float:
        """Share of the layer's weights kept, NaN for one without weights."""
        size = self.layers[layer]
        return self.kept[mask][layer] / size if size else float("nan")

    def emptied(self) -> dict[str, list[str]]:
        """List by mask the layers that have weights and keep none."""
        return {
            mask: [layer for layer, size in self.layers.items() if size and not kept[layer]]
            for mask, kept in self.kept.items()
        }

    def density_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: a layer a row, a mask a column, the total last."""
        rows = [
            [layer, f"{size:,}", *(_percent(self.density(mask, layer)) for mask in self.kept)]
            for layer, size in self.layers.items()
        ]
        kept, size = self.total
        rows.append(["total", f"{size:,}", *([_percent(kept / size)] * len(self.kept))])
        return ["layer", "weights", *self.kept], rows

    def share_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: a mask a row, a score a column."""
        rows = [[mask, *map(_percent, shares.values())] for mask, shares in self.shares.items()]
        return ["mask", *next(iter(self.shares.values()))], rows

    def payload(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {
            "layers": [
                {
                    "name": layer,
                    "weights": size,
                    "kept": {mask: kept[layer] for mask, kept in self.kept.items()},
                }
                for layer, size in self.layers.items()
            ],
            "shares": self.shares,
        }


def densities(masks: Mapping[str, Tensors], scores: Mapping[str, Tensors]) -> Densities:
    """Count what masks keep, all of as many weights.

    Parameters
    ----------
    masks : mapping of str to mapping of str to Tensor of bool
        By mask, then by layer.
    scores : mapping of str to mapping of str to Tensor
        By score, then by layer.
    """
    first = next(iter(masks.values()))
    layers = {layer: mask.numel() for layer, mask in first.items()}
    kept = {
        name: {layer: int(own.count_nonzero()) for layer, own in mask.items()}
        for name, mask in masks.items()
    }
    count = sum(next(iter(kept.values())).values())
    most = {
        name: float(Problem(flat_score(score), keep=count).best()[0])
        for name, score in scores.items()
    }
    shares = {
        mask: {
            name: _sum(score, own) / most[name] if most[name] > 0.0 else float("nan")
            for name, score in scores.items()
        }
        for mask, own in masks.items()
    }
    return Densities(layers, kept, shares)


def write_markdown(path: Path, lines: Sequence[str], table: Densities, *, overwrite: bool) -> None:
    """Write the tables as Markdown, whole or not at all.

    Parameters
    ----------
    path : path
    lines : sequence of str
        What was done; the first is the title.
    table : Densities
    overwrite : bool
        Replace a file that exists.
    """
    title, *rest = lines
    parts = [f"# {title}", *rest, "## Density of each layer by mask"]
    parts += ["\n".join(_markdown(*table.density_table())), "## Scores kept", Densities.SHARES]
    parts.append("\n".join(_markdown(*table.share_table())))
    with new_file(path, overwrite=overwrite) as file:
        file.write(("\n\n".join(parts) + "\n").encode())


def _sum(score: Tensors, mask: Tensors) -> float:
    return sum(
        float(score[layer].detach()[own].sum(dtype=torch.float64)) for layer, own in mask.items()
    )


def _percent(share: float) -> str:
    return f"{share:.2%}" if share == share else "–"  # NaN


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
