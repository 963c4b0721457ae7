"""Saved solutions: round trips, every change caught, and `cops-lp certify`."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cops_lp
from cops_lp import ProblemError, Solution, certify
from cops_lp.cli.app import app
from cops_lp.files import solutions
from cops_lp.solution import Fractional

NAMES = ("snip", "flow", "size")
KINDS = ("top-k", "one", "floors", "several", "infeasible", "balance")


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2107)
    return dict(zip(NAMES, rng.exponential(size=(3, 7, 43)).astype(np.float32), strict=True))


@pytest.fixture(scope="module")
def solved(scores: dict[str, np.ndarray]) -> dict[str, Solution]:
    snip, flow, size = (scores[name] for name in NAMES)
    both = {"flow": flow, "size": size}
    return {
        "top-k": cops_lp.solve(snip, keep=30),
        "one": cops_lp.solve(snip, {"flow": flow}, keep=30, retain=0.8),
        "floors": cops_lp.solve(snip, {"flow": flow}, keep=30, floors=60.0),
        "several": cops_lp.solve(snip, both, keep=30, retain=0.65),
        "infeasible": cops_lp.solve(snip, both, keep=30, retain=0.99, raise_on_infeasible=False),
        "balance": cops_lp.balance(scores, keep=30),
    }


def scores_of(solution: Solution, scores: dict[str, np.ndarray]):
    names = solution.problem.names
    (target,) = set(NAMES[: 3 if isinstance(solution, cops_lp.Balance) else 1]) - set(names)
    return scores[target], {name: scores[name] for name in reversed(names)}


def saved(solution: Solution, folder: Path) -> Path:
    path = folder / "solution.npz"
    solution.save(path, overwrite=True)
    return path


def members_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def rewrite(path: Path, **changes: np.ndarray | None) -> Path:
    """Replace members, or drop those that are None."""
    members = members_of(path) | changes
    np.savez(path, **{name: array for name, array in members.items() if array is not None})
    return path


def refused(path: Path) -> str:
    with pytest.raises(ProblemError) as caught:
        Solution.load(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    return text


# Round trips


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded(tmp_path, scores, solved, kind):
    solution = solved[kind]
    loaded = Solution.load(saved(solution, tmp_path))
    assert type(loaded) is type(solution)
    assert str(loaded) == str(solution)  # which knows its bests since it was saved
    for field in fields(solution):
        if field.name != "problem":
            ours, theirs = getattr(solution, field.name), getattr(loaded, field.name)
            assert type(ours) is type(theirs)
            if isinstance(ours, Fractional):
                assert all(map(np.array_equal, ours, theirs))
            elif isinstance(ours, np.ndarray):
                assert ours.dtype == theirs.dtype
                assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
            else:
                assert ours == theirs or ours != ours
    problem = loaded.problem
    assert (problem.shape, problem.size) == (solution.problem.shape, solution.problem.size)
    assert np.array_equal(problem.floors, solution.problem.floors)
    for question in (solution.problem, scores_of(solution, scores)):
        verdict = certify(question, loaded)
        assert verdict, str(verdict)
        assert "stated attainable" in {check.name for check in verdict.checks}
    again = Solution.load(saved(loaded, tmp_path))
    assert str(again) == str(solution)


@pytest.mark.parametrize("d", [1, 7, 8, 9])
def test_masks_of_any_length(tmp_path, d):
    solution = cops_lp.solve(np.arange(d) + 1.0, keep=d - d // 3)
    assert np.array_equal(Solution.load(saved(solution, tmp_path)).mask, solution.mask)
    assert members_of(tmp_path / "solution.npz")["mask_bits"].size == -(-d // 8)


def test_a_loaded_solution_says_that_it_has_no_scores(tmp_path, solved):
    loaded = Solution.load(saved(solved["one"], tmp_path))
    assert loaded.relaxed().shape == (7, 43)
    assert "StatedProblem" in repr(loaded.problem)
    for use in (loaded.combined_score, loaded.problem.solve, loaded.problem.check_finite):
        with pytest.raises(ProblemError, match="knows no scores"):
            use()
    with pytest.raises(ProblemError, match="holds no scores"):
        certify(loaded.problem, loaded)
    for name in ("target", "controls", "scores", "nonsense"):
        assert not hasattr(loaded.problem, name)
    with pytest.raises(ProblemError, match="knows no scores") as caught:
        _ = loaded.problem.target
    with pytest.raises(AttributeError, match="keep"):
        loaded.problem.keep = 3
    assert loaded.problem.knows_best()
    assert np.array_equal(loaded.problem.known_floors(), loaded.problem.floors)
    assert "knows no scores" in str(pickle.loads(pickle.dumps(caught.value)))


def test_names_of_any_kind(tmp_path):
    names = ["λ/µ", "..", "a b", "x" * 300, "\U0001f600", ""]
    rows = np.random.default_rng(0).random((7, 50))
    solution = cops_lp.solve(rows[0], dict(zip(names, rows[1:], strict=True)), keep=10, floors=0.0)
    assert list(Solution.load(saved(solution, tmp_path)).problem.names) == names
    other = cops_lp.solve(rows[0], {"a\0": rows[1]}, keep=10, floors=0.0)
    with pytest.raises(ProblemError, match="NUL"):
        other.save(tmp_path / "other.npz")
    assert not (tmp_path / "other.npz").exists()


def test_saving_is_whole_or_not_at_all(tmp_path, solved, monkeypatch):
    path = saved(solved["one"], tmp_path)
    before = path.read_bytes()
    with pytest.raises(ProblemError, match="already exists"):
        solved["one"].save(path)
    with pytest.raises(ProblemError, match=r"wanted \.npz"):
        solved["one"].save(tmp_path / "solution.npy")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        solved["top-k"].save(path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Every change is caught: refused as no solution, or not confirmed

FLOATS = {
    "threshold": "threshold",
    "objective": "stated objective, bound, gap",
    "bound": "stated objective, bound, gap",
    "gap": "stated objective, bound, gap",
    "mask_objective": "stated sums of the mask",
    "kept": "stated sums of the mask",
    "shortfall": "stated shortfall",
    "multipliers": "weights' complementarity",
    "multipliers_rest": "weights' complementarity",
    "attainable": "stated attainable",
    "floors": "floors from retain",
    "retain": "floors from retain",
}


def failing(path: Path, question) -> set[str]:
    verdict = certify(question, Solution.load(path))
    assert not verdict
    return {check.name for check in verdict.checks if not check.passed}


@pytest.mark.parametrize("factor", [1 + 1e-9, 1 - 1e-9, np.nan, np.inf])
@pytest.mark.parametrize(("name", "check"), FLOATS.items())
def test_a_changed_figure(tmp_path, scores, solved, name, check, factor):
    path = saved(solved["one"], tmp_path)
    value = members_of(path)[name]
    step = np.maximum(np.abs(value), 1.0) * (factor - 1)
    rewrite(path, **{name: value + step})
    if name in ("floors", "retain") and not np.isfinite(factor):
        assert name in refused(path)
    else:
        names = failing(path, scores_of(solved["one"], scores))
        assert check in names or (name.startswith("multipliers") and names)


@pytest.mark.parametrize("kind", ["one", "several", "balance"])
def test_every_bit_of_the_mask(tmp_path, scores, solved, kind):
    path = saved(solved[kind], tmp_path)
    question = scores_of(solved[kind], scores)
    bits = members_of(path)["mask_bits"]
    for at in range(0, 7 * 43, 11):
        changed = bits.copy()
        changed[at // 8] ^= 0x80 >> at % 8
        assert "mask count" in failing(rewrite(path, mask_bits=changed), question)
    changed = bits.copy()
    changed[-1] |= 1
    assert "beyond its last weight" in refused(rewrite(path, mask_bits=changed))


def test_two_weights_swapped_in_the_mask(tmp_path, scores, solved):
    path = saved(solved["several"], tmp_path)
    flat = np.unpackbits(members_of(path)["mask_bits"], count=7 * 43)
    rng = np.random.default_rng(0)
    for _ in range(20):
        swapped = flat.copy()
        swapped[rng.choice(np.flatnonzero(flat))] = 0
        swapped[rng.choice(np.flatnonzero(flat == 0))] = 1
        rewrite(path, mask_bits=np.packbits(swapped))
        assert "stated sums of the mask" in failing(path, scores_of(solved["several"], scores))


def test_fractional_values(tmp_path, scores, solved):
    path = saved(solved["several"], tmp_path)
    members = members_of(path)
    question = scores_of(solved["several"], scores)
    for i in range(len(members["changed_values"])):
        for step in (1e-9, -1e-9):
            values = members["changed_values"].copy()
            values[i] += step
            assert "1ᵀx = k" in failing(rewrite(path, changed_values=values), question)
        indices = members["changed_indices"].copy()
        others = np.setdiff1d(np.arange(7 * 43), indices)
        indices[i] = others[np.abs(others - indices[i]).argmin()]
        if (np.diff(indices) > 0).all():
            rewrite(path, changed_values=members["changed_values"], changed_indices=indices)
            assert failing(path, question)


def test_a_changed_score(tmp_path, scores, solved):
    solution = solved["several"]
    loaded = Solution.load(saved(solution, tmp_path))
    target, controls = scores_of(solution, scores)
    kept, dropped = np.argwhere(solution.mask)[5], np.argwhere(~solution.mask)[5]
    for name in ("target", *controls):
        for at, value in ((kept, 0.0), (kept, 100.0), (dropped, 100.0)):
            arrays = {"target": target.copy()} | {n: c.copy() for n, c in controls.items()}
            arrays[name][tuple(at)] = value
            assert not certify((arrays.pop("target"), arrays), loaded)


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("certificate", [-1.0, 1.0], "y ≥ 0"),
        ("certificate", [0.0, 0.0], "yᵀb > T_k(Aᵀy)"),
        ("floors", [1.0, 1.0], "yᵀb > T_k(Aᵀy)"),
        ("floors", [1e3, 1e3], "floors from retain"),
        ("keep", 7 * 43, "yᵀb > T_k(Aᵀy)"),
        ("mask_bits", np.full(38, 0xF0, np.uint8), "well formed"),
    ],
)
def test_a_changed_infeasibility(tmp_path, scores, solved, name, value, check):
    path = saved(solved["infeasible"], tmp_path)
    rewrite(path, **{name: np.asarray(value)})
    assert check in failing(path, scores_of(solved["infeasible"], scores))


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("share", "balance gap"),
        ("share_bound", "stated share bound"),
        ("weights", "balance weights"),
        ("best", "stated best"),
        ("target_index", "well formed"),
        ("score_names", "well formed"),
    ],
)
def test_a_changed_balance(tmp_path, scores, solved, name, check):
    path = saved(solved["balance"], tmp_path)
    value = members_of(path)[name]
    changed = value * (1 + 1e-9) if value.dtype.kind == "f" else np.roll(value, 1)
    if name == "target_index":
        changed = (value + 1) % 3
    rewrite(path, **{name: changed})
    assert check in failing(path, scores_of(solved["balance"], scores))


def test_another_claim(tmp_path, scores, solved):
    path = saved(solved["one"], tmp_path)
    for status in ("TIME_LIMIT", "NUMERICAL_ERROR"):
        assert not certify(
            scores_of(solved["one"], scores), Solution.load(rewrite(path, status=np.array(status)))
        )
    assert "certificate" in refused(rewrite(path, status=np.array("INFEASIBLE")))


# What no solution can state


@pytest.mark.parametrize("name", [*solutions._MEMBERS, *solutions._BALANCE])
def test_each_field_is_needed_with_its_dtype_and_shape(tmp_path, solved, name):
    path = saved(solved["balance"], tmp_path)
    value = members_of(path)[name]
    needed = refused(rewrite(path, **{name: None}))
    assert name in needed or "no solution that" in needed or "but no share" in needed
    other = np.zeros(value.shape, dtype=np.float32 if value.dtype.kind != "U" else np.int64)
    assert f":{name}: is an array of" in refused(rewrite(path, **{name: other}))
    assert f":{name}: is an array of" in refused(rewrite(path, **{name: value[None]}))
    if value.shape and name not in ("shape", "names"):
        longer = np.concatenate((value, value[:1] if len(value) else np.ones(1, value.dtype)))
        told = "changed_values" if name == "changed_indices" else name  # they differ in length
        assert f":{told}: " in refused(rewrite(path, **{name: longer}))


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("cops_lp_solution", 2, "version"),
        ("status", "FINE", "wanted one of OPTIMAL"),
        ("shape", [-7, -43], "no array can have"),
        ("shape", [2**40, 2**40], "one bit for each"),
        ("shape", [0, 43], "one bit for each"),
        ("shape", [1] * 60, "no array can have"),
        ("keep", -1, "wanted a count"),
        ("keep", 7 * 43 + 1, "wanted a count"),
        ("names", ["target"], "different controls"),
        ("passes", -1, "wanted a count"),
        ("seconds", np.nan, "wanted a time"),
        ("changed_indices", [5, 4], "ascending"),
        ("changed_indices", [-1, 4], "ascending"),
        ("changed_indices", [4, 10**6], "ascending"),
        ("changed_values", [0.5, np.nan], "not finite"),
        ("changed_values", [0.5], "one an index"),
        ("nonsense", [1.0], "holds 'nonsense'"),
        ("../evil", [1.0], "holds '../evil'"),
        ("share", 1.0, "lacks"),
        ("solves", 1, "but no share"),
    ],
)
def test_what_no_solution_states(tmp_path, solved, name, value, complaint):
    path = saved(solved["one"], tmp_path)
    assert complaint in refused(rewrite(path, **{name: np.asarray(value)}))
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("best", [0.0, -1.0, np.nan, np.inf])
def test_bests_that_no_balance_has(tmp_path, solved, best):
    path = saved(solved["balance"], tmp_path)
    assert "not positive" in refused(rewrite(path, best=np.array([1.0, best, 1.0])))


def test_extreme_statements_print_and_are_judged(tmp_path, scores, solved):
    path = saved(solved["balance"], tmp_path)
    figures = {"best": [5e-324] * 3, "kept": [1e308] * 2, "weights": [1e308, -1e308, 0.0]}
    rewrite(path, **{name: np.array(value) for name, value in figures.items()})
    assert "1e+308" in str(Solution.load(path))
    names = failing(path, scores_of(solved["balance"], scores))
    assert {"stated best", "balance weights", "stated share bound"} <= names
    path = saved(solved["one"], tmp_path)
    rewrite(path, objective=np.float64(0), bound=np.float64(0), attainable=np.full(2, 5e-324))
    assert "inf" in str(Solution.load(rewrite(path, gap=np.float64(1))))
    assert failing(path, scores_of(solved["one"], scores))


def test_other_archives(tmp_path, scores, solved):
    path = tmp_path / "solution.npz"
    np.savez(path, **scores)
    assert "no solution that Solution.save wrote" in refused(path)
    members = members_of(saved(solved["one"], tmp_path))
    np.savez_compressed(path, **members)
    assert "compressed" in refused(path)
    np.savez(path, **members | {"names": np.array(["flow"], dtype=object)}, allow_pickle=True)
    assert "pickled" in refused(path)
    with zipfile.ZipFile(saved(solved["one"], tmp_path), "a") as archive:
        archive.writestr("readme.txt", "hello")
    assert "other than arrays" in refused(path)


# The command line


def run(*args: object):
    env = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner(env=env).invoke(app, list(map(str, args)), prog_name="cops-lp")


@pytest.fixture
def folder(tmp_path, monkeypatch, scores) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, score in scores.items():
        np.save(f"{name}.npy", score)
    np.savez("s.npz", **scores)
    np.savez_compressed("c.npz", **scores)
    return tmp_path


SOLVE = ("solve", "--target", "snip.npy", "--control", "flow.npy", "--keep", "10%")
CERTIFY = ("certify", "--solution", "a.npz")


@pytest.mark.parametrize(
    "source", ["snip.npy flow.npy", "s.npz:snip s.npz:flow", "c.npz:snip c.npz:flow"]
)
def test_solve_saves_and_certify_confirms(folder, source):
    done = run(*SOLVE, "--retain", "0.9", "--save", "a.npz")
    assert done.exit_code == 0
    assert "solution saved to a.npz" in done.stdout
    target, control = source.split()
    done = run(*CERTIFY, "--target", target, "--control", control)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "confirmed; claimed: optimal" in done.stdout
    solution = Solution.load("a.npz")
    scores = tuple(map(cops_lp.files.read_score, ("snip.npy", "flow.npy")))
    for check in certify((scores[0], scores[1:]), solution).checks:
        assert check.name in done.stdout
    assert "FAILS" not in done.stdout


def test_certify_says_what_fails(folder):
    assert run(*SOLVE, "--retain", "0.9", "--save", "a.npz").exit_code == 0
    rewrite(Path("a.npz"), threshold=np.float64(1.0))
    done = run(*CERTIFY, "--target", "snip.npy", "--control", "flow.npy")
    assert done.exit_code == 1
    assert "NOT confirmed" in done.stdout
    assert done.stdout.count("FAILS") == 1
    assert done.stderr == "error: a.npz: not confirmed: threshold\n"
    done = run(*CERTIFY, "--target", "snip.npy", "--control", "flow.npy", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["confirmed"] is False
    assert [c["name"] for c in found["checks"] if not c["passed"]] == ["threshold"]


def test_certify_confirms_infeasibility_and_balance(folder, solved):
    assert run(*SOLVE, "--floor", "1e9", "--save", "a.npz").exit_code == 3
    done = run(*CERTIFY, "--target", "snip.npy", "--control", "flow.npy")
    assert done.exit_code == 0
    assert "yᵀb > T_k(Aᵀy)" in done.stdout
    balance = solved["balance"]
    balance.save("b.npz")
    target = balance.score_names[balance.target_index]
    controls = [("--control", f"{name}.npy") for name in balance.problem.names]
    done = run("certify", "--solution", "b.npz", "--target", f"{target}.npy", *sum(controls, ()))
    assert done.exit_code == 0, done.output
    assert "share is kept" in done.stdout


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--target", "snip.npy"), "got none; the controls of a.npz are 'flow'"),
        (("--target", "snip.npy", "--control", "size.npy"), "got 'size'"),
        (("--target", "turned.npy", "--control", "flow.npy"), "has shape (43, 7)"),
        (("--target", "nan.npy", "--control", "flow.npy"), "1 NaN"),
        (("--target", "none.npy", "--control", "flow.npy"), "no such file"),
    ],
)
def test_certify_wrong_input(folder, scores, args, complaint):
    assert run(*SOLVE, "--retain", "0.9", "--save", "a.npz").exit_code == 0
    np.save("turned.npy", scores["snip"].T.copy())
    nan = scores["snip"].copy()
    nan[3, 4] = np.nan
    np.save("nan.npy", nan)
    done = run(*CERTIFY, *args)
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_save_is_not_overwritten_and_never_replaces_a_score(folder):
    Path("a.npz").write_bytes(b"precious")
    assert run(*SOLVE, "--retain", "0.9", "--save", "a.npz").exit_code == 2
    assert Path("a.npz").read_bytes() == b"precious"
    args = ("--target", "s.npz:snip", "--keep", "3", "--save", "s.npz", "--force")
    done = run("solve", *args)
    assert done.exit_code == 2
    assert "holds a score that is read" in done.stderr


def test_certify_loads_no_engine_and_copies_no_score(folder, scores):
    """In a process of its own: NumPy only, and memory that does not grow with d."""
    d = 1 << 23
    rng = np.random.default_rng(0)
    target, control = rng.random((2, d), dtype=np.float32)
    cops_lp.solve(target, {"flow": control}, keep=0.1, retain=0.9).save("a.npz")
    np.savez("large.npz", snip=target, flow=control)  # 32 MB each, 64 MB as float64
    code = (
        "import sys, tracemalloc\n"
        "sys.argv = ['cops-lp', 'certify', '--solution', 'a.npz', '--target',"
        " 'large.npz:snip', '--control', 'large.npz:flow']\n"
        "from cops_lp.cli import main\n"
        "tracemalloc.start()\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    bad = [m for m in sys.modules if m.startswith(('numba', 'scipy', 'torch',"
        " 'cops_lp.engine', 'cops_lp.kernels', 'cops_lp.solver'))]\n"
        "    print(bad, tracemalloc.get_traced_memory()[1], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=120, encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    bad, peak = done.stderr.rsplit(maxsplit=1)
    assert bad == "[]"
    assert int(peak) < 6e7  # most of it the modules' code, and the mask
    assert "confirmed" in done.stdout


def test_a_statement_that_was_replaced_in_memory(scores, solved):
    """A loaded solution's fields are judged as any other's."""
    solution = solved["one"]
    assert not certify(scores_of(solution, scores), replace(solution, keep=29))
