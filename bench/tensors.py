"""Masks from a network's tensors: the size and the layers of a ResNet-50."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import cops_lp

from .cases import Case, pose
from .judged import Judged
from .measure import Rounds, alternate, summary

__all__ = ["measure_masks", "resnet50_shapes"]

_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks, and the width of their 3 × 3
_EXPANSION = 4


def resnet50_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the 161 parameters of a ResNet-50 for 1,000 classes, by name; 25.6 million."""

    def layers() -> Iterator[tuple[str, tuple[int, ...]]]:
        def convolution(name: str, out: int, inside: int, side: int) -> Iterator[Any]:
            yield f"{name}.weight", (out, inside, side, side)
            yield f"{name}.norm.weight", (out,)
            yield f"{name}.norm.bias", (out,)

        yield from convolution("stem", 64, 3, 7)
        inside = 64
        for stage, (blocks, width) in enumerate(_STAGES):
            out = _EXPANSION * width
            for block in range(blocks):
                name = f"stage{stage}.{block}"
                yield from convolution(f"{name}.conv1", width, inside, 1)
                yield from convolution(f"{name}.conv2", width, width, 3)
                yield from convolution(f"{name}.conv3", out, width, 1)
                if block == 0:
                    yield from convolution(f"{name}.shortcut", out, inside, 1)
                inside = out
        yield "classifier.weight", (1000, inside)
        yield "classifier.bias", (1000,)

    return dict(layers())


def measure_masks(share: float, seed: int, threads: int | None, budget: float) -> dict[str, Any]:
    """Time masks of ResNet-50's tensors and the solve of one flat array by turns.

    `share` of the classifier's and each layer's outputs; 1 for all of them.
    """
    import torch

    from cops_lp.torch import LayerCollapseWarning, masks

    shapes = {
        name: (max(round(shape[0] * share), 1), *shape[1:])
        for name, shape in resnet50_shapes().items()
    }
    posed = pose(Case(sum(map(math.prod, shapes.values())), 1, seed))

    def tensors(flat: np.ndarray) -> dict[str, torch.Tensor]:
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
        parts = np.split(flat, ends[:-1])
        return {
            name: torch.from_numpy(part.reshape(shape).copy())
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    target, control = tensors(posed.target), tensors(posed.controls[0])

    def ours() -> cops_lp.Solution:
        found = masks(target, control, keep=posed.keep, floors=posed.floors, threads=threads)
        return found.solution

    tasks: dict[str, Callable[[], cops_lp.Solution]] = {
        "masks": ours,
        "flat": lambda: posed.solve(threads),
    }
    judged = Judged()  # one for both: the answers are the same bits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        seconds = alternate(
            tasks, Rounds(budget=2.0 * budget), lambda _, found: judged.watch(found)
        )
    verdict = judged.verdict()
    return {
        "times": {name: summary(times) for name, times in seconds.items()},
        "judges": dict.fromkeys(tasks, verdict),
        "d": posed.target.size,
        "tensors": len(shapes),
    }
