"""The best 0/1 mask, and the proof that it is: `integral=True`.

`proving` reads the weights near the threshold, `core` searches these for the best choice, `joins`
splits what there is to look at in two, and `table` holds one half's sets for the other to look up.
`enumerating` tries all masks of a handful of weights where rounding hides what a set loses.
"""

from .proving import prove_mask

__all__ = ["prove_mask"]
