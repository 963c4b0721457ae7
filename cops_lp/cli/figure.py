"""The demo's picture: target kept against control kept, and what no mask can reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

__all__ = ["Panel", "draw_trade_offs"]

_LABELS = {"magnitude": "magnitude", "snip": "SNIP", "grasp": "GraSP", "synflow": "SynFlow"}
_COLORS = {"magnitude": "#009E73", "snip": "#D55E00", "grasp": "#CC79A7", "synflow": "#E69F00"}
_MARKERS = {"magnitude": "^", "snip": "o", "grasp": "D", "synflow": "s"}
_INK, _BLUE, _GRAY = "#222222", "#0072B2", "#8C8C8C"


@dataclass(frozen=True)
class Panel:
    """One target and one control.

    Attributes
    ----------
    control : str
    curve : ndarray, shape (n, 2)
        Shares (control, target) that no mask exceeds both, the control's rising.
    levels : dict of float to ndarray of shape (2,)
        Those that the table shows, by what was asked of the control.
    singles : dict of str to ndarray of shape (2,)
        The best mask by each score alone.
    ranks : ndarray of shape (2,)
        The mask by the mean of both ranks.
    """

    control: str
    curve: np.ndarray
    levels: dict[float, np.ndarray]
    singles: dict[str, np.ndarray]
    ranks: np.ndarray


def draw_trade_offs(target: str, panels: Sequence[Panel], subtitle: str) -> Figure:
    """Draw the panels side by side.

    Parameters
    ----------
    target : str
    panels : sequence of Panel
        At least one.
    subtitle : str
        How many weights are kept.

    Returns
    -------
    matplotlib Figure
    """
    figure = Figure(figsize=(4.6 * len(panels) + 0.4, 4.7), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    low = min(points[1] for panel in panels for points in _points(panel))
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel, target, floor=low - 0.06)
    axes[0].set_ylabel(f"{_LABELS[target]} kept, of the most possible")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(handles) if len(panels) > 1 else 3,
        fontsize=8.5,
        frameon=False,
        columnspacing=1.6,
        handletextpad=0.5,
    )
    figure.suptitle(
        f"What a mask keeps of two scores at once ({subtitle})",
        fontsize=12,
        color=_INK,
    )
    return figure


def _points(panel: Panel) -> list[np.ndarray]:
    return [*panel.curve, *panel.singles.values(), panel.ranks]


def _draw_panel(axis: Any, panel: Panel, target: str, floor: float) -> None:
    left = min(point[0] for point in _points(panel)) - 0.06
    x, y = panel.curve.T
    frontier_x = np.concatenate(([left], x, [1.0]))
    frontier_y = np.concatenate(([1.0], y, [floor]))
    top, right = 1.06, 1.06
    axis.fill(
        np.concatenate((frontier_x, [right, right, left])),
        np.concatenate((frontier_y, [floor, top, top])),
        facecolor="#EFEFEF",
        edgecolor="none",
        zorder=0,
    )
    axis.text(
        right - 0.015 * (right - left),
        top - 0.015 * (top - floor),
        "no mask keeps this much of both",
        ha="right",
        va="top",
        fontsize=8.5,
        style="italic",
        color="#6A6A6A",
    )
    axis.plot(x, y, color=_BLUE, linewidth=2.2, zorder=2, label="COPS: optimal and proven")
    for level, point in panel.levels.items():
        axis.plot(*point, marker="o", markersize=5, color=_BLUE, markeredgecolor="white", zorder=4)
        axis.annotate(
            f"≥ {level:.0%}",
            point,
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8.5,
            color=_BLUE,
        )
    for name, point in panel.singles.items():
        axis.plot(
            *point,
            marker=_MARKERS[name],
            markersize=8,
            linestyle="none",
            color=_COLORS[name],
            markeredgecolor="white",
            zorder=5,
            clip_on=False,
            label=f"{_LABELS[name]} alone",
        )
    axis.plot(
        *panel.ranks,
        marker="X",
        markersize=8,
        linestyle="none",
        color=_GRAY,
        markeredgecolor="white",
        zorder=5,
        label="mean of both ranks",
    )
    axis.set_xlim(left, right)
    axis.set_ylim(floor, top)
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel(f"{_LABELS[panel.control]} kept, of the most possible")
    axis.set_title(f"{_LABELS[target]} with a floor on {_LABELS[panel.control]}", fontsize=10.5)
    axis.grid(color="#DDDDDD", linewidth=0.6, zorder=1)
    axis.spines[["top", "right"]].set_visible(False)
