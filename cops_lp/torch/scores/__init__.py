"""Pruning scores of a :class:`torch.nn.Module`: parameter name → tensor, higher = keep.

Each returns a plain dict of detached tensors shaped like the parameters, on their devices, and
leaves the model, its gradients and every random state as they were. Formulas, sources and
costs side by side: ``docs/scores.md``.

============  ============================  ==========================================
`gss`         θ ⊙ ∂R/∂θ, its |·| or square  generalized synaptic score of any scalar R
`magnitude`   |θ|                           no data
`random`      uniform                       no data; the baseline
`snip`        |θ ⊙ ∂L/∂θ|                   loss
`grasp`       θ ⊙ Hg (signed)               gradient flow
`crop`        |θ ⊙ Hg|                      gradient flow, either way
`fisher`      ½ θ² ⊙ F                      loss, sample by sample
`synflow`     |θ| ⊙ ∂R/∂|θ|                 paths; no data, float64
`synflow_l2`  θ² ⊙ ∂R/∂θ²                   squared paths; no data, float64
`ntk_sap`     |∂R/∂m|                       trace of the neural tangent kernel; noise
`wanda`       |W| · ‖X‖                     Linear layers: calibration inputs
`ria`         relative |W| · ‖X‖^a          Linear layers: calibration inputs
============  ============================  ==========================================
"""

from __future__ import annotations

from ._activations import ria, wanda
from ._flow import synflow, synflow_l2
from ._gradient_flow import crop, grasp
from ._gss import gss
from ._loss import fisher, snip
from ._ntk import ntk_sap
from ._plain import magnitude, random

__all__ = [
    "crop",
    "fisher",
    "grasp",
    "gss",
    "magnitude",
    "ntk_sap",
    "random",
    "ria",
    "snip",
    "synflow",
    "synflow_l2",
    "wanda",
]
