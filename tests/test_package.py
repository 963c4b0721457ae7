"""The package as a user meets it: imports, names, docstrings, README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cops_lp
from cops_lp import errors

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(cops_lp.__path__, "cops_lp.")
    if not module.name.endswith(("__main__", "_worker"))
)


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_import_loads_nothing_heavy():
    loaded = run("import sys, cops_lp; dir(cops_lp); print(*sys.modules)").split()
    heavy = {"numpy", "numba", "scipy", "torch", "typer", "matplotlib", "highspy", "cvxpy"}
    assert not heavy & set(loaded)


def test_solving_never_imports_optional_packages():
    code = (
        "import sys, cops_lp; s = cops_lp.sample_scores();"
        "print(cops_lp.solve(s['snip'], s['synflow'], keep=0.1, retain=0.9).status.name);"
        "print(*sys.modules)"
    )
    status, modules = run(code).splitlines()
    assert status == "OPTIMAL"
    assert not {"torch", "highspy", "cvxpy", "matplotlib", "typer"} & set(modules.split())


def test_public_names():
    for name in cops_lp.__all__:
        assert getattr(cops_lp, name) is not None
    assert set(cops_lp.__all__) <= set(dir(cops_lp))
    assert callable(cops_lp.reference.solve_highs)
    # The module that defines solve must not shadow it, whatever is imported first.
    assert run("import cops_lp.cli, cops_lp.solver, cops_lp; print(callable(cops_lp.solve))")
    with pytest.raises(AttributeError, match="no attribute 'sovle'"):
        cops_lp.sovle  # noqa: B018


def test_every_error_is_public():
    defined = {
        name for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.CopsError)
    }  # fmt: skip
    assert defined == set(errors.__all__)
    assert defined <= set(cops_lp.__all__)


def test_every_public_name_has_a_docstring_with_its_errors():
    for name in cops_lp.__all__:
        if name != "__version__":
            assert len(getattr(cops_lp, name).__doc__.splitlines()[0]) > 10
    for function in (cops_lp.solve, cops_lp.certify, cops_lp.Problem):
        for section in ("Parameters", "Raises", "Notes"):
            assert f"{section}\n" in function.__doc__


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    if name == "cops_lp.torch.fused":
        pytest.importorskip("triton")
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert result.failed == 0


@pytest.mark.parametrize(
    "page",  # the tutorials have tests of their own
    sorted(p.name for p in (ROOT / "docs").glob("*.md") if not p.name.startswith("tutorial-")),
)
def test_examples_in_the_docs(page):
    result = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert result.failed == 0


def python_in_the_readme(text: str, *, on_a_model: bool) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return [block for block in blocks if ("cops_lp.torch" in block) is on_a_model]


def test_the_readme_masks_a_model():
    torch = pytest.importorskip("torch")
    (block,) = python_in_the_readme(
        (ROOT / "README.md").read_text(encoding="utf-8"), on_a_model=True
    )
    assert len([line for line in block.splitlines() if line]) == 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 4)
        )
        batch = torch.randn(32, 20), torch.randint(4, (32,))
    names = {"model": model, "batch": batch, "loss": torch.nn.functional.cross_entropy}
    exec(compile(block, "README.md", "exec"), names)
    assert "0.weight_mask" in model.state_dict()
    left = sum(int(model[layer].weight.count_nonzero()) for layer in (0, 2))
    assert left == names["found"].report.total.kept == 120


def test_python_in_the_readme_runs_as_printed(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = python_in_the_readme(text, on_a_model=False)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    expected = re.findall(r"```text\n(optimal.*?)```", text, flags=re.DOTALL)
    assert len(expected) == 1

    def comparable(table: str) -> list[str]:  # the last line ends in the time it took
        return [line.rstrip() for line in table.strip().splitlines()[:-1]]

    assert comparable(expected[0]) == comparable(printed)


def test_relative_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
