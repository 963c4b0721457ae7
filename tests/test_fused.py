"""The Triton kernel, by Triton's interpreter on CPU tensors, and compiled for GPUs without one.

pip install --no-deps triton && TRITON_INTERPRET=1 pytest tests/test_fused.py
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine.region import Cone, Ellipsoid
from cops_lp.engine.stores import ArrayStore, Prepared

from .guessing import guess_early
from .instances import controlled_instance, random_instance
from .test_driver import hard_inputs, random_ellipsoid

torch = pytest.importorskip("torch")
if os.environ.get("TRITON_INTERPRET") != "1":  # which Triton looks at when it is imported
    pytest.skip("runs by itself, with triton and TRITON_INTERPRET=1", allow_module_level=True)
pytest.importorskip("triton")

from cops_lp.torch import fused, tensor_screened  # noqa: E402
from cops_lp.torch import store as stores  # noqa: E402
from cops_lp.torch.pieces import TensorPieces  # noqa: E402
from cops_lp.torch.sieve import TorchSieve  # noqa: E402
from cops_lp.torch.sums import ExactSum  # noqa: E402
from cops_lp.torch.tensor_mask import TensorMask  # noqa: E402

from .test_torch_store import both, on_device  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NumPy's, of NaN


@pytest.fixture
def kernel(monkeypatch):
    """The kernel in place of torch operations, wherever regions are in single precision.

    Gives a list of these.
    """
    used = []

    def sieve(prepared, device, own):
        if not prepared.single:
            return TorchSieve(prepared)
        used.append(prepared)
        return fused.FusedSieve(prepared)

    monkeypatch.setattr(stores, "_sieve", sieve)
    monkeypatch.setattr(stores, "_block", lambda size, sift: 10_000)
    monkeypatch.setattr(tensor_screened, "FEW", 0)
    return used


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("K", [0, 1, 2, 4])
def test_a_pass_finds_the_same_as_over_arrays(K, kind, kernel):
    rng = np.random.default_rng([7, K])
    d = 30_001
    tensors = [
        torch.from_numpy(row).to(getattr(torch, kind)) for row in rng.normal(size=(1 + K, d))
    ]
    tensors[0][[5, 20_000]] = torch.tensor([math.nan, math.inf]).to(tensors[0])
    tensors[K][[9, 16_384]] = torch.tensor([-math.inf, math.nan]).to(tensors[0])
    tensors[0][100:200] = 6e4 if kind == "float16" else 1e30
    tensors[0][200:300] = 6e-8 if kind == "float16" else 1e-40
    arrays = [tensor.float().numpy() for tensor in tensors]
    rays = np.column_stack((rng.random((4, K + 1)), rng.random(4)))
    rays[3, 0] = 0.0
    for region in (random_ellipsoid(rng, K), Cone(rays), Cone(1e-20 * rays)):
        masks = np.empty(d, bool), TensorMask(torch.empty(d, dtype=torch.bool))
        one = ArrayStore(arrays).screen(region, masks[0])
        pieces = [TensorPieces([tensor[:12_345], tensor[12_345:]]) for tensor in tensors]
        two = stores.TorchStore(pieces).screen(region, masks[1]).arrays()
        assert np.array_equal(masks[0], np.asarray(masks[1]))
        assert one.kept == two.kept
        assert one.kept > 0 or isinstance(region, Cone)
        assert np.array_equal(one.index, two.index)
        assert np.array_equal(one.scores, two.scores, equal_nan=True)
        assert np.array_equal(one.sums, two.sums)
        assert one.magnitudes == pytest.approx(two.magnitudes, rel=1e-5)
    assert len(kernel) >= 2


@pytest.mark.parametrize("way", ["sample", "whole"])
def test_random_instances(way, monkeypatch, kernel):
    guess_early(monkeypatch, way)
    optimal = 0
    for seed in range(70_000, 70_015):
        one = random_instance(seed, largest=3000)
        target, control = (np.float32(x) for x in (one.target, one.control))
        solution = both(target, [control], keep=one.keep, floors=one.floor)
        optimal += solution.status is Status.OPTIMAL
        several = controlled_instance(seed, largest=3000, most=4)
        target, *controls = (np.float32(x) for x in (several.target, *several.controls))
        both(target, controls, keep=several.keep, floors=several.floors)
    assert optimal > 5
    assert len(kernel) > 20


@pytest.mark.parametrize("name", hard_inputs(10))
def test_hard_inputs(name, kernel):
    target, control = (np.float32(x) for x in hard_inputs(30_000)[name])
    order = np.sort(control.astype(float))
    for keep in (0.1, 29_999):
        k = keep if isinstance(keep, int) else round(keep * 30_000)
        best = order[-k:].sum()
        for floor in (best - 0.5 * abs(best), best):
            both(target, [control], keep=keep, floors=floor)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_on_a_device_with_a_memory_of_its_own(kind, kernel, monkeypatch):
    from .simulated_device import DEVICE, Simulated, There

    class Launcher:  # Triton's interpreter knows no such device
        def __init__(self, name):
            self.name, self.kernel = name, getattr(fused, name)

        def __getitem__(self, grid):
            def run(*args, **how):
                launched.add(self.name)
                raw = (x.raw if isinstance(x, There) else x for x in args)
                return self.kernel[grid](*raw, **how)

            return run

    launched = set()

    rng = np.random.default_rng(8)
    scores = [
        torch.from_numpy(rng.exponential(size=30_000)).to(getattr(torch, kind)) for _ in range(3)
    ]
    arrays = cops_lp.solve(*_halved(scores), keep=0.1, retain=0.6)
    for name in ("sift", "collect"):
        monkeypatch.setattr(fused, name, Launcher(name))
    with Simulated():
        there = cops_lp.solve(*_halved([row.to(DEVICE) for row in scores]), keep=0.1, retain=0.6)
        assert there.mask.tensor.device == DEVICE
        assert np.array_equal(np.asarray(there.mask), np.asarray(arrays.mask))
    assert np.array_equal(there.multipliers, arrays.multipliers)
    assert there.objective == arrays.objective
    assert kernel
    assert launched == {"sift", "collect"}


def _halved(rows):
    target, *controls = (TensorPieces([row[:12_345], row[12_345:]]) for row in rows)
    return target, controls


def test_both_sieves_tell_the_same():
    rng = np.random.default_rng(3)
    for K in range(4):
        rows = [torch.from_numpy(rng.normal(size=5_001).astype(np.float32)) for _ in range(1 + K)]
        prepared = Prepared(random_ellipsoid(rng, K), K, np.dtype(np.float32))
        found = []
        for sieve in (TorchSieve(prepared), fused.FusedSieve(prepared)):
            kept = torch.empty(5_001, dtype=torch.bool)
            sums = [ExactSum(torch.device("cpu")) for _ in rows]
            sifted = sieve(rows, kept, sums)
            totals = [math.fsum(total.parts()[0]) for total in sums]
            found.append((int(sifted.kept), kept.tolist(), totals))
            # Little is in doubt: that is what leaves a device.
            assert int(sifted.opened.sum()) > 0.9 * len(sifted.opened) > 9
        assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_masses_are_compared_in_single_precision(kind, kernel):
    rows = torch.rand(5_000).to(getattr(torch, kind))
    rows[::5] = 0.1
    region = Ellipsoid(np.array([1.0, 0.1]), np.array([[0.01]]))
    for value in (np.float32(0.1), rows[0].float().numpy()):
        masses = np.array([[value]])
        one = ArrayStore((rows.float().numpy(),)).screen(region, None, masses)
        two = stores.TorchStore([TensorPieces([rows])]).screen(region, None, masses)
        assert one.masses.counts.tolist() == two.masses.counts.tolist()
        assert one.open_count == two.open_count > 900
    assert kernel


def test_what_the_kernel_takes():
    for K, rays, taken in ((1, 4, True), (8, 32, True), (9, 4, False), (1, 33, False)):
        prepared = Prepared(Cone(np.ones((rays, K + 2))), K, np.dtype(np.float32))
        assert fused.takes(prepared) is taken


def test_nothing_is_decided_by_forms_that_overflow(kernel):
    """Of 2x − 1.1x − 1.1x … the first term makes ∞, which stays."""
    scores = np.full((3, 3_000), -3e38, dtype=np.float32)
    scores[0] *= -1
    region = Ellipsoid(np.array([2.0, 1.1, 1.1, 0.0]), 1e-20 * np.eye(3))
    found = stores.TorchStore([on_device(row) for row in scores]).screen(region, None)
    assert (found.kept, found.open_count) == (0, 3_000)


def test_where_triton_fails_a_warning_says_so(monkeypatch):
    region = Ellipsoid(np.array([1.0, 0.5]), np.array([[0.1]]))
    sieve = fused.FusedSieve(Prepared(region, 0, np.dtype(np.float32)))
    assert sieve.works(torch.device("cpu"), torch.float32)

    def fail(self, *_):
        raise RuntimeError("Failed to find C compiler")

    with monkeypatch.context() as patch:
        patch.setattr(fused.FusedSieve, "__call__", fail)
        fused._works.cache_clear()
        with pytest.warns(RuntimeWarning, match=r"Triton fails on cpu .*C compiler"):
            assert not sieve.works(torch.device("cpu"), torch.float32)
    fused._works.cache_clear()


@pytest.mark.parametrize("K", [0, 2])
def test_each_kind_of_kernel_is_tried_before_it_is_used(K, monkeypatch):
    device, cpu = torch.device("cuda"), torch.device("cpu")
    rng = np.random.default_rng(K)
    sieves = [
        fused.FusedSieve(Prepared(region, K, np.dtype(np.float32)))
        for region in (random_ellipsoid(rng, K), Cone(rng.random((3, K + 2))))
    ]
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        assert all(sieve.works(cpu, kind) for sieve in sieves)
    fused._works.cache_clear()
    real = fused.FusedSieve.__call__

    def fail(self, rows, *how):
        if self._oval:
            raise RuntimeError("out of registers")
        return real(self, rows, *how)

    monkeypatch.setattr(fused.FusedSieve, "__call__", fail)
    with pytest.warns(RuntimeWarning, match=r"Triton fails on cpu .*out of registers"):
        assert [sieve.works(cpu, torch.float32) for sieve in sieves] == [False, True]
    monkeypatch.setattr(fused.FusedSieve, "works", lambda self, device, kind: not self._oval)
    regions = random_ellipsoid(rng, K), Cone(rng.random((3, K + 2)))
    chosen = [
        stores._sieve(Prepared(region, K, np.dtype(np.float32)), device, [torch.float32])
        for region in regions
    ]
    assert [type(each) for each in chosen] == [TorchSieve, fused.FusedSieve]
    fused._works.cache_clear()


_COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cops_lp.torch.fused import collect, sift

signature = dict(
    rows="*i64", numbers="*fp32", state="*u8", totals="*fp64", sizes="*fp64", least="*fp32",
    counts="*i32", unsure="*i32", n="i32", tiles="i32",
)
aligned = {(i,): [["tt.divisibility", 16]] for i in range(8)}  # not n: whatever that is
targets = GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32)
options = {"num_warps": 8, "enable_fp_fusion": True}
for K, rays, oval, kind in ((1, 1, True, 0), (4, 1, True, 2), (2, 8, False, 1)):
    constants = dict(
        K=K, RAYS=rays, OVAL=oval, KIND=kind, ALIGNED=True, TILE=1024, TILES=2
    )
    source = ASTSource(sift, signature | dict.fromkeys(constants, "constexpr"), constants, aligned)
    for target in targets:
        made = triton.compile(source, target=target, options=options)
        assert len(made.asm["cubin"]) > 1000
        if kind == 0:
            assert "ld.global.v4.b32" in made.asm["ptx"]  # 16 bytes at once
    print("compiled")
signature = dict(
    state="*u8", ends="*i64", index="*i64", opened="*u8", n="i32", tiles="i32",
    TILE="constexpr", TILES="constexpr",
)
source = ASTSource(collect, signature, dict(TILE=1024, TILES=2), {(0,): aligned[(0,)]})
for target in targets:
    assert len(triton.compile(source, target=target, options=options).asm["cubin"]) > 1000
print("compiled")
"""


def test_the_kernel_compiles_for_gpus(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE],
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["compiled"] * 4, done.stderr[-2000:]
