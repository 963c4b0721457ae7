"""Files from strangers: any bytes, and valid files damaged at random, end in one clear error.

Each test runs for a few seconds. COPS_LP_FUZZ_SECONDS sets how long all of them may take
together in the slow suite (``pytest -m slow tests/test_fuzz_files.py``), by default 600.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cops_lp
from cops_lp import ProblemError, Solution, certify
from cops_lp.files import list_names, read_score

safetensors_numpy = pytest.importorskip("safetensors.numpy")

SLOW_SECONDS = float(os.environ.get("COPS_LP_FUZZ_SECONDS", "600"))
MOST_MEMORY = 12e6  # bytes; the files are a few kilobytes
KINDS = (".npy", ".npz", ".safetensors", "solution")

SHORT = settings(
    max_examples=300, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(
    max_examples=10**9, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def _valid() -> dict[str, list[bytes]]:
    """Small whole files of each kind; a slip in one field of them is one random change away."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=(5, 8)).astype(np.float32)
    npy = []
    for array in (score, score.astype(">f8"), np.asfortranarray(score), np.arange(6) > 2):
        buffer = io.BytesIO()
        np.save(buffer, array)
        npy.append(buffer.getvalue())
    npz = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, a=score, **{"b/c": score[0]})
        npz.append(buffer.getvalue())
    tensors = [
        safetensors_numpy.save({"a": score, "b": score[0].astype(np.int8)}),
        safetensors_numpy.save({"only": score.astype(np.float16)}, metadata={"format": "pt"}),
    ]
    scores = dict(zip("abc", rng.exponential(size=(3, 40)), strict=True))
    both = {"b": scores["b"], "c": scores["c"]}
    solved = [
        cops_lp.solve(scores["a"], both, keep=8, retain=0.6),
        cops_lp.solve(scores["a"], both, keep=8, retain=1.0, raise_on_infeasible=False),
        cops_lp.balance(scores, keep=8),
    ]
    solutions = []
    with tempfile.TemporaryDirectory() as folder:
        for solution in solved:
            path = Path(folder) / "s.npz"
            solution.save(path, overwrite=True)
            solutions.append(path.read_bytes())
    return dict(zip(KINDS, (npy, npz, tensors, solutions), strict=True))


VALID = _valid()
TARGETS = {"a": np.random.default_rng(1).exponential(size=40)}
WORDS = (
    b"", b"\x00", b"\xff", b"\x80", b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x07",
    b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\xff" * 7 + b"\x7f",
    b"|O", b"<U9", b"<f8", b"<c16", b"|V9", b"(((((", b"9999999999", b"-1", b"None", b"{", b"}",
    b"\x93NUMPY\x02\x00", b"..", b"/", b"\\", b"\xed\xa0\x80",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A valid file, cut, repeated, overwritten or flipped in a few places."""
    raw = bytearray(draw(st.sampled_from(VALID[kind])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(raw) - 1, 0)))
        how = draw(st.sampled_from(("flip", "set", "word", "insert", "delete", "cut", "move")))
        if how == "flip" and raw:
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set" and raw:
            raw[at] = draw(st.integers(0, 255))
        elif how in ("word", "insert"):
            word = draw(st.sampled_from(WORDS) | st.binary(max_size=9))
            raw[at : at + len(word) * (how == "word")] = word
        elif how == "delete":
            del raw[at : at + draw(st.integers(1, 64))]
        elif how == "cut":
            del raw[at:]
        else:
            to = draw(st.integers(0, len(raw)))
            raw[to:to] = raw[at : at + draw(st.integers(1, 64))]
    return bytes(raw)


@st.composite
def renumbered(draw: st.DrawFn, kind: str) -> bytes:
    """A whole archive of whole arrays whose dtypes, shapes and values are wrong."""
    with zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(VALID[kind])))) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for name in draw(
        st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=3, unique=True)
    ):
        array = np.lib.format.read_array(io.BytesIO(members[name]))
        how = draw(st.sampled_from(("drop", "dtype", "axes", "values", "empty", "header", "name")))
        if how == "drop":
            members.pop(name, None)
            continue
        if how == "dtype" and array.dtype.kind != "U":
            dtype = draw(
                st.sampled_from(["f2", "f4", ">f8", ">i8", "i1", "u8", "?", "c8", "M8[s]"])
            )
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = array.astype(dtype)
        elif how == "axes":
            array = array[None]
        elif how == "values" and array.dtype.kind in "if":
            values = st.sampled_from([0, -1, 1, 2**31, 2**62, -(2**63)])
            if array.dtype.kind == "f":
                values = st.floats(width=64) | st.sampled_from([1e308, -1e308, 5e-324])
            with np.errstate(all="ignore"):
                array = np.full(array.shape, draw(values), dtype=array.dtype)
        elif how == "empty":
            array = np.zeros((0,) * array.ndim, dtype=array.dtype)
        buffer = io.BytesIO()
        if how == "header":
            shape = tuple(draw(st.lists(st.sampled_from([0, 1, 3, 2**40, 2**62]), max_size=4)))
            descr = draw(st.sampled_from(["<f8", "<i8", "|u1", "<U0", "<U99999999", "|O", "|V0"]))
            header = {"descr": descr, "fortran_order": draw(st.booleans()), "shape": shape}
            np.lib.format.write_array_header_1_0(buffer, header)
            buffer.write(draw(st.binary(max_size=64)))
        else:
            np.lib.format.write_array(buffer, array)
        if how == "name":
            name = draw(st.sampled_from(["../x.npy", "/x.npy", "x", "a\\b.npy", ".npy", "a\0.npy"]))
        members[name] = buffer.getvalue()
    buffer = io.BytesIO()
    kind_of_zip = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(buffer, "w", compression=kind_of_zip) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def try_to_read(folder: Path, kind: str, raw: bytes) -> bool:
    """Read it every way there is: it is read, or refused in one line that names the file."""
    path = folder / ("stranger.npz" if kind == "solution" else f"stranger{kind}")
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _read(path, kind)
        return True
    except ProblemError as error:
        text = str(error)
        assert path.name in text
        assert len(text) < 2000
        assert "\n" not in text
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_MEMORY, f"{peak:,} bytes for a file of {len(raw):,}"
        assert list(folder.iterdir()) == [path]


def _read(path: Path, kind: str) -> None:
    if kind == "solution":
        solution = Solution.load(path)
        str(solution)
        solution.relaxed()
        shape = solution.problem.shape
        if solution.problem.size <= 1000:
            rng = np.random.default_rng(0)
            rows = rng.exponential(size=(1 + len(solution.problem.names), *shape))
            str(certify((rows[0], list(rows[1:])), solution))
        return
    names = [None] if kind == ".npy" else list_names(path)
    for name in names or [None]:
        array = read_score(path, name)
        assert array.dtype.name == "bfloat16" or array.dtype.kind in "fiub"
        array[..., :1].tobytes() if array.ndim and array.size else array.tobytes()
        read_score(path, name, as_stored=True)


def fuzz(strategy: st.SearchStrategy[bytes], kind: str, limit: settings, seconds: float) -> None:
    """Run until the examples or the time are used up."""
    end = time.monotonic() + seconds
    seen = 0
    with tempfile.TemporaryDirectory() as name:

        @limit
        @given(strategy)
        def one(raw: bytes) -> None:
            nonlocal seen
            if time.monotonic() > end:
                raise _EnoughError
            seen += 1
            try_to_read(Path(name), kind, raw)

        with contextlib.suppress(_EnoughError):
            one()
    gc.collect()
    assert seen > 50


class _EnoughError(BaseException):
    """The time is up; not an Exception, so that Hypothesis does not take it for a failure."""


CASES = [
    *((kind, "bytes") for kind in KINDS),
    *((kind, "damaged") for kind in KINDS),
    *((kind, "renumbered") for kind in (".npz", "solution")),
]


def strategy_of(kind: str, how: str) -> st.SearchStrategy[bytes]:
    if how == "bytes":
        starts = st.sampled_from([raw[: 6 + 8 * (kind == ".npy")] for raw in VALID[kind]])
        return st.binary(max_size=400) | st.tuples(starts, st.binary(max_size=400)).map(b"".join)
    return {"damaged": damaged, "renumbered": renumbered}[how](kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_files_are_read(tmp_path, kind):
    for raw in VALID[kind]:
        assert try_to_read(tmp_path, kind, raw)


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_strange_files(kind, how):
    fuzz(strategy_of(kind, how), kind, SHORT, 5.0)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "how"), CASES)
def test_strange_files_for_minutes(kind, how):
    fuzz(strategy_of(kind, how), kind, LONG, SLOW_SECONDS / len(CASES))
