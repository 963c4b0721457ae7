"""Score files in, mask files out: round trips, every kind of bad file, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cops_lp import files
from cops_lp.errors import MissingDependencyError, ProblemError
from cops_lp.files import check_new_file, list_names, new_file, npz, read_score, write_mask

safetensors_numpy = pytest.importorskip("safetensors.numpy")


@pytest.fixture
def score() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(6, 5)).astype(np.float32)


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...], descr: str = "<f4", order: bool = False) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": order, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(shape: object, begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def message_of(path: Path, name: str | None = None) -> str:
    with pytest.raises(ProblemError) as caught:
        read_score(path, name)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


# Reading


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u2", "i8", "?"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_reads_what_was_saved(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = np.random.default_rng(3).integers(0, 2, (4, 3)).astype(dtype)
    path = tmp_path / f"score{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, only=array)
    else:
        safetensors_numpy.save_file({"only": array}, path)
    read = read_score(path)
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)
    assert list_names(path) == ([] if suffix == ".npy" else ["only"])


def test_suffix_may_be_in_capitals(tmp_path: Path, score: np.ndarray) -> None:
    path = tmp_path / "SCORE.NPY"
    path.write_bytes(npy_bytes(score))
    assert np.array_equal(read_score(path), score)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_maps_and_does_not_read(tmp_path: Path, suffix: str, score: np.ndarray) -> None:
    path = tmp_path / f"score{suffix}"
    if suffix == ".npy":
        np.save(path, score)
    else:
        safetensors_numpy.save_file({"only": score}, path)
    read = read_score(path)
    assert isinstance(read, np.memmap)
    assert read.mode == "r"
    assert not read.flags.writeable


def test_a_huge_sparse_file_costs_nothing_to_open(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    d = 1 << 38  # a tebibyte of float32, none of it on the disk
    with path.open("wb") as file:
        file.write(npy_header((d,)))
        try:
            file.truncate(file.tell() + 4 * d)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    read = read_score(path)
    assert read.shape == (d,)
    assert read[d - 1] == 0.0


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_array_is_chosen_by_name(tmp_path: Path, score: np.ndarray, compressed: bool) -> None:
    path = tmp_path / "scores.npz"
    (np.savez_compressed if compressed else np.savez)(path, snip=score, flow=-score)
    assert list_names(path) == ["snip", "flow"]
    assert np.array_equal(read_score(path, "flow"), -score)


def test_safetensors_tensor_is_chosen_by_name(tmp_path: Path, score: np.ndarray) -> None:
    path = tmp_path / "scores.safetensors"
    tensors = {"fc.weight": score, "dense/kernel:0": -score}
    safetensors_numpy.save_file(tensors, path, metadata={"format": "pt"})
    assert sorted(list_names(path)) == sorted(tensors)
    assert np.array_equal(read_score(path, "dense/kernel:0"), -score)


def test_fortran_order_and_foreign_bytes_keep_their_values(
    tmp_path: Path, score: np.ndarray
) -> None:
    np.save(tmp_path / "fortran.npy", np.asfortranarray(score))
    np.save(tmp_path / "big.npy", score.astype(">f4"))
    np.savez(tmp_path / "both.npz", np.asfortranarray(score.astype(">f4")))
    assert np.array_equal(read_score(tmp_path / "fortran.npy"), score)
    for name in ("big.npy", "both.npz"):
        read = read_score(tmp_path / name)
        assert np.array_equal(read, score)
        assert read.dtype.isnative


def test_tensor_at_an_odd_address_is_copied(tmp_path: Path, score: np.ndarray) -> None:
    path = tmp_path / "odd.safetensors"
    header = {"a": entry([1], 0, 1, "U8"), "b": entry(list(score.shape), 1, 1 + score.nbytes)}
    path.write_bytes(safetensors_bytes(header, b"\x01" + score.tobytes()))
    read = read_score(path, "b")
    assert np.array_equal(read, score)
    assert read.flags.aligned


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_scalar_and_empty_arrays(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype=np.float64)
    path = tmp_path / f"score{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, array)
    else:
        safetensors_numpy.save_file({"only": array}, path)
    read = read_score(path)
    assert read.shape == shape
    assert np.array_equal(read, array)


def test_bfloat16_is_mapped_as_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1.0, -2.5, 3e38, 0.0078125], dtype=ml_dtypes.bfloat16)
    path = tmp_path / "bf16.safetensors"
    path.write_bytes(safetensors_bytes({"w": entry([4], 0, 8, "BF16")}, array.tobytes()))
    read = read_score(path)
    assert isinstance(read, np.memmap)
    assert read.dtype == ml_dtypes.bfloat16
    assert np.array_equal(read, array)


def test_bfloat16_is_widened_without_ml_dtypes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([1.0, -2.5, -0.0, np.inf], dtype=np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "bf16.safetensors"
    path.write_bytes(safetensors_bytes({"w": entry([2, 2], 0, 8, "BF16")}, bits.tobytes()))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    read = read_score(path)
    assert read.dtype == np.float32
    assert read.tobytes() == values.tobytes()
    assert read.shape == (2, 2)


# Files that are not there, or not what they seem


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in message_of(tmp_path / "none.npy")
    (tmp_path / "file.npy").write_bytes(b"")
    assert "no such file" in message_of(tmp_path / "file.npy" / "deeper.npy")


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "scores.npy").mkdir()
    assert "is a folder" in message_of(tmp_path / "scores.npy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    assert "not a regular file" in message_of(tmp_path / "pipe.npy")


@pytest.mark.parametrize("name", ["weights.pt", "scores.csv", "noending"])
def test_unsupported_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"1,2,3\n")
    assert ".npy, .npz or .safetensors" in message_of(tmp_path / name)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.npy"
    path.write_bytes(npy_bytes(np.ones(3)))

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in message_of(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"1.0 2.0 3.0\n", b"\x00" * 200, b"{" * 5000])
def test_other_content(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"score{suffix}"
    path.write_bytes(content)
    assert "pickle" not in message_of(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.99])
def test_cut_short(tmp_path: Path, suffix: str, kept: float, score: np.ndarray) -> None:
    path = tmp_path / f"score{suffix}"
    if suffix == ".npy":
        np.save(path, score)
    elif suffix == ".npz":
        np.savez_compressed(path, score)
    else:
        safetensors_numpy.save_file({"only": score}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert message_of(path)


def test_name_for_an_array_without_one(tmp_path: Path, score: np.ndarray) -> None:
    np.save(tmp_path / "score.npy", score)
    assert "without a name" in message_of(tmp_path / "score.npy", "snip")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_name_is_needed_or_wrong(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    arrays = {f"layer{i}.weight": np.ones(2) for i in range(9)}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        safetensors_numpy.save_file(arrays, path)
    needed = message_of(path)
    assert "holds 9" in needed
    assert "'layer0.weight'" in needed
    assert "and 4 more" in needed
    assert "'layer3.weight'" in message_of(path, "layer3.weigth")
    assert "it holds 'layer0.weight'" in message_of(path, "xyz")


def test_no_arrays_at_all(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    (tmp_path / "empty.safetensors").write_bytes(safetensors_bytes({"__metadata__": {}}))
    assert "holds no arrays" in message_of(tmp_path / "empty.npz")
    assert "holds no tensors" in message_of(tmp_path / "empty.safetensors")


# Hostile content


class Trap:
    """Unpickling one leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "loaded"
    trapped = np.array([Trap(marker)], dtype=object)
    np.save(tmp_path / "trap.npy", trapped, allow_pickle=True)
    np.savez(tmp_path / "trap.npz", trapped)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap(marker)))
    assert "pickled" in message_of(tmp_path / "trap.npy")
    assert "pickled" in message_of(tmp_path / "trap.npz")
    assert "does not begin like" in message_of(tmp_path / "bare.npy")
    assert not marker.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3, dtype=complex),
        np.array(["a", "b"]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype="M8[s]"),
    ],
    ids=["complex", "text", "records", "dates"],
)
def test_other_than_real_numbers(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "score.npy", array)
    np.savez(tmp_path / "score.npz", array)
    for name in ("score.npy", "score.npz"):
        assert "wanted real numbers" in message_of(tmp_path / name)


def test_bfloat16_that_numpy_saved(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.save(tmp_path / "score.npy", np.ones(3, dtype=ml_dtypes.bfloat16))
    assert "bfloat16" in message_of(tmp_path / "score.npy")


def test_float8_tensors(tmp_path: Path) -> None:
    path = tmp_path / "score.safetensors"
    path.write_bytes(safetensors_bytes({"w": entry([4], 0, 4, "F8_E4M3")}, b"\0" * 4))
    assert "dtype F8_E4M3" in message_of(path)


@pytest.mark.parametrize("shape", [(10**15,), (2**62, 2**62), (10**9, 10**9, 10**9)])
def test_huge_claims_are_refused_at_once(tmp_path: Path, shape: tuple[int, ...]) -> None:
    npy = tmp_path / "huge.npy"
    npy.write_bytes(npy_header(shape) + b"\0" * 64)
    assert "cut short" in message_of(npy)

    npz = tmp_path / "huge.npz"
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("a.npy", npy_header(shape) + b"\0" * 64)
    assert "claims" in message_of(npz)

    tensor = tmp_path / "huge.safetensors"
    size = 4 * int(np.prod([int(n) for n in shape], dtype=object))
    tensor.write_bytes(safetensors_bytes({"a": entry(shape, 0, size)}, b"\0" * 64))
    assert "not a whole .safetensors file" in message_of(tensor)


def test_safetensors_files_say_which_extra_is_missing(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.safetensors"
    safetensors_numpy.save_file({"a": np.ones(2)}, path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cops-lp\[files\]'"):
        read_score(path)
    with pytest.raises(MissingDependencyError, match="safetensors is not installed"):
        write_mask(tmp_path / "mask.safetensors", np.ones(2, dtype=bool))
    assert not (tmp_path / "mask.safetensors").exists()


@pytest.mark.parametrize(
    "shape", [(2**63,), (2**62,) * 9, (1,) * 60, (10**4000, 10**4000), (0, 2**62, 2**62)]
)
def test_shapes_that_no_array_has(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(npy_header(shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy_header(shape))
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes({"a": entry(shape, 0, 0)}))
    for name in ("a.npy", "a.npz", "a.safetensors"):
        assert len(message_of(tmp_path / name)) < 500


def test_zip_that_claims_more_than_it_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez(path, a=np.zeros(16, dtype=np.float32))
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    raw[central + 24 : central + 28] = (3_000_000_000).to_bytes(4, "little")  # its full size
    path.write_bytes(bytes(raw))
    assert "damaged" in message_of(path)


def test_zip_that_would_not_fit_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.npz"
    array = np.random.default_rng(0).random(100_000)
    np.savez_compressed(path, a=array)
    monkeypatch.setattr(npz, "_IN_MEMORY", 1000)
    read = read_score(path)
    assert isinstance(read, np.memmap)  # of an unnamed temporary file
    assert np.array_equal(read, array)
    free = type("", (), {"free": 1_500_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert "save it as .npy" in message_of(path)


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    zeros = 1 << 28  # bytes, a thousandth of that in the archive
    with (
        zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as member,
    ):
        member.write(npy_header((zeros // 4,)))
        for _ in range(zeros >> 20):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    assert "times what it takes" in message_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


def test_long_npy_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.npy"
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"))
        file.truncate(1 << 31)  # a sparse file that really is that long
    tracemalloc.start()
    assert "its .npy header claims 1,073,741,824 bytes" in message_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_long_safetensors_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    with path.open("wb") as file:
        file.write((1 << 25).to_bytes(8, "little"))
        file.truncate(1 << 26)
    assert "header takes 33,554,432 bytes" in message_of(path)


def test_long_zip_directory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.npz"
    size = 1 << 26
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 9, 9, size, 0, 0))
    tracemalloc.start()
    assert "more arrays than any score file needs" in message_of(path)
    with path.open("r+b") as file:  # the same in the format for large archives
        file.seek(size)
        file.write(struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 9, 9, size, 0))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        file.write(struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 9, 9, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    assert "more arrays than any score file needs" in message_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("compressed", [False, True])
def test_names_are_keys_and_never_paths(tmp_path: Path, compressed: bool) -> None:
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(folder / "s.npz", "w", compression=kind) as archive:
        for name in ("../evil", "/etc/evil", "a/b", "C:\\evil"):
            archive.writestr(f"{name}.npy", npy_bytes(np.full(3, len(name))))
    assert read_score(folder / "s.npz", "../evil").tolist() == [7, 7, 7]
    assert read_score(folder / "s.npz", "/etc/evil").tolist() == [9, 9, 9]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "deep", folder, folder / "s.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy_bytes(np.zeros(3)))
        archive.writestr("a.npy", npy_bytes(np.ones(3)))
    assert "two arrays 'a'" in message_of(path)


def test_stored_npz_arrays_are_mapped_where_they_lie(tmp_path: Path, score: np.ndarray) -> None:
    np.savez(tmp_path / "s.npz", **{"a" * n: score for n in range(1, 9)})
    for n in range(1, 9):
        read = read_score(tmp_path / "s.npz", "a" * n, as_stored=True)
        assert isinstance(read, np.memmap)
        assert np.array_equal(read, score)
        assert read_score(tmp_path / "s.npz", "a" * n).flags.aligned
    np.save(tmp_path / "big.npy", score.astype(">f4"))
    assert not read_score(tmp_path / "big.npy", as_stored=True).dtype.isnative


def test_zip_with_foreign_compression(tmp_path: Path) -> None:
    path = tmp_path / "lzma.npz"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", npy_bytes(np.ones(9)))
    assert "numpy.savez" in message_of(path)


def test_zip_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "flipped.npz"
    np.savez(path, a=np.arange(1000.0))
    raw = bytearray(path.read_bytes())
    raw[raw.index(np.float64(500.0).tobytes())] ^= 1
    path.write_bytes(bytes(raw))
    assert "CRC" in message_of(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1, 2]",
        b"[" * 100_000,
        b"\xff\xfe",
        {"a": 3},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": entry([2], 0, 7)},
        {"a": entry([2], -8, 0)},
        {"a": entry([-2], 0, 8)},
        {"a": entry([2.0], 0, 8)},
        {"a": entry([True, 2], 0, 8)},
        {"a": entry(None, 0, 8)},
        {"a": entry([2], 8, 16)},
        {"a": entry([2], 0, 8, dtype="F4096")},
        {"a": entry("2", 0, 8)},
    ],
)
def test_damaged_safetensors_header(tmp_path: Path, header: object) -> None:
    path = tmp_path / "score.safetensors"
    path.write_bytes(safetensors_bytes(header, b"\0" * 8))
    assert message_of(path)


def test_unknown_npy_version_and_negative_shape(tmp_path: Path) -> None:
    path = tmp_path / "score.npy"
    raw = bytearray(npy_bytes(np.ones(3)))
    raw[6] = 9
    path.write_bytes(bytes(raw))
    assert "version (9, 0)" in message_of(path)
    path.write_bytes(npy_header((-1,)) + b"\0" * 8)
    assert "shape" in message_of(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_flipped_bytes_never_raise_anything_else(
    tmp_path: Path, suffix: str, score: np.ndarray
) -> None:
    path = tmp_path / f"score{suffix}"
    if suffix == ".npy":
        np.save(path, score)
    elif suffix == ".npz":
        np.savez_compressed(path, a=score)
    else:
        safetensors_numpy.save_file({"a": score}, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(11)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        raw = bytearray(whole)
        head = len(raw) if suffix == ".npz" else 200
        for at in rng.integers(0, min(head, len(raw)), rng.integers(1, 4)):
            raw[at] = rng.integers(256)
        path.write_bytes(bytes(raw))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                np.asarray(read_score(path)).sum()
        except ProblemError:
            outcomes["refused"] += 1
        except RuntimeWarning:  # the sum's own: a flipped byte made an infinity
            outcomes["read"] += 1
        else:
            outcomes["read"] += 1
    assert outcomes["refused"] > 50
    assert sum(outcomes.values()) == 400


# Writing


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (0,)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_mask_round_trip(tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
    mask = np.asarray(np.random.default_rng(5).random(shape) < 0.5, order=order)
    write_mask(tmp_path / "mask.npy", mask)
    write_mask(tmp_path / "mask.safetensors", mask)
    loaded = np.load(tmp_path / "mask.npy")
    tensors = safetensors_numpy.load_file(tmp_path / "mask.safetensors")
    assert list(tensors) == ["mask"]
    for read in (
        loaded,
        tensors["mask"],
        read_score(tmp_path / "mask.npy"),
        read_score(tmp_path / "mask.safetensors"),
    ):
        assert read.dtype == np.bool_
        assert read.shape == shape
        assert np.array_equal(read, mask)


def test_writes_where_a_strided_mask_came_from(tmp_path: Path) -> None:
    mask = np.arange(20).reshape(4, 5).T % 3 == 0
    write_mask(tmp_path / "mask.safetensors", mask[::2])
    read = safetensors_numpy.load_file(tmp_path / "mask.safetensors")["mask"]
    assert np.array_equal(read, mask[::2])
    write_mask(tmp_path / "row.safetensors", mask[0, ::2])
    assert np.array_equal(read_score(tmp_path / "row.safetensors"), mask[0, ::2])


@pytest.mark.parametrize("mask", [np.ones(3), [True, False], np.ones(3, dtype=np.uint8)])
def test_only_bool_masks_are_written(tmp_path: Path, mask: object) -> None:
    with pytest.raises(ProblemError, match="wanted an array of bool"):
        write_mask(tmp_path / "mask.npy", mask)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    path.write_bytes(b"precious")
    with pytest.raises(ProblemError, match="already exists"):
        write_mask(path, np.ones(3, dtype=bool))
    assert path.read_bytes() == b"precious"
    write_mask(path, np.ones(3, dtype=bool), overwrite=True)
    assert np.load(path).all()
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    block = new_file(path)
    with pytest.raises(ProblemError, match="already exists"), block:
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["write_array", "fsync", "replace"])
def test_failure_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "mask.npy"
    path.write_bytes(b"precious")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    owner = {"write_array": np.lib.format, "fsync": os, "replace": Path}[failing]
    monkeypatch.setattr(owner, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_mask(path, np.ones(3, dtype=bool), overwrite=True)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        with new_file(tmp_path / "mask.npy") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_there_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    with new_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions and links")
def test_permissions_are_usual_and_links_stay(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.write_bytes(b"")
    link = tmp_path / "link.npy"
    link.symlink_to(tmp_path / "real.npy")
    write_mask(link, np.ones(2, dtype=bool))
    assert link.is_symlink()
    assert np.load(tmp_path / "real.npy").all()
    assert (tmp_path / "real.npy").stat().st_mode == usual.stat().st_mode


def test_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):  # root writes anywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ProblemError, match="not writable"):
        write_mask(folder / "mask.npy", np.ones(2, dtype=bool))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mask.npz", r"wanted \.npy or \.safetensors"),
        ("mask", r"wanted \.npy or \.safetensors"),
        ("folder.npy", "is a folder"),
        ("nowhere/mask.npy", "folder does not exist"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ProblemError, match=complaint) as caught:
        check_new_file(tmp_path / name, files.MASK_SUFFIXES)
    assert name in str(caught.value)
