"""Fixtures: processes that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.unit.procfs.helpers import Target, started
from threadwatch.procfs import ProcessDir, ProcFS


@pytest.fixture
def procfs() -> ProcFS:
    """Return this machine's procfs."""
    return ProcFS()


@pytest.fixture
def start() -> Iterator[Callable[..., Target]]:
    """Starts a target that runs the given code, if any."""
    with ExitStack() as stack:
        yield lambda code="": stack.enter_context(started(code))


@pytest.fixture
def opened(procfs: ProcFS) -> Iterator[Callable[[Target], ProcessDir]]:
    """Opens a target's directory."""
    with ExitStack() as stack:
        yield lambda target: stack.enter_context(procfs.open_process(target.pid))
