"""Scores in shards: real processes that talk through gloo, against one process."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import cops_lp
from cops_lp.engine.stores import exact_parts

torch = pytest.importorskip("torch")

import cops_lp.torch as ct  # noqa: E402
from cops_lp.torch.layout import Layout  # noqa: E402

if not torch.distributed.is_available():
    pytest.skip("torch without distributed", allow_module_level=True)

WORKER = Path(__file__).with_name("sharded_cases.py")
LIMIT = 240.0  # seconds, for all cases

# By name alone: the worker's imports belong to its processes.
CASES = [
    node.name
    for node in ast.parse(WORKER.read_text()).body
    if isinstance(node, ast.FunctionDef)
    and any(isinstance(each, ast.Name) and each.id == "case" for each in node.decorator_list)
]


@functools.cache
def answers(size, folder):
    """What each rank said of each case; processes are started once for all of them."""
    package = str(Path(cops_lp.__file__).parents[1])  # the one that is tested here
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package}
    command = [sys.executable, str(WORKER)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    printed = []
    try:
        for process in processes:
            try:
                printed.append(process.communicate(timeout=LIMIT)[0])
            except subprocess.TimeoutExpired:
                printed.append("hangs")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = []
    for rank in range(size):
        path = folder / f"{rank}.json"
        said.append(json.loads(path.read_text()) if path.exists() else {})
    return said, printed


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def group(request, tmp_path_factory):
    return answers(request.param, tmp_path_factory.mktemp("group"))


@pytest.mark.parametrize("name", CASES)
def test_in_a_group(group, name):
    said, printed = group
    for rank, own in enumerate(said):
        assert name in own, f"rank {rank} did not come to it: {printed[rank][-3000:]}"
        assert own[name] == "", f"rank {rank}: {own[name]}"


def test_without_a_group():
    with pytest.raises(cops_lp.ProblemError, match=r"torch\.distributed is not initialized"):
        ct.solve_sharded(torch.rand(5), keep=1)
    with pytest.raises(cops_lp.ProblemError, match="holds no DTensor"):
        ct.masks_sharded({"a": torch.rand(5)}, keep=1)


@pytest.mark.parametrize("decades", [1, 30, 60])
def test_sums_of_parts_are_those_of_the_whole(decades):
    """Guard: two parts a rank would round twice."""
    rng = np.random.default_rng(decades)
    twice = 0
    for _ in range(300):
        terms = rng.normal(size=30) * 10.0 ** rng.uniform(-decades, 0, 30)
        groups = np.split(terms, np.sort(rng.integers(0, 31, 3)))
        parts = [exact_parts(group) for group in groups]
        whole = exact_parts(terms)[:2]
        exact = sum(map(Fraction, terms.tolist()), Fraction(0))
        assert whole[0] == float(exact)
        assert whole[1] == float(exact - Fraction(whole[0]))
        assert exact_parts(np.concatenate(parts))[:2] == whole
        twice += exact_parts(np.concatenate([part[:2] for part in parts]))[:2] != whole
    assert twice > 0 or decades == 1


@pytest.mark.parametrize("seed", range(20))
def test_layouts(seed):
    """Pieces of several tensors on several ranks, against arrays of all positions."""
    rng = np.random.default_rng(seed)
    size, P = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    counts = rng.integers(0, 6, (size, P)) * (rng.random((size, P)) < 0.7)
    starts = np.cumsum(counts.T.reshape(-1)).reshape(P, size).T - counts  # tensor by tensor
    owner = np.concatenate(
        [np.full(counts[r, p], r * P + p) for p in range(P) for r in range(size)] or [[]]
    ).astype(int)
    chosen = rng.random(len(owner)) < 0.5
    part_counts = np.array(
        [[(chosen & (owner == r * P + p)).sum() for p in range(P)] for r in range(size)]
    )
    for rank in range(size):
        layout = Layout(rank, starts, counts)
        own = np.flatnonzero(owner // P == rank)
        assert layout.size == len(owner)
        assert layout.own_size == len(own)
        assert np.array_equal(layout.among_all(np.arange(len(own))), own)
        some = np.sort(rng.integers(0, max(len(owner), 1), 30)) if len(owner) else own
        places, here = layout.among_own(some)
        assert np.array_equal(own[here], some[places])
        assert np.array_equal(places, np.flatnonzero(np.isin(some, own)))
        start, stop = sorted(rng.integers(0, len(owner) + 1, 2).tolist())
        out = np.full(stop - start, -1)
        for there, where in layout.ranges(start, stop):
            out[there] = own[where]
        inside = own[(own >= start) & (own < stop)]
        assert np.array_equal(out[out >= 0], inside)
        assert np.array_equal(np.flatnonzero(out >= 0), inside - start)
        kept = np.flatnonzero(chosen[own])
        assert np.array_equal(layout.per_piece(kept), part_counts[rank])
        part = layout.part(part_counts)
        positions = np.flatnonzero(owner[chosen] // P == rank)
        assert part.size == chosen.sum()
        assert np.array_equal(part.among_all(np.arange(part.own_size)), positions)
