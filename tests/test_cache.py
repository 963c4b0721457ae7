"""The cache of compiled kernels: elsewhere, not to be written, damaged; it costs time only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cops_lp

from .running import printed

SOLVE = "import cops_lp; print(cops_lp.__file__, cops_lp.solve([1, 3, 2], keep=2).mask.tolist())"
MASK = "[False, True, True]"


def cached(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*.nb[ic]")}


@pytest.fixture
def package(tmp_path):
    """A copy of the package that has never been compiled."""
    source = Path(cops_lp.__file__).parent
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, tmp_path / "copy" / "cops_lp", ignore=without)
    return tmp_path / "copy"


def test_where_no_folder_can_be_written(package, tmp_path):
    """Guard: `compiled` asks Numba again without a cache where it finds no place for one."""
    # Files where folders should be: that stops root too.
    (package / "cops_lp" / "kernels" / "__pycache__").touch()
    file = tmp_path / "file"
    file.touch()
    home = {"HOME": str(file), "XDG_CACHE_HOME": str(file), "LOCALAPPDATA": str(file)}
    said = printed(SOLVE, cwd=package, **home)
    assert str(package) in said
    assert said.rstrip().endswith(MASK)
    assert not cached(package)


def test_numba_cache_dir_is_used_and_a_damaged_cache_there_is_made_anew(tmp_path):
    """Guard: `_forgiving` takes errors of a cache's files for "not cached"."""
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert printed(SOLVE, **folder).rstrip().endswith(MASK)
    first = cached(tmp_path)
    assert any(path.name.startswith("two_score.top_k") for path in first)
    for path, data in first.items():
        path.write_bytes(data[: len(data) // 2])
    assert printed(SOLVE, **folder).rstrip().endswith(MASK)
    again = cached(tmp_path)
    assert again.keys() == first.keys()
    for path in again:
        assert len(again[path]) > len(first[path]) // 2  # whole again
    assert printed(SOLVE, **folder).rstrip().endswith(MASK)
    assert cached(tmp_path) == again  # read, not written


def test_a_cache_that_cannot_be_saved():
    """Guard: `_forgiving` lets no error of saving out: a full disk, say."""
    from cops_lp.kernels import _jit

    class Full:
        def load_overload(self, *args):
            raise EOFError

        save_overload = flush = load_overload

    class Kernel:
        _cache = Full()

    kernel = _jit._forgiving(Kernel())
    assert kernel._cache.load_overload("signature", None) is None
    assert kernel._cache.save_overload("signature", None) is None


def test_without_the_compiler_large_problems_take_the_same_way():
    """Guard: `row_at` reads addresses by ctypes where there is no compiler."""
    code = """
import numpy as np, cops_lp
from cops_lp.engine import driver
driver._DIRECT, driver._SMALL, driver._WHOLE, driver._SAMPLE = (40,) * 3, 0, 0, (256, 512)
rng = np.random.default_rng(0)
for K in range(3):
    own = rng.exponential(size=(1 + K, 3_000)).astype(np.float32)
    how = {"retain": 0.7} if K else {}
    found = cops_lp.solve(own[0], list(own[1:]), keep=0.2, threads=2, **how)
    assert cops_lp.certify(found.problem, found)
    print(found.open_count < 3_000)
"""
    assert printed(code, NUMBA_DISABLE_JIT="1").split() == ["True"] * 3
