"""``pytest bench`` measures: the project's options switch pytest-benchmark off for the tests."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Switch benchmarks on, unless the command line itself says otherwise."""
    if "--benchmark-disable" not in config.invocation_params.args:
        config.option.benchmark_disable = False
