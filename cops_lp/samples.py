"""Real scores to try things on: four pruning scores of one small network."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

__all__ = ["sample_scores"]


def sample_scores() -> dict[str, np.ndarray]:
    """Return four pruning scores of one convolutional network at initialization.

    The network is a residual one of 8 layers with BatchNorm (ResNet-8; widths 16, 32, 64),
    the data are the first 512 images of scikit-learn's digits (8 × 8 pixels) in one batch
    with L the mean cross-entropy. Scored are the d = 77,072 weights θ of its convolutions and
    its linear layer. With g = ∂L/∂θ, H = ∂²L/∂θ², and R the sum of the logits for an image of
    ones when every parameter is replaced by its absolute value:

    ========= =============== ============================================================
    name      formula         sign, range
    ========= =============== ============================================================
    magnitude |θ|             > 0, 7e-7 to 1.5
    snip      |θ ⊙ g|         > 0, 5e-10 to 0.07; not normalized [1]_
    grasp     θ ⊙ Hg          both signs (51 % negative), −0.21 to 0.33; the paper removes
                              the highest of −θ ⊙ Hg [2]_
    synflow   |θ| ⊙ ∂R/∂|θ|   > 0, 0.2 to 4e7; one pass [3]_
    ========= =============== ============================================================

    For all of them higher means "keep".

    Returns
    -------
    dict of str to ndarray of float32, shape (77072,)
        The scores by name, in the order of the table; entry i belongs to the same weight in
        all of them, weights in parameter order. The arrays are new on each call and belong to
        the caller.

    Notes
    -----
    Reads 1.2 MB that come with the package; needs NumPy alone. How they were made, down to
    the seed: SOURCES.md beside them, and ``bench/make_sample_scores.py`` in the repository.

    References
    ----------
    .. [1] Lee, Ajanthan, Torr: SNIP (2019), arXiv:1810.02340.
    .. [2] Wang, Zhang, Grosse: GraSP (2020), arXiv:2002.07376.
    .. [3] Tanaka, Kunin, Yamins, Ganguli: SynFlow (2020), arXiv:2006.05467.

    Examples
    --------
    >>> import cops_lp
    >>> scores = cops_lp.sample_scores()
    >>> {name: score.size for name, score in scores.items()}
    {'magnitude': 77072, 'snip': 77072, 'grasp': 77072, 'synflow': 77072}

    The tenth of the weights that SNIP ranks highest keeps little of what GraSP could keep:

    >>> import numpy as np
    >>> chosen = scores["snip"].argsort()[-7707:]
    >>> kept, best = scores["grasp"][chosen].sum(), np.sort(scores["grasp"])[-7707:].sum()
    >>> print(f"{kept / best:.0%}")
    14%
    """
    resource = files("cops_lp").joinpath("data", "sample_scores.npz")
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
