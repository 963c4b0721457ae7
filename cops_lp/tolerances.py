"""What counts as rounding of a floor: one rule, for the solvers and for the judge.

The users' floors are sums of scores, rounded in an order of their own. So a floor that is above
what can be attained by rounding only is no contradiction. The rule, for floors b and a number of
weights to keep:

1. **Alone.** A floor above its control's attainable best by at most `slack_alone` of the summed
   absolute control of the best mask *is* that best, b'_j, for all that follows; one above by
   more is infeasible. All other floors stay: b'_j = b_j.
2. **Together.** Floors that some y ≥ 0 with several entries refutes, yᵀb' > T_k(Aᵀy), by at most
   `slack_together` of the summed absolute terms y_j A_ji of that mask count as attainable; if
   by more they are infeasible.
3. **Met.** A point meets a floor when it lacks at most `slack_met` of the summed absolute
   control that it keeps (or of b'_j, where that is more) to b'_j.

No tolerance is granted twice: what is lacking is counted from b', and what floors may give way
together is less than what a point may lack.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

__all__ = ["FLOOR_TOLERANCE", "JOINT_TOLERANCE", "slack_alone", "slack_met", "slack_together"]

FLOOR_TOLERANCE = 1e-12
"""A floor above the attainable best by at most this share of the summed absolute score of
the best mask counts as the best itself: a user's own sum, rounded differently."""

JOINT_TOLERANCE = 2e-13
"""Floors that exceed what is attainable only together count as attainable up to this share of
the summed absolute controls, weighted by the certificate. Smaller than FLOOR_TOLERANCE, which
what is then lacking must stay within."""

Sizes = TypeVar("Sizes", float, np.ndarray)


def slack_alone(magnitude: Sizes) -> Sizes:
    """By how much a floor may exceed its control's best and still count as that best.

    `magnitude` is the sum of the absolute control over its best mask.
    """
    return FLOOR_TOLERANCE * magnitude


def slack_together(scale: Sizes) -> Sizes:
    """By how much a mixture of several floors may exceed its best and still count as attainable.

    `scale` is the sum of the absolute terms of the mixture over its best mask.
    """
    return JOINT_TOLERANCE * scale


def slack_met(scale: Sizes) -> Sizes:
    """How much a point may lack of a floor and still meet it.

    `scale` is the sum of the absolute control that it keeps, or the absolute floor if that is more.
    """
    return FLOOR_TOLERANCE * scale
