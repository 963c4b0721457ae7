"""The command line as a user meets it: what is printed, what is written, how it ends."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import cops_lp
from cops_lp.assembly import unsolved_solution
from cops_lp.cli import arguments, demo, failures, output, validate
from cops_lp.cli.app import app
from cops_lp.errors import MissingDependencyError, ProblemError, SolverError
from cops_lp.problem import Problem
from cops_lp.solution import Solution, Status

from .running import compile_kernels

ENV = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb", "FORCE_COLOR": None}
D, K = 600, 60


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own, so that file names stay short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scores(folder: Path) -> dict[str, np.ndarray]:
    """Two scores, in each of the three kinds of file."""
    rng = np.random.default_rng(2107)
    snip = np.abs(rng.normal(size=(20, 30))).astype(np.float32)
    flow = (snip * rng.lognormal(size=snip.shape)).astype(np.float32)
    arrays = {"snip": snip, "flow": flow}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    np.savez("s.npz", **arrays)
    return arrays


def run(*args: str) -> Result:
    return CliRunner(env=ENV).invoke(app, list(args), prog_name="cops-lp")


def succeed(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for line in result.stdout.splitlines():
        assert len(line) <= 80 or "--json" in args, line
    return result.stdout


def fail(code: int, *args: str) -> str:
    """Run, expect a code and exactly one line on stderr; return it."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def parse(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    loaded = json.loads(text, parse_constant=refuse)
    assert isinstance(loaded, dict)
    return loaded


SOLVE = ("solve", "--target", "snip.npy", "--control", "flow.npy", "--keep", "10%")


# Help


@pytest.mark.parametrize(
    "command", [(), ("solve",), ("certify",), ("validate",), ("demo",), ("warmup",)]
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_an_example(command: tuple[str, ...], flag: str) -> None:
    text = succeed(*command, flag)
    assert "Example" in text
    assert " ".join(("cops-lp", *command)) in text
    assert "…" not in text
    assert "..." not in text.split("Commands:")[-1]


def test_no_arguments_is_help() -> None:
    assert succeed() == succeed("--help")


def test_version() -> None:
    assert succeed("--version") == f"cops-lp {cops_lp.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['cops-lp', 'solve', '--help']\n"
        "from cops_lp.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    heavy = {'numpy', 'numba', 'scipy', 'matplotlib', 'cvxpy', 'torch'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("solv",), "no such command 'solv'"),
        (("solve",), "missing option '--target'"),
        (("solve", "--target", "snip.npy"), "missing option '--keep'"),
        ((*SOLVE, "--retains", "1"), "--retains"),
        ((*SOLVE, "extra"), "extra"),
        ((*SOLVE, "--threads", "0"), "--threads"),
        ((*SOLVE, "--threads", "two"), "--threads"),
        (("validate", "--target", "snip.npy", "--keep", "1", "--time-limit", "0"), "--time-limit"),
        (("demo", "--keep"), "--keep"),
    ],
)
def test_usage_errors_take_one_line(args: tuple[str, ...], complaint: str) -> None:
    assert complaint in fail(2, *args)


# What people type


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("a.npy", "a.npy", None),
        ("a.npz:w", "a.npz", "w"),
        ("a.safetensors:fc.weight", "a.safetensors", "fc.weight"),
        ("a.safetensors:dense/kernel:0", "a.safetensors", "dense/kernel:0"),
        ("A.NPZ:w", "A.NPZ", "w"),
        ("C:\\x.npy", "C:\\x.npy", None),
        ("C:/x.npz:w", "C:/x.npz", "w"),
        ("C:\\runs\\x.npz:w", "C:\\runs\\x.npz", "w"),
        ("weights:w", "weights:w", None),
        ("exists.txt:w", "exists.txt", "w"),
        ("odd:name.npy", "odd:name.npy", None),
        ("odd.npz:there", "odd.npz:there", None),
        ("", ".", None),
    ],
)
def test_file_and_name(text: str, path: str, name: str | None) -> None:
    for there in ("exists.txt", "odd.npz:there", "C"):
        Path(there).touch()
    assert arguments.parse_score(text)[1:] == (Path(path), name)


@pytest.mark.parametrize(
    ("text", "label", "path", "name"),
    [
        ("flow.npy", "flow", "flow.npy", None),
        ("s.npz:flow", "flow", "s.npz", "flow"),
        ("f=s.npz:flow", "f", "s.npz", "flow"),
        ("f=other.npy", "f", "other.npy", None),
        ("lr=0.1/flow.npy", "flow", "lr=0.1/flow.npy", None),
        ("lr=0.1/none.npy", "none", "lr=0.1/none.npy", None),
        ("runs/lr=9/x.npy", "x", "runs/lr=9/x.npy", None),
        ("a=b.npy", "a=b", "a=b.npy", None),
        ("f=a=b.npy", "f", "a=b.npy", None),
        ("x=s.npz:k=v", "x", "s.npz", "k=v"),
        ("s.npz:k=v", "k=v", "s.npz", "k=v"),
    ],
)
def test_control_and_its_name(text: str, label: str, path: str, name: str | None) -> None:
    Path("lr=0.1").mkdir()
    for there in ("lr=0.1/flow.npy", "a=b.npy", "s.npz"):
        Path(there).touch()
    assert arguments.parse_control(text) == (label, Path(path), name)


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("5000", 5000),
        ("0", 0),
        ("1", 1),
        ("1.0", 1.0),
        ("0.1", 0.1),
        (".5", 0.5),
        ("1e-3", 1e-3),
        ("10%", 0.1),
        ("100%", 1.0),
        ("0.5 %", 0.005),
        ("-3", -3),
    ],
)
def test_keep_is_a_count_or_a_share(text: str, keep: float) -> None:
    parsed = arguments.parse_keep(text)
    assert parsed == keep
    assert type(parsed) is type(keep)


@pytest.mark.parametrize("text", ["", "ten", "%", "1,000", "10%%", "5 weights"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ProblemError, match="wanted a count like 5000"):
        arguments.parse_keep(text)


def test_per_control_numbers() -> None:
    read = arguments.parse_per_control
    assert read("retain", []) is None
    assert read("retain", ["0"]) == 0.0
    assert read("retain", ["90%"]) == 0.9
    assert read("retain", ["a=90%", "b=c=0.5"]) == {"a": 0.9, "b=c": 0.5}
    assert read("floor", ["-1e3"]) == -1000.0
    for option, values in [
        ("retain", ["much"]),
        ("retain", ["a="]),
        ("retain", ["0.9", "0.8"]),
        ("retain", ["0.9", "a=0.8"]),
        ("retain", ["a=0.9", "a=0.8"]),
        ("floor", ["50%"]),
    ]:
        with pytest.raises(ProblemError, match=f"--{option}"):
            read(option, values)


# solve


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize(
    ("target", "control"), [("snip.npy", "flow.npy"), ("s.npz:snip", "s.npz:flow")]
)
def test_solve_writes_the_mask(
    scores: dict[str, np.ndarray], target: str, control: str, suffix: str
) -> None:
    path = f"mask{suffix}"
    text = succeed(
        "solve", "--target", target, "--control", control, "--keep", "10%", "--retain", "0.9",
        "--output", path,
    )  # fmt: skip
    expected = cops_lp.solve(scores["snip"], {"flow": scores["flow"]}, keep=K, retain=0.9)
    assert cops_lp.certify(expected.problem, expected)
    assert np.array_equal(cops_lp.files.read_score(path), expected.mask)
    assert f"mask written to {path}" in text
    assert "keeps 60 of 600 weights" in text
    assert "flow" in text


def test_solve_prints_the_solutions_own_cells(scores: dict[str, np.ndarray]) -> None:
    text = succeed(*SOLVE, "--retain", "flow=90%")
    solution = cops_lp.solve(scores["snip"], {"flow": scores["flow"]}, keep=K, retain=0.9)
    solution.problem.best()  # JSON says them, so the table does too
    for row in solution.rows():
        for cell in row:
            assert cell in text
    assert [p.name for p in Path().glob("mask*")] == []


def test_solve_prints_json(scores: dict[str, np.ndarray]) -> None:
    found = parse(succeed(*SOLVE, "--retain", "0.9", "--json", "--threads", "1"))
    solution = cops_lp.solve(scores["snip"], {"flow": scores["flow"]}, keep=K, retain=0.9)
    assert found["version"] == cops_lp.__version__
    assert found["status"] == "optimal"
    assert found["shape"] == [20, 30]
    assert (found["size"], found["keep"]) == (D, K)
    for name in ("objective", "bound", "gap", "relative_gap", "mask_objective", "threshold"):
        assert found[name] == getattr(solution, name)
    for name in ("multipliers", "kept", "floors", "shortfall"):
        assert found[name] == {"flow": getattr(solution, name)[0]}
    assert list(found["best"].values()) == solution.problem.best().tolist()
    assert found["fractional"]["indices"] == solution.fractional.indices.tolist()
    assert found["fractional"]["values"] == solution.fractional.values.tolist()
    assert found["passes"] == solution.passes
    assert found["open_count"] == solution.open_count
    assert found["seconds"] > 0
    assert found["output"] is None
    assert found["certificate"] is None


def test_what_json_lacks_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(
        {"a": np.float32("nan"), "b": [np.inf, -np.inf], "c": np.array([1.5, np.nan]), "d": (2,)}
    )
    assert parse(capsys.readouterr().out) == {
        "a": None,
        "b": [None] * 2,
        "c": [1.5, None],
        "d": [2],
    }


def test_solve_with_an_absolute_floor(scores: dict[str, np.ndarray]) -> None:
    floor = float(0.8 * np.sort(scores["flow"].ravel().astype(np.float64))[-K:].sum())
    found = parse(succeed(*SOLVE, "--floor", f"flow={floor!r}", "--json"))
    assert found["floors"] == {"flow": floor}
    assert found["kept"]["flow"] >= floor * (1 - 1e-12) or found["shortfall"]["flow"] > 0


def test_scores_are_mapped_and_not_copied(
    scores: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Problem] = []
    solve = Problem.solve

    def spy(self: Problem, **options: Any) -> Solution:
        seen.append(self)
        return solve(self, **options)

    monkeypatch.setattr(Problem, "solve", spy)
    succeed(*SOLVE, "--retain", "0.9")
    assert all(isinstance(score.base, np.memmap) for score in seen[0].scores)


@pytest.mark.parametrize("extra", [(), ("--json",)])
def test_infeasible(scores: dict[str, np.ndarray], extra: tuple[str, ...]) -> None:
    args = (*SOLVE, "--floor", "1e9", "--output", "mask.npy", *extra)
    line = fail(3, *args)
    best = np.sort(scores["flow"].ravel().astype(np.float64))[-K:].sum()
    assert "'flow': wanted 1000000000" in line
    assert f"attainable {best:.6g}"[:14] in line
    assert not Path("mask.npy").exists()
    if extra:
        found = parse(run(*args).stdout)
        assert found["status"] == "infeasible"
        assert found["objective"] is None
        assert found["certificate"]["flow"] > 0
    else:
        assert run(*args).stdout == ""


def test_output_is_not_overwritten_unless_forced(
    scores: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = Path("mask.npy")
    mask.write_bytes(b"precious")
    args = (*SOLVE, "--retain", "0.9", "--output", "mask.npy")
    with monkeypatch.context() as patch:
        patch.setattr(Problem, "solve", lambda *_, **__: pytest.fail("solved before checking"))
        assert "already exists" in fail(2, *args)
    assert mask.read_bytes() == b"precious"
    succeed(*args, "--force")
    assert np.load(mask).sum() == K


def test_failing_disk_takes_one_line_and_leaves_nothing(
    scores: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(Path().iterdir())
    assert "No space left" in fail(2, *SOLVE, "--retain", "0.9", "--output", "mask.npy")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--retain", "1.1"), "share in [0, 1]"),
        (("--retain", "nan"), "share in [0, 1]"),
        (("--floor", "inf"), "finite"),
        ((), "give --retain"),
        (("--retain", "0.9", "--floor", "1"), "exclude each other"),
        (("--retain", "snip=0.9"), "unknown 'snip'"),
        (("--retain", "0.9", "--keep", "601"), "601"),
        (("--retain", "0.9", "--keep", "1.5"), "1.5"),
        (("--retain", "0.9", "--keep", "ten"), "ten"),
        (("--retain", "0.9", "--target", "none.npy"), "none.npy: no such file"),
        (("--retain", "0.9", "--target", "s.npz"), "'snip', 'flow'"),
        (("--retain", "0.9", "--target", "s.npz:snap"), "'snip'"),
        (("--retain", "0.9", "--target", "."), "is a folder"),
        (("--retain", "0.9", "--target", "text.npy"), "does not begin like"),
        (("--retain", "0.9", "--target", "short.npy"), "'flow' has shape (20, 30)"),
        (("--retain", "0.9", "--target", "nan.npy"), "1 NaN"),
        (("--retain", "0.9", "--target", "empty.npy"), "empty"),
        (("--retain", "0.9", "--control", "flow.npy"), "'flow'"),
        (("--retain", "0.9", "--control", "target=snip.npy"), "'target'"),
        (("--retain", "0.9", "--control", "=snip.npy"), "before '='"),
        (("--retain", "0.9", "--output", "mask.txt"), "'.txt'"),
        (("--retain", "0.9", "--output", "none/mask.npy"), "folder does not exist"),
        (("--retain", "0.9", "--output", "snip.npy", "--force"), "cannot replace it"),
        (("--retain", "0.9", "--output", "s.npy", "--target", "s\nn.npy"), "s n.npy"),
    ],
)
def test_wrong_input(scores: dict[str, np.ndarray], args: tuple[str, ...], complaint: str) -> None:
    Path("text.npy").write_text("1 2 3\n")
    np.save("short.npy", scores["snip"][:3])
    np.save("nan.npy", np.where(np.arange(D).reshape(20, 30) == 5, np.nan, scores["snip"]))
    np.save("empty.npy", np.empty(0))
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    assert complaint in fail(2, *SOLVE, *args)
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_retain_without_controls(scores: dict[str, np.ndarray]) -> None:
    line = fail(2, "solve", "--target", "snip.npy", "--keep", "5", "--retain", "0.9")
    assert "no controls" in line


def test_solver_without_a_proof_writes_nothing(
    scores: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(self: Problem, **_: Any) -> Solution:
        return unsolved_solution(self, Status.NUMERICAL_ERROR, method="two-score")

    monkeypatch.setattr(Problem, "solve", give_up)
    assert "numerical error" in fail(1, *SOLVE, "--retain", "0.9", "--output", "mask.npy")
    assert not Path("mask.npy").exists()


# Failures of other kinds


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MissingDependencyError("highspy", "reference", "here"), 2, "pip install"),
        (SolverError("no\nanswer"), 1, "error: no answer"),
        (OSError(5, "Input/output error", "x.npy"), 2, "error: x.npy: Input/output error"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "error: not enough memory (Unable"),
        (MemoryError(), 2, "error: not enough memory"),
    ],
)
def test_each_failure_has_its_code(
    scores: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    line: str,
) -> None:
    def fail_so(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Problem, "solve", fail_so)
    assert line in fail(code, *SOLVE, "--retain", "0.9")


def test_interruption(scores: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Problem, "solve", interrupt)
    assert run(*SOLVE, "--retain", "0.9").exit_code == 130


def test_a_bug_keeps_its_traceback(
    scores: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Problem, "solve", break_down)
    assert isinstance(run(*SOLVE, "--retain", "0.9").exception, ZeroDivisionError)


def test_names_cannot_move_the_cursor() -> None:
    line = fail(2, "solve", "--target", "a\x1b[31m\r\n.npy", "--keep", "5")
    assert "\\x1b[31m .npy" in line
    assert failures.FAILED == 1


# validate

VALIDATE = ("validate", *SOLVE[1:])


def test_validate_agrees_with_every_solver(scores: dict[str, np.ndarray]) -> None:
    pytest.importorskip("highspy")
    pytest.importorskip("cvxpy")
    found = parse(succeed(*VALIDATE, "--retain", "0.9", "--json"))
    assert found["agreed"] is True
    rows = {row["solver"]: row for row in found["solvers"]}
    assert list(rows) == ["cops_lp", *validate._PEERS]
    for name in ("cops_lp", "HiGHS simplex", "HiGHS ipm", "SciPy HiGHS", "CVXPY HiGHS"):
        assert rows[name]["outcome"] == "certified", rows[name]
        assert abs(rows[name]["objective_difference"]) < 1e-12
        assert rows[name]["primal_residual"] < 1e-12
        assert rows[name]["fractional"] <= 2
    for row in rows.values():
        assert row["outcome"] in ("certified", "rejected"), row
        assert row["seconds"] > 0
    assert rows["cops_lp"]["times_ours"] == 1.0


Answer = Callable[[Problem, str], Solution]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Put another answer in the place of every reference solver's."""

    def install(answer: Answer) -> None:
        def fake(name: str, problem: Problem, **options: Any) -> Solution:
            assert options["raise_on_infeasible"] is False
            assert options["time_limit"] > 0
            chosen = [
                n
                for n, (s, o) in validate._PEERS.items()
                if s == name and all(options.get(k) == v for k, v in o.items())
            ]
            assert len(chosen) == 1
            return answer(problem, chosen[0])

        monkeypatch.setattr(validate, "run_isolated", fake)

    return install


def right(problem: Problem, _: str = "") -> Solution:
    solution = problem.solve(raise_on_infeasible=False)
    return dataclasses.replace(solution, method="peer", build_seconds=1.0, seconds=2.0)


def other(problem: Problem, _: str = "") -> Solution:
    """A certified answer to a slightly different problem, which the patched judge accepts."""
    solution = problem.solve(raise_on_infeasible=False)
    return dataclasses.replace(solution, objective=solution.objective * (1 + 1e-5))


def test_each_outcome_is_a_row(
    scores: dict[str, np.ndarray], peers: Callable[[Answer], None]
) -> None:
    def answer(problem: Problem, name: str) -> Solution:
        if name == "HiGHS simplex":
            return unsolved_solution(problem, Status.TIME_LIMIT, method="", seconds=7.0)
        if name == "HiGHS ipm":
            raise MissingDependencyError("highspy", "reference", "by solve_highs")
        if name == "HiGHS PDLP":
            raise SolverError("the child\ncrashed " + 500 * "x ")
        if name == "SciPy HiGHS":
            return dataclasses.replace(right(problem), mask=~problem.solve().mask)
        if name == "CVXPY Clarabel":
            return unsolved_solution(problem, Status.NUMERICAL_ERROR, method="")
        return right(problem)

    peers(answer)
    text = succeed(*VALIDATE, "--retain", "0.9", "--time-limit", "7")
    rows = {line[:14].strip(): line for line in text.splitlines() if line[14:15] == " "}
    assert "timed out" in rows["HiGHS simplex"]
    assert "missing" in rows["HiGHS ipm"]
    assert "pip install 'cops-lp[reference]'" in " ".join(text.split())
    assert "failed" in rows["HiGHS PDLP"]
    assert "HiGHS PDLP: the child crashed x" in text
    assert "x …" in " ".join(text.split())
    assert text.count("x ") < 240
    assert "\n  rejected " in text
    assert "SciPy HiGHS: rejected by the judge, who asks for 1e-12: mask count" in text
    assert "failed" in rows["CVXPY Clarabel"]
    assert rows["CVXPY HiGHS"].split()[2:5] == ["0", "0", "0"] or "e-" in rows["CVXPY HiGHS"]
    assert "2 of 6 others ended, 1 certified" in text

    found = parse(succeed(*VALIDATE, "--retain", "0.9", "--json"))
    outcomes = [row["outcome"] for row in found["solvers"]]
    assert outcomes == [
        "certified", "timed out", "missing", "failed", "rejected", "failed", "certified",
    ]  # fmt: skip
    assert found["compared"] == 1


def test_a_certified_answer_that_differs_is_an_error(
    scores: dict[str, np.ndarray],
    peers: Callable[[Answer], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers(other)
    assert "rejected" in succeed(*VALIDATE, "--retain", "0.9")  # the judge sees through it

    certified = cops_lp.certify
    monkeypatch.setattr(
        validate,
        "certify",
        lambda problem, solution: certified(problem, problem.solve()),
    )
    result = run(*VALIDATE, "--retain", "0.9")
    assert result.exit_code == 1
    assert "differs from it: HiGHS simplex" in " ".join(result.stdout.split())
    result = run(*VALIDATE, "--retain", "0.9", "--json")
    assert result.exit_code == 1
    assert parse(result.stdout)["agreed"] is False


def test_ours_must_be_certified(
    scores: dict[str, np.ndarray],
    peers: Callable[[Answer], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solve = Problem.solve

    def wrong(self: Problem, **options: Any) -> Solution:
        solution = solve(self, **options)
        return dataclasses.replace(solution, mask=~solution.mask)

    peers(lambda problem, _: unsolved_solution(problem, Status.TIME_LIMIT, method=""))
    monkeypatch.setattr(Problem, "solve", wrong)
    result = run(*VALIDATE, "--retain", "0.9")
    assert result.exit_code == 1
    assert "ours is NOT certified" in result.stdout


def test_nothing_to_compare_with(
    scores: dict[str, np.ndarray], peers: Callable[[Answer], None]
) -> None:
    def missing(problem: Problem, name: str) -> Solution:
        raise MissingDependencyError("highspy", "reference", "here")

    peers(missing)
    assert "nothing to compare with" in " ".join(succeed(*VALIDATE, "--retain", "0.9").split())


def test_validate_infeasible(
    scores: dict[str, np.ndarray], peers: Callable[[Answer], None]
) -> None:
    peers(right)
    assert "'flow': wanted 1000000000" in fail(3, *VALIDATE, "--floor", "1e9")
    assert "infeasible" in run(*VALIDATE, "--floor", "1e9").stdout

    def feasible(problem: Problem, _: str) -> Solution:
        return problem.solve(floors=0.0)

    peers(feasible)  # an answer to the wrong problem is no contradiction: the judge rejects it
    assert "rejected" in run(*VALIDATE, "--floor", "1e9").stdout


def test_validate_wrong_input(scores: dict[str, np.ndarray]) -> None:
    assert "no such file" in fail(2, "validate", "--target", "none.npy", "--keep", "5")


# demo


@pytest.fixture
def quick_highs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_compare", lambda ours: demo._Compared(1.5, 2e-16))


def test_demo_prints_shares(quick_highs: None) -> None:
    text = succeed("demo")
    rows = {line[:19].strip(): line[19:].split() for line in text.splitlines()}
    for position, name in enumerate(("magnitude", "snip", "grasp", "synflow")):
        assert rows[f"{name} alone"][position] == "100.0%"
    assert float(rows["snip, grasp ≥ 80%"][2].rstrip("%")) >= 80.0
    assert float(rows["snip alone"][2].rstrip("%")) < 20.0
    assert "equals that of HiGHS" in text


def test_demo_compares_with_highs_for_real() -> None:
    pytest.importorskip("highspy")
    scores = cops_lp.sample_scores()
    ours = Problem(scores["snip"][:5000], scores["grasp"][:5000], keep=500, retain=0.5).solve()
    compared = demo._compare(ours)
    assert isinstance(compared, demo._Compared)
    assert abs(compared.difference) < 1e-12
    assert compared.seconds > 0


def test_demo_without_highs(monkeypatch: pytest.MonkeyPatch) -> None:
    find = demo.importlib.util.find_spec
    monkeypatch.setattr(
        demo.importlib.util, "find_spec", lambda name: None if name == "highspy" else find(name)
    )
    text = succeed("demo", "--keep", "500")
    assert "pip install 'cops-lp[reference]'" in text
    assert "differs" not in text


@pytest.mark.parametrize("answer", ["timed out", "failed"])
def test_demo_says_when_highs_fails(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    def run_isolated(name: str, problem: Problem, **_: Any) -> Solution:
        if answer == "failed":
            raise SolverError("crashed")
        return unsolved_solution(problem, Status.TIME_LIMIT, method="")

    monkeypatch.setattr(cops_lp.reference, "run_isolated", run_isolated)
    pytest.importorskip("highspy")
    assert answer in succeed("demo")


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_demo_draws(quick_highs: None, suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = Path(f"trade-off{suffix}")
    assert f"figure written to {path}" in succeed("demo", "--plot", str(path))
    assert path.read_bytes().startswith(magic)
    assert "already exists" in fail(2, "demo", "--plot", str(path))
    assert list(Path().iterdir()) == [path]


@pytest.mark.parametrize("keep", ["1", "100%"])
def test_demo_at_the_ends(quick_highs: None, keep: str) -> None:
    pytest.importorskip("matplotlib")
    assert "100.0%" in succeed("demo", "--keep", keep, "--plot", "trade-off.png")


def test_demo_frontier_bounds_every_mask() -> None:
    scores = cops_lp.sample_scores()
    problem = Problem(scores["snip"], scores["grasp"], keep=0.1, floors=0.0)
    points = demo._frontier(problem, 0.2)
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) <= 0).all()
    slopes = np.diff(points[:, 1]) / np.diff(points[:, 0])
    assert (np.diff(slopes) <= 1e-9).all()  # concave
    best = problem.best()
    assert points[-1].tolist() == [1.0, problem.solve(retain=1.0).bound / best[0]]
    for share, bound in points[::10]:
        kept = problem.solve(floors=float(share * best[1])).mask_objective
        assert kept <= bound * best[0] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--keep", "0"), "at least one"),
        (("--keep", "99999999"), "wanted a count"),
        (("--plot", "x.jpg"), ".png, .svg or .pdf"),
        (("--plot", "none/x.png"), "folder does not exist"),
    ],
)
def test_demo_wrong_input(args: tuple[str, ...], complaint: str) -> None:
    assert complaint in fail(2, "demo", *args)


def test_demo_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'cops-lp[plot]'" in fail(2, "demo", "--plot", "x.png")


# The spinner


def spin(monkeypatch: pytest.MonkeyPatch, terminal: bool, seconds: float) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80)
    monkeypatch.setattr(output, "Console", lambda **_: console)
    monkeypatch.setattr(output, "_PATIENCE", 0.05)
    with output.working("thinking"):
        time.sleep(seconds)
    return stream.getvalue()


def test_spinner_only_on_a_terminal_and_only_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert spin(monkeypatch, terminal=False, seconds=0.3) == ""
    assert spin(monkeypatch, terminal=True, seconds=0.0) == ""
    shown = spin(monkeypatch, terminal=True, seconds=0.3)
    assert "thinking" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # and is gone at the end


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5e-6, "5 µs"), (0.01234, "12.3 ms"), (2.5, "2.5 s"), (75.0, "75 s"), (float("nan"), "–")],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


# Real processes


def process(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    compile_kernels()
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    environment |= options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "cops_lp.cli", *args],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=300,
        check=False,
        **options,
    )


def test_process_solves(scores: dict[str, np.ndarray]) -> None:
    done = process(*SOLVE, "--retain", "0.9", "--output", "mask.safetensors", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert parse(done.stdout)["output"] == "mask.safetensors"
    assert cops_lp.files.read_score("mask.safetensors").sum() == K


@pytest.mark.parametrize(
    ("args", "code"), [(("--floor", "1e9"), 3), (("--retain", "2"), 2), (("--what",), 2)]
)
def test_process_fails_in_one_line(
    scores: dict[str, np.ndarray], args: tuple[str, ...], code: int
) -> None:
    done = process(*SOLVE, *args)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_process_prints_in_ascii_too(scores: dict[str, np.ndarray]) -> None:
    done = process(
        "solve", "--target", "snip.npy", "--keep", "0", env={"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "keeps 0 of 600" in done.stdout


def test_reader_may_leave_early(scores: dict[str, np.ndarray]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "cops_lp.cli", *SOLVE, "--retain", "0.9", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    complaint = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=300) != 0
    assert b"Traceback" not in complaint


def test_warmup_compiles_the_kernels() -> None:
    from cops_lp.kernels import direct, dual_simplex, newton, screening, two_score

    result = run("warmup")
    assert result.exit_code == 0
    assert result.stdout.startswith("kernels ready in ")
    for kernel in (
        two_score.top_k,
        direct.two_score_vertex,
        dual_simplex.dual_simplex,
        screening.screen,
        newton.advance,
    ):
        assert kernel.signatures


_AFTER_WARMUP = """
import inspect
import numpy as np
import cops_lp
from cops_lp.cli.warmup import run_warmup
from cops_lp.kernels import direct, dual_simplex, newton, screening, subsets, two_score

def variants():
    modules = (direct, dual_simplex, newton, screening, subsets, two_score)
    return {
        f"{module.__name__}.{name}": len(kernel.signatures)
        for module in modules
        for name, kernel in inspect.getmembers(module)
        if hasattr(kernel, "signatures") and not name.startswith("_")
    }

run_warmup()
before = variants()
assert before["cops_lp.kernels.screening.screen"] > 0
rng = np.random.default_rng(0)
scores = rng.exponential(size=(6, 200, 250))
for dtype in (np.float16, np.float32, np.float64, np.int16):
    rows = (100 * scores).astype(dtype)
    rows.flags.writeable = False
    for turned in (rows, rows.transpose(0, 2, 1)):
        for K in (0, 1, 5):
            how = {"retain": 0.5} if K else {}
            cops_lp.solve(turned[0], list(turned[1 : 1 + K]), keep=0.3, **how)
for K in (1, 5):
    how = {"retain": 0.5, "integral": True, "time_limit": 1.0}
    cops_lp.solve(scores[0], list(scores[1 : 1 + K]), keep=0.3, **how)
cops_lp.balance(list(scores), keep=0.2)
assert variants() == before, (before, variants())
"""


def test_nothing_is_left_to_compile_after_warmup() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AFTER_WARMUP], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_solve_integral(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).exponential(size=(2, 2_000))
    np.save(tmp_path / "c.npy", scores[0])
    np.save(tmp_path / "a.npy", scores[1])
    args = ("solve", "--target", str(tmp_path / "c.npy"), "--control", str(tmp_path / "a.npy"))
    how = ("--keep", "10%", "--retain", "0.8", "--json")
    default = json.loads(run(*args, *how).stdout)
    best = json.loads(run(*args, *how, "--integral").stdout)
    assert best["integer_gap"] == 0.0 < default["integer_gap"]
    assert best["integer_bound"] == best["mask_objective"] >= default["mask_objective"]
    assert "time limit reached" in fail(1, *args, *how[:-1], "--time-limit", "0")
