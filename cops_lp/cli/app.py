"""The commands and their options. What they run is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from .failures import OneLineErrors

__all__ = ["app"]

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: quick, and wrapped like any other tool's
    epilog="""\b
Examples:
  cops-lp demo
  cops-lp solve --target snip.npy --control synflow.npy --keep 10% \\
    --retain 0.9 --output mask.npy
  cops-lp validate --target s.npz:snip --control s.npz:grasp --keep 0.1 \\
    --retain 0.8

Exit codes: 0 done, 1 not confirmed or solvers disagree or fail, 2 wrong input,
3 infeasible.
""",
)

Target: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="FILE[:NAME]",
        show_default=False,
        help="Score to maximize: .npy, .npz or .safetensors; NAME picks one array of several.",
    ),
]
Control: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="[NAME=]FILE[:NAME]",
        show_default=False,
        help="Score that must keep a floor; repeatable. NAME= is what to call it.",
    ),
]
Keep: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="COUNT|SHARE",
        show_default=False,
        help="How many weights to keep: 5000 is a count; 10% or 0.1 a share.",
    ),
]
Retain: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="[NAME=]SHARE",
        show_default=False,
        help="Floor as a share (0.9 or 90%) of the most that a control can keep; repeatable "
        "with the controls' names.",
    ),
]
Floor: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="[NAME=]NUMBER",
        show_default=False,
        help="Floor in the control's own unit, instead of --retain.",
    ),
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", show_default=False, help="Threads; all cores by default."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

SOLVE_EXAMPLES = """\b
Examples:
  cops-lp solve --target snip.npy --control synflow.npy --keep 10% \\
    --retain 0.9 --output mask.npy
  cops-lp solve --target s.npz:snip --control flow=s.npz:synflow \\
    --keep 5000 --retain flow=90% --json
"""
CERTIFY_EXAMPLES = """\b
Example:
  cops-lp solve --target snip.npy --control synflow.npy --keep 10% \\
    --retain 0.9 --save solution.npz
  cops-lp certify --solution solution.npz --target snip.npy \\
    --control synflow.npy

Exit codes: 0 confirmed, 1 not confirmed, 2 wrong input.
"""
VALIDATE_EXAMPLES = """\b
Example:
  cops-lp validate --target snip.npy --control synflow.npy --keep 10% \\
    --retain 0.9 --time-limit 20

Exit codes: 0 all that ended agree, 1 ours is not certified or a certified
solver disagrees with it, 2 wrong input, 3 infeasible.
"""
DEMO_EXAMPLES = """\b
Examples:
  cops-lp demo
  cops-lp demo --keep 5% --plot trade-off.png
"""
PRUNE_EXAMPLES = """\b
Examples:
  cops-lp prune --model networks:resnet20 --data train.npz --target snip \\
    --control synflow --keep 5% --retain 0.9 --output masks.safetensors
  cops-lp prune --model networks:small --data digits --target grasp \\
    --control snip --control synflow --retain snip=0.8 --retain synflow=0.9 \\
    --keep 2% --rounds 20 --plot density.png --report density.md

networks:small is the function small() of networks.py, in this folder or installed;
it takes no arguments, returns a torch.nn.Module, and is code that is run. The loss
is cross-entropy. The scores: magnitude, random, snip, grasp, crop, fisher, synflow,
synflow_l2, ntk_sap, and wanda and ria, with which only Linear layers are pruned, but for the
out_proj of torch.nn.MultiheadAttention.
"""
WARMUP_EXAMPLES = """\b
Example:
  cops-lp warmup
"""


def _show_version(wanted: bool) -> None:
    if wanted:
        from cops_lp import __version__

        typer.echo(f"cops-lp {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it all
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Which weights to keep, decided by several pruning scores at once, and proven."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog=SOLVE_EXAMPLES, short_help="Compute a mask from scores in files.")
def solve(
    target: Target,
    keep: Keep,
    control: Control = [],  # noqa: B006 - typer wants the list itself
    retain: Retain = [],  # noqa: B006
    floor: Floor = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Where the mask goes, .npy or .safetensors; without it nothing is written.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Where the solution goes, .npz: all that cops-lp certify needs but the scores.",
        ),
    ] = None,
    integral: Annotated[
        bool,
        typer.Option("--integral", help="Search on for the best 0/1 mask, and prove it."),
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            show_default=False,
            help="End the search, or begin no further pass, after so long.",
        ),
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Keep the most of one score in a mask of so many weights while others keep their floors."""
    from .solve import run_solve

    run_solve(
        target,
        control,
        keep,
        retain,
        floor,
        output=output,
        save=save,
        integral=integral,
        time_limit=time_limit,
        as_json=as_json,
        threads=threads,
        force=force,
    )


@app.command(epilog=CERTIFY_EXAMPLES, short_help="Check a saved solution against the scores.")
def certify(
    solution: Annotated[
        Path,
        typer.Option(
            metavar="FILE", show_default=False, help="What solve --save or Solution.save wrote."
        ),
    ],
    target: Target,
    control: Control = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Check every condition of optimality, or of infeasibility, and print its residual.

    By NumPy alone, in exact sums, sharing no code with the solver; the file is not believed.
    """
    from .certify import run_certify

    run_certify(solution, target, control, as_json=as_json)


@app.command(epilog=VALIDATE_EXAMPLES, short_help="Compare with general LP solvers.")
def validate(
    target: Target,
    keep: Keep,
    control: Control = [],  # noqa: B006
    retain: Retain = [],  # noqa: B006
    floor: Floor = [],  # noqa: B006
    time_limit: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="How long each other solver may take."),
    ] = 60.0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Solve the same problem with every general solver that is installed, and compare.

    Each runs in a process of its own until the time limit. The judge checks every answer with
    NumPy alone. HiGHS's simplex takes minutes from 100,000 weights on.
    """
    from .validate import run_validate

    run_validate(
        target,
        control,
        keep,
        retain,
        floor,
        time_limit=time_limit,
        as_json=as_json,
        threads=threads,
    )


@app.command(epilog=DEMO_EXAMPLES, short_help="See it work on four real scores.")
def demo(
    keep: Keep = "10%",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Draw it too: .png, .svg or .pdf."),
    ] = None,
    force: Force = False,
) -> None:
    """Show on four real pruning scores what a mask by one score loses of the others."""
    from .demo import run_demo

    run_demo(keep, plot=plot, force=force)


@app.command(epilog=PRUNE_EXAMPLES, short_help="Compute masks for a PyTorch model.")
def prune(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FUNCTION", show_default=False, help="What makes the model; it is run."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE|digits",
            show_default=False,
            help="Inputs and labels: .npz, or .pt or .pth of tensors alone; or scikit-learn's "
            "digits, 1×8×8.",
        ),
    ],
    target: Annotated[
        str, typer.Option(metavar="SCORE", show_default=False, help="Score to maximize.")
    ],
    keep: Keep,
    control: Annotated[
        list[str],
        typer.Option(
            metavar="SCORE", show_default=False, help="Score that must keep a floor; repeatable."
        ),
    ] = [],  # noqa: B006
    retain: Retain = [],  # noqa: B006
    rounds: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Prune in so many rounds, the scores computed anew in each."
        ),
    ] = 1,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="exponential|linear",
            help="Rounds remove the same share of what is left, or the same number.",
        ),
    ] = "exponential",
    regrow: Annotated[
        bool, typer.Option("--regrow", help="Let later rounds take pruned weights back.")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples to score by, chosen at random.")
    ] = 512,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples that go through the model at once.")
    ] = 128,
    seed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of the model's initialization, the samples and the scores."
        ),
    ] = 0,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where the model goes, as torch names it.")
    ] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Where the masks go, .safetensors; without it they are not written.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Write the tables too: .md (Markdown)."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Draw the densities: .png, .svg or .pdf."
        ),
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Score a PyTorch model, keep the most of one score while others keep their floors.

    Prints the density of each layer for every score alone and for all together (COPS).
    """
    from .prune import Request, run_prune

    run_prune(
        Request(
            model=model,
            data=data,
            target=target,
            controls=tuple(control),
            keep=keep,
            retain=tuple(retain),
            rounds=rounds,
            schedule=schedule,
            regrow=regrow,
            samples=samples,
            batch=batch,
            seed=seed,
            device=device,
            threads=threads,
        ),
        output=output,
        report=report,
        plot=plot,
        as_json=as_json,
        force=force,
    )


@app.command(epilog=WARMUP_EXAMPLES, short_help="Compile the kernels ahead.")
def warmup() -> None:
    """Compile everything now and keep it in Numba's cache, so that no first solve has to wait.

    Worth a line in an image's build or before a timed run; NUMBA_CACHE_DIR says where to.
    """
    from .warmup import run_warmup

    run_warmup()
