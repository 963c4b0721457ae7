"""The cache of compiled kernels: elsewhere, not to be written, damaged; it costs time only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cops_lp

from .running import python

SOLVE = "import cops_lp; print(cops_lp.__file__, cops_lp.solve([1, 3, 2], keep=2).mask.tolist())"
MASK = "[False, True, True]"
SAID = (
    "cops_lp: compiling the solver's kernels, some 15 to 40 s, once; "
    "`cops-lp warmup` does it ahead\n"
)


def cached(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*.nb[ic]")}


def solved(**settings):
    """What a process that solves says on stderr."""
    done = python(SOLVE, **settings)
    assert done.stdout.rstrip().endswith(MASK), done.stderr
    return done.stderr


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
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"), str(file))
    home["NUMBA_CACHE_DIR"] = ""
    done = python(SOLVE, cwd=package, **home)
    assert str(package) in done.stdout
    assert done.stdout.rstrip().endswith(MASK)
    assert not cached(package)
    assert done.stderr.count("\n") == 1
    assert "in every process" in done.stderr
    assert "NUMBA_CACHE_DIR" in done.stderr


def test_numba_cache_dir_is_used_and_a_damaged_cache_there_is_made_anew(tmp_path):
    """Guard: `_forgiving` takes errors of a cache's files for "not cached"."""
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert solved(**folder) == SAID
    first = cached(tmp_path)
    assert any(path.name.startswith("two_score.top_k") for path in first)
    for path, data in first.items():
        path.write_bytes(data[: len(data) // 2])
    assert solved(**folder) == SAID
    again = cached(tmp_path)
    assert again.keys() == first.keys()
    for path in again:
        assert len(again[path]) > len(first[path]) // 2  # whole again
    assert solved(**folder) == ""
    assert cached(tmp_path) == again  # read, not written


def test_who_logs_is_told_there_and_warmup_says_it_itself(tmp_path):
    """Guard: the line goes through `logging`, once; `run_warmup` counts it as said."""
    code = """
import logging, sys, cops_lp
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message).8s")
cops_lp.solve([1, 3, 2], keep=2)
cops_lp.solve([1, 3, 2], [1, 2, 3], keep=2, floors=3)
"""
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert (done.stdout, done.stderr) == ("cops_lp WARNING cops_lp:\n", "")
    code = """
from cops_lp.cli import warmup
warmup._start_child = lambda controls: type("", (), {"wait": int, "kill": int})()
warmup._solve = lambda dtype, size, controls, integral=False: None if size > 64 else solve(dtype)
from cops_lp.kernels import two_score
import numpy as np
def solve(dtype):
    two_score.sum_dd(np.zeros(3))
warmup.run_warmup()
"""
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path / "other"))
    assert done.stderr == ""
    assert done.stdout.startswith("kernels ready")


def test_a_cache_that_cannot_be_saved(monkeypatch):
    """Guard: `_forgiving` lets no error of saving out: a full disk, say."""
    from cops_lp.kernels import _jit

    class Full:
        def load_overload(self, *args):
            raise EOFError

        save_overload = flush = load_overload

    class Kernel:
        _cache = Full()

    monkeypatch.setattr(_jit, "_said", True)
    kernel = _jit._forgiving(Kernel(), "compiling")
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
    done = python(code, NUMBA_DISABLE_JIT="1")
    assert (done.stdout.split(), done.stderr) == (["True"] * 3, "")
