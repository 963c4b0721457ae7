"""``cops-lp prune``: from a PyTorch model to masks, by several scores at once."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cops_lp.errors import MissingDependencyError, ProblemError
from cops_lp.files import check_new_file

from .arguments import parse_keep, parse_per_control
from .output import print_json, print_lines, print_table, solution_payload, working

if TYPE_CHECKING:
    from torch import nn

    from cops_lp.torch import IteratedPruning, Round

    from .densities import Densities
    from .scoring import Scorer

__all__ = ["Request", "run_prune"]

_FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
_COMBINED = "COPS"


class Request(NamedTuple):
    """What is asked for, as typed; see ``cops-lp prune --help``."""

    model: str
    data: str
    target: str
    controls: tuple[str, ...]
    keep: str
    retain: tuple[str, ...]
    rounds: int
    schedule: str
    regrow: bool
    samples: int
    batch: int
    seed: int
    device: str
    threads: int | None


def run_prune(
    request: Request,
    *,
    output: Path | None,
    report: Path | None,
    plot: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Prune by each score alone and by all together, write the masks, print the densities.

    Parameters
    ----------
    request : Request
    output, report, plot : path or None
        Where masks, tables and picture go; None for nowhere.
    as_json : bool
        JSON instead of tables.
    force : bool
        Replace the files if they exist.

    Raises
    ------
    CopsError
        Wrong input, infeasible, or a package is missing.
    """
    _check_files(output, report, plot, force)
    keep = parse_keep(request.keep)
    if request.seed >= 2**64:
        raise ProblemError(f"--seed {request.seed}: wanted at most 2**64 - 1")
    retain = parse_per_control("retain", list(request.retain))
    _check_scores(request, retain)
    _check_installed(output, plot)
    from cops_lp.torch.iterating import check_amounts

    from .densities import densities
    from .models import build_model, load_batches

    check_amounts(keep, retain, request.controls)
    batches = load_batches(
        request.data, samples=request.samples, batch=request.batch, seed=request.seed
    )
    model = build_model(request.model, request.seed, request.device)
    scorers = _scorers(request, model, batches)
    found: dict[str, IteratedPruning] = {}
    for name in scorers:
        found[name] = _pruned(request, model, {name: scorers[name]}, keep, None, f"{name} alone")
    if request.controls:
        found[_COMBINED] = _pruned(request, model, scorers, keep, retain, _COMBINED)
    dense = {name: scorer(model, {}) for name, scorer in scorers.items()}
    with working("counting"):
        table = densities({name: each.masks for name, each in found.items()}, dense)
    last = list(found.values())[-1]
    if output is not None:
        from cops_lp.torch import save_masks

        save_masks(output, last.masks, overwrite=force)
    lines = _lines(request, table, last.rounds)
    if report is not None:
        from .densities import write_markdown

        write_markdown(report, lines, table, overwrite=force)
    if plot is not None:
        from .density_figure import write_figure

        with working("drawing"):
            write_figure(plot, table, lines[0], overwrite=force)
    written = {"masks": output, "report": report, "figure": plot}
    if as_json:
        print_json(
            request._asdict()
            | table.payload()
            | {
                "rounds_done": [each._asdict() for each in last.rounds],
                "solution": solution_payload(last.solution),
                "written": {name: path and str(path) for name, path in written.items()},
            }
        )
        return
    _print(lines, table)
    told = [f"{name} written to {path}" for name, path in written.items() if path is not None]
    print_lines(["", *told] if told else [])


def _check_files(output: Path | None, report: Path | None, plot: Path | None, force: bool) -> None:
    kinds = ((output, (".safetensors",)), (report, (".md",)), (plot, _FIGURE_SUFFIXES))
    for path, suffixes in kinds:
        if path is not None:
            check_new_file(path, suffixes, overwrite=force)


def _check_scores(request: Request, retain: Any) -> None:
    names = (request.target, *request.controls)
    for name in names:
        if names.count(name) > 1:
            raise ProblemError(f"the score {name!r} is asked for twice; wanted each once")
    if request.controls and retain is None:
        raise ProblemError("--control needs a floor: give --retain, as in --retain 0.9")
    if retain is not None and not request.controls:
        raise ProblemError("--retain says what controls keep, but there is no --control")


def _check_installed(output: Path | None, plot: Path | None) -> None:
    wanted = [("torch", "torch", "by cops-lp prune")]
    if output is not None:
        wanted.append(("safetensors", "files", "to write masks"))
    if plot is not None:
        wanted.append(("matplotlib", "plot", "to draw the figure"))
    for package, extra, purpose in wanted:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, extra, purpose)


def _scorers(request: Request, model: nn.Module, batches: Any) -> dict[str, Scorer]:
    from torch import nn
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

    from cops_lp.torch.pruned import bare_name

    from .scoring import LINEAR_ONLY, scorer_of

    names = (request.target, *request.controls)

    def of_linear(name: str, _: nn.Parameter, module: nn.Module) -> bool:
        # Attention uses its out_proj without calling it, so nobody sees what flows in.
        seen = isinstance(module, nn.Linear) and not isinstance(
            module, NonDynamicallyQuantizableLinear
        )
        return seen and name.rpartition(".")[2] == "weight"

    linear = [name for name in names if name in LINEAR_ONLY]
    where = of_linear if linear else None
    if linear and not any(
        of_linear(bare_name(module, local), parameter, module)
        for module in model.modules()
        for local, parameter in module.named_parameters(recurse=False)
    ):
        raise ProblemError(
            f"--model {request.model!r}: it has no Linear layer that {linear[0]} can score"
        )
    return {
        name: scorer_of("control" if number else "target", name, batches, request.seed, where)
        for number, name in enumerate(names)
    }


def _pruned(
    request: Request,
    model: nn.Module,
    scorers: dict[str, Scorer],
    keep: Any,
    retain: Any,
    label: str,
) -> IteratedPruning:
    from cops_lp.torch import LayerCollapseWarning, prune_iteratively

    (_, target), *controls = scorers.items()
    bar = request.rounds > 1 and _on_a_terminal()  # in place of the spinner
    with nullcontext() if bar else working(label), warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)  # the table says it
        return prune_iteratively(
            model,
            target,
            dict(controls),
            keep=keep,
            rounds=request.rounds,
            schedule=request.schedule,  # type: ignore[arg-type]  # it is checked there
            regrow=request.regrow,
            retain=retain,
            threads=request.threads,
            progress=bar and label,
        )


def _on_a_terminal() -> bool:
    return sys.stderr.isatty()


def _lines(request: Request, table: Densities, rounds: Sequence[Round]) -> list[str]:
    """Say what was done, in one line and some more."""
    kept, size = table.total
    how = f"{request.target}"
    if request.controls:
        floors = ", ".join(request.retain)
        how += f" with floors on {', '.join(request.controls)} (retain {floors})"
    lines = [f"{kept:,} of {size:,} weights kept ({100 * kept / size:.3g}%) by {how}"]
    if request.rounds > 1:
        back = ", pruned weights may come back" if request.regrow else ""
        lines.append(f"{request.rounds} rounds, {request.schedule} schedule{back}")
        least = ", ".join(
            f"{min(each.retained[name] for each in rounds):.2%} of {name}"
            for name in request.controls
        )
        if least:
            lines.append(
                "Floors are held by each round's own scores, computed anew: of the most that was "
                f"still there to keep, no round kept less than {least}"
            )
    for name, emptied in table.emptied().items():
        if emptied:
            shown = ", ".join(emptied[:5]) + (
                f" and {len(emptied) - 5} more" if len(emptied) > 5 else ""
            )
            lines.append(f"{name} empties {len(emptied)} of {len(table.layers)} layers: {shown}")
    return lines


def _print(lines: Sequence[str], table: Densities) -> None:
    print_lines([lines[0], *lines[1:], "", "Density of each layer by mask:", ""])
    print_table(*table.density_table())
    print_lines(["", table.SHARES, ""])
    print_table(*table.share_table())
