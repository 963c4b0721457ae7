"""Pictures of the studies, the same bytes for the same JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .complexity import slopes
from .peers import OURS
from .peers import rows as peer_rows

__all__ = ["plot_complexity", "plot_peers"]

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "cops_lp",  # names inside the file would be random
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
# Okabe and Ito's palette, told apart by everyone.
_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#999933",
    "#882255",
)
_MARKERS = "osD^vPX*<"


def plot_complexity(run: Mapping[str, Any], folder: Path, stem: str) -> list[Path]:
    """Draw time, open share and extra memory against d, a line for each K.

    Parameters
    ----------
    run : mapping
        A complexity study.
    folder : Path
    stem : str
        The files are ``STEM-time.svg``, ``STEM-open.svg`` and ``STEM-memory.svg``.

    Returns
    -------
    list of Path
        Of those drawn; none without a finished cell.
    """
    done = [cell for cell in run["cells"] if cell["status"] == "done"]
    if not done:
        return []
    slope = {K: value for K, (_, _, value) in slopes(dict(run)).items()}

    def lines(axes: Axes, value: Callable[[dict[str, Any], int], float]) -> None:
        for number, K in enumerate(sorted({cell["about"]["K"] for cell in done})):
            points = sorted(
                (cell["about"]["d"], value(cell["result"], cell["about"]["d"]))
                for cell in done
                if cell["about"]["K"] == K
            )
            label = f"K = {K}" + (f", slope {slope[K]:.2f}" if K in slope else "")
            axes.plot(*zip(*points, strict=True), label=label, **_look(number))

    def time(axes: Axes) -> None:
        lines(axes, lambda result, _: float(result["times"]["median"]))
        _label(axes, "time of a solve, median (s)", "Time; slopes from 10⁶ weights on")

    def opened(axes: Axes) -> None:
        lines(axes, lambda result, _: 100.0 * float(result["open_share"]))
        _label(axes, "weights left open by the last pass (%)", "What screening leaves")

    def memory(axes: Axes) -> None:
        lines(axes, lambda result, d: max(float(result["extra_bytes"]), 4096.0) / d)
        axes.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
        axes.annotate("the mask", (0.01, 1.0), xycoords=("axes fraction", "data"), va="bottom")
        _label(axes, "extra memory at the peak (bytes per weight)", "Memory beyond the scores")

    return [
        _draw(folder / f"{stem}-{name}.svg", draw)
        for name, draw in (("time", time), ("open", opened), ("memory", memory))
    ]


def plot_peers(run: Mapping[str, Any], folder: Path, stem: str) -> list[Path]:
    """Draw the general solvers' and our times against d, a file for each K.

    Parameters are as of :func:`plot_complexity`; the files are ``STEM-K.svg``.
    """
    rows = [
        row
        for row in peer_rows(dict(run))
        if row["group"] != "selection" and row["status"] == "done"
    ]
    found = []
    for K in sorted({row["K"] for row in rows}):

        def times(axes: Axes, K: int = K) -> None:
            names = dict.fromkeys(row["who"] for row in rows if row["K"] == K)
            for number, who in enumerate(sorted(names, key=lambda who: who != OURS)):
                points: dict[int, list[float]] = {}
                for row in rows:
                    if row["K"] == K and row["who"] == who:
                        points.setdefault(row["d"], []).append(row["median"])
                x = sorted(points)
                y = [sorted(points[d])[len(points[d]) // 2] for d in x]
                axes.plot(x, y, label=who, **_look(number))
            _label(axes, "time of a solve, median (s)", f"Other ways, K = {K}")

        found.append(_draw(folder / f"{stem}-K{K}.svg", times))
    return found


def _look(number: int) -> dict[str, Any]:
    return {
        "color": _COLORS[number % len(_COLORS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 5,
        "linestyle": "-" if number < len(_COLORS) else "--",
        "zorder": 3.0 if number == 0 else 2.0,
    }


def _label(axes: Axes, what: str, title: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel="weights d", ylabel=what, title=title)
    # Beside the lines, in their order at the right.
    lines, names = axes.get_legend_handles_labels()
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in lines if isinstance(line, Line2D)]
    order = sorted(range(len(ends)), key=lambda i: -ends[i])
    axes.legend(
        [lines[i] for i in order], [names[i] for i in order],
        fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5),
    )  # fmt: skip


def _draw(path: Path, draw: Callable[[Axes], None]) -> Path:
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
        try:
            draw(axes)
            figure.savefig(path, metadata={"Date": None, "Creator": None})
        finally:
            plt.close(figure)
    return path
