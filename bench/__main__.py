"""``python -m bench``: the studies, and the page made of them. Run from the repository's root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import complexity as complexity_study
from . import goals as goals_study
from . import gpu as gpu_study
from . import peers as peers_study
from .general import SOLVERS
from .isolate import ROOT
from .report import NoResultsError, duration, write_report
from .study import Cell, StaleResultsError, run_study

RESULTS = ROOT / "bench" / "results"

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
out = Console()

Results = Annotated[Path, typer.Option(help="Folder for lines, JSON and pictures.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; all CPUs by default.")]
Seed = Annotated[int, typer.Option(min=0)]
Budget = Annotated[float, typer.Option(min=0.0, help="Seconds of timed rounds for each thing.")]
Limit = Annotated[float, typer.Option(min=0.1, help="Seconds for all that one process does.")]


@app.command()
def complexity(
    min_d: Annotated[float, typer.Option(min=1, help="Fewest weights.")] = 1e3,
    max_d: Annotated[float, typer.Option(min=1, help="Most weights.")] = 1e9,
    per_decade: Annotated[int, typer.Option(min=1, help="Sizes in each decade.")] = 1,
    controls: Annotated[list[int] | None, typer.Option(help="K; may be repeated.")] = None,
    memory_map: Annotated[
        Path | None, typer.Option(help="Keep the scores as files in this folder and map them.")
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
    budget: Budget = 5.0,
    time_limit: Limit = 3600.0,
    results: Results = RESULTS / "scratch",
    fresh: Fresh = False,
) -> None:
    """Time, passes, open weights and peak memory against d and K; the log-log slope."""
    if memory_map is not None and not memory_map.is_dir():
        raise typer.BadParameter(f"{memory_map} is no folder", param_hint="--memory-map")
    cells = complexity_study.cells(
        complexity_study.sizes(int(max_d), int(min_d), per_decade),
        controls or list(complexity_study.CONTROLS),
        seed=seed,
        threads=threads,
        budget=budget,
        time_limit=time_limit,
        folder=memory_map,
    )
    settings = {
        "min_d": int(min_d),
        "max_d": int(max_d),
        "threads": threads,
        "seed": seed,
        "budget": budget,
        "time_limit": time_limit,
        "memory_mapped": memory_map is not None,
    }
    name = "complexity-mapped" if memory_map else "complexity"
    run = _run("complexity", cells, results, settings, fresh, name)
    from .plots import plot_complexity

    plot_complexity(run, results, name)
    table = Table("K", "d", "time", "passes", "open", "B/weight", "gap", "certified")
    for cell in run["cells"]:
        about, result = cell["about"], cell["result"]
        if cell["status"] != "done":
            table.add_row(str(about["K"]), f"{about['d']:,}", cell["status"])
            continue
        table.add_row(
            str(about["K"]),
            f"{about['d']:,}",
            duration(result["times"]["median"]),
            str(result["passes"]),
            f"{result['open_share']:.2%}",
            f"{result['extra_bytes'] / about['d']:.3g}",
            f"{result['judge']['relative_gap'] or 0.0:.1e}",
            "yes" if result["judge"]["certified"] else "NO",
        )
    out.print(table)
    for K, (first, last, slope) in complexity_study.slopes(run).items():
        out.print(f"K = {K}: slope {slope:.3f} from {first:,} to {last:,}")
    _say_where(results, name)


@app.command()
def peers(
    min_d: Annotated[float, typer.Option(min=100, help="Fewest weights.")] = 1e3,
    max_d: Annotated[
        float, typer.Option(min=100, help="Most weights; general solvers stop at 10^6.")
    ] = 1e8,
    solver: Annotated[
        list[str] | None, typer.Option(help="General solver; may be repeated. All by default.")
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
    budget: Budget = 10.0,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds for all that a general solver's process does.")
    ] = 300.0,
    results: Results = RESULTS / "scratch",
    fresh: Fresh = False,
) -> None:
    """Ours against NumPy, torch, a bisection and the general LP solvers."""
    for name in solver or []:
        if name not in SOLVERS:
            raise typer.BadParameter(
                f"{name!r}; wanted one of {', '.join(SOLVERS)}", param_hint="--solver"
            )
    cells = peers_study.cells(
        complexity_study.sizes(int(max_d), int(min_d)),
        seed=seed,
        threads=threads,
        budget=budget,
        time_limit=time_limit,
        solvers=solver,
    )
    settings = {
        "max_d": int(max_d),
        "threads": threads,
        "seed": seed,
        "budget": budget,
        "time_limit": time_limit,
    }
    run = _run("peers", cells, results, settings, fresh)
    from .plots import plot_peers

    plot_peers(run, results, "peers")
    table = Table("K", "d", "", "time", "over ours", "gap", "status")
    for row in peers_study.rows(run):
        if row["who"] == peers_study.OURS and row["group"] == "general":
            continue
        gap = row.get("relative_gap")
        table.add_row(
            str(row["K"]),
            f"{row['d']:,}",
            row["who"],
            duration(row["median"]) if "median" in row else "",
            f"{row['ratio']:.3g}" if "ratio" in row else "",
            "" if gap is None else f"{gap:.1e}",
            row["status"],
        )
    out.print(table)
    _say_where(results, "peers")


@app.command()
def goals(
    quick: Annotated[bool, typer.Option("--quick", help="All sizes a hundredth.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only measurements that begin so; may be repeated.")
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
    budget: Budget = 5.0,
    time_limit: Limit = 3600.0,
    results: Results = RESULTS / "scratch",
    fresh: Fresh = False,
) -> None:
    """What the engine is to reach, as checks; exit code 1 when one is missed (unless --quick)."""
    cells = goals_study.cells(
        seed=seed, threads=threads, budget=budget, time_limit=time_limit, quick=quick
    )
    if only:
        cells = [cell for cell in cells if cell.name.startswith(tuple(only))]
        if not cells:
            raise typer.BadParameter("no measurement begins so", param_hint="--only")
    settings = {
        "quick": quick,
        "threads": threads,
        "seed": seed,
        "budget": budget,
        "time_limit": time_limit,
    }
    run = _run("goals", cells, results, settings, fresh)
    rows = goals_study.evaluate(run)
    table = Table("case", "measured", "to reach", "", "note")
    for row in rows:
        said = {True: "reached", False: "MISSED", None: "not measured"}[row["reached"]]
        measured = "" if row["measured"] is None else f"{row['measured']:.4g}"
        bound = f"{row['sense']} {row['bound']:.4g} {row['unit']}"
        table.add_row(row["case"], measured, bound, said, row["note"])
    out.print(table)
    _say_where(results, "goals")
    if not quick and any(row["reached"] is False for row in rows):
        raise typer.Exit(1)


@app.command()
def gpu(
    d: Annotated[list[float] | None, typer.Option(min=1e4, help="Weights; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="As torch takes it.")] = "cuda",
    dtype: Annotated[list[str] | None, typer.Option(help="Of the scores; repeatable.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    budget: Budget = 2.0,
    time_limit: Limit = 1200.0,
    results: Results = RESULTS / "scratch",
    fresh: Fresh = False,
) -> None:
    """Scores on a GPU: ours against one read, torch.topk and torch.kthvalue."""
    known = ("float32", "float16", "bfloat16", "float64")
    for name in dtype or []:
        if name not in known:
            raise typer.BadParameter(
                f"{name!r}; wanted one of {', '.join(known)}", param_hint="--dtype"
            )
    settings: dict[str, Any] = {
        "device": device,
        "threads": threads,
        "seed": seed,
        "budget": budget,
        "time_limit": time_limit,
    }
    cells = gpu_study.cells(
        [int(size) for size in d or (1e8, 1e9)], dtypes=dtype or ["float32"], **settings
    )
    run = _run("gpu", cells, results, settings, fresh)
    table = Table("d", "dtype", "task", "time", "ours over it", "")
    for row in gpu_study.rows(run):
        timed = "median" in row
        table.add_row(
            f"{row['d']:,}",
            row["dtype"],
            row["task"],
            duration(row["median"]) if timed else "",
            f"{row['ratio']:.3g}" if timed else "",
            row["note"],
        )
    out.print(table)
    _say_where(results, "gpu")


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Folder of the studies' JSON.")] = RESULTS,
    output: Annotated[Path, typer.Option(help="The page.")] = ROOT / "docs" / "benchmarks.md",
) -> None:
    """Write docs/benchmarks.md and the pictures from the JSON files."""
    try:
        write_report(results, output)
    except NoResultsError as error:
        Console(stderr=True).print(str(error), markup=False)
        raise typer.Exit(2) from None
    out.print(f"wrote {output}", markup=False)


def _run(
    study: str,
    cells: list[Cell],
    results: Path,
    settings: dict[str, Any],
    fresh: bool,
    name: str = "",
) -> dict[str, Any]:
    try:
        return run_study(study, cells, results, settings=settings, fresh=fresh, name=name)
    except StaleResultsError as error:
        Console(stderr=True).print(str(error), markup=False)
        raise typer.Exit(2) from None


def _say_where(results: Path, study: str) -> None:
    out.print(f"wrote {results / study}.json", markup=False, soft_wrap=True)


if __name__ == "__main__":
    app(prog_name="python -m bench")
