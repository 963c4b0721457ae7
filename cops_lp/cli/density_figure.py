"""The picture of ``cops-lp prune``: each layer's density by every mask."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cops_lp.files import new_file

from .densities import Densities

__all__ = ["draw_densities", "write_figure"]

_COLORS = ("#D55E00", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#8C6D31", "#7F7F7F", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_COMBINED, _BLUE, _INK = "COPS", "#0072B2", "#222222"
_MOST_LABELS = 60
_TOP = 1.25
_HIGHEST_BOTTOM = 0.1  # so that a decade shows at least
_ROW = 0.04  # height of a row of crosses, of the decades shown


def write_figure(path: Path, table: Densities, title: str, *, overwrite: bool) -> None:
    """Draw it into a file, whole or not at all."""
    figure = draw_densities(table, title)
    with new_file(path, overwrite=overwrite) as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=200)


def draw_densities(table: Densities, title: str) -> Figure:
    """Draw densities on a logarithmic scale over the layers, and the layers' sizes below.

    Layers that a mask empties, which no such scale can show, are crosses in a band of their own,
    a row for each such mask.

    Parameters
    ----------
    table : Densities
    title : str

    Returns
    -------
    matplotlib Figure
    """
    layers = [layer for layer, size in table.layers.items() if size]
    width = min(14.0, max(6.4, 2.2 + 0.3 * len(layers)))
    figure = Figure(figsize=(width, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    place = np.arange(len(layers))
    values = {mask: np.array([table.density(mask, each) for each in layers]) for mask in table.kept}
    positive = np.concatenate([value[value > 0.0] for value in values.values()])
    lowest = min(positive.min(), _HIGHEST_BOTTOM)
    bottom = 10 ** (np.floor(np.log10(lowest) * 2.0) / 2.0) / 1.6
    emptying = [mask for mask, value in values.items() if not value.all()]
    height = (_TOP / bottom) ** _ROW
    rows = {mask: bottom / height ** (row + 0.5) for row, mask in enumerate(emptying)}
    end = bottom / height ** len(emptying)
    for number, (mask, value) in enumerate(values.items()):
        _draw_mask(upper, mask, number, place, value, rows.get(mask, bottom))
    if emptying:
        upper.axhspan(end, bottom, color="#F1F1F1", zorder=0)
        upper.annotate(
            "none",
            (0.0, (end * bottom) ** 0.5),
            xycoords=("axes fraction", "data"),
            xytext=(-7, 0),
            textcoords="offset points",
            ha="right",
            va="center",
        )
    kept, size = table.total
    upper.axhline(kept / size, color="#9A9A9A", linewidth=1.0, linestyle="--", zorder=1)
    upper.annotate(
        f"all layers: {_as_percent(kept / size, 0)}",
        (0.0, kept / size),
        xycoords=("axes fraction", "data"),
        xytext=(5, -4),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color="#6A6A6A",
    )
    upper.set_yscale("log")
    upper.set_ylim(end, _TOP)
    upper.yaxis.set_major_locator(
        FixedLocator([10.0**decade for decade in range(int(np.floor(np.log10(bottom))) + 1, 1)])
    )
    upper.yaxis.set_major_formatter(FuncFormatter(_as_percent))
    upper.yaxis.set_minor_locator(NullLocator())
    upper.set_ylabel("density: share of the layer kept")
    lower.bar(place, [table.layers[each] for each in layers], color="#C9CED3", width=0.8)
    lower.set_ylabel("weights")
    lower.yaxis.set_major_formatter(FuncFormatter(_as_count))
    step = -(-len(layers) // _MOST_LABELS)
    lower.set_xticks(
        place[::step], _short(layers)[::step], rotation=60, ha="right", rotation_mode="anchor"
    )
    lower.tick_params(axis="x", labelsize=7.5)
    lower.set_xlim(-0.6, len(layers) - 0.4)
    for axis in (upper, lower):
        axis.grid(axis="y", color="#DDDDDD", linewidth=0.6, zorder=0)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = upper.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(handles), max(3, int(width // 1.5))),
        fontsize=8.5,
        frameon=False,
        columnspacing=1.6,
        handletextpad=0.5,
    )
    figure.suptitle(fill(title, int(width * 10)), fontsize=11, color=_INK)
    return figure


def _draw_mask(
    axis: Any, mask: str, number: int, place: np.ndarray, value: np.ndarray, row: float
) -> None:
    ours = mask == _COMBINED
    color = _BLUE if ours else _COLORS[number % len(_COLORS)]
    size = 6.5 if ours else 5.0
    axis.plot(
        place,
        np.where(value > 0.0, value, row),
        color=color,
        marker="o" if ours else _MARKERS[number % len(_MARKERS)],
        markersize=size,
        markeredgecolor="white",
        markevery=np.flatnonzero(value).tolist(),
        linewidth=2.4 if ours else 1.2,
        zorder=4 if ours else 3,
        label=mask if ours else f"{mask} alone",
    )
    emptied = place[value == 0.0]
    if emptied.size:
        axis.plot(
            emptied,
            np.full(emptied.size, row),
            linestyle="none",
            marker="x",
            markersize=5.0,
            markeredgewidth=1.6,
            color=color,
            zorder=6,
            label=f"_emptied by {mask}",  # known by its row and color, not in the legend
        )


def _short(layers: list[str]) -> list[str]:
    ending = ".weight"
    return [each.removesuffix(ending) or each for each in layers]


def _as_percent(share: float, _: int) -> str:
    return f"{100.0 * share:.3g}%"


def _as_count(count: float, _: int) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return f"{count:.3g}"
