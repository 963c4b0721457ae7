"""Solutions in files: the mask in bits, the multipliers, and every figure that is stated."""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from cops_lp.balanced import Balance
from cops_lp.errors import ProblemError
from cops_lp.solution import Fractional, Solution, Status
from cops_lp.stated import StatedProblem

from .existing import existing_file
from .mapping import check_shape
from .npz import npz_members, opened_npz, read_plain_member
from .words import short, some
from .writing import check_new_file, new_file

__all__ = ["SOLUTION_SUFFIXES", "read_solution", "write_solution"]

SOLUTION_SUFFIXES = (".npz",)
"""The kind of file that :func:`write_solution` writes."""

VERSION = 1
"""Of the format; a reader refuses what is newer."""

_K, _SCORES, _ANY = -1, -2, -3  # lengths: one for each control, for each score, or free

# Member -> the kind of its dtype and its shape. Floats and ints take 8 bytes.
_MEMBERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "cops_lp_solution": ("i", ()),
    "status": ("U", ()),
    "method": ("U", ()),
    "shape": ("i", (_ANY,)),
    "keep": ("i", ()),
    "names": ("U", (_K,)),
    "floors": ("f", (_K,)),
    "attainable": ("f", (_SCORES,)),
    "mask_bits": ("u", (_ANY,)),
    "changed_indices": ("i", (_ANY,)),
    "changed_values": ("f", (_ANY,)),
    "multipliers": ("f", (_K,)),
    "multipliers_rest": ("f", (_K,)),
    "threshold": ("f", ()),
    "objective": ("f", ()),
    "bound": ("f", ()),
    "gap": ("f", ()),
    "mask_objective": ("f", ()),
    "integer_bound": ("f", ()),
    "kept": ("f", (_K,)),
    "shortfall": ("f", (_K,)),
    "passes": ("i", ()),
    "open_count": ("i", ()),
    "build_seconds": ("f", ()),
    "seconds": ("f", ()),
}
_OPTIONAL: dict[str, tuple[str, tuple[int, ...]]] = {
    "retain": ("f", (_K,)),
    "certificate": ("f", (_K,)),
}
_BALANCE: dict[str, tuple[str, tuple[int, ...]]] = {
    "score_names": ("U", (_SCORES,)),
    "target_index": ("i", ()),
    "best": ("f", (_SCORES,)),
    "share": ("f", ()),
    "share_bound": ("f", ()),
    "weights": ("f", (_SCORES,)),
    "solves": ("i", ()),
}
_SCHEMA = _MEMBERS | _OPTIONAL | _BALANCE
_WORDS = {"i": "int64", "f": "float64", "u": "uint8", "U": "text"}
_BYTES = {"i": 8, "f": 8, "u": 1}


def write_solution(
    path: str | os.PathLike[str], solution: Solution, *, overwrite: bool = False
) -> None:
    """Write a solution, whole or not at all; see :meth:`cops_lp.Solution.save`."""
    check_new_file(path, SOLUTION_SUFFIXES, overwrite=overwrite)
    members = _members_of(solution)
    with new_file(path, overwrite=overwrite) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_solution(path: str | os.PathLike[str]) -> Solution:
    """Read a solution; see :meth:`cops_lp.Solution.load`."""
    path = existing_file(path, SOLUTION_SUFFIXES)
    found = _read_members(path)
    _check_consistent(path, found)
    d = math.prod(found["shape"])
    mask = np.unpackbits(found.pop("mask_bits"), count=d).view(np.bool_)
    shape = tuple(found.pop("shape"))
    names = tuple(found.pop("names"))
    status = Status[found.pop("status")]
    problem = StatedProblem(
        shape,
        names,
        keep=found["keep"],
        floors=found["floors"],
        retain=found.pop("retain", None),
        best=found.pop("attainable"),
    )
    changed = Fractional(found.pop("changed_indices"), found.pop("changed_values"))
    found["problem"], found["status"], found["changed"] = problem, status, changed
    found["mask"] = mask.reshape(shape)
    if "share" in found:
        found["score_names"] = tuple(found["score_names"])
        return Balance(**found)
    return Solution(**found)


def _members_of(solution: Solution) -> dict[str, np.ndarray]:
    problem = solution.problem
    try:
        attainable = problem.best()
    except ProblemError:  # a sum beyond float64
        attainable = np.full(len(problem.score_names), np.nan)
    special: dict[str, Any] = {
        "cops_lp_solution": VERSION,
        "status": solution.status.name,
        "shape": problem.shape,
        "names": problem.names,
        "attainable": attainable,
        "mask_bits": np.packbits(np.asarray(solution.mask).reshape(-1)),
        "changed_indices": solution.changed.indices,
        "changed_values": solution.changed.values,
        "retain": problem.retain,
    }
    values = {field.name: getattr(solution, field.name) for field in fields(solution)} | special
    members = {}
    for name, (kind, _) in _SCHEMA.items():
        value = values.get(name)
        if value is not None:
            members[name] = _text(name, value) if kind == "U" else _numbers(kind, value)
    return members


def _numbers(kind: str, value: Any) -> np.ndarray:
    return np.asarray(value, dtype={"i": "<i8", "f": "<f8", "u": "u1"}[kind])


def _text(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=None if len(value) else "<U1")
    if array.tolist() != (value if isinstance(value, str) else list(value)):
        raise ProblemError(f"{name}: {value!r} cannot be saved; wanted no NUL at the end of a name")
    return array


def _read_members(path: Path) -> dict[str, Any]:
    """Read what the schema knows, each with the dtype and shape that it says."""
    with opened_npz(path) as archive:
        members = npz_members(path, archive)
        if "cops_lp_solution" not in members:
            raise ProblemError(f"{path}: is no solution that Solution.save wrote")
        unknown = [name for name in members if name not in _SCHEMA]
        if unknown or len(members) != len(archive.infolist()):
            what = some(unknown) if unknown else "other than arrays"
            raise ProblemError(f"{path}: holds {what}, which no solution has")
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise ProblemError(f"{path}: claims more bytes than it has; the archive is damaged")
        wanted = _MEMBERS | (_BALANCE if "share" in members else {})
        missing = [name for name in wanted if name not in members]
        if missing:
            raise ProblemError(f"{path}: lacks {some(missing)}; it is no whole solution")
        stray = [name for name in members if name not in wanted and name not in _OPTIONAL]
        if stray:
            raise ProblemError(f"{path}: holds {some(stray)} but no share; it is no whole balance")
        found: dict[str, Any] = {}
        for name, info in members.items():
            label = f"{path}:{name}"
            header, data = read_plain_member(path, archive, info, label)
            kind, shape = _SCHEMA[name]
            fits = header.dtype.kind == kind and header.dtype.itemsize == _BYTES.get(
                kind, header.dtype.itemsize
            )
            if not fits or len(header.shape) != len(shape):
                raise ProblemError(
                    f"{label}: is an array of {str(header.dtype)[:80]} with {len(header.shape)} "
                    f"axes; wanted {_WORDS[kind]} with {len(shape)}"
                )
            found[name] = _value(label, header.dtype, header.shape, data)
        if found.pop("cops_lp_solution") != VERSION:
            raise ProblemError(f"{path}: has another version of the format; wanted {VERSION}")
        _check_lengths(path, found)
    return found


def _value(label: str, dtype: np.dtype[Any], shape: tuple[int, ...], data: bytes) -> Any:
    """A Python number or str, a list of str or int, or a writable array in native order."""
    try:
        if dtype.itemsize == 0:  # "<U0", which frombuffer refuses
            return "" if not shape else [""] * shape[0] if shape[0] <= len(_SCHEMA) else None
        array = np.frombuffer(data, dtype=dtype).reshape(shape)
        if dtype.kind == "U":
            return array.tolist()
        return array.astype(dtype.newbyteorder("=")) if shape else array[()].item()
    except (ValueError, SystemError) as error:  # no such character, say
        raise ProblemError(f"{label}: cannot be read ({error})") from None


def _check_lengths(path: Path, found: dict[str, Any]) -> None:
    K = len(found["names"])
    for name, value in found.items():
        for length in _SCHEMA[name][1]:
            wanted = {_K: K, _SCORES: K + 1}.get(length)
            if wanted is not None and len(value) != wanted:
                raise ProblemError(
                    f"{path}:{name}: has {len(value):,} entries; wanted {wanted} for {K} controls"
                )


def _check_consistent(path: Path, found: dict[str, Any]) -> None:
    """Refuse what no solution can state, so that a loaded one is safe to use and to print."""

    def refuse(name: str, what: str) -> None:
        raise ProblemError(f"{path}:{name}: {what}")

    shape = found["shape"] = found["shape"].tolist()
    check_shape(tuple(shape), f"{path}:shape")
    d, bits = math.prod(shape), found["mask_bits"]
    if d < 1 or len(bits) != -(-d // 8):
        refuse("mask_bits", f"has {len(bits):,} bytes; wanted one bit for each of {d:,} weights")
    if d % 8 and int(bits[-1]) & (0xFF >> d % 8):
        refuse("mask_bits", "has bits beyond its last weight")
    if found["status"] not in Status.__members__:
        refuse(
            "status", f"is {short(found['status'])}; wanted one of {', '.join(Status.__members__)}"
        )
    if found["status"] == "INFEASIBLE" and "share" in found:
        refuse("status", "is INFEASIBLE, which no balance is")
    if (found["status"] == "INFEASIBLE") != ("certificate" in found):
        refuse("certificate", "is there exactly for a status of INFEASIBLE")
    names = found["names"]
    if len(set(names)) != len(names) or "target" in names:
        refuse("names", "are not the names of different controls")
    if not 0 <= found["keep"] <= d:
        refuse("keep", f"is {found['keep']}; wanted a count from 0 to {d}")
    for name in ("passes", "open_count", "solves"):
        if found.get(name, 0) < 0:
            refuse(name, f"is {found[name]}; wanted a count")
    for name in ("floors", "retain", "certificate"):
        unknown = name == "floors" and found["status"] == "TIME_LIMIT" and np.isnan(found[name])
        if name in found and not (unknown | np.isfinite(found[name])).all():
            refuse(name, "is not finite")
    for name in ("seconds", "build_seconds"):
        if not 0.0 <= found[name] < math.inf:
            refuse(name, f"is {found[name]}; wanted a time")
    indices, values = found["changed_indices"], found["changed_values"]
    if len(indices) != len(values):
        refuse(
            "changed_values", f"has {len(values):,} entries; wanted {len(indices):,}, one an index"
        )
    if len(indices) and not (
        indices[0] >= 0 and indices[-1] < d and (indices[1:] > indices[:-1]).all()
    ):
        refuse("changed_indices", "are not ascending positions of weights")
    if not np.isfinite(values).all():
        refuse("changed_values", "are not finite")
    if "best" in found:
        unknown = found["status"] == "TIME_LIMIT" and np.isnan(found["best"])
        if not (unknown | ((found["best"] > 0.0) & np.isfinite(found["best"]))).all():
            refuse("best", "is not positive and finite")
    if "share" in found and not 0 <= found["target_index"] < len(found["score_names"]):
        refuse("target_index", f"is {found['target_index']}; wanted the position of a score")
