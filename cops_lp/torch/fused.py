"""The sieve as one Triton kernel: a GPU reads the scores once and writes a byte for each weight.

Torch operations read and write every weight some six times over. Triton comes with PyTorch's builds
for NVIDIA's and AMD's GPUs on Linux.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any
from warnings import warn

import numpy as np
import torch
import triton
import triton.language as tl

from cops_lp.engine.region import Cone, Ellipsoid, Region
from cops_lp.engine.stores import Prepared

from .sieve import Rows, Sieve, Sifted
from .sums import TILE, ExactSum

__all__ = ["FusedSieve", "collect", "sift", "takes"]

_TILES, _WARPS = 2, 8  # tiles in a program: 8 weights a thread
_KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_RAYS = (1, 4, 8, 16, 32)  # to which cones are filled up: each number is a compilation of its own
_MOST_ROWS = 9  # beyond which compiling takes long
_AT_ONCE = 1 << 12  # tiles that are not exact in float64


@triton.jit  # type: ignore[untyped-decorator]
def _load(  # type: ignore[no-untyped-def]
    rows, j, at, inside, KIND: tl.constexpr, ALIGNED: tl.constexpr, WHOLE: tl.constexpr
):
    address = tl.load(rows + j)
    # In steps, and by numbers: Triton 3.0 takes no dtype that is an argument here.
    if KIND == 2:
        row = address.to(tl.pointer_type(tl.int16))
    elif KIND == 1:
        row = address.to(tl.pointer_type(tl.float16))
    else:
        row = address.to(tl.pointer_type(tl.float32))
    if ALIGNED:  # wider loads
        row = tl.multiple_of(row, 16)
    x = tl.load(row + at) if WHOLE else tl.load(row + at, mask=inside, other=0)
    if KIND == 2:  # the upper half of a float32; Triton's interpreter loses subnormal ones else
        return (x.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _sift(  # type: ignore[no-untyped-def]
    rows, numbers, state, totals, sizes, least, counts, unsure, n, tiles, program,
    K: tl.constexpr, RAYS: tl.constexpr, OVAL: tl.constexpr, KIND: tl.constexpr,
    ALIGNED: tl.constexpr, WHOLE: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """What :func:`sift` does, for the tiles of one program; `WHOLE`: these are full."""
    at = program * (TILE * TILES) + tl.arange(0, TILE * TILES)
    inside = at < n
    reach = numbers + RAYS * (K + 2)
    factor = reach + (K + 2)
    rest = factor + (K + 1) * (K + 1) * OVAL
    tiny, huge, shrink = tl.load(rest), tl.load(rest + 1), tl.load(rest + 2)
    drop, beside, far = tl.load(rest + 3), tl.load(rest + 4), tl.load(rest + 5)

    x = _load(rows, 0, at, inside, KIND, ALIGNED, WHOLE)
    form = tl.load(numbers) * x - tl.load(numbers + (K + 1))
    room = tl.load(reach) * tl.abs(x) + tl.load(reach + (K + 1))
    for j in tl.static_range(1, K + 1):
        x = _load(rows, j, at, inside, KIND, ALIGNED, WHOLE)
        form += tl.load(numbers + j) * x
        room += tl.load(reach + j) * tl.abs(x)
    if OVAL:
        last = tl.load(factor + K * (K + 1) + K)
        square = tl.zeros([TILE * TILES], tl.float32) + (last * last + tiny)
        for t in tl.static_range(K):
            line = factor + t * (K + 1)
            g = tl.zeros([TILE * TILES], tl.float32) + tl.load(line + K)
            for j in tl.static_range(t, K):
                g += tl.load(line + j) * _load(rows, 1 + j, at, inside, KIND, ALIGNED, WHOLE)
            square += g * g
        beyond = tl.abs(form) - room
        sure = (beyond > 0.0) & (beyond * beyond > square) & (beyond < float("inf"))
        near = tl.abs(form) + (room - beside)
        opened = ((near < 0.0) | (near * near < square * shrink - drop)) & (near < far)
        kept = sure & (form > 0.0)
        code = tl.where(sure, tl.where(form > 0.0, 1, 0), tl.where(opened, 2, 3))
    else:
        low, high = form, form
        for r in tl.static_range(1, RAYS):
            ray = numbers + r * (K + 2)
            form = tl.load(ray) * _load(rows, 0, at, inside, KIND, ALIGNED, WHOLE)
            form -= tl.load(ray + (K + 1))
            for j in tl.static_range(1, K + 1):
                form += tl.load(ray + j) * _load(rows, j, at, inside, KIND, ALIGNED, WHOLE)
            low, high = tl.minimum(low, form), tl.maximum(high, form)
        sound = room < huge  # no form can have overflowed then, and none is NaN
        kept = sound & (low > room)
        dropped = sound & (high < -room)
        opened = sound & (low < -room) & (high > room)
        code = tl.where(kept, 1, tl.where(dropped, 0, tl.where(opened, 2, 3)))
    if WHOLE:
        tl.store(state + at, code.to(tl.uint8))
    else:
        tl.store(state + at, code.to(tl.uint8), mask=inside)
        kept = kept & inside
        code = tl.where(inside, code, 0)

    tile = program * TILES + tl.arange(0, TILES)
    used = tile < tiles
    found = tl.reshape(kept.to(tl.int32), (TILES, TILE))
    tl.store(counts + tile, tl.sum(found, axis=1), mask=used)
    found = tl.reshape((code > 1).to(tl.int32), (TILES, TILE))
    tl.store(unsure + tile, tl.sum(found, axis=1), mask=used)
    for j in tl.static_range(K + 1):
        x = tl.where(kept, _load(rows, j, at, inside, KIND, ALIGNED, WHOLE), 0.0)
        size = tl.abs(x)
        lowest = tl.where(size > 0.0, size, float("inf"))
        place = tile + j * tiles
        total = tl.sum(tl.reshape(x.to(tl.float64), (TILES, TILE)), axis=1)
        tl.store(totals + place, total, mask=used)
        total = tl.sum(tl.reshape(size.to(tl.float64), (TILES, TILE)), axis=1)
        tl.store(sizes + place, total, mask=used)
        tl.store(least + place, tl.min(tl.reshape(lowest, (TILES, TILE)), axis=1), mask=used)


# Not compiled anew where a size is a multiple of 16.
@triton.jit(do_not_specialize=["n", "tiles"])  # type: ignore[untyped-decorator]
def sift(  # type: ignore[no-untyped-def]
    rows, numbers, state, totals, sizes, least, counts, unsure, n, tiles,
    K: tl.constexpr, RAYS: tl.constexpr, OVAL: tl.constexpr, KIND: tl.constexpr,
    ALIGNED: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Tell what is surely kept, dropped and open, and add up what is kept, tile by tile.

    Parameters
    ----------
    rows : int64, shape (1 + K,)
        Addresses of the scores, float32, or with `KIND` 1 float16, with 2 bfloat16; multiples of
        16 where `ALIGNED`.
    numbers : float32
        `RAYS` rays of K + 2 entries; reach, K + 2; with `OVAL` the factor, (K + 1)²; then tiny,
        huge, shrink, drop, beside and far: see :class:`cops_lp.torch.sieve.Sieve`.
    state : uint8, shape (n,), filled
        0 surely dropped, 1 surely kept, 2 surely open, 3 in doubt.
    totals, sizes : float64, shape (1 + K, tiles), filled
        Of each tile's kept weights: sums of each score and of its absolute values.
    least : float32, shape (1 + K, tiles), filled
        Their least absolute value but 0; ∞ of none.
    counts, unsure : int32, shape (tiles,), filled
        How many they are, and how many are open or in doubt.
    n : int
    tiles : int
        ⌈n / TILE⌉.
    """
    program = tl.program_id(0).to(tl.int64)
    # Loads that need no mask are of 16 bytes, whatever n is.
    if (program + 1) * (TILE * TILES) <= n:
        _sift(
            rows, numbers, state, totals, sizes, least, counts, unsure, n, tiles, program,
            K, RAYS, OVAL, KIND, ALIGNED, True, TILE, TILES,
        )  # fmt: skip
    else:
        _sift(
            rows, numbers, state, totals, sizes, least, counts, unsure, n, tiles, program,
            K, RAYS, OVAL, KIND, ALIGNED, False, TILE, TILES,
        )  # fmt: skip


@triton.jit(do_not_specialize=["n", "tiles"])  # type: ignore[untyped-decorator]
def collect(  # type: ignore[no-untyped-def]
    state, ends, index, opened, n, tiles, TILE: tl.constexpr, TILES: tl.constexpr
):
    """List what is not sure, in order, and mark it as dropped.

    Parameters
    ----------
    state : uint8, shape (n,), changed
        As :func:`sift` fills it.
    ends : int64, shape (tiles,)
        How many there are up to the end of each tile.
    index : int64, filled
        Their positions.
    opened : uint8, filled
        1 where surely open, 0 where in doubt.
    n, tiles : int
    """
    program = tl.program_id(0).to(tl.int64)
    tile = program * TILES + tl.arange(0, TILES)
    end = tl.load(ends + tile, mask=tile < tiles, other=0)
    at = program * (TILE * TILES) + tl.arange(0, TILE * TILES)
    if (program + 1) * (TILE * TILES) <= n:  # as in sift
        code = tl.load(state + at)
    else:
        code = tl.load(state + at, mask=at < n, other=0)
    unsure = tl.reshape((code > 1).to(tl.int32), (TILES, TILE))
    # From a tile's end back: how many of its own come later, itself included.
    later = tl.sum(unsure, axis=1)[:, None] - tl.cumsum(unsure, axis=1) + 1
    place = tl.reshape(end[:, None] - later, (TILES * TILE,))
    tl.store(index + place, at, mask=code > 1)
    tl.store(opened + place, (code == 2).to(tl.uint8), mask=code > 1)
    tl.store(state + at, tl.zeros_like(code), mask=code > 1)


class FusedSieve:
    """:class:`cops_lp.torch.sieve.Sift` of single precision by the kernel :func:`sift`.

    Parameters
    ----------
    prepared : Prepared
        Of a region in single precision.
    """

    least = most = 1 << 28  # a byte for each, and what is open

    def __init__(self, prepared: Prepared) -> None:
        assert prepared.single
        of = Sieve(prepared)
        self._controls, self._oval = prepared.rays.shape[1] - 2, bool(of.factor)
        self._rays = next(count for count in _RAYS if count >= len(of.rays))
        of.rays += [of.rays[0]] * (self._rays - len(of.rays))
        rest = [of.tiny, of.huge, of.shrink, of.drop, of.beside, of.far]
        lines = [*of.rays, of.reach, *of.factor, rest]
        numbers = [x for line in lines for x in line]
        self._numbers = torch.tensor(numbers, dtype=torch.float32, device="cpu")

    def dtype(self, own: list[torch.dtype]) -> torch.dtype:
        """See :meth:`Sift.dtype`; the scores' own where they have one, so that none is copied."""
        alike = own[0] in _KINDS and all(each == own[0] for each in own)
        return own[0] if alike else torch.float32

    def works(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether Triton compiles this kind of kernel for a device; warns once where it can't."""
        return _works(device, self._controls, self._rays, self._oval, dtype)

    def __call__(self, rows: Rows, kept: torch.Tensor, sums: list[ExactSum]) -> Sifted:
        """See :meth:`Sift.__call__`."""
        n, K, device = len(kept), len(rows) - 1, kept.device
        rows = [row.contiguous() for row in rows]
        state = kept.view(torch.uint8)
        tiles = -(-n // TILE)
        # Each in memory of its own: Triton compiles anew for other alignments.
        totals = torch.empty((K + 1, tiles), dtype=torch.float64, device=device)
        sizes = torch.empty_like(totals)
        least = torch.empty((K + 1, tiles), dtype=torch.float32, device=device)
        counts = torch.empty(tiles, dtype=torch.int32, device=device)
        unsure = torch.empty_like(counts)
        self._numbers = self._numbers.to(device)
        places = [row.data_ptr() for row in rows]
        addresses = torch.tensor(places, dtype=torch.int64, device=device)
        how: dict[str, Any] = {"K": K, "RAYS": self._rays, "OVAL": self._oval}
        how["enable_fp_fusion"] = True  # faster, and no less precise than the margins want
        how["ALIGNED"] = all(row.data_ptr() % 16 == 0 for row in rows)
        grid, shape = (-(-tiles // _TILES),), {"TILE": TILE, "TILES": _TILES, "num_warps": _WARPS}
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            sift[grid](
                addresses, self._numbers, state, totals, sizes, least, counts, unsure, n, tiles,
                **how, **shape, KIND=_KINDS[rows[0].dtype],
            )  # fmt: skip
            ends = unsure.cumsum(0)  # of int64
            left = int(ends[-1])
            index = torch.empty(left, dtype=torch.int64, device=device)
            opened = torch.empty(left, dtype=torch.bool, device=device)
            if left:
                collect[grid](state, ends, index, opened.view(torch.uint8), n, tiles, **shape)
        for row, total, size, low, exact in zip(rows, totals, sizes, least, sums, strict=True):
            for rest in torch.split(exact.add_tiles(total, size, low), _AT_ONCE):
                if len(rest):
                    exact.split(_entries(row, state, rest))
        return Sifted(counts.sum(), index, opened)


def _entries(row: torch.Tensor, state: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
    """The kept entries of some tiles of a row, and zeros, in float64."""
    inside = torch.from_numpy(np.arange(TILE)).to(tiles.device)
    index = (tiles[:, None] * TILE + inside).view(-1)
    index = index[index < len(row)]
    return torch.where(state[index] == 1, row[index].double(), 0.0)


def takes(prepared: Prepared) -> bool:
    """Whether the kernel is compiled for a region of this kind in a few seconds."""
    rays, width = map(int, prepared.rays.shape)
    return width - 1 <= _MOST_ROWS and rays <= _RAYS[-1]


@cache
def _works(device: torch.device, controls: int, rays: int, oval: bool, dtype: torch.dtype) -> bool:
    """Whether Triton compiles one kind of kernel for a device here; warns once where it can't."""
    line = np.zeros((rays, controls + 2))
    line[:, 0], line[:, -1] = 1.0, np.linspace(0.7, 0.3, rays)
    region: Region = Cone(line)
    if oval:
        factor = np.zeros((controls + 1, controls + 1))
        line[:, -1], factor[-1, -1] = 0.5, 0.2
        region = Ellipsoid(line[0], factor)
    sieve = FusedSieve(Prepared(region, controls, np.dtype(np.float32)))
    try:
        row = torch.arange(10, device=device).to(dtype) / 8  # four are above 0.7
        kept = torch.empty(10, dtype=torch.bool, device=device)
        rows = [row] * (controls + 1)
        return int(sieve(rows, kept, [ExactSum(device) for _ in rows]).kept) == 4
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # no C compiler, no driver for this build: whatever it raises
        warn(
            f"Triton fails on {device} ({type(error).__name__}: {error}): scores are screened by "
            "torch operations there, which takes several times longer",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
