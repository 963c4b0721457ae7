"""The benchmarks: small real runs, what is recorded of failures, and the page made of it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cops_lp

ROOT = Path(__file__).resolve().parents[1]


def _load_bench() -> None:
    """Make ``import bench`` work wherever the tests are started."""
    if "bench" not in sys.modules:
        place = ROOT / "bench" / "__init__.py"
        spec = importlib.util.spec_from_file_location(
            "bench", place, submodule_search_locations=[str(place.parent)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["bench"] = module
        spec.loader.exec_module(module)


_load_bench()

from bench import (  # noqa: E402
    cases,
    complexity,
    goals,
    gpu,
    judged,
    measure,
    memory,
    peers,
    report,
    study,
    tensors,
)
from bench.baselines import bisection  # noqa: E402
from bench.isolate import call_isolated  # noqa: E402

SMALL = ("--budget", "0.02", "--time-limit", "120", "--threads", "1")


def bench(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


# --- the pieces ------------------------------------------------------------------------------


def test_scores_are_the_same_in_memory_and_mapped_and_for_any_number_of_controls(tmp_path):
    case = cases.Case(d=1_100_000, controls=1, seed=3)  # more than a block
    memory_, mapped = cases.pose(case), cases.pose(case, tmp_path)
    wider = cases.pose(dataclasses.replace(case, controls=2))
    assert isinstance(mapped.target, np.memmap)
    assert memory_.target.dtype == np.float32
    for score, other, third in zip(
        (memory_.target, *memory_.controls),
        (mapped.target, *mapped.controls),
        (wider.target, *wider.controls),
        strict=False,
    ):
        assert np.array_equal(score, other)
        assert np.array_equal(score, third)
    assert memory_.floors == mapped.floors
    different = cases.pose(dataclasses.replace(case, seed=4))
    assert not np.array_equal(memory_.target, different.target)


@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("keep", [0.1, 0, 1, 1999, 2000])
def test_every_case_is_what_it_says(kind, keep):
    for floors in ("absolute", "best", "infeasible"):
        case = cases.Case(2000, 1, kind=kind, keep=keep, floors=floors)
        solution = cases.pose(case).solve()
        assert cops_lp.certify(solution.problem, solution)
        wanted = "INFEASIBLE" if floors == "infeasible" and keep else "OPTIMAL"
        assert solution.status.name == wanted, floors


def test_floors_of_several_controls_can_be_met_together():
    posed = cases.pose(cases.Case(500, 8, seed=1))
    solution = cops_lp.reference.solve_highs(posed.problem())
    assert solution.status is cops_lp.Status.OPTIMAL
    assert (solution.multipliers > 0).any()


def test_retained_shares_state_the_absolute_floors():
    absolute = cases.pose(cases.Case(5000, 1))
    retained = cases.pose(cases.Case(5000, 1, floors="retain")).problem()
    assert retained.floors == pytest.approx(absolute.floors, rel=1e-3)


def test_rounds_alternate_and_leave_the_warmup_out():
    calls, seen = [], []
    times = measure.alternate(
        {"a": lambda: calls.append("a") or 1, "b": lambda: calls.append("b") or 2},
        measure.Rounds(least=2, most=3, budget=1e9, warmup=1),
        lambda name, value: seen.append((name, value)),
    )
    assert calls == ["a", "b", "b", "a"] * 2
    assert [len(seconds) for seconds in times.values()] == [3, 3]
    assert seen[:3] == [("a", 1), ("b", 2), ("b", 2)]
    stopped = measure.alternate(
        {"a": lambda: time.sleep(0.001)}, measure.Rounds(least=2, most=50, budget=0.0, warmup=0)
    )
    assert len(stopped["a"]) == 2


def test_slope_of_a_power():
    assert measure.loglog_slope([10, 100, 1000], [1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert measure.loglog_slope([10], [1.0]) is None


def test_the_peak_is_seen():
    extra, how, value = memory.peak_extra(lambda: len(np.ones(8_000_000).tobytes()))
    assert value == 64_000_000
    assert extra > 100e6 or "lower bound" in how
    extra, _, _ = memory.peak_extra(lambda: np.ones(8_000_000).sum() and time.sleep(0.05))
    assert extra < 100e6
    assert "needs" in memory.shortage(1e18) or memory.available_bytes() is None
    assert memory.shortage(1.0) == ""


def test_only_equal_answers_share_a_verdict():
    posed = cases.pose(cases.Case(2000, 1))
    watched = judged.Judged()
    for _ in range(3):
        watched.watch(posed.solve())
    verdict = watched.verdict()
    assert verdict["certified"]
    assert verdict["same_bits"]
    assert verdict["answers"] == 3
    mask = watched.first.mask.copy()
    mask[[np.argmin(mask), np.argmax(mask)]] ^= True
    watched.watch(dataclasses.replace(watched.first, mask=mask))
    assert not watched.verdict()["same_bits"]
    assert not watched.verdict()["certified"]
    wrong = judged.Judged()
    wrong.watch(dataclasses.replace(watched.first, mask=mask))
    assert not wrong.verdict()["certified"]


def test_bisection_comes_near_and_never_above():
    posed = cases.pose(cases.Case(20_000, 1))
    solution = posed.solve()
    found = bisection(posed.target, posed.controls[0], posed.keep, posed.floors[0])
    assert found.mask.sum() == posed.keep
    assert found.kept >= posed.floors[0]
    assert found.objective <= solution.bound
    assert found.objective == pytest.approx(solution.objective, rel=1e-3)
    assert found.bound >= solution.bound * (1 - 1e-12)
    assert found.multiplier == pytest.approx(solution.multipliers[0], rel=1e-3)
    free = bisection(posed.target, posed.controls[0], posed.keep, -1.0)
    assert free.multiplier == 0.0
    with pytest.raises(ArithmeticError):
        bisection(posed.target, posed.controls[0], posed.keep, 1e9)


# --- processes -------------------------------------------------------------------------------


def test_a_limit_ends_the_child_and_what_it_started(tmp_path):
    marker = tmp_path / "marker"
    command = [sys.executable, "-c", f"import time; time.sleep(4); open({str(marker)!r}, 'w')"]
    start = time.perf_counter()
    outcome = call_isolated("subprocess:run", {"args": command}, time_limit=1.5)
    assert outcome.ended == "time limit"
    assert "1.5 s" in outcome.message
    assert time.perf_counter() - start < 3.5
    time.sleep(4.0)
    assert not marker.exists()


def test_errors_and_crashes_are_outcomes():
    raised = call_isolated("json:loads", {"s": "{"})
    assert (raised.ended, raised.error) == ("raised", "JSONDecodeError")
    crashed = call_isolated("os:_exit", {"status": 3})
    assert crashed.ended == "crashed"
    assert "exit code 3" in crashed.message
    assert call_isolated("math:prod", {"start": 2}).ended == "raised"
    assert call_isolated("json:loads", {"s": "[1, 2]"}).value == [1, 2]


# --- studies ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    arguments = ("--max-d", "1e4", "--controls", 0, "--controls", 1, *SMALL)
    bench("complexity", *arguments, "--results", folder)
    return folder


def test_complexity_records_times_with_their_proof(results):
    run = read(results / "complexity.json")
    assert [(cell["about"]["K"], cell["about"]["d"]) for cell in run["cells"]] == [
        (0, 1000),
        (0, 10_000),
        (1, 1000),
        (1, 10_000),
    ]
    for cell in run["cells"]:
        result = cell["result"]
        assert cell["status"] == "done"
        assert result["times"]["rounds"] == len(result["times"]["seconds"]) >= 5
        low, high = result["times"]["quartiles"]
        assert 0 < low <= result["times"]["median"] <= high
        assert result["judge"]["certified"]
        assert result["judge"]["same_bits"]
        assert result["judge"]["relative_gap"] <= 1e-12
        assert result["passes"] >= 1
        assert result["extra_bytes"] >= 0
    assert run["versions"]["numpy"] == np.__version__
    assert run["machine"]["cores"] >= 1
    assert {"commit", "dirty"} == set(run["git"])
    assert run["settings"]["threads"] == 1
    for name in ("time", "open", "memory"):
        assert (results / f"complexity-{name}.svg").stat().st_size > 1000


def test_a_study_goes_on_where_it_was_stopped(results, tmp_path):
    lines = (results / "complexity.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    # Killed while it wrote the third cell.
    stopped = tmp_path / "complexity.jsonl"
    stopped.write_text("\n".join([*lines[:3], lines[3][:40]]), encoding="utf-8")
    before = read(results / "complexity.json")["cells"]
    arguments = ("--max-d", "1e4", "--controls", 0, "--controls", 1, *SMALL)
    bench("complexity", *arguments, "--results", tmp_path)
    after = read(tmp_path / "complexity.json")["cells"]
    assert after[:2] == before[:2]
    assert [cell["date"] == old["date"] for cell, old in zip(after, before, strict=True)][2:] == [
        False,
        False,
    ]
    whole = [json.loads(line) for line in stopped.read_text(encoding="utf-8").splitlines()]
    assert [line.get("about") for line in whole[1:]] == [cell["about"] for cell in after]
    # Another code's results are not mixed in.
    header = json.loads(lines[0])
    header["made_with"]["source"] = "another"
    stopped.write_text("\n".join([json.dumps(header), *lines[1:], ""]), encoding="utf-8")
    said = bench("complexity", *arguments, "--results", tmp_path, code=2)
    assert "another source" in said
    assert "--fresh" in said


def test_fresh_starts_over(tmp_path):
    cell = study.Cell("x", {"d": 1}, "json:loads", {"s": '{"value": 1}'})
    first = study.run_study("x", [cell], tmp_path, settings={})
    kept = study.run_study("x", [cell], tmp_path, settings={})
    assert kept["cells"] == first["cells"]
    again = dataclasses.replace(cell, arguments={"s": '{"value": 2}'})
    assert study.run_study("x", [again], tmp_path, settings={})["cells"] == first["cells"]
    fresh = study.run_study("x", [again], tmp_path, settings={}, fresh=True)
    assert fresh["cells"][0]["result"] == {"value": 2}


def test_what_cannot_be_measured_says_why(tmp_path):
    several = {"d": 1000, "K": 2, "seed": 0, "threads": 1, "budget": 0.0, "memory_mapped": False}
    cells = [
        study.Cell("many", {"n": 0}, "bench.complexity:measure", several),
        study.Cell("large", {"n": 1}, "json:loads", {}, skipped="needs 9 GiB"),
        study.Cell("raises", {"n": 2}, "json:loads", {"s": "{"}),
        study.Cell("ends", {"n": 3}, "os:_exit", {"status": 1}),
        study.Cell("absent", {"n": 4}, "no_such_module:f", {}),
    ]
    run = study.run_study("x", cells, tmp_path, settings={})
    status = [record["status"] for record in run["cells"]]
    if status[0] != "done":  # a version with one control at most
        assert status[0] == "unavailable"
        assert "at most one" in run["cells"][0]["message"]
    assert status[1:] == ["skipped", "failed", "failed", "not installed"]
    assert run["cells"][1]["message"] == "needs 9 GiB"
    # Skipping is decided anew each time: no line is kept of it.
    assert len((tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()) == 5


def test_sizes_that_do_not_fit_are_skipped(tmp_path):
    common = {"seed": 0, "threads": 1, "budget": 0.0, "time_limit": 1.0}
    (cell,) = complexity.cells([10**15], [1], folder=None, **common)
    assert "GiB of memory" in cell.skipped or memory.available_bytes() is None
    (cell,) = complexity.cells([10**15], [1], folder=tmp_path, **common)
    assert "GiB of disk" in cell.skipped


@pytest.fixture(scope="module")
def peers_run(results) -> dict:
    """Small peers that end, one that a limit ends, one that fails, some that are skipped."""
    common = {"seed": 0, "threads": 1, "budget": 0.02}
    small = peers.cells([1000], time_limit=120.0, solvers=["HiGHS simplex"], **common)
    large = peers.cells([10**5], time_limit=3.0, solvers=["CVXPY SCS"], **common)
    never = peers.cells([10**6], time_limit=3.0, solvers=["HiGHS simplex"], **common)
    large = [cell for cell in large if cell.about["group"] == "general" and cell.about["K"] == 1]
    never = [cell for cell in never if cell.about["group"] == "general" and cell.about["K"] == 1]
    (absent,) = [cell for cell in small if cell.about.get("K") == 1 and "who" in cell.about]
    about = {**absent.about, "who": "a peer that fails"}
    fails = dataclasses.replace(absent, about=about, function="json:loads", arguments={"s": "{"})
    return study.run_study(
        "peers", [*small, *large, *never, fails], results, settings={"seed": 0, "threads": 1}
    )


def test_peers_end_with_ratios_and_quality(peers_run):
    rows = peers.rows(peers_run)
    selection = [row for row in rows if row["group"] == "selection"]
    assert [row["who"] for row in selection] == [
        "cops_lp",
        "np.partition",
        "np.partition and mask",
        "np.argpartition",
        "torch.topk",
        "torch.kthvalue",
    ]
    assert selection[0]["certified"]
    assert selection[0]["ratio"] == 1.0
    assert all(row["agrees"] for row in selection[1:])
    ours, bisected = [row for row in rows if row["group"] == "bisection"]
    assert ours["relative_gap"] <= 1e-12
    assert 0 < bisected["relative_gap"] < 0.1
    assert bisected["residual"] == 0.0
    highs = [row for row in rows if row["who"] == "HiGHS simplex" and row["d"] == 1000]
    assert [row["K"] for row in highs] == [1, 4]
    for row in highs:
        assert row["certified"]
        assert row["build"] > 0
    assert highs[0]["ratio"] > 0


def test_a_peer_that_does_not_end_counts_as_the_limit(peers_run):
    rows = peers.rows(peers_run)
    (ended,) = [row for row in rows if row["who"] == "CVXPY SCS"]
    assert ended["status"] == "time limit"
    assert ended["counted"]
    assert ended["median"] == 3.0
    (failed,) = [row for row in rows if row["who"] == "a peer that fails"]
    assert failed["status"] == "failed"
    assert "JSONDecodeError" in failed["message"]
    assert failed["median"] == 120.0
    assert failed["ratio"] > 100  # over ours with this d and K, from other processes
    (skipped,) = [row for row in rows if row["d"] == 10**6]
    assert skipped["status"] == "skipped"
    assert "quarter of an hour" in skipped["message"]
    assert "median" not in skipped


@pytest.fixture(scope="module")
def goals_run(results) -> dict:
    only = ("--only", "small", "--only", "import", "--only", "threads", "--only", "hard, k = 0")
    bench("goals", "--quick", *only, *SMALL[:4], "--results", results)
    return read(results / "goals.json")


def test_goals_are_rows_of_case_value_bound_and_verdict(goals_run):
    rows = {row["case"]: row for row in goals.evaluate(goals_run)}
    assert len(rows) == 6
    small = rows["K = 1, d = 1,000, warm"]
    assert small["measured"] > 0
    assert small["bound"] == 0.5e-3
    assert small["certified"]
    assert small["reached"] == (small["measured"] <= small["bound"])
    bits = rows["threads 1, 2, 5: answers are the same bits"]
    assert bits["measured"] == 1.0
    assert bits["reached"]
    assert rows["import cops_lp: over import numpy"]["reached"]


def timed(*medians: float, names: tuple[str, ...], certified: bool = True) -> dict:
    times = {
        name: measure.summary([0.9 * value, value, 1.1 * value])
        for name, value in zip(names, medians, strict=True)
    }
    judge = {"certified": certified, "relative_gap": 1e-20, "residual": 2e-20, "same_bits": True}
    return {"times": times, "judges": {"ours": judge}}


def record(name: str, result: dict | None, status: str = "done", **about: object) -> dict:
    return {
        "about": {"name": name, **about},
        "status": status,
        "message": "" if status == "done" else "why",
        "result": result,
    }


def test_a_goal_is_reached_missed_or_not_measured():
    names = ("ours", "np.partition", "np.sum")
    good = {"cells": [record("absolute", timed(0.3, 1.0, 0.1, names=names), d=10)]}
    first, second = goals.evaluate(good)
    assert first["measured"] == pytest.approx(0.3)
    assert first["reached"]
    assert first["times"][0][0] == "ours"
    assert second["measured"] == pytest.approx(3.0)
    slow = {"cells": [record("absolute", timed(0.5, 1.0, 0.1, names=names), d=10)]}
    assert [row["reached"] for row in goals.evaluate(slow)] == [False, False]
    unproven = timed(0.3, 1.0, 0.2, names=names, certified=False)
    rows = goals.evaluate({"cells": [record("absolute", unproven, d=10)]})
    assert [row["reached"] for row in rows] == [False, False]
    rows = goals.evaluate({"cells": [record("absolute", None, "failed", d=10)]})
    assert [row["reached"] for row in rows] == [None, None]
    assert rows[0]["note"] == "failed: why"
    without_torch = timed(0.2, 1.0, 0.1, names=names)
    rows = goals.evaluate({"cells": [record("top-k", without_torch, d=10)]})
    assert [row["reached"] for row in rows] == [True, None]
    several = timed(1.0, names=("1",)) | {"missing": {"4": "no", "8": "not yet"}}
    rows = goals.evaluate({"cells": [record("controls", several, d=10)]})
    assert [row["note"] for row in rows] == ["no", "not yet"]


def test_the_fastest_exact_vertex_sets_the_goal():
    def solver(who: str, median: float, gap: float, fractional: int) -> dict:
        judge = {"relative_gap": gap, "residual": 0.0, "fractional": fractional}
        mine = {"times": measure.summary([1e-3]), "judge": {**judge, "certified": True}}
        theirs = {"who": who, "times": measure.summary([median]), "judge": judge}
        name = f"reference, K = 1, {who}"
        return record(name, {"rows": [mine, theirs]}, who=who, d=10)

    cells = [
        solver("slow", 9.0, 1e-12, 2),
        solver("fast", 3.0, 1e-12, 2),
        solver("inexact", 0.1, 1e-6, 2),
        solver("inside", 0.1, 1e-12, 50),
        record("reference, K = 1, gone", None, "not installed", who="gone", d=10),
    ]
    (row,) = goals.evaluate({"cells": cells})
    assert row["measured"] == pytest.approx(3000.0)
    assert row["reached"]
    assert row["times"][0][0] == "fast"
    assert "gone: not installed" in row["note"]


def test_resnet50_has_its_known_size():
    shapes = tensors.resnet50_shapes()
    assert len(shapes) == 161
    assert sum(map(np.prod, shapes.values())) == 25_557_032


def test_masks_of_tensors_are_timed_against_one_flat_array(tmp_path):
    bench("goals", "--quick", "--only", "tensors", *SMALL[:4], "--results", tmp_path)
    fast, ratio = goals.evaluate(read(tmp_path / "goals.json"))
    assert fast["measured"] > 0
    assert ratio["certified"]
    assert [name for name, _ in ratio["times"]] == ["masks", "flat"]


def test_a_gpus_tasks_on_cpu_tensors(tmp_path):
    arguments = ("--device", "cpu", "--d", 2e5, "--dtype", "bfloat16", "--dtype", "float32")
    said = bench("gpu", *arguments, *SMALL, "--results", tmp_path)
    assert "bits of the CPU's" in said
    run = read(tmp_path / "gpu.json")
    rows = gpu.rows(run)
    assert [row["task"] for row in rows[:5]] == [
        "K = 1",
        "K = 0",
        "one read",
        "torch.topk",
        "torch.kthvalue",
    ]
    assert all(cell["result"]["same_bits"] for cell in run["cells"])
    assert all(row["median"] > 0 for row in rows)
    run["cells"][1]["about"]["d"] = 10**9  # what a row says of the goals
    notes = {row["task"]: row["note"] for row in gpu.rows(run)[5:]}
    assert notes["one read"] == "MISSED (≤ 10)"
    assert "wanted one of float32" in bench("gpu", "--dtype", "int8", code=2)


# --- the page --------------------------------------------------------------------------------


def test_the_page_is_written_from_the_json_alone(results, peers_run, goals_run, tmp_path):
    assert peers_run["study"] == "peers"
    assert goals_run["study"] == "goals"
    pages = []
    for number in range(2):
        page = tmp_path / f"{number}.md"
        said = bench("report", "--results", results, "--output", page)
        assert "wrote" in said
        pictures = {path.name: path.read_bytes() for path in sorted(results.glob("*.svg"))}
        pages.append((page.read_text(encoding="utf-8"), pictures))
    assert pages[0] == pages[1]
    text, pictures = pages[0]
    assert {"complexity-time.svg", "peers-K1.svg", "peers-K4.svg"} <= set(pictures)
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "## What the engine is to reach",
        "## Growth with the number of weights",
        "## Beside other ways",
        "## What this does not show",
    ]
    for wanted in (
        "≥ 3 s (time limit: ended at the limit of 3 s)",
        "(failed: JSONDecodeError",
        "A quick run",
        "skipped: a simplex method",
        "NumPy bisection",
        "quartiles",
        "gap",
        "residual",
    ):
        assert wanted in text, wanted
    median = read(results / "complexity.json")["cells"][0]["result"]["times"]["median"]
    assert report.duration(median) in text
    for private in (str(ROOT), str(Path.home()) + "/", platform.node()):
        if len(private) > 4:
            assert private not in text


def test_a_folder_without_results_is_an_error(tmp_path):
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    said = bench("report", "--results", tmp_path, "--output", tmp_path / "page.md", code=2)
    assert "no study" in said
    assert not (tmp_path / "page.md").exists()


def test_durations_read_well():
    said = [report.duration(x) for x in (2e-9, 1.5e-6, 0.00099951, 0.123456, 59.96, 4000.0)]
    assert said == ["2 ns", "1.5 µs", "1 ms", "123 ms", "60 s", "4,000 s"]


def test_kernel_benchmarks_run_and_measure():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider"),
            *("--benchmark-max-time=0.001", "--benchmark-min-rounds=1"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Median" in done.stdout
