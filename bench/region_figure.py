"""Draw docs/region.png: the (λ, μ) plane, a region, and the weights whose lines cross it.

``python -m bench.region_figure [--output FILE]``. Real data: SNIP and magnitude of the sample
scores, and the region the driver itself guesses from a sample of 8,000 weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import cops_lp
from cops_lp.engine.calibration import Sampled
from cops_lp.engine.guess import guess_region

SAMPLE = 8_000
LINES = 700
COLORS = {"kept": "#4477aa", "dropped": "#bbbbbb", "open": "#cc3311"}


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/region.png"))
    output = parser.parse_args().output
    scores = cops_lp.sample_scores()
    c = scores["snip"].astype(np.float64) / scores["snip"].mean()
    a = scores["magnitude"].astype(np.float64) / scores["magnitude"].mean()
    solution = cops_lp.solve(c, a, keep=0.1, retain=0.9)
    d = c.size
    sample = np.sort(np.random.default_rng(1).choice(d, SAMPLE, replace=False))
    rows = np.stack((c[sample], a[sample]))
    share = SAMPLE / d
    told = Sampled(rows, np.empty(0), share, d)
    region = guess_region(told, 0.1 * SAMPLE, solution.floors * share, None, False, 0.0)
    assert region is not None
    form = c * region.center[0] + a * region.center[1] - region.center[2]
    spread = np.linalg.norm(region.factor @ np.stack((a, np.ones(d))), axis=0)
    state = np.where(form > spread, "kept", np.where(form < -spread, "dropped", "open"))
    angle = np.linspace(0.0, 2.0 * np.pi, 200)
    move = np.stack((np.cos(angle), np.sin(angle))).T @ region.factor
    outline = (region.center[1:] + move * [1.0, -1.0]) / region.center[0]
    draw(output, c, a, state, outline, solution)
    shares = {name: (state == name).mean() for name in COLORS}
    print(f"{output}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))


def draw(
    output: Path,
    c: np.ndarray,
    a: np.ndarray,
    state: np.ndarray,
    outline: np.ndarray,
    solution: cops_lp.Solution,
) -> None:
    """Draw the lines μ = c_i + λ a_i of some weights, colored by what the region decides."""
    center, size = outline.mean(axis=0), np.ptp(outline, axis=0)
    low, high = center - 2.2 * size, center + 2.2 * size
    low, high = np.maximum(low, 0.0), high - [0.5 * size[0], 0.0]
    figure = Figure(figsize=(7.2, 4.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    lam = np.array([low[0], high[0]])
    some = np.random.default_rng(2).permutation(len(c))
    mu = c[some, None] + a[some, None] * lam
    seen = some[(mu.max(axis=1) > low[1]) & (mu.min(axis=1) < high[1])][:LINES]
    for name, color in COLORS.items():
        for i in seen[state[seen] == name]:
            axes.plot(lam, c[i] + a[i] * lam, color=color, linewidth=0.35, alpha=0.6, zorder=1)
        axes.plot([], [], color=color, label=f"{name}: {(state == name).mean():.1%} of the weights")
    axes.fill(
        *outline.T, facecolor="#ffdd55", edgecolor="black", alpha=0.85, zorder=2, label="region"
    )
    axes.plot(
        solution.multipliers[0], solution.threshold, "k*", markersize=10, zorder=3,
        label="optimum of all weights",
    )  # fmt: skip
    axes.set(
        xlim=lam,
        ylim=(low[1], high[1]),
        xlabel="multiplier λ",
        ylabel="threshold μ",
        title="A weight is kept where its line runs above the point (λ, μ)",
    )
    axes.legend(loc="lower right", framealpha=0.95)
    figure.savefig(output)


if __name__ == "__main__":
    main()
